"""What a study found, in one sentence with how sure it is; an arm that disagrees is named.

The first arm is judged against the random heads at the setting with the largest gap on the study's
first measure. Clear: the whole interval of the difference lies on one side of 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headviz.experiments.cells import RANDOM, Setting
from headviz.experiments.request import Measure
from headviz.experiments.study import Finished
from headviz.experiments.summary import Row, gap, grouped, rows_of


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
    main, *others = finished.study.plan.measures
    arm = finished.study.request.arms[0]
    own = _strongest([r for r in rows if r.arm == arm and _is(r, main)])
    groups = grouped(finished)
    here = {a: groups[a, own.k, own.alpha] for a in finished.study.request.arms}
    clear, against = _against_random(finished, here, arm, main, own)
    disagree = _disagreeing(finished, here, arm, main, own)
    parts = [
        f"{main.what} under α = {own.alpha:g} on the first {_heads(own, finished)} by {arm} is "
        f"{_ratio(own)} of the unedited model's",
        against,
    ]
    parts += [_beside(rows, own, measure) for measure in others[:1]]
    if disagree:
        names = " and ".join(disagree)
        parts.append(f"the heads by {names} do as much or more, which speaks against {arm}")
    elif len(here) > 1 + (RANDOM in here):
        parts.append("no other arm does as much")
    sure = "clear" if clear else "not clear"
    text = "; ".join(parts) + f" ({sure}: 95 % bootstrap over {own.n} samples)."
    return Finding(text[0].upper() + text[1:], clear, tuple(disagree), own.alpha, own.k)


def _is(row: Row, measure: Measure) -> bool:
    name = "perplexity" if measure.logarithmic else measure.name
    return row.measure == name and row.part == measure.part


def _strongest(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda r: abs((1.0 if r.ratio is None else r.ratio) - 1))


def _heads(row: Row, finished: Finished) -> str:
    total = finished.study.model.total_heads
    return f"{row.k} of {total} heads" if row.k > 1 else f"head of {total}"


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return f"{row.value:.2f} where the unedited model has 0, so no ratio"
    return f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"


def _against_random(
    finished: Finished,
    here: dict[str, list[Setting]],
    arm: str,
    main: Measure,
    own: Row,
) -> tuple[bool, str]:
    if RANDOM not in here:
        return False, "no random heads were run beside it, so it shows nothing"
    rows = rows_of_setting(finished, RANDOM, own, main)
    found = gap(finished, here[arm], here[RANDOM], main)
    if rows.ratio is None or found is None:
        return False, "the random heads give no ratio to hold it against"
    clear = not found[0] <= 0 <= found[1]
    quarters = (
        f"{rows.first_quarter:.2f} to {rows.third_quarter:.2f} over {rows.draws} draws"
        if rows.draws > 1
        else "one draw"
    )
    return clear, f"random heads of the same layers leave {rows.ratio:.2f} ({quarters})"


def rows_of_setting(finished: Finished, arm: str, own: Row, measure: Measure) -> Row:
    """The arm's row for this measure, at the same k and α."""
    return next(
        r
        for r in rows_of(finished)
        if (r.arm, r.k, r.alpha) == (arm, own.k, own.alpha) and _is(r, measure)
    )


def _disagreeing(
    finished: Finished,
    here: dict[str, list[Setting]],
    arm: str,
    main: Measure,
    own: Row,
) -> list[str]:
    """Arms whose effect goes the same way and is not clearly smaller."""
    found = []
    direction = (own.ratio if own.ratio is not None else 1.0) - 1
    for other, settings in here.items():
        if other == arm:
            continue
        row = rows_of_setting(finished, other, own, main)
        apart = gap(finished, here[arm], settings, main)
        if row.ratio is None or apart is None or (row.ratio - 1) * direction <= 0:
            continue
        low, high = apart
        smaller = high < 0 if direction < 0 else low > 0
        if not smaller:
            found.append(other)
    return found


def _beside(rows: Sequence[Row], own: Row, measure: Measure) -> str:
    row = next(
        r for r in rows if (r.arm, r.k, r.alpha) == (own.arm, own.k, own.alpha) and _is(r, measure)
    )
    return f"{measure.what} is {_ratio(row)}"
