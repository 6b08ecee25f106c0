"""What heads do to the right answer: by the gradient, and by leaving out each one in turn.

Both are measured on the mean log-probability of the right answers, in nats. The gradient
(attribution patching, Nanda 2023; Syed et al. 2023) needs one backward pass: the derivative by a
head's factor is the sum over positions of its signal times the signal's gradient. Exhaustive
ablation sets each head's factor to 0 and is the truth that other rankings are held against.
"""

from collections.abc import Sequence

import torch

from headviz.capture import Progress, no_progress
from headviz.experiments.forced import ROW_TOKENS, Forced, log_probability, planned, read
from headviz.loaded import LoadedModel
from headviz.shapes import Float, Tensor


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
        batch, scored = read(model, [forced[row] for row in rows])
        size = (len(rows), model.n_layers, model.n_heads)
        with torch.enable_grad():
            table = torch.ones(size, dtype=model.dtype, device=model.device, requires_grad=True)
            value = log_probability(model, batch, scored, table).sum()
            (gradient,) = torch.autograd.grad(value, table)
        total += gradient.sum(0).float().cpu()
        done += len(rows)
    return total / len(forced)


@torch.inference_mode()
def ablation(
    model: LoadedModel, forced: Sequence[Forced], progress: Progress = no_progress
) -> Float[Tensor, "layer head"]:
    """What each head's factor 0 takes from the right answers' log-probability, mean over samples.

    Many heads share a pass: each row of the batch leaves out another head.
    """
    total = torch.zeros(model.total_heads)
    ones = torch.ones(1, model.n_layers, model.n_heads, device=model.device, dtype=model.dtype)
    done = 0
    for rows in planned(model, forced, rows_each=16):
        own = [forced[row] for row in rows]
        base = log_probability(model, *read(model, own), ones.expand(len(rows), -1, -1))
        at_once = max(1, ROW_TOKENS // (len(rows) * max(len(f.prompt.ids) for f in own)))
        for start in range(0, model.total_heads, at_once):
            share = (done + len(rows) * start / model.total_heads) / len(forced)
            progress(share, "leaving out each head in turn")
            heads = range(start, min(start + at_once, model.total_heads))
            table = ones.repeat(len(heads), 1, 1)
            table.view(len(heads), -1)[range(len(heads)), list(heads)] = 0
            table = table.repeat_interleave(len(rows), 0)
            left = log_probability(model, *read(model, own * len(heads)), table)
            lost = base[None] - left.view(len(heads), len(rows))
            total[start : start + len(heads)] += lost.sum(1).float().cpu()
        done += len(rows)
    return (total / len(forced)).view(model.n_layers, model.n_heads)
