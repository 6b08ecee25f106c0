"""What heads do to the right answer: by the gradient, and by leaving out each one in turn.

Both are measured on the mean log-probability of the right answers, in nats. The gradient
(attribution patching, Nanda 2023; Syed et al. 2023) needs one backward pass: the derivative by a
head's factor is the sum over positions of its signal times the signal's gradient. Exhaustive
ablation sets each head's factor to 0 and is the truth that other rankings are held against. A head
that writes next to nothing is left out by the gradient: what that misses is of second order in its
write, some 1e-5 nats in tiny-lm (docs/log.md).
"""

from collections.abc import Sequence

import torch

from headviz.base.shapes import Float, Tensor
from headviz.heads.capture import Progress, no_progress
from headviz.models.loaded import LoadedModel
from headviz.studies.layer_replay import Trace, replay, trace
from headviz.studies.teacher_forcing import Forced, log_probability, planned, read, row_tokens

SILENT = 3e-3
"""A head writes next to nothing with at most this share of the residual stream, anywhere."""


def attribution(
    model: LoadedModel, forced: Sequence[Forced], progress: Progress = no_progress
) -> Float[Tensor, "layer head"]:
    """How fast the right answers' log-probability grows with each head's factor, at factor 1.

    The mean over samples; to first order, what leaving the head out would cost.
    """
    total = torch.zeros(model.n_layers, model.n_heads)
    done = 0
    for rows in planned(model, forced, rows_each=4):  # room for what the backward pass keeps
        progress(done / len(forced), "attribution patching")
        total += _slopes(model, [forced[row] for row in rows]).sum(0)
        done += len(rows)
    return total / len(forced)


def _slopes(model: LoadedModel, forced: Sequence[Forced]) -> Float[Tensor, "row layer head"]:
    batch, scored = read(model, forced)
    size = (len(forced), model.n_layers, model.n_heads)
    with torch.enable_grad():
        table = torch.ones(size, dtype=model.dtype, device=model.device, requires_grad=True)
        value = log_probability(model, batch, scored, table).sum()
        (gradient,) = torch.autograd.grad(value, table)
    return gradient.float().cpu()


def ablation(
    model: LoadedModel, forced: Sequence[Forced], progress: Progress = no_progress
) -> Float[Tensor, "layer head"]:
    """What each head's factor 0 takes from the right answers' log-probability, mean over samples.

    All heads of a layer share a pass that begins at this layer: each row leaves out another head.
    """
    total = torch.zeros(model.n_layers, model.n_heads)
    for number, one in enumerate(forced):
        progress(number / len(forced), f"leaving out each head in turn on {len(forced)} samples")
        found = trace(model, one)
        total += _whole_passes(model, one) if found is None else _by_layers(model, one, found)
    return total / len(forced)


def _by_layers(model: LoadedModel, one: Forced, found: Trace) -> Float[Tensor, "layer head"]:
    silent = found.shares <= SILENT
    lost = _slopes(model, [one])[0] if silent.any() else torch.zeros(silent.shape)
    width = found.given[0][0][0].shape[1]
    every = torch.ones(model.n_heads, model.n_heads, dtype=model.dtype).fill_diagonal_(0)
    for layer in model.head_layers:
        loud = (~silent[layer]).nonzero()[:, 0]
        for part in _parts(model, len(loud), width):
            factors = every[loud[part]].to(model.device)
            lost[layer, loud[part]] = found.base - replay(model, found, layer, factors).cpu()
    return lost


@torch.inference_mode()
def _whole_passes(model: LoadedModel, one: Forced) -> Float[Tensor, "layer head"]:
    """The same for a family whose layers cannot be run by themselves."""
    ones = torch.ones(1, model.n_layers, model.n_heads, device=model.device, dtype=model.dtype)
    base = log_probability(model, *read(model, [one]), ones).item()
    lost = torch.zeros(model.total_heads)
    for heads in _parts(model, model.total_heads, len(one.prompt.ids)):
        numbers = list(range(model.total_heads))[heads]
        table = ones.repeat(len(numbers), 1, 1)
        table.view(len(numbers), -1)[range(len(numbers)), numbers] = 0
        lost[heads] = base - log_probability(model, *read(model, [one] * len(numbers)), table).cpu()
    return lost.view(model.n_layers, model.n_heads)


def _parts(model: LoadedModel, n_heads: int, width: int) -> list[slice]:
    """The heads in as few parts as fit into a batch at this many tokens a row."""
    at_once = max(1, row_tokens(model) // width)
    return [slice(start, start + at_once) for start in range(0, n_heads, at_once)]
