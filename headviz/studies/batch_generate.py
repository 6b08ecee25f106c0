"""What many rows say, as fast as it goes: rows that are past their end leave the batch.

The same tokens as generation.py takes at temperature 0, row by row; only that nobody watches. An
answer of one word would else wait for the longest ramble of its batch.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from headviz.heads.edits import Edit, applied, factor_table, places
from headviz.heads.forward import Batch, batch_of, end_ids, read_on, sayable
from headviz.heads.prompts import encode_prompt
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
_WORTH = 0.75
"""Rows leave when this share of the batch or less goes on: leaving copies the others' cache."""


def complete(
    model: LoadedModel,
    prompts: Sequence[str],
    edits: Sequence[Edit],
    max_new_tokens: int,
    over: Callable[[str], bool],
    lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    pictures: Sequence[Sequence[Picture]] = (),
) -> tuple[str, ...]:
    """The likeliest continuation of each prompt under its edit, up to where it is `over`.

    A text may go on a little after that. `lock` is held for each forward pass.
    """
    seen = pictures or [()] * len(prompts)
    encoded = [
        encode_prompt(model, prompt, max_new_tokens, shown)
        for prompt, shown in zip(prompts, seen, strict=True)
    ]
    table, ends = factor_table(model, edits), end_ids(model)
    said: list[list[int]] = [[] for _ in prompts]
    live = list(range(len(prompts)))
    batch: Batch | None = None
    cache: Any = None
    for _ in range(max_new_tokens):
        with lock(), torch.inference_mode():
            batch = batch or batch_of(model, encoded, left=True)
            with applied(model, table, places([edits[row] for row in live], batch)):
                logits, cache = read_on(model, batch, cache)
        chosen = sayable(model, logits).argmax(1)
        for row, token in zip(live, chosen.tolist(), strict=True):
            said[row].append(token)
        texts = _texts(model, [said[row] for row in live], ends)
        going = [
            number
            for number, (row, text) in enumerate(zip(live, texts, strict=True))
            if said[row][-1] not in ends and not over(text)
        ]
        if not going:
            break
        batch = batch.following(chosen)
        if len(going) <= _WORTH * len(live) and _can_part(cache):
            kept = torch.tensor(going, device=model.device)
            cache.batch_select_indices(kept)
            batch, table = _narrowed(batch, kept), table[kept]
            live = [live[number] for number in going]
    return _texts(model, said, ends)


def _texts(model: LoadedModel, said: Sequence[Sequence[int]], ends: set[int]) -> tuple[str, ...]:
    """The texts before the first token that ends one."""
    cut = []
    for ids in said:
        last = next((at for at, token in enumerate(ids) if token in ends), len(ids))
        cut.append(list(ids[:last]))
    return tuple(model.tokenizer.batch_decode(cut, skip_special_tokens=True))


def _can_part(cache: Any) -> bool:
    """Whether keys and values are all that is kept: the state of other layers has no such way."""
    return all(type(kept) in _PLAIN for kept in getattr(cache, "layers", [None]))


def _narrowed(batch: Batch, kept: torch.Tensor) -> Batch:
    """The batch of these rows only."""
    return replace(
        batch,
        ids=batch.ids[kept],
        attention=batch.attention[kept],
        positions=batch.positions[..., kept, :],
        image=batch.image[kept],
        prompt=batch.prompt[kept],
        generated=batch.generated[kept],
    )
