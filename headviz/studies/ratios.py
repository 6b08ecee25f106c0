"""Ratios of edited to unedited, with paired bootstrap intervals over samples.

A sample that is drawn counts in both: the same questions are asked with and without an edit, so
what is hard about a question cancels. Plain numpy; knows no models and no arms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A ratio and how sure it is; None where the unedited value is 0."""

    value: float
    """Of the edited model."""
    base: float
    """Of the unedited model."""
    ratio: float | None
    low: float | None
    """95 % of bootstrap draws of the samples lie between `low` and `high`."""
    high: float | None
    first_quarter: float | None = None
    """Of the ratios of several random draws; None for one."""
    third_quarter: float | None = None


def counts(n: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """How often each of `n` samples is drawn: (draw, sample), each row summing to n."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def estimate(edited: Sequence[Array], base: Array, logarithmic: bool = False) -> Estimate:
    """The ratio of means; of several edited models (random draws) the median of their ratios.

    `logarithmic`: the values are logarithms, as surprise in nats is; the ratio is that of their
    exponentials.
    """
    drawn = counts(len(base))
    observed = _ratios(edited, base, np.ones((1, len(base))), logarithmic)[:, 0]
    resampled = _ratios(edited, base, drawn, logarithmic)
    value = float(np.median([e.mean() for e in edited]))
    level = float(base.mean())
    if logarithmic:
        value, level = float(np.exp(value)), float(np.exp(level))
    if not np.isfinite(observed).all():
        return Estimate(value, level, None, None, None)
    # The draws of heads stay as they are: the interval is over samples.
    medians = np.median(resampled, axis=0)
    medians = medians[np.isfinite(medians)]
    low, high = np.quantile(medians, [0.025, 0.975])
    quarters: list[float | None] = [None, None]
    if len(edited) > 1:
        quarters = [float(q) for q in np.quantile(observed, [0.25, 0.75])]
    ratio = float(np.median(observed))
    return Estimate(value, level, ratio, float(low), float(high), *quarters)


def difference(
    first: Sequence[Array], second: Sequence[Array], base: Array
) -> tuple[float, float] | None:
    """95 % of bootstrap draws of (first's ratio - second's ratio); None where the base is 0."""
    drawn = counts(len(base))
    one, other = (np.median(_ratios(e, base, drawn, False), axis=0) for e in (first, second))
    sound = np.isfinite(one) & np.isfinite(other)
    gap = one[sound] - other[sound]
    if not len(gap) or not base.any():
        return None
    low, high = np.quantile(gap, [0.025, 0.975])
    return float(low), float(high)


def _ratios(edited: Sequence[Array], base: Array, drawn: Array, logarithmic: bool) -> Array:
    """(edited model, draw): nan or inf where the unedited mean is 0."""
    weights = drawn / drawn.sum(1, keepdims=True)
    above = np.stack([weights @ e for e in edited])
    below = weights @ base
    if logarithmic:
        return np.asarray(np.exp(above - below))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / below)
