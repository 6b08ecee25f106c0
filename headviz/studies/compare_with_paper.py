"""Whether a finished study agrees with what the paper found, claim by claim, from its numbers.

A claim is a sentence of the paper and what would have to hold of the ratios here. It *agrees* where
the whole 95 % interval is on the claim's side, *leans* that way where the ratio alone is, and
*disagrees* elsewhere. Judged at the largest number of heads, at the factor of the claim.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headviz.studies.cells import RANDOM
from headviz.studies.study import Finished
from headviz.studies.summary import Row, rows_of

HARDLY = 0.9
"""A ratio of a random edit that still counts as unharmed."""
AGREES, LEANS, DISAGREES, OPEN = "agrees", "leans that way", "disagrees", "cannot be said"


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper beside what came out here."""

    claim: str
    verdict: str
    """One of AGREES, LEANS, DISAGREES, OPEN."""
    numbers: str
    """What the verdict rests on."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the rows it is about, and what has to hold of them."""

    text: str
    rows: tuple[tuple[str, str], ...]
    """(measure and part, arm) of each row; MAIN is the study's first measure."""
    alpha: Callable[[float], bool]
    holds: Callable[..., str]
    """Rows -> a verdict."""


def falls(row: Row) -> str:
    """Below 1."""
    return _beyond(row.ratio, row.high, lambda value: value < 1)


def rises(row: Row) -> str:
    """Above 1."""
    return _beyond(row.ratio, row.low, lambda value: value > 1)


def unharmed(row: Row) -> str:
    """Hardly below 1."""
    return _beyond(row.ratio, row.low, lambda value: value >= HARDLY)


def stays(row: Row) -> str:
    """Hardly below 1 and hardly above."""
    below, above = unharmed(row), _beyond(row.ratio, row.high, lambda value: value <= 1 / HARDLY)
    return next(v for v in (OPEN, DISAGREES, LEANS, AGREES) if v in (below, above))


def lower(first: Row, second: Row) -> str:
    """The first is below the second; clearly, where their intervals lie apart."""
    if first.ratio is None or second.ratio is None:
        return OPEN
    assert first.high is not None and second.low is not None, "a ratio has an interval"
    if first.high < second.low:
        return AGREES
    return LEANS if first.ratio < second.ratio else DISAGREES


def alike(first: Row, second: Row) -> str:
    """Both fall, and their intervals overlap."""
    both = {falls(first), falls(second)}
    if OPEN in both:
        return OPEN
    if DISAGREES in both or AGREES in {lower(first, second), lower(second, first)}:
        return DISAGREES
    return AGREES if both == {AGREES} else LEANS


def _beyond(ratio: float | None, end: float | None, holds: Callable[[float], bool]) -> str:
    if ratio is None or end is None:
        return OPEN
    return AGREES if holds(end) else LEANS if holds(ratio) else DISAGREES


def _down(alpha: float) -> bool:
    return alpha < 1


def _up(alpha: float) -> bool:
    return alpha > 1


MAIN = ""
P, L = "pursuit", "logit-lens"
CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "qa": (
        Claim("F1 inside the concept falls", ((MAIN, P),), _down, falls),
        Claim("F1 inside falls faster than outside", ((MAIN, P), ("f1 outside", P)), _down, lower),
        Claim("logit-lens heads hurt both alike", ((MAIN, L), ("f1 outside", L)), _down, alike),
        Claim("random heads do not hurt the inside", ((MAIN, RANDOM),), _down, unharmed),
        Claim("random heads do not hurt the outside", (("f1 outside", RANDOM),), _down, unharmed),
    ),
    "toxicity": (
        Claim("fewer continuations are toxic", ((MAIN, P),), _down, falls),
        Claim("fewer than with logit-lens heads", ((MAIN, P), (MAIN, L)), _down, lower),
        Claim("held-out words become rarer too", (("held_out all", P),), _down, falls),
        Claim("random heads leave toxicity as it is", ((MAIN, RANDOM),), _down, stays),
    ),
    "classification": (
        Claim("accuracy falls", ((MAIN, P),), _down, falls),
        Claim("it falls more than with logit-lens heads", ((MAIN, P), (MAIN, L)), _down, lower),
        Claim("random heads leave accuracy as it is", ((MAIN, RANDOM),), _down, stays),
    ),
    "captioning": (
        Claim("inhibited, captions name the concept less", ((MAIN, P),), _down, falls),
        Claim("enhanced, they name it more", ((MAIN, P),), _up, rises),
        Claim("CIDEr falls less than the words do", ((MAIN, P), ("cider all", P)), _down, lower),
        Claim("random heads leave the words as they are", ((MAIN, RANDOM),), _down, stays),
    ),
}
"""Study -> what the paper found."""


def read(finished: Finished) -> list[Verdict]:
    """Every claim that the study's arms and factors can speak to."""
    rows = rows_of(finished)
    main = finished.study.plan.measures[0]
    k = max(finished.study.ks)
    found = []
    for claim in CLAIMS[finished.study.request.study]:
        own = [r for r in rows if claim.alpha(r.alpha) and r.k == k]
        if not own:
            continue
        alpha = own[0].alpha
        named = [(name or f"{main.column} {main.part}", arm) for name, arm in claim.rows]
        about = [_row(own, name, arm, alpha) for name, arm in named]
        kept = [row for row in about if row is not None]
        if len(kept) == len(about):
            found.append(Verdict(claim.text, claim.holds(*kept), "; ".join(map(_numbers, kept))))
    return found


def _row(rows: Sequence[Row], name: str, arm: str, alpha: float) -> Row | None:
    own = (r for r in rows if (f"{r.measure} {r.part}", r.arm, r.alpha) == (name, arm, alpha))
    return next(own, None)


def _numbers(row: Row) -> str:
    name = f"{row.arm}, {row.measure.replace('_', ' ')} {row.part}, α = {row.alpha:g}"
    if row.ratio is None:
        return f"{name}: {row.value:.2f}, and 0 unedited"
    return f"{name}: {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The claims as a table."""
    lines = ["| the paper found | here | numbers |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {v.claim} | **{v.verdict}** | {v.numbers} |" for v in verdicts)]
    )


def in_words(verdicts: Sequence[Verdict]) -> str:
    """How many claims came out here, in a sentence that hides none."""
    counts = {name: sum(v.verdict == name for v in verdicts) for name in (AGREES, LEANS, DISAGREES)}
    text = (
        f"Of {len(verdicts)} findings of the paper {counts[AGREES]} came out here clearly, "
        f"{counts[LEANS]} without being clear and {counts[DISAGREES]} did not"
    )
    against = [v.claim for v in verdicts if v.verdict == DISAGREES]
    return f"{text} ({'; '.join(against)})." if against else f"{text}."
