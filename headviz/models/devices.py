"""Which device and number format a model runs in, and why. Knows nothing of models."""

import torch

from headviz.base.errors import OptionError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
QUANTISED = {"int8": 8, "int4": 4}
"""Weights of that many bits each, through bitsandbytes; what is computed stays in a DTYPE."""
SPREAD = "spread"
"""The device that stands for all GPUs, then main memory, then the disk."""
DEVICES = ("auto", "cpu", "cuda", "mps", SPREAD)


def choose_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype, str]:
    """The device, the number format that is computed in, and the reason for both in a few words.

    For `spread` it is the device of the first layers. Raises OptionError for what is unknown or not
    here.
    """
    if dtype not in ("auto", *DTYPES, *QUANTISED):
        known = ", ".join(("auto", *DTYPES, *QUANTISED))
        raise OptionError(f"Unknown dtype {dtype!r}. Known: {known}.")
    where, why = _device(device)
    if dtype in QUANTISED:
        number_format = _beside_quantised(where, device, dtype)
        return where, number_format, f"{why}, {dtype} weights as asked"
    if dtype != "auto":
        return where, DTYPES[dtype], f"{why}, {dtype} as asked"
    if where.type == "cuda" and torch.cuda.is_bf16_supported():
        return where, torch.bfloat16, f"{why} and computes in bfloat16"
    if where.type == "cpu":
        return where, torch.float32, f"{why}; float32 is exact on a CPU"
    return where, torch.float16, f"{why}; no bfloat16"


def _device(device: str) -> tuple[torch.device, str]:
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device in ("auto", SPREAD):
        if device == SPREAD:  # accelerate spreads over CUDA devices, not over an Apple GPU
            return torch.device("cuda" if gpus["cuda"] else "cpu"), "spread as asked"
        first = next((gpu for gpu, is_there in gpus.items() if is_there), "cpu")
        reason = {"cuda": "a GPU is there", "mps": "an Apple GPU is there", "cpu": "no GPU found"}
        return torch.device(first), reason[first]
    try:
        where = torch.device(device)
        known = where.type in ("cpu", "cuda", "mps")
    except RuntimeError:
        known = False
    if not known:
        *but_last, last = DEVICES
        raise OptionError(f"Unknown device {device!r}. Use {', '.join(but_last)} or {last}.")
    if not gpus.get(where.type, True):
        raise OptionError(f"Device {device!r} was asked for, but torch finds no such GPU here.")
    return where, "as asked"


def _beside_quantised(where: torch.device, asked: str, dtype: str) -> torch.dtype:
    """What is computed in beside quantised weights. Raises OptionError without CUDA.

    A CPU computes with them too, slowly: only if it is asked for by name.
    """
    if where.type == "cpu" and asked == "cpu":
        return torch.float32
    if where.type != "cuda":
        raise OptionError(
            f"{dtype} weights need a CUDA GPU, and torch finds none here. Use --dtype bfloat16, or "
            "ask for --device cpu, where they are slow."
        )
    # bitsandbytes computes its products of 8 bits in float16 whatever it is given.
    bfloat16 = dtype == "int4" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if bfloat16 else torch.float16
