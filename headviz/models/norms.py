"""What a norm of a transformers model does, read off the module itself by running it once.

Families keep the gain γ as it is or as γ - 1, and take the mean away or not, under class names that
differ with every release. Of the few ways that there are, the one that gives what the module gives
is the module's. Knows nothing of families.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from headviz.base.errors import ModelError
from headviz.base.shapes import Float, Tensor
from headviz.models.weights import weight_of

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm as numbers: y = gain ∘ x / rms(x) + bias, the mean of x taken away first or not."""

    gain: Float[Tensor, " d_model"]
    """Float32."""
    bias: Float[Tensor, " d_model"]
    centres: bool
    """Whether the mean over the features is taken away, as LayerNorm does."""
    eps: float

    def scale(self, x: Float[Tensor, "*axis d_model"]) -> Float[Tensor, "*axis"]:
        """One over the root mean square of x: what the norm multiplies x by, before the gain."""
        return (self.centred(x).square().mean(-1) + self.eps).rsqrt()

    def centred(self, x: Float[Tensor, "*axis d_model"]) -> Float[Tensor, "*axis d_model"]:
        """X in float32, its mean over the features taken away where the norm does so."""
        x = x.float()
        return x - x.mean(-1, keepdim=True) if self.centres else x

    def direction(self, rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        """For directions behind the norm, those before it: with it, ⟨y, row⟩ ∝ ⟨x, result⟩."""
        return self.centred(rows * self.gain)


def read_norm(module: nn.Module) -> Norm:
    """The norm that this module is. Raises ModelError where it is none of the known kinds."""
    weight, bias = (
        weight_of(module, name) if isinstance(getattr(module, name, None), Tensor) else None
        for name in ("weight", "bias")
    )
    some = next((t for t in (weight, bias) if isinstance(t, Tensor)), None)
    like = torch.empty(module.normalized_shape) if some is None else some  # type: ignore[call-overload]
    eps = float(getattr(module, "eps", None) or getattr(module, "variance_epsilon", None) or 0.0)
    generator = torch.Generator().manual_seed(0)
    x = (1 + torch.randn(3, len(like), generator=generator)).to(like.device, like.dtype)
    with torch.inference_mode():
        y = module(x).float()
    flat = torch.zeros(len(like), device=x.device)
    shift = bias.detach().float() if isinstance(bias, Tensor) else flat
    kept = weight.detach().float() if isinstance(weight, Tensor) else flat + 1
    for plus, centres in product((0.0, 1.0), (False, True)):
        norm = Norm(kept + plus, shift, centres, eps)
        mine = norm.centred(x) * norm.scale(x)[:, None] * norm.gain + shift
        if (mine - y).abs().max() <= _TOLERANCE.get(x.dtype, 0.1) * y.abs().max():
            return norm
    raise ModelError(
        f"{type(module).__name__} is no norm that can be folded: it is neither a gain on the root "
        "mean square nor a LayerNorm."
    )
