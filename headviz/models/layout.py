"""A transformers model in memory -> LoadedModel: how many heads it has, and how wide they are."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from headviz.base.errors import ModelError
from headviz.models.families import Family, output_weight, projections_of
from headviz.models.loaded import LoadedModel
from headviz.models.vision import Vision


def describe(
    name: str,
    revision: str,
    model: Any,
    reader: Any,
    family: Family,
    device: torch.device,
    dtype: torch.dtype,
    why: str,
) -> LoadedModel:
    """The layout of a transformers model.

    `reader` is its tokenizer, or its processor where it reads pictures.
    """
    tokenizer = reader if family.vision_spec is None else reader.tokenizer
    model = model.eval().requires_grad_(False)
    config = model.config.get_text_config()
    layers = list(attrgetter(family.layers)(model))
    d_head, d_model = head_layout(layers, family, config.num_attention_heads)
    _set_padding(tokenizer, model.get_output_embeddings().weight.shape[0])
    return LoadedModel(
        name=name,
        revision=revision or getattr(model.config, "_commit_hash", None) or "unknown",
        model=model,
        tokenizer=tokenizer,
        family=family,
        n_layers=len(layers),
        n_heads=config.num_attention_heads,
        d_head=d_head,
        d_model=d_model,
        context=context_of(config),
        device=device,
        dtype=dtype,
        why=why,
        vision=None
        if family.vision_spec is None
        else Vision(model, reader, family.vision_spec, device),
    )


def _set_padding(tokenizer: Any, n_tokens: int) -> None:
    """Padding is masked, and may be any token that has weights: an added one often has none."""
    usual = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    found = next(i for i in usual if i is not None and i < n_tokens)
    if found != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(found)


def head_layout(layers: Sequence[nn.Module], family: Family, n_heads: int) -> tuple[int, int]:
    """The width of a head and of the model.

    Raises ModelError where there are no heads, or they differ from layer to layer.
    """
    shapes = {output_weight(p).shape for p in projections_of(layers, family).values()}
    if not shapes:
        raise ModelError("No layer of this model has attention heads.")
    if len(shapes) > 1:
        found = " and ".join(f"{width / n_heads:g}" for _, width in sorted(shapes))
        raise ModelError(
            f"The heads of this model are not of one width ({found} numbers, by layer): that is "
            "not supported."
        )
    d_model, width = shapes.pop()
    if width % n_heads:
        raise ModelError(
            f"{n_heads} heads do not share {width} numbers of the attention output evenly."
        )
    return width // n_heads, d_model


def context_of(config: Any) -> int:
    """Longest input in tokens; very long where the config knows no limit."""
    for name in ("max_position_embeddings", "max_seq_len"):
        if limit := getattr(config, name, None):
            return int(limit)
    return 2**20
