"""Attention in float32 inside bfloat16 autocast, registered with transformers as NAME.

On a CPU, torch's own bfloat16 attention is ten times slower backwards.
"""

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from headviz.base.shapes import Bool, Tensor

NAME = "toyworld_float32"


def float32_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Bool[Tensor, "row 1 token token"] | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Without a mask, causal where the module is: in text models, not in an image tower."""
    causal = attention_mask is None and bool(getattr(module, "is_causal", False))
    with torch.autocast(query.device.type, enabled=False):
        out = torch.nn.functional.scaled_dot_product_attention(
            query.float(),
            key.float(),
            value.float(),
            attn_mask=attention_mask,
            is_causal=causal,
            scale=scaling,
        )
    return out.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(NAME, float32_attention)
