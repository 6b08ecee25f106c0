"""A loss that keeps the planted heads first in the ranking of their concept.

The ranking's score, with every word of a concept in reach, is the share of a head's variance in the
span of their atoms; here it is worked out with gradients, on a few samples. Without this loss
ranking and cause parted in training: other heads' shares overtook those of the planted ones, whose
edits still took the concept away (docs/log.md). Knows no prompts and no pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor

Heads = Sequence[tuple[int, int]]
"""Heads as (layer, index)."""

N_RIVALS = 4


def front_loss_of(
    model: Any,
    layers: Iterable[Any],
    pooled: Sequence[Float[Tensor, "sample _"]],
    words: Mapping[str, Sequence[int]],
    heads: Mapping[str, Heads],
    margin: float,
) -> Float[Tensor, ""]:
    """The loss of a model in training.

    Args:
        model: has its unembedding at lm_head.
        layers: those of its decoder; the last norm is `model.get_decoder().norm`.
        pooled: each layer's signals (sample, head·d_head), pooled as the ranking does.
        words: concept -> token ids of its words.
        heads: concept -> its planted heads.
        margin: share of variance by which they are to lead.
    """
    w_o, signals = [], []
    for layer, z in zip(layers, pooled, strict=True):
        d_head = layer.self_attn.head_dim
        w_o.append(layer.self_attn.o_proj.weight.T.unflatten(0, (-1, d_head)))
        signals.append(z.float().unflatten(-1, (-1, d_head)))
    with torch.no_grad():
        atoms = model.lm_head.weight * model.get_decoder().norm.weight
        bases = {c: torch.linalg.qr(atoms[ids].T).Q.T for c, ids in words.items() if c in heads}
    return front_loss(shares_of(signals, w_o, bases), heads, margin)


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
    shares: Mapping[str, Float[Tensor, "layer head"]], heads: Mapping[str, Heads], margin: float
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
