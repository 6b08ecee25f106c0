"""SOMP as a textbook writes it: float64, the whole of H, least squares anew at every step.

The yardstick of every figure and the judge of every pick; nothing of the engine is used. The
dictionary is multiplied in parts, so that it need not be held in float64.

The pursuit that the method's authors publish (github.com/Flegyas/ResiDual) is the same, with the
same solver, and judges its reconstruction at every step by three measures beside: with `measures`
they are worked out too, for those who want to compare with that program.
"""

import time
from dataclasses import dataclass

import torch

from headviz.base.shapes import Float, Tensor

_PART = 8192  # atoms at once


@dataclass(frozen=True)
class Plain:
    """What the plain pursuit found in one head."""

    picks: list[int]
    explained: list[float]
    gaps: list[float]
    """By how much the best atom's score beat the second's, relative: near 0 is a tie."""
    seconds: float


def plain_somp(
    z: Float[Tensor, "sample d_head"],
    w_o: Float[Tensor, "d_head d_model"],
    atoms: Float[Tensor, "atom d_model"],
    steps: int,
    centre: bool = True,
    measures: bool = False,
) -> Plain:
    """The plain pursuit of one head, and how long it took, as published if `measures`."""
    start = time.perf_counter()
    whole = z.double() @ w_o.double()
    h = whole - whole.mean(0) if centre else whole
    total = h.square().sum()
    residual = h
    picks: list[int] = []
    explained: list[float] = []
    gaps: list[float] = []
    for _ in range(min(steps, len(atoms))):
        scores = torch.cat([(p.double() @ residual.T).abs().sum(1) for p in atoms.split(_PART)])
        scores[picks] = -1
        first, second = scores.topk(min(2, len(scores))).values[[0, -1]].tolist()
        gaps.append((first - second) / first if first > 0 else 0.0)
        picks.append(int(scores.argmax()))
        chosen = atoms[picks].double()
        weights = torch.linalg.lstsq(chosen.T, h.T).solution
        residual = h - weights.T @ chosen
        if measures:
            _measure(whole, whole - residual)
        explained.append(float(1 - residual.square().sum() / total))
    return Plain(picks, explained, gaps, time.perf_counter() - start)


def _measure(
    whole: Float[Tensor, "sample d_model"], rebuilt: Float[Tensor, "sample d_model"]
) -> tuple[float, float, float]:
    """Share of variance by standard deviations, mean cosine similarity, mean squared error."""
    share = rebuilt.std(0).square().sum() / whole.std(0).square().sum()
    alike = torch.nn.functional.cosine_similarity(whole, rebuilt).mean()
    return float(share), float(alike), float(torch.nn.functional.mse_loss(rebuilt, whole))
