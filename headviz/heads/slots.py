"""Keys and values of rows that come and go between two tokens: one slot a row.

A row's tokens stand from position 0 of its slot on, however long its neighbours are, and a mask
hides what lies behind them. So a row comes or goes by one copy of its own keys and values. Models
to which the place in the slot matters beside the position that they are told are noticed
(`can_share`). Knows nothing of edits and of who the rows belong to.
"""

import copy
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.cache_utils import DynamicLayer

from headviz.base.shapes import Float, Tensor
from headviz.heads.forward import Batch, batch_of, is_plain, read_on
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel

_MORE = 24  # rows at most that room is made for before they come
_STEP = 64
"""Positions by which all slots become longer."""
_TRIAL, _BESIDE = 5, 2  # tokens of a trial's prompt, and of what is read beside a longer row
_ALIKE = 1e-3  # nats: how far a row beside others may be from the row alone
_WINDOWS = ("sliding_window", "window_size", "attention_chunk_size", "attention_window_size")
_BY_LENGTH = ("dynamic", "longrope")
"""Ways to turn by position that change with the longest row of a batch."""
_fits: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Models that were tried -> whether a row beside others says what it says alone."""


class _Layer(DynamicLayer):
    """One layer's keys and values, as a transformers model takes and extends them."""

    keys: Tensor
    values: Tensor

    def __init__(self, slots: "Slots", keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self._slots = slots
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys, self.values = (
            kind.new_zeros(0, kind.shape[1], 0, kind.shape[3]) for kind in (keys, values)
        )

    def resize(self, n_rows: int, n_positions: int) -> None:
        """Room for so many rows of so many positions; what is there stays as far as it fits."""
        for name in ("keys", "values"):
            before: Tensor = getattr(self, name)
            after = before.new_zeros(n_rows, before.shape[1], n_positions, before.shape[3])
            rows, length = min(n_rows, len(before)), min(n_positions, before.shape[2])
            after[:rows, :, :length] = before[:rows, :, :length]
            setattr(self, name, after)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """One token a row, written behind what the row has."""
        n, slots = len(key_states), self._slots
        self.keys[slots.numbers, :, slots.at] = key_states[:, :, 0]
        self.values[slots.numbers, :, slots.at] = value_states[:, :, 0]
        length = slots.longest + 1
        return self.keys[:n, :, :length], self.values[:n, :, :length]

    def get_seq_length(self) -> int:
        """Of the longest row: what a pass masks from."""
        return self._slots.longest


class Slots:
    """Rows in one batch; a pass reads one more token of each."""

    def __init__(self, model: LoadedModel) -> None:
        """No rows."""
        self._model = model
        self._cache: Any = None
        self._capacity = (0, 0)
        self.lengths: list[int] = []
        """Tokens that each row has read."""
        self.at = torch.zeros(0, dtype=torch.long, device=model.device)
        """Where each row of the pass that runs writes."""
        self.numbers, self.longest = self.at, 0

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    def put(self, cache: Any, rows: Iterable[int], lengths: Iterable[int]) -> None:
        """Add rows of a plain cache, padded on the left, of which so many positions are read."""
        pairs = list(zip(rows, lengths, strict=True))
        first = len(self)
        self._make_room(cache, first + len(pairs), max(length for _, length in pairs))
        for own, layer in zip(self._cache.layers, cache.layers, strict=True):
            for slot, (row, length) in enumerate(pairs, first):
                own.keys[slot, :, :length] = layer.keys[row, :, layer.keys.shape[2] - length :]
                own.values[slot, :, :length] = layer.values[row, :, layer.keys.shape[2] - length :]
        self.lengths += [length for _, length in pairs]

    def remove(self, slot: int) -> None:
        """Let a row go; the last one takes its slot."""
        last = len(self) - 1
        if slot != last:
            length = self.lengths[last]
            for layer in self._cache.layers:
                layer.keys[slot, :, :length] = layer.keys[last, :, :length]
                layer.values[slot, :, :length] = layer.values[last, :, :length]
            self.lengths[slot] = length
        self.lengths.pop()
        if not self.lengths:
            self._cache, self._capacity = None, (0, 0)

    def read(
        self, tokens: list[int], goes_on: list[bool], added: int = 0
    ) -> Float[Tensor, "row vocab"]:
        """Logits after one more token a row; those that do not go on are left as they were.

        `added`: rows to run behind them that nobody asked for.
        """
        self.longest = max(self.lengths)
        rows = [*self.lengths, *[0] * added]
        self._make_room(None, len(rows), self.longest + 1)
        device = self._model.device
        self.at = torch.tensor(rows, device=device)
        self.numbers = torch.arange(len(rows), device=device)
        seen = torch.arange(self.longest + 1, device=device) <= self.at[:, None]
        ids = torch.tensor([*tokens, *tokens[:1] * added], device=device)[:, None]
        none = torch.zeros_like(ids, dtype=torch.bool)
        batch = Batch(ids, seen.long(), self.at[:, None], none, none, ~none, {})
        logits, _ = read_on(self._model, batch, self._cache)
        self.lengths = [n + goes for n, goes in zip(self.lengths, goes_on, strict=True)]
        return logits[: len(tokens)]

    def _make_room(self, cache: Any, n_rows: int, length: int) -> None:
        """Have slots for so many rows of that length; `cache` is one of the model's own."""
        if self._cache is None:
            made = copy.copy(cache)
            made.layers = [_Layer(self, layer.keys, layer.values) for layer in cache.layers]
            self._cache = made
        rows, positions = self._capacity
        if n_rows <= rows and length <= positions:
            return
        if n_rows > rows:  # some more, so that not every newcomer has all copied
            rows = max(n_rows, min(2 * rows, rows + _MORE))
        positions = max(-(-length // _STEP) * _STEP, positions)
        for layer in self._cache.layers:
            layer.resize(rows, positions)
        self._capacity = (rows, positions)


def bytes_of_position(cache: Any) -> int:
    """Memory that keys and values of one position of one row take."""
    kinds = [kind for layer in cache.layers for kind in (layer.keys, layer.values)]
    return sum(kind[0, :, 0].numel() * kind.element_size() for kind in kinds)


def longest_shared(model: LoadedModel) -> int:
    """Tokens up to which a row may stand beside others, 0 where it may not.

    A window that is counted from the slot's end would be wrong for all rows but the longest, and
    is never reached up to there.
    """
    if model.is_split or model.quantised or model.vision is not None:
        return 0
    for module in model.model.modules():
        kinds = getattr(module, "rope_type", None)
        named = kinds.values() if isinstance(kinds, dict) else [kinds]
        if any(kind in _BY_LENGTH for kind in named):
            return 0
    config = model.model.config.get_text_config()
    windows = [getattr(config, name, None) for name in _WINDOWS]
    return min([model.context, *(w - 1 for w in windows if isinstance(w, int))])


@torch.inference_mode()
def can_share(model: LoadedModel, prompt: EncodedPrompt) -> bool:
    """Whether a row beside a longer one says what it says alone; tried once for a model."""
    if model.model not in _fits:
        try:
            _fits[model.model] = _is_alike(model, (prompt.ids * _TRIAL)[:_TRIAL])
        except (TypeError, RuntimeError, ValueError, IndexError, AttributeError):
            _fits[model.model] = False
    return _fits[model.model]


def _is_alike(model: LoadedModel, ids: tuple[int, ...]) -> bool:
    batch = batch_of(model, [EncodedPrompt(ids, (True,) * len(ids))], left=True)
    logits, cache = read_on(model, batch, None)
    if not is_plain(cache) or not all(layer.is_initialized for layer in cache.layers):
        return False
    slots, short = Slots(model), copy.copy(cache)
    short.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in short.layers:
        layer.keys, layer.values = layer.keys[:, :, :-_BESIDE], layer.values[:, :, :-_BESIDE]
    slots.put(cache, [0], [len(ids)])
    slots.put(short, [0], [len(ids) - _BESIDE])
    # The longer row goes on, the shorter one reads the end of the prompt beside it.
    alone, own = logits, copy.deepcopy(cache)
    for token in ids[-_BESIDE:]:
        chosen = alone.argmax(1)
        beside = slots.read([int(chosen), token], [True, True])
        batch = batch.following(chosen)
        alone, own = read_on(model, batch, own)
        if _apart(beside[:1], alone) > _ALIKE:
            return False
    return _apart(beside[1:], logits) < _ALIKE


def _apart(some: Float[Tensor, "row vocab"], others: Float[Tensor, "row vocab"]) -> float:
    return float((some.float().log_softmax(1) - others.float().log_softmax(1)).abs().max())
