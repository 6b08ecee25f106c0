"""Prompts that begin alike, all in one row: what they share is read once, and nothing is padded.

Worked examples before a question are most of what is read of it. Here they stand once, each
question after them sees them and itself alone (a mask says so), and its positions count as if it
stood by itself. Families whose layers do not go by such a mask are noticed, and read row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from headviz.base.shapes import Bool, Tensor
from headviz.heads.chat import alike
from headviz.heads.forward import Batch, batch_of
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel

_ALIKE = 1e-3  # nats: how far a packed prompt may be from the same one by itself
_BY_MASK: WeakKeyDictionary[LoadedModel, bool] = WeakKeyDictionary()
"""Model -> whether its layers go by a mask; found out once, on the first packed prompts."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch, and where each prompt ends in it."""

    batch: Batch
    ends: Bool[Tensor, "row position"]
    """The last token of each prompt; row by row they stand in the order of the prompts."""


def packed(model: LoadedModel, groups: Sequence[Sequence[EncodedPrompt]]) -> Packed:
    """The prompts of all groups, group by group; those of one group begin alike."""
    prompts = [prompt for group in groups for prompt in group]
    if model.vision is None and len(prompts) > 1 and _BY_MASK.get(model, True):
        found = _one_row(model, groups)
        if model not in _BY_MASK:
            _BY_MASK[model] = _reads_as_alone(model, found, prompts[-1])
        if _BY_MASK[model]:
            return found
    batch = batch_of(model, prompts, left=False)
    ends = torch.zeros_like(batch.image)
    ends[range(len(prompts)), [len(prompt.ids) - 1 for prompt in prompts]] = True
    return Packed(batch, ends)


def _one_row(model: LoadedModel, groups: Sequence[Sequence[EncodedPrompt]]) -> Packed:
    ids: list[int] = []
    positions: list[int] = []
    spans: list[tuple[range, range]] = []  # what a stretch of tokens sees beside itself, and it
    ends: list[int] = []
    for group in groups:
        shared = _shared(group)
        start = len(ids)
        before = range(start, start + shared)
        ids += group[0].ids[:shared]
        positions += range(shared)
        spans.append((range(0), before))
        for prompt in group:
            own = range(len(ids), len(ids) + len(prompt.ids) - shared)
            ids += prompt.ids[shared:]
            positions += range(shared, len(prompt.ids))
            spans.append((before, own))
            ends.append(own.stop - 1)
    seen = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for before, own in spans:
        seen[own.start : own.stop, before.start : before.stop] = True
        seen[own.start : own.stop, own.start : own.stop] = torch.ones(len(own), len(own)).tril() > 0
    hidden = torch.full(seen.shape, torch.finfo(model.dtype).min, dtype=model.dtype)
    mask = torch.where(seen, torch.zeros((), dtype=model.dtype), hidden)[None, None]
    row = torch.tensor([ids], device=model.device)
    none = torch.zeros_like(row, dtype=torch.bool)
    at = none.clone()
    at[0, ends] = True
    batch = Batch(
        ids=row,
        attention=torch.ones_like(row),
        positions=torch.tensor([positions], device=model.device),
        image=none,
        prompt=~none,
        generated=none,
        extras={"attention_mask": mask.to(model.device)},
    )
    return Packed(batch, at)


def _shared(group: Sequence[EncodedPrompt]) -> int:
    """How many tokens all begin with; each has one of its own left."""
    shared = min(len(prompt.ids) for prompt in group) - 1
    for prompt in group[1:]:
        shared = min(shared, alike(group[0].ids, prompt.ids))
    return shared


@torch.no_grad()
def _reads_as_alone(model: LoadedModel, found: Packed, last: EncodedPrompt) -> bool:
    alone = batch_of(model, [last], left=False)
    try:
        whole = model.model(**found.batch.inputs(), use_cache=False, logits_to_keep=1).logits
    except (TypeError, RuntimeError, ValueError, IndexError):
        return False
    one = model.model(**alone.inputs(), use_cache=False, logits_to_keep=1).logits
    apart = (whole[0, -1].float().log_softmax(0) - one[0, -1].float().log_softmax(0)).abs().max()
    return float(apart) < _ALIKE
