"""How sure a score is, and how far above chance: the bootstrap over samples, in head space.

The samples are drawn anew with replacement; every head sees the same draws. What explains a head
(the picked atoms) stays fixed, so that a draw costs no pursuit: the explained and the total energy
of each sample are worked out once, and a draw is a weighted sum of them (Efron, Tibshirani 1993).
The chance level is drawn along with the score: over the samples, and as what one more random word
list would get, so that a list of random words rarely stands above chance. The interval tells how
the difference moves with texts and lists, not how the picks would.
"""

from dataclasses import dataclass

import torch

from headviz.base.shapes import Float, Int, Tensor
from headviz.pursuit.engine.parallel import in_parts
from headviz.pursuit.engine.precomputed import PrecomputedHeads

N_DRAWS = 200
SHARE = 0.95  # of the draws that an interval holds
_GROUP = 16  # heads at once: enough to keep a GPU busy, little enough for a processor's cache


@dataclass(frozen=True, eq=False)
class Spread:
    """Where differences from chance and ranks lie in SHARE of the draws."""

    low: Float[Tensor, "layer head"]
    """Of the score minus its chance level."""
    high: Float[Tensor, "layer head"]
    best_rank: Int[Tensor, "layer head"]
    """From 1."""
    worst_rank: Int[Tensor, "layer head"]


def draw_counts(
    n_samples: int, n_draws: int = N_DRAWS, seed: int = 0, device: torch.device | str = "cpu"
) -> Float[Tensor, "draw sample"]:
    """How often each sample comes up in each draw of n_samples with replacement."""
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(n_samples, (n_draws, n_samples), generator=generator)
    counts = torch.zeros(n_draws, n_samples)
    return counts.scatter_add_(1, picked, torch.ones(1).expand_as(counts)).to(device)


def share_explained(
    heads: PrecomputedHeads, basis: Float[Tensor, "head step d_head"]
) -> Float[Tensor, " head"]:
    """Share of each head's variance along its orthonormal directions: z·basis are its products."""
    explained = ((basis @ heads.moments) * basis).sum((1, 2))
    tiny = torch.finfo(basis.dtype).tiny
    return (explained / heads.variance.clamp_min(tiny)).clamp(0, 1)


def drawn_shares(
    heads: PrecomputedHeads,
    form: Float[Tensor, "head d_head d_head"],
    counts: Float[Tensor, "draw sample"],
    centre: bool,
) -> Float[Tensor, "draw head"]:
    """`share_explained` in every draw, about the draw's own mean if centred.

    `form` is basisᵀ·basis; the shares are linear in it.
    """
    # Squares along the basis, and of all of H: both are quadratic forms of z.
    forms = torch.stack([form, heads.gram])
    n = counts.sum(1)

    def shares(start: int, stop: int) -> Float[Tensor, "head draw"]:
        z = heads.signals(start, stop)
        form = forms[:, start:stop]
        energies = ((z @ form) * z).sum(3)
        drawn = energies @ counts.T
        if centre:
            # z is about the mean of all samples; a draw has a mean of its own.
            mean = (counts / n[:, None]) @ z
            drawn = drawn - ((mean @ form) * mean).sum(3) * n
        explained, total = drawn.unbind()
        return explained / total.clamp_min(torch.finfo(total.dtype).tiny)

    found = in_parts(shares, len(heads), _GROUP, counts.device)
    return torch.cat(found).T.clamp(0, 1)


def draw_lists(
    lists: Float[Tensor, "list layer head"], n_draws: int = N_DRAWS, seed: int = 0
) -> Float[Tensor, "draw layer head"]:
    """How far one more random word list would score from the mean of these.

    Student's t with one degree less than there are lists: what is known of a normal variable from
    so few of them (the prediction interval). 0 where there is one list only.
    """
    n = len(lists)
    if n < 2:
        return lists.new_zeros(n_draws, *lists.shape[1:])
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, n_draws, generator=generator)
    t = normal[0] / normal[1:].square().mean(0).sqrt() * (1 + 1 / n) ** 0.5
    return t.to(lists.device)[:, None, None] * lists.std(0)


def spread_of(
    over: Float[Tensor, "draw layer head"], ordered_by: Float[Tensor, "draw layer head"]
) -> Spread:
    """The intervals of the differences from chance, and of ranks among all heads."""
    shape, flat = over.shape[1:], ordered_by.flatten(1).cpu()
    # Layers without heads have no score: they come last and push no rank.
    order = flat.nan_to_num(nan=-torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(1, flat.shape[1] + 1).expand_as(order))
    edges = torch.tensor([(1 - SHARE) / 2, (1 + SHARE) / 2])
    low, high = over.flatten(1).cpu().quantile(edges, dim=0)
    best, worst = ranks.float().quantile(edges, dim=0).round().long()
    return Spread(low.view(shape), high.view(shape), best.view(shape), worst.view(shape))
