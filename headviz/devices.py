"""Which device and number format a model runs in, and why. Knows nothing of models."""

import torch

from headviz.errors import OptionError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype, str]:
    """The device, the number format, and the reason for both in a few words."""
    if dtype not in ("auto", *DTYPES):
        raise OptionError(f"Unknown dtype {dtype!r}. Known: auto, {', '.join(DTYPES)}.")
    if device == "auto":
        has_mps = torch.backends.mps.is_available()
        chosen = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
        reason = {"cuda": "a GPU is there", "mps": "an Apple GPU is there", "cpu": "no GPU found"}
        why = reason[chosen]
    else:
        chosen, why = device, "as asked"
    try:
        where = torch.device(chosen)
        known = where.type in ("cpu", "cuda", "mps")
    except RuntimeError:
        known = False
    if not known:
        raise OptionError(f"Unknown device {chosen!r}. Use auto, cpu, cuda or mps.")
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not gpus.get(where.type, True):
        raise OptionError(f"Device {chosen!r} was asked for, but torch finds no such GPU here.")
    if dtype != "auto":
        return where, DTYPES[dtype], f"{why}, {dtype} as asked"
    if where.type == "cuda" and torch.cuda.is_bf16_supported():
        return where, torch.bfloat16, f"{why} and computes in bfloat16"
    if where.type == "cpu":
        return where, torch.float32, f"{why}; float32 is exact on a CPU"
    return where, torch.float16, f"{why}; no bfloat16"
