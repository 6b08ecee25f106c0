"""A finished study as rows: a ratio to the unedited model for every arm, k, α and measure.

Random draws share one row: the median of their ratios, their quartiles, and an interval over
samples as everywhere. Also how each ranking agrees with exhaustive ablation.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from headviz.studies.agreement import Agreement, agreement
from headviz.studies.cells import BASE, Setting
from headviz.studies.ratios import Array, Estimate, difference, estimate
from headviz.studies.request import Measure, of_part
from headviz.studies.study import Finished

TRUTH = "ablation"


@dataclass(frozen=True)
class Row:
    """One line of summary.csv."""

    arm: str
    k: int
    alpha: float
    measure: str
    part: str
    n: int
    """Samples."""
    value: float
    unedited: float
    ratio: float | None
    """Edited ÷ unedited; None where the unedited value is 0."""
    low: float | None
    """95 % bootstrap interval over samples."""
    high: float | None
    first_quarter: float | None
    """Of the random draws' ratios."""
    third_quarter: float | None
    draws: int


@lru_cache(16)  # a bootstrap a row; finding, report and figures ask for the same rows
def rows_of(finished: Finished) -> tuple[Row, ...]:
    """Every arm, k, α and measure, in the order of the grid."""
    groups = grouped(finished)
    return tuple(
        _row(finished, group, measure)
        for group in groups.values()
        for measure in finished.study.plan.measures
    )


def grouped(finished: Finished) -> dict[tuple[str, int, float], list[Setting]]:
    """(arm, k, α) -> its settings: one, or the random draws."""
    found: dict[tuple[str, int, float], list[Setting]] = {}
    for setting in finished.results:
        if setting != BASE:
            found.setdefault((setting.arm, setting.k, setting.alpha), []).append(setting)
    return found


def values(finished: Finished, setting: Setting, measure: Measure) -> Array:
    """A number a sample, of the measure's part only."""
    kept = of_part(finished.samples[measure.task], measure.part)
    return np.array(finished.results[setting][measure.name], dtype=np.float64)[kept]


def of_measure(rows: Sequence[Row], measure: Measure) -> list[Row]:
    """The rows of one measure."""
    return [r for r in rows if (r.measure, r.part) == (measure.column, measure.part)]


def row_at(rows: Sequence[Row], measure: Measure, arm: str, k: int, alpha: float) -> Row:
    """The row of one arm and setting."""
    return next(r for r in of_measure(rows, measure) if (r.arm, r.k, r.alpha) == (arm, k, alpha))


def gap(
    finished: Finished, ours: Sequence[Setting], theirs: Sequence[Setting], measure: Measure
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the difference of two arms' ratios; None where that has none."""
    base = values(finished, BASE, measure)
    first, second = ([values(finished, s, measure) for s in some] for some in (ours, theirs))
    return difference(first, second, base)


def _row(finished: Finished, group: Sequence[Setting], measure: Measure) -> Row:
    base = values(finished, BASE, measure)
    edited = [values(finished, setting, measure) for setting in group]
    found: Estimate = estimate(edited, base, measure.logarithmic)
    first = group[0]
    return Row(
        arm=first.arm,
        k=first.k,
        alpha=first.alpha,
        measure=measure.column,
        part=measure.part,
        n=len(base),
        value=found.value,
        unedited=found.base,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        first_quarter=found.first_quarter,
        third_quarter=found.third_quarter,
        draws=len(group),
    )


def agreements(finished: Finished, k: int | None = None) -> dict[str, Agreement]:
    """Arm -> its agreement with exhaustive ablation; empty where that was not run.

    `k`: how many of the truth's first heads count as the right ones; the grid's largest by default.
    """
    scores = finished.study.scores
    if TRUTH not in scores:
        return {}
    k = k or max(finished.study.ks)
    return {arm: agreement(own, scores[TRUTH], k) for arm, own in scores.items() if arm != TRUTH}


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as a table for spreadsheets."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _short(value) for name, value in asdict(row).items()})
    return buffer.getvalue()


def cell_rows(finished: Finished) -> list[dict[str, Any]]:
    """A line a cell: its setting, and the mean of each of its measures."""
    found = []
    for cell in finished.study.cells:
        kept: Mapping[str, Any] = finished.study.folder.read(cell.key) or {}
        means = {m: float(np.mean(v)) for m, v in kept["values"].items()}
        samples = len(cell.shard.samples)
        found.append({"key": cell.key, **cell.as_dict(), "samples": samples, **means})
    return found


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value
