"""Where a model family keeps the parts that headviz touches. A family is a row of a table.

The seam is the *input* of the attention output projection: there the heads lie side by side, each
`in_features / n_heads` wide. Capture reads it, an edit multiplies it. Knows nothing of loading.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from headviz.errors import ModelError
from headviz.shapes import Float, Tensor
from headviz.weights import is_quantised, linear_map, weight_of


@dataclass(frozen=True)
class Sight:
    """What a family that reads pictures does with them."""

    mark: str = "image_token"
    """The processor's attribute that holds the mark for a picture in a prompt."""
    first_position: int = 0
    """The number of the first token's position."""
    answer_type: int = 0
    """The token type of what the model says; the type of a text that it is given is 0."""
    prompts: str = "plain"
    """Row of prompts.PROMPTS: how the family is asked for a caption."""


@dataclass(frozen=True)
class Family:
    """Module paths of one family, as attribute paths."""

    layers: str
    """From the model to the list of decoder layers."""
    projection: str
    """From a decoder layer to its attention output projection."""
    final_norm: str
    """From the model to the norm before the unembedding."""
    norm_after: str | None = None
    """From a decoder layer to the norm that the attention output passes on its way to the
    residual stream, where there is one."""
    sight: Sight | None = None
    """None: the model reads no pictures."""


def _llama(
    stack: str = "model", norm_after: str | None = None, sight: Sight | None = None
) -> Family:
    """Layers named as in Llama, kept at `stack`."""
    return Family(f"{stack}.layers", "self_attn.o_proj", f"{stack}.norm", norm_after, sight)


FAMILIES: Mapping[str, Family] = {
    "llama": _llama(),
    "mistral": _llama(),
    "qwen2": _llama(),
    "qwen3": _llama(),
    "gpt2": Family("transformer.h", "attn.c_proj", "transformer.ln_f"),
}
"""Language models: config.model_type -> Family. The tests run the laws on each row."""

SEEING: Mapping[str, tuple[str, Sight]] = {
    "llava": ("model.language_model", Sight(prompts="llava")),
    "llava_next": ("model.language_model", Sight(prompts="llava")),
    "qwen2_vl": ("model.language_model", Sight(prompts="qwen")),
    "qwen2_5_vl": ("model.language_model", Sight(prompts="qwen")),
    "gemma3": ("model.language_model", Sight(mark="boi_token", prompts="gemma")),
    "paligemma": (
        "model.language_model",
        Sight(first_position=1, answer_type=1, prompts="paligemma"),
    ),
    "idefics3": ("model.text_model", Sight()),
    "smolvlm": ("model.text_model", Sight()),
    "internvl": ("model.language_model", Sight()),
}
"""Vision-language models: config.model_type -> where the text model is, and its sight."""

TEXT_MODELS: Mapping[str, str | None] = {
    "llama": None,
    "mistral": None,
    "qwen2": None,
    "qwen3": None,
    "qwen2_vl_text": None,
    "qwen2_5_vl_text": None,
    "gemma": None,
    "gemma2": "post_attention_layernorm",
    "gemma3_text": "post_attention_layernorm",
}
"""Text models inside them: text_config.model_type -> the norm after attention, if any."""

UNSUITED: Mapping[str, str] = {
    "mllama": "its pictures enter by cross-attention and have no positions in the text",
    "blip-2": "its pictures pass a query transformer of its own before the text",
    "instructblip": "its pictures pass a query transformer of its own before the text",
    "kosmos-2": "its text model is named in its own way",
    "vision-encoder-decoder": "its pictures enter by cross-attention",
    "pix2struct": "its pictures enter by cross-attention",
    "florence2": "its text model is an encoder and a decoder",
}
"""Vision-language models that cannot be supported: config.model_type -> why."""


def family_of(config: Any) -> Family:
    """The family of a transformers config. Raises ModelError, with the known ones, for others."""
    kind = config.model_type
    if kind in SEEING:
        stack, sight = SEEING[kind]
        text = config.get_text_config().model_type
        if text not in TEXT_MODELS:
            raise ModelError(
                f"This {kind!r} model has a text model of type {text!r}, which is not supported "
                f"yet. Supported: {', '.join(TEXT_MODELS)}."
            )
        return _llama(stack, TEXT_MODELS[text], sight)
    if kind in FAMILIES:
        return FAMILIES[kind]
    if kind in UNSUITED:
        raise ModelError(f"Models of type {kind!r} cannot be supported: {UNSUITED[kind]}.")
    raise ModelError(
        f"Models of type {kind!r} are not supported yet. "
        f"Supported: {', '.join([*FAMILIES, *SEEING])}."
    )


def output_weight(projection: nn.Module) -> Float[Tensor, "d_model heads_d_head"]:
    """W_O as (d_model, n_heads · d_head), whichever way round the module keeps it."""
    if is_quantised(projection):
        return linear_map(projection).T
    weight = weight_of(projection)
    # GPT-2's Conv1D keeps (in, out) where nn.Linear keeps (out, in).
    return weight if isinstance(projection, nn.Linear) else weight.T


def norm_gain(norm: nn.Module) -> Float[Tensor, " d_model"]:
    """The gain γ of a root-mean-square norm, in float32."""
    # Gemma keeps γ - 1.
    return weight_of(norm).float() + (1.0 if type(norm).__name__.startswith("Gemma") else 0.0)
