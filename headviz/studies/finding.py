"""What a study found, in one sentence with how sure it is; an arm that disagrees is named.

The first arm is judged at the setting where it moves the study's first measure most, against the
random heads there. Clear: there are enough samples, and the whole 95 % interval of the difference
lies on one side of 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headviz.studies.cells import RANDOM, Setting
from headviz.studies.request import Measure
from headviz.studies.study import Finished
from headviz.studies.summary import Row, gap, grouped, of_measure, row_at, rows_of

FEW = 20
"""Samples below which nothing is called clear: the bootstrap knows only what it saw."""


@dataclass(frozen=True)
class Finding:
    """A sentence, and what it rests on."""

    text: str
    clear: bool
    """Whether the effect stands clear of the random heads'."""
    disagree: tuple[str, ...]
    """Arms whose heads do as much or more."""
    alpha: float
    k: int


def find(finished: Finished) -> Finding:
    """The study's finding at its strongest setting, over all k and α of the grid."""
    rows = rows_of(finished)
    main, beside, *_ = finished.study.plan.measures
    first, *others = finished.study.request.arms
    own = _strongest([r for r in of_measure(rows, main) if r.arm == first])
    groups = grouped(finished)
    here = {arm: groups[arm, own.k, own.alpha] for arm in (first, *others)}
    apart = gap(finished, here[first], here[RANDOM], main) if RANDOM in here else None
    clear = apart is not None and not apart[0] <= 0 <= apart[1] and own.n >= FEW
    disagree = _disagreeing(finished, rows, here, main, own)
    n_settings = len({(r.k, r.alpha) for r in rows})
    parts = [
        f"{main.what} under α = {own.alpha:g} on the first {_heads(own, finished)} by {first} is "
        f"{_ratio(own)} of the unedited model's",
        _of_random(rows, main, own) if RANDOM in here else "no random heads were run beside it",
        f"{beside.what} is {_ratio(row_at(rows, beside, first, own.k, own.alpha))}",
    ]
    if own.ratio in (None, 1.0):
        parts.append(f"so no setting of {first} says anything here")
    elif disagree:
        parts.append(f"the heads by {' and '.join(disagree)} do as much or more")
    elif set(others) - {RANDOM}:
        parts.append("no other arm does as much")
    text = f"{'; '.join(parts)} ({_sure(clear, own, n_settings)})."
    return Finding(text[0].upper() + text[1:], clear, disagree, own.alpha, own.k)


def _strongest(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda r: abs((1.0 if r.ratio is None else r.ratio) - 1))


def _heads(row: Row, finished: Finished) -> str:
    total = finished.study.model.total_heads
    return f"{row.k} of {total} heads" if row.k > 1 else f"head of {total}"


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return f"{row.value:.2f} (0 unedited, so no ratio)"
    return f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"


def _of_random(rows: Sequence[Row], main: Measure, own: Row) -> str:
    row = row_at(rows, main, RANDOM, own.k, own.alpha)
    text = f"random heads of the same layers leave {_ratio(row)}"
    if row.first_quarter is not None:
        text += f", {row.draws} draws: {row.first_quarter:.2f} to {row.third_quarter:.2f}"
    return text


def _sure(clear: bool, own: Row, n_settings: int) -> str:
    if own.n < FEW:
        return f"not clear: {own.n} samples are too few"
    at = f", the strongest of {n_settings} settings" if n_settings > 1 else ""
    return f"{'clear' if clear else 'not clear'}: 95 % bootstrap over {own.n} samples{at}"


def _disagreeing(
    finished: Finished,
    rows: Sequence[Row],
    here: Mapping[str, Sequence[Setting]],
    main: Measure,
    own: Row,
) -> tuple[str, ...]:
    """Arms whose effect goes the same way and is not clearly smaller."""
    if own.ratio is None:
        return ()
    found = []
    down = own.ratio < 1
    for arm, settings in here.items():
        row = row_at(rows, main, arm, own.k, own.alpha)
        apart = gap(finished, here[own.arm], settings, main)
        if arm == own.arm or row.ratio is None or apart is None or (row.ratio < 1) != down:
            continue
        clearly_smaller = apart[1] < 0 if down else apart[0] > 0
        if row.ratio != 1 and not clearly_smaller:
            found.append(arm)
    return tuple(found)
