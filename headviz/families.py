"""Where a model family keeps the parts that headviz touches. A family is a row of FAMILIES.

The seam is the *input* of the attention output projection: there the heads lie side by side, each
`in_features / n_heads` wide. Capture reads it, an edit multiplies it. Knows nothing of loading.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from headviz.errors import ModelError
from headviz.shapes import Float, Tensor


@dataclass(frozen=True)
class Family:
    """Module paths of one family, as attribute paths."""

    layers: str
    """From the model to the list of decoder layers."""
    projection: str
    """From a decoder layer to its attention output projection."""
    final_norm: str
    """From the model to the norm before the unembedding."""


_LLAMA = Family("model.layers", "self_attn.o_proj", "model.norm")

FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gpt2": Family("transformer.h", "attn.c_proj", "transformer.ln_f"),
}
"""config.model_type -> Family. The tests run the laws on each row."""


def family_of(model_type: str) -> Family:
    """The family's row. Raises ModelError, with the known families, for any other model."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"Models of type {model_type!r} are not supported yet. "
            f"Supported: {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def output_weight(projection: nn.Module) -> Float[Tensor, "d_model heads_d_head"]:
    """W_O as (d_model, n_heads · d_head), whichever way round the module keeps it."""
    weight = projection.weight
    assert isinstance(weight, Tensor)
    # GPT-2's Conv1D keeps (in, out) where nn.Linear keeps (out, in).
    return weight if isinstance(projection, nn.Linear) else weight.T
