"""Where a model family keeps the parts that headviz touches. A family is a row of a table.

The hook point is the *input* of the attention output projection: there the heads lie side by side,
each `in_features / n_heads` wide. Capture reads it, an edit multiplies it. Knows nothing of
loading.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from headviz.base.errors import ModelError
from headviz.base.shapes import Float, Tensor
from headviz.models.weights import is_quantised, linear_map, weight_of


@dataclass(frozen=True)
class VisionSpec:
    """What a family that reads pictures does with them."""

    mark: str = "image_token"
    """The processor's attribute that holds the mark for a picture in a prompt."""
    first_position: int = 0
    """The number of the first token's position."""
    answer_type: int = 0
    """The token type of what the model says; the type of a text that it is given is 0."""
    prompts: str = "plain"
    """Row of prompts.PROMPTS: how the family is asked for a caption."""
    whole_beside: bool = False
    """Whether a picture is cut into tiles only where it is alone in its prompt."""


@dataclass(frozen=True)
class Family:
    """Module paths of one family, as attribute paths."""

    layers: str
    """From the model to the list of decoder layers."""
    projection: str
    """From a decoder layer to its attention output projection. Layers without it (state-space
    models, convolutions, linear attention) have no heads of this kind."""
    final_norm: str
    """From the model to the norm before the unembedding."""
    norm_after: str | None = None
    """From a decoder layer to the norm that the attention output passes on its way to the
    residual stream, where there is one."""
    multiplier: str | None = None
    """A decoder layer's attribute: what the attention output is multiplied by on that way."""
    vision_spec: VisionSpec | None = None
    """None: the model reads no pictures."""

    def inside(self, root: str, vision_spec: VisionSpec) -> "Family":
        """The same text model as a part of one that sees, where `root` stands for `model`."""
        at = {name: f"{root}{getattr(self, name)[5:]}" for name in ("layers", "final_norm")}
        return replace(self, **at, vision_spec=vision_spec)


_LLAMA = Family("model.layers", "self_attn.o_proj", "model.norm")
_POST_NORM = replace(_LLAMA, norm_after="post_attention_layernorm")

FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "phi3": _LLAMA,
    "phi": Family("model.layers", "self_attn.dense", "model.final_layernorm"),
    "gpt2": Family("transformer.h", "attn.c_proj", "transformer.ln_f"),
    "gpt_neo": Family("transformer.h", "attn.attention.out_proj", "transformer.ln_f"),
    "gptj": Family("transformer.h", "attn.out_proj", "transformer.ln_f"),
    "gpt_neox": Family("gpt_neox.layers", "attention.dense", "gpt_neox.final_layer_norm"),
    "opt": Family("model.decoder.layers", "self_attn.out_proj", "model.decoder.final_layer_norm"),
    "bloom": Family("transformer.h", "self_attention.dense", "transformer.ln_f"),
    "falcon": Family("transformer.h", "self_attention.dense", "transformer.ln_f"),
    "mpt": Family("transformer.blocks", "attn.out_proj", "transformer.norm_f"),
    "olmo2": _POST_NORM,
    "smollm3": _LLAMA,
    "granite": replace(_LLAMA, multiplier="residual_multiplier"),
    "cohere": _LLAMA,
    "stablelm": _LLAMA,
    "gpt_oss": _LLAMA,
    "deepseek_v2": _LLAMA,
    "deepseek_v3": _LLAMA,
    "glm4": replace(_LLAMA, norm_after="post_self_attn_layernorm"),
    "qwen3_next": _LLAMA,
    "lfm2": Family("model.layers", "self_attn.out_proj", "model.embedding_norm"),
    "jamba": replace(_LLAMA, final_norm="model.final_layernorm"),
}
"""Language models: config.model_type -> Family. The tests run the laws on each row."""

VISION_FAMILIES: Mapping[str, tuple[str, VisionSpec]] = {
    "llava": ("model.language_model", VisionSpec(prompts="llava")),
    "llava_next": ("model.language_model", VisionSpec(prompts="llava")),
    "llava_onevision": ("model.language_model", VisionSpec(prompts="llava", whole_beside=True)),
    "qwen2_vl": ("model.language_model", VisionSpec(prompts="qwen")),
    "qwen2_5_vl": ("model.language_model", VisionSpec(prompts="qwen")),
    "gemma3": ("model.language_model", VisionSpec(mark="boi_token", prompts="gemma")),
    "paligemma": (
        "model.language_model",
        VisionSpec(first_position=1, answer_type=1, prompts="paligemma"),
    ),
    "idefics3": ("model.text_model", VisionSpec()),
    "smolvlm": ("model.text_model", VisionSpec()),
    "internvl": ("model.language_model", VisionSpec()),
    "qwen3_vl": ("model.language_model", VisionSpec(prompts="qwen")),
    "mistral3": ("model.language_model", VisionSpec()),
}
"""Vision-language models: config.model_type -> where the text model is, and its sight."""

