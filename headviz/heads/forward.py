"""A batch of prompts as a transformers model takes it: padding, positions, pictures' features.

The first pass reads the prompts, each later one a token a row. Whatever is peculiar to a family
(where positions begin, positions in three dimensions, token types) is settled here. Knows nothing
of heads and edits: what is open during a pass is the caller's.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel
from headviz.models.vision import joined

_OUTPUTS = {field.name for field in fields(CausalLMOutputWithPast)}
_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
LEAVE_AT = 0.75
"""Rows leave when this share of the batch or less goes on: leaving copies the others' cache."""
_CACHE = "cache" if "cache" in _OUTPUTS else "past_key_values"
"""What transformers calls the keys and values read so far: before 5.24 by the longer name."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one forward pass reads."""

    ids: Int[Tensor, "row position"]
    attention: Int[Tensor, "row seen"]
    """1 for every token so far, this pass's last; 0 for padding."""
    positions: Int[Tensor, "*axis row position"]
    image: Bool[Tensor, "row position"]
    """Parts of pictures."""
    prompt: Bool[Tensor, "row position"]
    """The prompt's other tokens: neither padding nor part of a picture nor generated."""
    generated: Bool[Tensor, "row position"]
    """What the model has said itself."""
    extras: dict[str, Any]
    """Further arguments of the model."""

    def inputs(self) -> dict[str, Any]:
        """Arguments of the model, but for its cache."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.attention,
            "position_ids": self.positions,
            **self.extras,
        }

    def following(self, chosen: Int[Tensor, " row"]) -> "Batch":
        """The next pass: one token a row after these."""
        # The last position is the highest: after a picture, text goes on beyond its longest side.
        last = self.positions.amax(-1, keepdim=True)
        if last.ndim == 3:
            last = last.amax(0, keepdim=True).expand_as(last)
        none = torch.zeros_like(chosen[:, None], dtype=torch.bool)
        return replace(
            self,
            ids=chosen[:, None],
            attention=torch.cat([self.attention, torch.ones_like(chosen[:, None])], 1),
            positions=last + 1,
            image=none,
            prompt=none,
            generated=~none,
            extras={},
        )

    def after(self, length: int) -> "Batch":
        """What follows the first `length` positions, which were read before."""
        if length == 0:
            return self
        assert not self.extras, "what else the model takes is laid out for the whole"
        return replace(
            self,
            ids=self.ids[:, length:],
            positions=self.positions[..., length:],
            image=self.image[:, length:],
            prompt=self.prompt[:, length:],
            generated=self.generated[:, length:],
        )

    def narrowed(self, kept: Int[Tensor, " row"]) -> "Batch":
        """These rows, in this order, of a pass that follows a first one."""
        return replace(
            self,
            ids=self.ids[kept],
            attention=self.attention[kept],
            positions=self.positions[..., kept, :],
            image=self.image[kept],
            prompt=self.prompt[kept],
            generated=self.generated[kept],
        )


def batch_of(model: LoadedModel, prompts: Sequence[EncodedPrompt], left: bool) -> Batch:
    """The prompts as one batch, padded on the left (to go on from) or on the right (to be read).

    The vision tower runs for pictures that it has not seen.
    """
    ids = _padded(model, [p.ids for p in prompts], model.tokenizer.pad_token_id, left)
    attention = _padded(model, [[1] * len(p.ids) for p in prompts], 0, left)
    image = torch.zeros_like(ids, dtype=torch.bool)
    positions = (attention.cumsum(1) - 1).clamp_min(0)
    extras: dict[str, Any] = {}
    if model.vision is not None:
        image = _padded(model, [p.image for p in prompts], 0, left).bool()
        seen = [
            model.vision.see(picture, beside=len(p.pictures) > 1)
            for p in prompts
            for picture in p.pictures
        ]
        types = {
            name: _padded(model, [p.types[name] for p in prompts], 0, left)
            for name in prompts[0].types
        }
        extras = {"mm_encoder_outputs": {"image": joined(seen)}}
        if seen[0].grid is not None:
            grids = torch.cat([s.grid for s in seen if s.grid is not None])
            positions, _ = model.model.base_model.get_rope_index(
                ids, image_grid_thw=grids, attention_mask=attention, **types
            )
        elif "token_type_ids" in types:
            extras |= types
        positions = positions + model.vision.vision_spec.first_position
    prompt = attention.bool() & ~image
    return Batch(ids, attention, positions, image, prompt, torch.zeros_like(image), extras)


@dataclass(frozen=True, eq=False)
class Prefix:
    """What several prompts begin with, read once for all of them."""

    length: int
    """Tokens."""
    cache: Any
    """Their keys and values; None where there is no prefix."""

    def rows(self, n_rows: int) -> dict[str, Any]:
        """Arguments of the model for a batch of so many rows that goes on from here."""
        if self.cache is None:
            return {"use_cache": False}
        copied = copy.deepcopy(self.cache)
        copied.batch_repeat_interleave(n_rows)
        return {_CACHE: copied, "use_cache": True}


NO_PREFIX = Prefix(0, None)


@torch.inference_mode()
def read_prefix(model: LoadedModel, ids: Sequence[int]) -> Prefix:
    """These tokens, read; NO_PREFIX where a model keeps more than keys and values of them."""
    read = torch.tensor([ids], device=model.device)
    positions = torch.arange(len(ids), device=model.device)[None]
    output = model.model.base_model(
        input_ids=read,
        attention_mask=torch.ones_like(read),
        position_ids=positions,
        use_cache=True,
    )
    cache = output.get(_CACHE)
    return Prefix(len(ids), cache) if is_plain(cache) else NO_PREFIX


def is_plain(cache: Any) -> bool:
    """Whether keys and values are all that is kept: the state of other layers has no such way."""
    return all(type(kept) in _PLAIN for kept in getattr(cache, "layers", [None]))


def _padded(
    model: LoadedModel, rows: Sequence[Sequence[int]], filler: int, left: bool
) -> Int[Tensor, "row position"]:
    width = max(map(len, rows))
    fill = [[filler] * (width - len(row)) for row in rows]
    pairs = zip(fill, rows, strict=True)
    filled = [[*f, *map(int, row)] if left else [*map(int, row), *f] for f, row in pairs]
    return torch.tensor(filled, device=model.device)


def read_on(model: LoadedModel, batch: Batch, cache: Any) -> tuple[Float[Tensor, "row vocab"], Any]:
    """Logits of the token after each row, and the keys and values read so far, `cache` among them.

    `cache` is None before the first tokens are read.
    """
    output = model.model(**batch.inputs(), **{_CACHE: cache}, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1], output[_CACHE]


def sayable(model: LoadedModel, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
    """The logits of what may be said: a placeholder of a picture would ask for one anew."""
    if model.vision is None:
        return logits
    silent = torch.tensor(model.vision.placeholders, device=logits.device)
    return logits.index_fill(1, silent, -torch.inf)


def end_ids(model: LoadedModel) -> set[int]:
    """Ids of the tokens that end a text."""
    ends = model.model.generation_config.eos_token_id
    ids = {*ends} if isinstance(ends, list) else {ends}
    return {i for i in (*ids, model.tokenizer.eos_token_id) if i is not None}


def likeliest(
    model: LoadedModel,
    prompts: Sequence[EncodedPrompt],
    n_tokens: int,
    over: Callable[[Sequence[Sequence[int]]], Sequence[bool]] | None = None,
    opened: Callable[[Batch, Sequence[int]], AbstractContextManager[None]] | None = None,
    lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    watch: Callable[[], None] = lambda: None,
    leave_at: float = LEAVE_AT,
) -> list[list[int]]:
    """The likeliest next tokens of each prompt, as many as asked or up to the end of text.

    The token that ends a text is among them. Rows that are past their end leave the batch: an
    answer of one word would else wait for the longest ramble.

    Args:
        model: the model.
        prompts: what is continued, all in one batch.
        n_tokens: at most.
        over: whether each of these answers may end before its end of text.
        opened: what is open during a pass, given its batch and which prompts its rows are.
        lock: held for one forward pass at a time.
        watch: called after each; may raise to stop.
        leave_at: the share of the batch that is to go on when rows leave it.
    """
    ends, said = end_ids(model), [list[int]() for _ in prompts]
    live = list(range(len(prompts)))
    finished = [False] * len(prompts)
    batch: Batch | None = None
    cache: Any = None
    for _ in range(n_tokens):
        with lock(), torch.inference_mode():
            batch = batch or batch_of(model, prompts, left=True)
            with opened(batch, live) if opened else nullcontext():
                logits, cache = read_on(model, batch, cache)
            chosen = sayable(model, logits).argmax(1)
        going = [row for row in live if not finished[row]]
        for row, token in zip(live, chosen.tolist(), strict=True):
            said[row] += [] if finished[row] else [token]
        enough = over([said[row] for row in going]) if over else [False] * len(going)
        for row, is_over in zip(going, enough, strict=True):
            finished[row] = is_over or said[row][-1] in ends
        watch()
        if all(finished):
            break
        batch = batch.following(chosen)
        kept = [number for number, row in enumerate(live) if not finished[row]]
        if len(kept) <= leave_at * len(live) and is_plain(cache):
            rows = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(rows)
            batch, live = batch.narrowed(rows), [live[number] for number in kept]
    return said
