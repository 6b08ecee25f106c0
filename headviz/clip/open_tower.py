"""The image tower of an open_clip model with its heads in the open, sharing the tower's weights.

`nn.MultiheadAttention` reads the weight of its output projection without calling it, so that no
hook sees the heads' signals. The copy made here computes the same with a projection that is called.
The tower itself stays as it is: nothing is patched, and there is nothing to put back.
"""

import copy
from typing import Any

from torch import nn

from headviz.base.errors import ModelError
from headviz.base.shapes import Float, Tensor


class OpenAttention(nn.Module):
    """Self-attention with the weights of an `nn.MultiheadAttention`, its projection called."""

    def __init__(self, closed: nn.MultiheadAttention) -> None:
        """Take the weights of `closed`; they are shared, not copied."""
        super().__init__()
        assert closed.bias_k is None and not closed.add_zero_attn and closed.batch_first
        self.n_heads = closed.num_heads
        self.in_proj_weight = closed.in_proj_weight
        self.in_proj_bias = closed.in_proj_bias
        self.out_proj = closed.out_proj

    def forward(
        self,
        x: Float[Tensor, "row position d_model"],
        *_: Any,
        need_weights: bool = False,
        attn_mask: None = None,
    ) -> tuple[Float[Tensor, "row position d_model"], None]:
        """What the closed attention gives for the same `x` as query, key and value."""
        assert not need_weights and attn_mask is None, "an image tower asks for neither"
        joint = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = joint.unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        signals = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(signals.transpose(1, 2).flatten(2)), None


def open_tower(visual: Any, name: str) -> Any:
    """A copy of the tower that shares its weights and calls its attention's output projections.

    Raises ModelError, with the reason, for a tower whose heads do not write into the embedding by
    a plain sum.
    """
    if why := _unlike_a_plain_transformer(visual):
        raise ModelError(f"The heads of {name!r} cannot be opened: its image tower {why}.")
    kept: dict[int, Any] = {id(p): p for p in [*visual.parameters(), *visual.buffers()]}
    opened = copy.deepcopy(visual, kept)
    for block in opened.transformer.resblocks:
        if isinstance(block.attn, nn.MultiheadAttention):
            block.attn = OpenAttention(block.attn)
    return opened.eval()


def _unlike_a_plain_transformer(visual: Any) -> str:
    """What is in the way, as the end of a sentence; '' for a plain vision transformer."""
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None or not hasattr(visual, "ln_post"):
        return f"is a {type(visual).__name__}, not a vision transformer of open_clip's own"
    if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
        return "pools by attention"
    if visual.proj is None:
        return "has no projection into the joint space"
    after = [getattr(block, name, None) for block in blocks for name in ("ls_1", "ln_attn")]
    if any(not isinstance(module, nn.Identity | None) for module in after):
        return "scales or normalises what its attention writes"
    return ""