TEXT_MODELS: Mapping[str, str] = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
}
"""Text models of a name of their own inside them: text_config.model_type -> row of FAMILIES."""

UNSUITED: Mapping[str, str] = {
    "mllama": "its pictures enter by cross-attention layers and have no positions in the text, so "
    "that neither pooling nor edits at image positions mean anything",
    "blip-2": "its language model is a whole one inside another, and transformers generates with "
    "its pictures in a way of its own",
    "instructblip": "its pictures pass a query transformer of its own before the text",
    "kosmos-2": "its text model is named in its own way",
    "vision-encoder-decoder": "its pictures enter by cross-attention",
    "pix2struct": "its pictures enter by cross-attention",
    "florence2": "its text model is an encoder and a decoder",
}
"""Vision-language models that cannot be supported: config.model_type -> why."""

UNPROVEN: Mapping[str, Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "opt": {
        "do_layer_norm_before=False": (
            lambda config: not config.do_layer_norm_before or config._remove_final_layer_norm,
            "the stream passes a norm after every layer, and none before the unembedding",
        ),
        "word_embed_proj_dim": (
            lambda config: config.word_embed_proj_dim != config.hidden_size,
            "a projection stands between the last layer and the unembedding",
        ),
    },
    "bloom": {
        "apply_residual_connection_post_layernorm=True": (
            lambda config: config.apply_residual_connection_post_layernorm,
            "what a head writes passes a norm before it is added",
        ),
        "slow_but_exact=True": (
            lambda config: config.slow_but_exact and config.pretraining_tp > 1,
            "the output projection is taken apart, and nothing can be read before it",
        ),
    },
    "gemma3_text": {
        "use_bidirectional_attention=True": (
            lambda config: config.use_bidirectional_attention,
            "it reads a text in both directions and writes none",
        ),
    },
}
"""Family -> option of its config -> whether a config has it set so that the laws do not hold, and
why. tests/test_checkpoints_found.py tries the other options that change a structure."""


def family_of(config: Any) -> Family | None:
    """The family of a transformers config; None for a language model that has no row.

    Raises ModelError, with the known ones, for models that no structure can be discovered in.
    """
    kind = config.model_type
    if kind in VISION_FAMILIES:
        root, vision_spec = VISION_FAMILIES[kind]
        text = config.get_text_config().model_type
        row = TEXT_MODELS.get(text, text)
        _check_options(config.get_text_config(), row)
        if row not in FAMILIES:
            raise ModelError(
                f"This {kind!r} model has a text model of type {text!r}, which is not supported "
                f"yet. Supported: {', '.join(FAMILIES)}."
            )
        return FAMILIES[row].inside(root, vision_spec)
    if kind in FAMILIES:
        _check_options(config, kind)
        return FAMILIES[kind]
    if kind in UNSUITED:
        raise ModelError(f"Models of type {kind!r} cannot be supported: {UNSUITED[kind]}.")
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and config.get_text_config() is config:
        return None
    raise ModelError(
        f"Models of type {kind!r} are not supported yet, and only in language models is an unknown "
        f"structure discovered. Supported: {', '.join([*FAMILIES, *VISION_FAMILIES])}."
    )


def _check_options(config: Any, row: str) -> None:
    """Raise ModelError for a config whose options change the structure that the row tells of."""
    for option, (has, why) in UNPROVEN.get(row, {}).items():
        if has(config):
            raise ModelError(
                f"Models of type {config.model_type!r} with {option} are not supported: {why}."
            )


def output_weight(projection: nn.Module) -> Float[Tensor, "d_model heads_d_head"]:
    """W_O as (d_model, n_heads · d_head), whichever way round the module keeps it."""
    if is_quantised(projection):
        return linear_map(projection).T
    weight = weight_of(projection)
    # GPT-2's Conv1D keeps (in, out) where nn.Linear keeps (out, in).
    return weight if isinstance(projection, nn.Linear) else weight.T


def output_bias(projection: nn.Module) -> Float[Tensor, " d_model"]:
    """What the projection adds beside W_O, in float32; zeros where it has no bias."""
    bias = getattr(projection, "bias", None)
    weight = output_weight(projection)
    if isinstance(bias, Tensor):
        return weight_of(projection, "bias").float()
    return torch.zeros(len(weight), device=weight.device)


def projections_of(layers: Sequence[nn.Module], family: Family) -> dict[int, nn.Module]:
    """Layer -> its attention output projection, for the layers that have one."""
    find = attrgetter(family.projection)
    found: dict[int, nn.Module] = {}
    for number, layer in enumerate(layers):
        with suppress(AttributeError):
            found[number] = find(layer)
    return found
