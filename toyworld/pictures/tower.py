"""The image tower of an open_clip model as the start of a LLaVA's: the same layers, renamed.

A LLaVA begins with a tower that has learned to see from captions; so does the one of the drawn
world. Knows nothing of training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionConfig

from headviz.base.errors import ModelError
from toyworld.pictures.drawing import SIDE
from toyworld.pictures.processor import PATCH

_PREFIX = "visual."
_OUTER = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",  # transformers spells it so
    "ln_post": "post_layernorm",
}
_INNER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LEFT_OUT = "proj"  # into the joint space with texts


def tower_config(n_layers: int, width: int, n_heads: int) -> CLIPVisionConfig:
    """The shape of an image tower of the drawn world, as transformers wants it."""
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=width,
        hidden_act="gelu",
    )


def load_tower(vision_tower: Any, weights: Path) -> None:
    """Copy the image tower in open_clip's `weights` into a CLIPVisionModel of transformers.

    Raises ModelError where the file is missing or holds a tower of another shape.
    """
    if not weights.is_file():
        name = weights.parent.name
        raise ModelError(
            f"There are no weights of {name}, whose image tower this training begins with. "
            f"Make them first: `python -m toyworld train {name}`."
        )
    try:
        vision_tower.load_state_dict(renamed(load_file(weights)))
    except RuntimeError as error:
        raise ModelError(f"The image tower in {weights.parent.name} has another shape.") from error


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names -> transformers' names, for the image tower alone, in float32."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        own = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and own != _LEFT_OUT:
            found |= _one(own, tensor.float())
    return found


def _one(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if not name.startswith("transformer.resblocks."):
        return {_replaced(name, _OUTER): tensor}
    number, _, inner = name.removeprefix("transformer.resblocks.").partition(".")
    layer = f"encoder.layers.{number}."
    if inner.startswith("attn.in_proj_"):
        kind = inner.removeprefix("attn.in_proj_")  # weight or bias: queries, keys, values
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{layer}self_attn.{part}_proj.{kind}": rows for part, rows in parts}
    return {layer + _replaced(inner, _INNER): tensor}


def _replaced(name: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    raise AssertionError(f"{name} is no part of a plain image tower")
