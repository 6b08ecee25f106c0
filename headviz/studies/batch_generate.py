"""What many rows say under their edits, as fast as it goes.

The same tokens as editing/generate.py takes at temperature 0, row by row; only that nobody watches.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from headviz.heads.edits import Edit, applied, factor_table, places
from headviz.heads.forward import LEAVE_AT, Batch, end_ids, likeliest
from headviz.heads.prompts import encode_prompt
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel


def complete(
    model: LoadedModel,
    prompts: Sequence[str],
    edits: Sequence[Edit],
    max_new_tokens: int,
    over: Callable[[str], bool],
    lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    pictures: Sequence[Sequence[Picture]] = (),
    leave_at: float = LEAVE_AT,
) -> tuple[str, ...]:
    """The likeliest continuation of each prompt under its edit, up to where it is `over`.

    `lock` is held for each forward pass; rows that are over leave at `leave_at`, as in `likeliest`.
    """
    seen = pictures or [()] * len(prompts)
    encoded = [
        encode_prompt(model, prompt, max_new_tokens, shown)
        for prompt, shown in zip(prompts, seen, strict=True)
    ]
    table, ends = factor_table(model, edits), end_ids(model)

    def opened(batch: Batch, rows: Sequence[int]) -> AbstractContextManager[None]:
        return applied(model, table[list(rows)], places([edits[row] for row in rows], batch))

    def enough(said: Sequence[Sequence[int]]) -> list[bool]:
        return [over(text) for text in _texts(model, said, ends)]

    said = likeliest(model, encoded, max_new_tokens, enough, opened, lock, leave_at=leave_at)
    return _texts(model, said, ends)


def _texts(model: LoadedModel, said: Sequence[Sequence[int]], ends: set[int]) -> tuple[str, ...]:
    """The texts before the first token that ends one."""
    cut = []
    for ids in said:
        last = next((at for at, token in enumerate(ids) if token in ends), len(ids))
        cut.append(list(ids[:last]))
    return tuple(model.tokenizer.batch_decode(cut, skip_special_tokens=True))
