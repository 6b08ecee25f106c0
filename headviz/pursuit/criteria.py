"""Ways to score every head for a concept. A criterion is a function and its row in CRITERIA.

Each returns one number a head, larger for heads that carry more of the concept. None of them is
proof: a head may carry a concept that nothing downstream reads. An edit beside its control is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from headviz.base.errors import OptionError, PromptError
from headviz.base.head import Head
from headviz.base.shapes import Float, Tensor
from headviz.heads.capture import HeadActivations
from headviz.models.loaded import LoadedModel
from headviz.pursuit.bootstrap import drawn_shares, share_explained
from headviz.pursuit.dictionary import Dictionary
from headviz.pursuit.engine.precomputed import PrecomputedHeads, precompute_heads
from headviz.pursuit.engine.projection import span_basis
from headviz.pursuit.engine.somp import How, pursue_precomputed
from headviz.pursuit.options import Options

Draw = Callable[[Tensor, Float[Tensor, "draw sample"]], Float[Tensor, "draw layer head"]]


@dataclass(frozen=True, eq=False)
class Scores:
    """Every head's score for one dictionary, and how it moves with the samples."""

    values: Float[Tensor, "layer head"]
    """NaN in layers without heads."""
    linear: Float[Tensor, "number *axis"]
    """What the scores are linear in: its mean over dictionaries gives the mean of their scores."""
    draw: Draw
    """From `linear`, the scores with each sample counted as often as a row of counts says."""


def precompute_model(
    model: LoadedModel, activations: HeadActivations, centre: bool = True
) -> PrecomputedHeads:
    """All heads of the model in the order of the layers that have any."""
    layers = model.head_layers
    return precompute_heads(
        activations.z[list(layers)].flatten(0, 1),
        [model.head_weights(layer) for layer in layers],
        centre,
        lambda number: str(Head(layers[number // model.n_heads], number % model.n_heads)),
    )


def logit_lens(
    model: LoadedModel,
    activations: HeadActivations,
    heads: PrecomputedHeads,
    dictionaries: Sequence[Dictionary],
    options: Options,
) -> Iterator[Scores]:
    """Mean logit that the head's write gives to the concept's tokens (the paper's baseline)."""
    means = torch.stack([d.atoms.mean(0) for d in dictionaries])
    z = activations.z[list(model.head_layers)].flatten(0, 1)

    def draw(in_head: Tensor, counts: Tensor) -> Tensor:
        logits = torch.einsum("hsk,hk->hs", z, in_head)
        return placed(model, counts / counts.sum(1, keepdim=True) @ logits.T)

    for in_head in heads.project(means).unbind(1):
        every = torch.ones(1, z.shape[1], device=z.device)
        yield Scores(draw(in_head, every)[0], in_head, draw)


def placed(
    model: LoadedModel, values: Float[Tensor, "*draw number"]
) -> Float[Tensor, "*draw layer head"]:
    """Numbers of all heads by layer and head; NaN in layers that have no heads."""
    shape = (*values.shape[:-1], model.n_layers, model.n_heads)
    table = values.new_full(shape, torch.nan)
    layers = list(model.head_layers)
    table[..., layers, :] = values.unflatten(-1, (len(layers), model.n_heads))
    return table


def check_variation(activations: HeadActivations, options: Options) -> None:
    """Raise PromptError where the variance about the mean is asked for and there is one text."""
    if options.centre and activations.n_samples < 2:
        raise PromptError(
            "There is only one text, so that nothing varies about the mean. Add texts, or turn "
            "'variance about the mean' off (--no-centre)."
        )


def explained(
    rule: str,
    model: LoadedModel,
    activations: HeadActivations,
    heads: PrecomputedHeads,
    dictionaries: Sequence[Dictionary],
    options: Options,
) -> Iterator[Scores]:
    """Share of the head's variance that the concept's tokens explain (0 to 1).

    `rule`, one of the pursuit's RULES, says how atoms are picked: "energy" by squared correlations,
    at a cost free of the samples.
    """
    check_variation(activations, options)
    how = How(rule)
    # One product for all dictionaries: each reads the output projections from memory once.
    sizes = [len(d.atoms) for d in dictionaries]
    in_heads = heads.project(torch.cat([d.atoms for d in dictionaries])).split(sizes, 1)

    def draw(form: Tensor, counts: Tensor) -> Tensor:
        return placed(model, drawn_shares(heads, form, counts, options.centre))

    for dictionary, in_head in zip(dictionaries, in_heads, strict=True):
        atoms = dictionary.atoms
        if len(atoms) <= options.steps:
            basis = span_basis(atoms, in_head)  # all of them get picked: their order is no matter
        else:
            basis = pursue_precomputed(heads, atoms, options.steps, how, in_head=in_head).basis
        yield Scores(placed(model, share_explained(heads, basis)), basis.mT @ basis, draw)


Score = Callable[
    [LoadedModel, HeadActivations, PrecomputedHeads, Sequence[Dictionary], Options],
    Iterator[Scores],
]


@dataclass(frozen=True)
class Criterion:
    """A way to score heads, and how its scores are read."""

    score: Score
    """One Scores for each dictionary, in order."""
    title: str
    """A few words for people."""
    is_share: bool
    """Whether a score is a share of the head's variance, 0 to 1, and so told in per cent."""
    source: str


CRITERIA: Mapping[str, Criterion] = {
    "somp": Criterion(
        partial(explained, "l1"),
        "share of variance explained (pursuit)",
        is_share=True,
        source="simultaneous orthogonal matching pursuit over the unembedding (the paper)",
    ),
    "logit-lens": Criterion(
        logit_lens, "logit lens", is_share=False, source="nostalgebraist 2020; the paper's baseline"
    ),
    "energy": Criterion(
        partial(explained, "energy"),
        "share of variance, atoms picked by energy",
        is_share=True,
        source="the same with atoms picked by squared correlations (ours)",
    ),
}
"""Name -> criterion: those of the pursuit; `session.rankings` has them beside the other ways."""


def find_criterion(name: str) -> Criterion:
    """The criterion of that name. Raises OptionError with the known ones."""
    if name not in CRITERIA:
        raise OptionError(f"Unknown criterion {name!r}. Known: {', '.join(CRITERIA)}.")
    return CRITERIA[name]
