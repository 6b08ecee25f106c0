"""A loss that keeps the planted heads first in the ranking of their concept.

The ranking's score with every word of a concept in reach is the share of a head's variance in the
span of their atoms; here it is worked out with gradients, on a batch's own pictures. Without it the
heads planted for colors stopped causing and ranking together: other heads' shares overtook theirs
(docs/log.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headviz.shapes import Bool, Float, Tensor
from headviz.toyworld.pictures.batches import PREFIX
from headviz.toyworld.pictures.recipe import PictureRecipe

N_RIVALS = 4


def shares_of(
    signals: Sequence[Float[Tensor, "sample head d_head"]],
    w_o: Sequence[Float[Tensor, "head d_head d_model"]],
    bases: Mapping[str, Float[Tensor, "direction d_model"]],
) -> dict[str, Float[Tensor, "layer head"]]:
    """Concept -> share of each head's variance over the samples along its orthonormal `bases`."""
    moments, gram = [], []
    for z, own in zip(signals, w_o, strict=True):
        about = z - z.mean(0)
        moments.append(torch.einsum("nhd,nhe->hde", about, about))
        gram.append(own @ own.mT)
    seen, outputs = torch.stack(moments), torch.stack(list(w_o))
    total = (seen * torch.stack(gram)).sum((2, 3)).clamp_min(1e-12)
    found = {}
    for concept, basis in bases.items():
        inside = basis @ outputs.mT
        found[concept] = ((inside @ seen) * inside).sum((2, 3)) / total
    return found


def front_loss(
    shares: Mapping[str, Float[Tensor, "layer head"]],
    heads: Mapping[str, Sequence[tuple[int, int]]],
    margin: float,
) -> Float[Tensor, ""]:
    """By how much the first heads that are not a concept's come within `margin` of those that are.

    A mean over its N_RIVALS first ones, against its last; summed over concepts.
    """
    losses = []
    for concept, table in shares.items():
        own = heads[concept]
        last = torch.stack([table[place] for place in own]).min()
        free = torch.ones_like(table, dtype=torch.bool)
        for place in own:
            free[place] = False
        rivals = table[free].topk(N_RIVALS).values
        losses.append((rivals - last + margin).relu().mean())
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class Front:
    """The loss with the heads of one stage."""

    recipe: PictureRecipe
    heads: Mapping[str, Sequence[tuple[int, int]]]
    words: Mapping[str, Sequence[int]]
    """Concept -> token ids."""

    def __call__(
        self,
        model: Any,
        signals: Sequence[Float[Tensor, "row token _"]],
        rows: Bool[Tensor, " row"],
    ) -> Float[Tensor, ""]:
        """Of some rows of a batch; signals are pooled as the ranking does, over the picture."""
        text = model.model.language_model
        pooled = [
            z[rows, 1:PREFIX].float().mean(1).unflatten(-1, (self.recipe.n_heads, -1))
            for z in signals
        ]
        w_o = [
            layer.self_attn.o_proj.weight.T.unflatten(0, (self.recipe.n_heads, -1))
            for layer in text.layers
        ]
        with torch.no_grad():
            atoms = model.lm_head.weight * text.norm.weight
            bases = {c: torch.linalg.qr(atoms[ids].T).Q.T for c, ids in self.words.items()}
        shares = shares_of(pooled, w_o, bases)
        recipe = self.recipe
        return recipe.front_weight * front_loss(shares, self.heads, recipe.front_margin)
