"""A batch's forward pass taken up again at any layer, under other factors of its heads.

What turns a head of layer 20 leaves layers 0 to 19 as they are: they are read once, and every
further table of factors costs the layers from its first changed one on. Families that do more
around their layers than is seen here are noticed, and read whole each time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from headviz.base.shapes import Bool, Float, Tensor
from headviz.heads.forward import Batch
from headviz.heads.hooks import layer_arguments, projection_inputs
from headviz.models.loaded import LoadedModel

_ALIKE = 1e-3  # nats: how far a pass taken up again may be from a whole one
_taken_up: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Models that were tried -> whether a pass can be taken up again."""

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and other arguments of a layer."""


@dataclass(frozen=True, eq=False)
class Replay:
    """One batch, to be read under many tables of factors."""

    model: LoadedModel
    batch: Batch
    given: tuple[Given, ...] | None
    """What every decoder layer was given; None where a pass cannot be taken up again."""

    @classmethod
    def of(cls, model: LoadedModel, batch: Batch) -> "Replay":
        """Read the batch once, unedited. A model's first one is held against a whole pass."""
        if _taken_up.get(model.model) is False:
            return cls(model, batch, None)
        given: list[Given] = []

        def note(_: int, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            kept = dict(named)
            given.append((args or (kept.pop("hidden_states"),), kept))

        # Not in inference mode: a gradient may have to pass what is kept here.
        with torch.inference_mode(False), torch.no_grad(), layer_arguments(model, note):
            whole = model.model(**batch.inputs(), use_cache=False, logits_to_keep=1).logits
        found = cls(model, batch, tuple(given))
        if model.model not in _taken_up:
            _taken_up[model.model] = found._gives(whole[:, -1])
        return found if _taken_up[model.model] else cls(model, batch, None)

    def _gives(self, whole: Float[Tensor, "row vocab"]) -> bool:
        """Whether the layers, run one by one, end in these logits after the last position."""
        last = torch.zeros_like(self.batch.image)
        last[:, -1] = True
        try:
            with torch.no_grad():
                again = self.logits(_ones(self.model, len(last)), last, self.model.head_layers[0])
        except (TypeError, RuntimeError, ValueError):
            return False
        apart = (again.log_softmax(1) - whole.float().log_softmax(1)).abs().max()
        return float(apart) < _ALIKE

    def logits(
        self,
        table: Float[Tensor, "row layer head"],
        at: Bool[Tensor, "row position"],
        start: int | None = None,
    ) -> Float[Tensor, "scored vocab"]:
        """Logits after the positions `at`, row by row, with the factors table[r] for row r.

        Layers before `start` keep their factors at 1; by itself it is the first one that the
        table changes. A gradient flows into the table where it asks for one: then name `start`.
        """
        if start is None:
            changed = (table != 1).any(2).any(0).nonzero().flatten().tolist()
            start = min(changed, default=self.model.n_layers)
        with scaled(self.model, table, start):
            if self.given is None:
                return self.model.model(**self.batch.inputs(), use_cache=False).logits[at].float()
            hidden = self._run(start)
        read_out: nn.Module = self.model.model.get_output_embeddings()
        return read_out(self.model.final_norm(hidden[at])).float()

    def _run(self, start: int) -> Float[Tensor, "row position d_model"]:
        assert self.given is not None
        # The last layer's input is known; what it gives is not kept.
        first = min(start, self.model.n_layers - 1)
        (hidden, *_), _ = self.given[first]
        for number in range(first, self.model.n_layers):
            (_, *args), options = self.given[number]
            output = self.model.layers[number](hidden, *args, **options)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden


@contextmanager
def scaled(
    model: LoadedModel, table: Float[Tensor, "row layer head"], start: int = 0
) -> Iterator[None]:
    """While open, row r of a batch runs with the factors table[r], from layer `start` on.

    Like `edits.applied`, but every factor counts, so that a gradient reaches those at 1 as well.
    """
    wide = table.to(model.dtype).repeat_interleave(model.d_head, dim=2)[:, :, None]

    def scale(layer: int, signals: Tensor) -> Tensor | None:
        return signals * wide[:, layer].to(signals.device) if layer >= start else None

    with projection_inputs(model, scale):
        yield


def _ones(model: LoadedModel, rows: int) -> Float[Tensor, "row layer head"]:
    return torch.ones(rows, model.n_layers, model.n_heads, device=model.device)
