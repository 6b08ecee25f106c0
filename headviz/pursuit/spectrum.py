"""What one head talks about: its token spectrum, its strongest samples, its logit lens.

The spectrum is the pursuit over the whole vocabulary. Weights are in units of the residual stream
(root mean square over samples), `explained` is the share of the head's variance so far.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from headviz.base.head import Head
from headviz.base.shapes import Float, Int, Tensor
from headviz.heads.capture import HeadActivations
from headviz.models.loaded import LoadedModel
from headviz.pursuit.criteria import check_variation
from headviz.pursuit.dictionary import vocabulary_atoms, vocabulary_labels
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.somp import BUDGET, How, pursue_precomputed
from headviz.pursuit.options import Options


@dataclass(frozen=True)
class Atom:
    """A token of the spectrum, in the order picked."""

    token: str
    weight: float
    explained: float
    """Share of the head's variance explained by all atoms up to this one."""


@dataclass(frozen=True)
class Sample:
    """A text or picture that drives the head, and the share of the head's variance it causes."""

    text: str
    share: float
    number: int = -1
    """Its place among the samples that the heads were read on; -1 where that was not kept."""
    picture: str = ""
    """The picture's name; the text is then what was asked about it."""


@dataclass(frozen=True)
class LensToken:
    """A token and the mean logit that the head's write gives it."""

    token: str
    logit: float


@dataclass(frozen=True)
class Spectrum:
    """A head opened."""

    model: str
    head: Head
    options: Options
    n_samples: int
    atoms: tuple[Atom, ...]
    samples: tuple[Sample, ...]
    lens: tuple[LensToken, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "head": str(self.head)}


def head_spectrum(
    model: LoadedModel,
    activations: HeadActivations,
    head: Head,
    steps: int = 20,
    options: Options | None = None,
    n_samples: int = 5,
    n_lens: int = 10,
    budget: int = BUDGET,
) -> Spectrum:
    """The spectrum of one head over all texts, in `budget` bytes of working memory.

    Raises OptionError for a head that is not there.
    """
    model.check_heads([head])
    options = Options(**{**(options or Options()).as_dict(), "steps": steps})
    check_variation(activations, options)
    z = activations.z[head.layer, head.index]
    w_o = model.head_weights(head.layer)[head.index]
    atoms = vocabulary_atoms(model, options.normalise, options.fold_norm)
    heads = precompute_heads(z[None], [w_o[None]], options.centre, lambda _: str(head))
    found = pursue_precomputed(heads, atoms, steps, How(budget=budget))
    return describe(
        model,
        activations,
        head,
        options,
        vocabulary_labels(model),
        (found.picks[0], found.weights[0], found.explained[0]),
        mean_logits(z[None], w_o[None], atoms)[0],
        n_samples,
        n_lens,
    )


def describe(
    model: LoadedModel,
    activations: HeadActivations,
    head: Head,
    options: Options,
    labels: list[str],
    found: tuple[Int[Tensor, " step"], Float[Tensor, " step"], Float[Tensor, " step"]],
    logits: Float[Tensor, " vocab"],
    n_samples: int = 5,
    n_lens: int = 10,
) -> Spectrum:
    """A head's spectrum from its picks, their weights, what they explain, and its mean logits."""
    z = activations.z[head.layer, head.index]
    w_o = model.head_weights(head.layer)[head.index]
    rows = zip(*(column.tolist() for column in found), strict=True)
    return Spectrum(
        model=model.name,
        head=head,
        options=options,
        n_samples=activations.n_samples,
        atoms=tuple(Atom(labels[p], weight, share) for p, weight, share in rows if p >= 0),
        samples=_strongest(z, w_o, activations, options.centre, n_samples),
        lens=_lens(logits, labels, n_lens),
    )


def _strongest(
    z: Float[Tensor, "sample d_head"],
    w_o: Float[Tensor, "d_head d_model"],
    activations: HeadActivations,
    centre: bool,
    n: int,
) -> tuple[Sample, ...]:
    """The samples on which the head's write is farthest from its mean."""
    signals = z - z.mean(0) if centre else z
    energy = ((signals @ (w_o @ w_o.T)) * signals).sum(1).clamp_min(0)
    shares = energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
    top = shares.topk(min(n, activations.n_samples))
    names = [picture.name for picture in activations.pictures] or [""] * activations.n_samples
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return tuple(Sample(activations.texts[i], share, i, names[i]) for i, share in pairs)


def mean_logits(
    z: Float[Tensor, "head sample d_head"],
    w_o: Float[Tensor, "head d_head d_model"],
    atoms: Float[Tensor, "vocab d_model"],
) -> Float[Tensor, "head vocab"]:
    """What the mean write of each head adds to every token's logit (the logit lens)."""
    return torch.einsum("hk,hkd->hd", z.mean(1), w_o) @ atoms.T


def _lens(logits: Float[Tensor, " vocab"], labels: list[str], n: int) -> tuple[LensToken, ...]:
    """The tokens whose logits the head's mean write raises most."""
    top = logits.topk(min(n, len(labels)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return tuple(LensToken(labels[i], logit) for i, logit in pairs)
