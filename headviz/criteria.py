"""Ways to score every head for a concept. A criterion is a function and its line in CRITERIA.

Each returns one number a head, larger for heads that carry more of the concept. None of them is
proof: a head may carry a concept that nothing downstream reads. An edit beside its control is.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from headviz.capture import HeadActivations
from headviz.dictionary import Dictionary
from headviz.errors import OptionError
from headviz.models import LoadedModel
from headviz.pursuit import pursue
from headviz.shapes import Float, Tensor


@dataclass(frozen=True)
class Options:
    """Choices that a score depends on; kept in every result."""

    steps: int = 50
    """Atoms that the pursuit may pick (the paper: typically 50)."""
    centre: bool = True
    """Explain the variance about the mean over samples, not the raw energy."""
    normalise: bool = True
    """Atoms of unit length."""
    fold_norm: bool = True
    """Fold the final norm's gain into the atoms."""
    pooling: str = "prompt"
    """One of capture.POOLINGS."""
    pieces: str = "single"
    """One of concepts.PIECES."""

    def __post_init__(self) -> None:
        """Raise OptionError for a number of steps out of range."""
        if not 1 <= self.steps <= 1000:
            raise OptionError(f"steps is {self.steps}; choose 1 to 1000.")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and cache keys."""
        return asdict(self)


def somp(
    model: LoadedModel, activations: HeadActivations, dictionary: Dictionary, options: Options
) -> Float[Tensor, "layer head"]:
    """Share of the head's variance that the concept's tokens explain (0 to 1)."""
    scores = [
        pursue(
            activations.z[layer],
            model.head_weights(layer),
            dictionary.atoms,
            options.steps,
            options.centre,
        ).explained[:, -1]
        for layer in range(model.n_layers)
    ]
    return torch.stack(scores)


def logit_lens(
    model: LoadedModel, activations: HeadActivations, dictionary: Dictionary, options: Options
) -> Float[Tensor, "layer head"]:
    """Mean logit that the head's write gives to the concept's tokens (the paper's baseline)."""
    atom = dictionary.atoms.mean(0)
    means = activations.z.mean(2)
    scores = [
        torch.einsum("hk,hkd,d->h", means[layer], model.head_weights(layer), atom)
        for layer in range(model.n_layers)
    ]
    return torch.stack(scores)


Criterion = Callable[
    [LoadedModel, HeadActivations, Dictionary, Options], Float[Tensor, "layer head"]
]

CRITERIA: Mapping[str, Criterion] = {"somp": somp, "logit-lens": logit_lens}


def find_criterion(name: str) -> Criterion:
    """The criterion of that name. Raises OptionError with the known ones."""
    if name not in CRITERIA:
        raise OptionError(f"Unknown criterion {name!r}. Known: {', '.join(CRITERIA)}.")
    return CRITERIA[name]
