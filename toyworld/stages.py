"""The stages of the second part of a training, in which planted heads become needed.

Which heads those are is found when a stage begins (`head_assignment`). Knows no model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """A stretch of the second part; at its start the planted heads are chosen."""

    steps: int
    learning_rate: float  # at its start; a cosine down to a twentieth follows
    share: float  # of the samples run with planted heads edited


def stage_starts(stages: Sequence[Stage], first: int) -> tuple[int, ...]:
    """The step with which each stage begins; the first of them with step `first`."""
    return tuple(first + sum(s.steps for s in stages[:n]) for n in range(len(stages)))


def stage_at(stages: Sequence[Stage], first: int, step: int) -> tuple[Stage, float]:
    """The stage that `step` is in, and the share of it that is done."""
    for start, stage in zip(stage_starts(stages, first), stages, strict=True):
        if start <= step < start + stage.steps:
            return stage, (step - start) / stage.steps
    raise AssertionError(f"step {step} is in no stage")


def cosine(done: float) -> float:
    """From 1 at 0 down to 0.05 at 1."""
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def mean_of(history: Mapping[str, Any]) -> str:
    """A card's sentence on a training that ends with the mean of several weights; else nothing."""
    steps = [str(step) for step in history.get("averaged", ())]
    if not steps:
        return ""
    named = " and ".join(filter(None, (", ".join(steps[:-1]), steps[-1])))
    return f"The weights are the mean of those after {named} steps. "
