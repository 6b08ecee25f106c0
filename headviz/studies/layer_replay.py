"""One prompt's forward pass taken up again at any layer, with many edits of that layer's heads.

What leaves out a head of layer 20 does not change layers 0 to 19: they are read once. In the edited
layer the attention and its projection are computed once as well: a row is the unedited output and
what its factors add of each head's write. So leaving out every head costs about half of the layers,
and far less of the last ones.
The prompt stands alone in its batch, so that all else broadcasts over the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headviz.base.shapes import Float, Int, Tensor
from headviz.heads.hooks import layer_arguments, projection_inputs, projection_output
from headviz.models.families import output_weight
from headviz.models.loaded import LoadedModel
from headviz.studies.teacher_forcing import Forced, log_probability, read

_ALIKE = 1e-3  # nats


@dataclass(frozen=True, eq=False)
class Trace:
    """What every decoder layer was given, and what is to be scored at the end."""

    given: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    """Positional and other arguments of each layer."""
    positions: Int[Tensor, " scored"]
    """Where the scored tokens are predicted."""
    tokens: Int[Tensor, " scored"]
    base: float
    """Mean log-probability of the scored tokens without an edit."""
    shares: Float[Tensor, "layer head"]
    """The largest norm, over positions, of a head's write as a share of the residual stream's.

    Infinite in layers whose attention output is normed before it is added, and in those without
    heads: a small write may be made large there.
    """


@torch.inference_mode()
def trace(model: LoadedModel, forced: Forced) -> Trace | None:
    """Read one prompt; None where the family's layers cannot be run by themselves."""
    batch, scored = read(model, [forced])
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(_: int, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept = dict(named)  # the layer is called with the dict itself
        given.append((args or (kept.pop("hidden_states"),), kept))

    table = torch.ones(1, model.n_layers, model.n_heads, dtype=model.dtype, device=model.device)
    signals: dict[int, Tensor] = {}
    with layer_arguments(model, note), projection_inputs(model, signals.__setitem__):
        base = log_probability(model, batch, scored, table).item()
    after = scored[0].nonzero()[:, 0]
    shares = torch.full((model.n_layers, model.n_heads), torch.inf)
    for layer in model.head_layers:
        if model.norm_after(layer) is None:
            shares[layer] = _shares(model, layer, given[layer][0][0], signals[layer])
    found = Trace(tuple(given), after - 1, batch.ids[0, after], base, shares)
    # A family that does more after its last layer than a norm and a product shows itself here.
    first = model.head_layers[0]
    try:
        again = replay(model, found, first, table[:, first]).item()
    except (TypeError, RuntimeError, ValueError):
        return None
    return found if abs(again - base) < _ALIKE else None


@torch.inference_mode()
def replay(
    model: LoadedModel, found: Trace, layer: int, factors: Float[Tensor, "row head"]
) -> Float[Tensor, " row"]:
    """Mean log-probability of the scored tokens, a row for each set of this layer's factors."""
    added = (factors - 1).float()
    weight = output_weight(model.projections[layer])

    def part(signals: Tensor, output: Tensor) -> Tensor:
        writes = _writes(model, signals[0], weight)
        rows = added @ writes.flatten(1)
        return output + rows.view(len(added), *output.shape[1:]).to(output.dtype)

    (hidden, *args), options = found.given[layer]
    with projection_output(model, layer, part):
        hidden = _run(model.layers[layer], hidden, args, options)
    for number in range(layer + 1, model.n_layers):
        (_, *args), options = found.given[number]
        hidden = _run(model.layers[number], hidden, args, options)
    read_out: nn.Module = model.model.get_output_embeddings()
    logits = read_out(model.final_norm(hidden[:, found.positions])).float()
    chosen = found.tokens[None, :, None].expand(len(logits), -1, 1)
    return logits.log_softmax(2).gather(2, chosen)[:, :, 0].mean(1)


def _shares(
    model: LoadedModel, layer: int, hidden: Tensor, signals: Tensor
) -> Float[Tensor, " head"]:
    writes = _writes(model, signals[0], output_weight(model.projections[layer]))
    stream = hidden[0].float() + writes.sum(0)
    return (writes.norm(dim=2) / stream.norm(dim=1).clamp_min(1e-9)).amax(1).cpu()


def _writes(
    model: LoadedModel,
    signals: Float[Tensor, "position heads_d_head"],
    weight: Float[Tensor, "d_model heads_d_head"],
) -> Float[Tensor, "head position d_model"]:
    """What each head adds to the projection's output."""
    each = signals.float().unflatten(1, (model.n_heads, model.d_head)).transpose(0, 1)
    return each @ weight.float().T.unflatten(0, (model.n_heads, model.d_head))


def _run(layer: nn.Module, hidden: Tensor, args: Sequence[Any], options: dict[str, Any]) -> Tensor:
    output = layer(hidden, *args, **options)
    return output[0] if isinstance(output, tuple) else output
