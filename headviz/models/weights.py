"""A module's weights as plain numbers, wherever and however they are kept.

Weights may lie on the disk or beside the GPU that uses them (accelerate's hooks bring them when the
module runs), or be quantised by bitsandbytes. Knows nothing of models and their layout.
"""

from typing import Any

import torch
from torch import nn

from headviz.base.shapes import Float, Tensor

_ROWS = 1024


def is_quantised(module: nn.Module) -> bool:
    """Whether the module's weights are bitsandbytes' of 8 or 4 bits."""
    return type(getattr(module, "weight", None)).__name__ in ("Int8Params", "Params4bit")


def weight_of(module: nn.Module, name: str = "weight") -> Float[Tensor, "..."]:
    """A floating-point weight of the module, on the device that the module runs on."""
    weight: Tensor = getattr(module, name)
    if weight.device.type != "meta":
        return weight.detach()
    hook: Any = module._hf_hook
    kept: Tensor = hook.weights_map[name]
    return kept.detach().to(run_device(module))


def linear_map(module: nn.Module) -> Float[Tensor, "inputs outputs"]:
    """What a quantised linear module does to each unit vector, without its bias.

    Asking the module itself is right in whatever order bitsandbytes keeps the bits; on a CPU it
    packs them anew when they are first used.
    """
    assert isinstance(module, nn.Linear)
    device = run_device(module)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    units = torch.eye(module.in_features, device=device, dtype=dtype)
    # forward, not a call: whoever looks at the inputs of the module must not see these.
    with torch.inference_mode():
        rows = torch.cat([module.forward(some) for some in units.split(_ROWS)])
        return rows if module.bias is None else rows - weight_of(module, "bias")


def run_device(module: nn.Module) -> torch.device:
    """The device on which the module runs, also while its weights are elsewhere."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    if device is None:
        found: Tensor = next(module.parameters())
        return found.device
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
