"""A batch of prompts as a transformers model takes it: padding, positions, pictures' features.

The first pass reads the prompts, each later one a token a row. Whatever is peculiar to a family
(where positions begin, positions in three dimensions, token types) is settled here. Knows nothing
of heads and edits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel
from headviz.models.vision import joined

_OUTPUTS = {field.name for field in fields(CausalLMOutputWithPast)}
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


@torch.inference_mode()
def continued(model: LoadedModel, prompt: EncodedPrompt, n_tokens: int) -> EncodedPrompt:
    """The prompt and the most likely next tokens, up to `n_tokens` or the end of text."""
    ends, said = end_ids(model), list[int]()
    batch = batch_of(model, [prompt], left=True)
    cache: Any = None
    while len(said) < n_tokens and not (said and said[-1] in ends):
        logits, cache = read_on(model, batch, cache)
        chosen = sayable(model, logits).argmax(1)
        said += chosen.tolist()
        batch = batch.following(chosen)
    vision_spec = model.family.vision_spec
    return prompt.continued(said, 0 if vision_spec is None else vision_spec.answer_type)
