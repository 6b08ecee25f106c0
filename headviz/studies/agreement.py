"""How well a ranking of heads agrees with the causal truth: Spearman, precision at k, AUC.

The formulas are short, so that no library is asked for; tests hold them against scipy and
scikit-learn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headviz.base.shapes import Float, Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """A ranking against exhaustive ablation."""

    spearman: float
    """Correlation of the ranks of all heads, -1 to 1."""
    precision: float
    """Share of the ranking's first k that are among the truth's first k."""
    area: float
    """Chance that one of the truth's first k stands above another head: 0.5 is chance."""
    k: int


def agreement(
    scores: Float[Tensor, "layer head"], truth: Float[Tensor, "layer head"], k: int
) -> Agreement:
    """Compare two rankings of the same heads; larger is more in both."""
    ours, theirs = (t.flatten().double().numpy() for t in (scores, truth))
    top = set(np.argsort(-theirs, kind="stable")[:k].tolist())
    first = set(np.argsort(-ours, kind="stable")[:k].tolist())
    positive = np.array([i in top for i in range(len(ours))])
    return Agreement(spearman(ours, theirs), len(top & first) / k, auc(ours, positive), k)


def spearman(first: Array, second: Array) -> float:
    """Pearson correlation of the ranks, ties at their mean rank; 0 where one is constant."""
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def auc(scores: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, by the ranks of the positive ones (Mann-Whitney)."""
    n = int(positive.sum())
    others = len(scores) - n
    if not n or not others:
        return float("nan")
    return float((ranks(scores)[positive].sum() - n * (n + 1) / 2) / (n * others))


def ranks(values: Array) -> Array:
    """From 1, the smallest first; equal values share the mean of their ranks."""
    _, inverse, how_many = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(how_many)
    return np.asarray((last - (how_many - 1) / 2)[inverse], dtype=np.float64)
