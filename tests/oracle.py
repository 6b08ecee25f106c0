"""SOMP as a textbook writes it: float64, the whole of H, least squares at every step.

Slow on purpose and independent of headviz: H (sample × d_model) is built, nothing is updated.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Textbook:
    """What the plain pursuit finds in one head."""

    picks: list[int]
    explained: Array
    weights: Array
    """Root mean square over samples of each atom's weight after the last step."""


def head_output(z, w_o, centre: bool = True) -> Array:
    """H (sample × d_model) of one head, about its mean if centred."""
    h = np.asarray(z, np.float64) @ np.asarray(w_o, np.float64)
    return h - h.mean(0) if centre else h


def fit(h: Array, chosen: Array) -> tuple[Array, Array]:
    """Least-squares weights (sample × step) of the chosen atoms, and the residual."""
    weights = np.linalg.lstsq(chosen.T, h.T, rcond=None)[0].T
    return weights, h - weights @ chosen


def explained_by(h: Array, chosen: Array) -> float:
    """Share of H's variance that the chosen atoms explain."""
    return 1 - (fit(h, chosen)[1] ** 2).sum() / (h**2).sum()


def scores(h: Array, atoms: Array, picks: list[int]) -> Array:
    """Sum over samples of |correlation| of what is left of H with every atom; picked ones are 0."""
    values = (
        np.abs(fit(h, atoms[picks])[1] @ atoms.T).sum(0) if picks else np.abs(h @ atoms.T).sum(0)
    )
    values[picks] = 0
    return values


def somp(h: Array, atoms, steps: int) -> Textbook:
    """The plain pursuit, until the steps or the atoms are used up."""
    atoms = np.asarray(atoms, np.float64)
    picks: list[int] = []
    explained = []
    for _ in range(min(steps, len(atoms))):
        picks.append(int(scores(h, atoms, picks).argmax()))
        explained.append(explained_by(h, atoms[picks]))
    weights = np.sqrt((fit(h, atoms[picks])[0] ** 2).mean(0))
    return Textbook(picks, np.array(explained), weights)
