"""A prompt read once, to be gone on from under any edits: a knob that moves does not read it again.

What turns a head of layer 20 leaves layers 0 to 19 as they are: their keys and values are taken
from the unedited reading, and only rows that are edited are run, from their first changed layer on.
Families that do more around their layers than is seen here are noticed, and read whole each time.
"""

import copy
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from headviz.base.lru import LRU
from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.heads.edits import applied
from headviz.heads.forward import Batch, batch_of, is_plain, read_on
from headviz.heads.hooks import layer_arguments
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel

KEPT = 4
"""Prompts of a session that are kept read."""
_MOST_BYTES = 2**28  # that one may keep of what goes into its layers
_ALIKE = 1e-3  # nats: how far a pass taken up again may be from a whole one
_fits: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Models that were tried -> whether their passes can be taken up again."""

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and other arguments of a layer."""
Stems = LRU["Stem"]
"""Prompts that were read."""


@dataclass(frozen=True, eq=False)
class Stem:
    """One prompt, read by the unedited model."""

    model: LoadedModel
    batch: Batch
    """One row."""
    given: tuple[Given, ...] | None
    """What every decoder layer was given; None where the pass cannot be taken up again."""
    cache: Any
    logits: Float[Tensor, "1 vocab"]
    """Of the token after the prompt."""

    @classmethod
    def of(cls, model: LoadedModel, prompt: EncodedPrompt) -> "Stem":
        """Read the prompt. A model's first one is held against a pass taken up again."""
        given: list[Given] = []

        def note(_: int, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            kept = dict(named)
            given.append((args or (kept.pop("hidden_states"),), kept))

        with torch.inference_mode(), layer_arguments(model, note):
            batch = batch_of(model, [prompt], left=True)
            logits, cache = read_on(model, batch, None)
        found = cls(model, batch, tuple(given), cache, logits)
        n_bytes = sum(args[0].nbytes for args, _ in given)
        if model.is_split or not is_plain(cache) or n_bytes > _MOST_BYTES:
            return cls(model, batch, None, cache, logits)
        if model.model not in _fits:
            _fits[model.model] = found._gives_itself()
        return found if _fits[model.model] else cls(model, batch, None, cache, logits)

    def _gives_itself(self) -> bool:
        """Whether the layers, run one by one in two rows, end where the whole pass ended."""
        none = torch.ones(2, self.model.n_layers, self.model.n_heads, dtype=self.model.dtype)
        try:
            with torch.inference_mode():
                again, cache = self._run(none.to(self.model.device), None, 0)
                rows = torch.zeros(2, dtype=torch.long, device=self.model.device)
                follow = self.batch.narrowed(rows).following(again.argmax(1))
                after, _ = read_on(self.model, follow, cache)
                single = self.batch.following(self.logits.argmax(1))
                expected, _ = read_on(self.model, single, copy.deepcopy(self.cache))
        except (TypeError, RuntimeError, ValueError, IndexError):
            return False
        pairs = ((again, self.logits), (after, expected))
        apart = [(a.log_softmax(1) - b.float().log_softmax(1)).abs().max() for a, b in pairs]
        return float(max(apart)) < _ALIKE

    def rows(
        self, table: Float[Tensor, "row layer head"], at: Bool[Tensor, "row position"] | None
    ) -> tuple[Float[Tensor, "row vocab"], Any]:
        """Logits after the prompt for rows under these factors, and their keys and values.

        `at`: the positions at which each row's factors hold, None where all do.
        """
        assert self.given is not None
        changed = (table != 1).any(2)
        if at is not None:
            changed = changed & at.any(1)[:, None]
        edited = changed.any(1).nonzero().flatten()
        # Which row of the unedited one and those that are run stands for each.
        source = torch.zeros(len(table), dtype=torch.long, device=table.device)
        source[edited] = torch.arange(1, len(edited) + 1, device=table.device)
        start = int(changed.any(0).nonzero()[0]) if len(edited) else self.model.n_layers
        if not len(edited):
            return self.logits[source], self._cache(source, None, start)
        held = None if at is None else at[edited]
        logits, run = self._run(table[edited], held, start)
        return torch.cat([self.logits, logits])[source], self._cache(source, run, start)

    def _run(
        self,
        table: Float[Tensor, "row layer head"],
        at: Bool[Tensor, "row position"] | None,
        start: int,
    ) -> tuple[Float[Tensor, "row vocab"], Any]:
        """Layers from `start` on, for rows that are the same before it."""
        assert self.given is not None
        fresh = copy.copy(self.cache)
        fresh.layers = [copy.copy(layer) for layer in self.cache.layers]
        for layer in fresh.layers:
            layer.reset()
        (first, *_), _ = self.given[start]
        hidden = first.expand(len(table), *first.shape[1:])
        with applied(self.model, table, at):
            for number in range(start, self.model.n_layers):
                (_, *args), named = self.given[number]
                args = [fresh if value is self.cache else value for value in args]
                named = {key: fresh if v is self.cache else v for key, v in named.items()}
                output = self.model.layers[number](hidden, *args, **named)
                hidden = output[0] if isinstance(output, tuple) else output
        read_out: nn.Module = self.model.model.get_output_embeddings()
        return read_out(self.model.final_norm(hidden[:, -1:]))[:, -1].float(), fresh

    def _cache(self, source: Int[Tensor, " row"], run: Any, start: int) -> Any:
        """Keys and values of rows: those of layers before `start` are everybody's."""
        made = copy.copy(self.cache)
        made.layers = [copy.copy(layer) for layer in self.cache.layers]
        for number, layer in enumerate(made.layers):
            if not layer.is_initialized:
                continue
            if number < start or run is None:
                rows = torch.zeros_like(source)
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]
            else:
                own = run.layers[number]
                layer.keys = torch.cat([layer.keys, own.keys])[source]
                layer.values = torch.cat([layer.values, own.values])[source]
        return made


def stem_of(model: LoadedModel, prompts: list[EncodedPrompt], stems: Stems | None) -> Stem | None:
    """The reading that all these prompts share; None where they differ or show pictures."""
    first = prompts[0]
    if any(prompt.ids != first.ids for prompt in prompts[1:]) or first.pictures:
        return None
    key = (model.name, model.revision, model.number_format, first.ids)
    if stems is None:
        return Stem.of(model, first)
    return stems.find_or_make(key, lambda: Stem.of(model, first))
