"""What loading a model takes, known before it starts: bytes to fetch, memory needed, memory left.

Reads headers of weight files and the hub's listing, never a weight. Says in one sentence what will
happen, or why it cannot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import get_local_safetensors_metadata
from huggingface_hub.errors import SafetensorsParsingError
from huggingface_hub.utils import TensorInfo

from headviz.base.errors import ModelError
from headviz.models.devices import QUANTISED, SPREAD
from headviz.models.hub import HubRepo
from headviz.models.memory import devices_left, memory_left, size_text
from headviz.models.weight_files import weight_files

_WORKING = 1.1  # what a forward pass takes beside the weights, as a share of them
_USED = 0.9  # share of a device's memory that a split model may fill
_FLOATS = ("F64", "F32", "F16", "BF16")
_KEPT_WHOLE = ("embed", "lm_head", "wte", "wpe")  # never quantised
INSTALL = "pip install 'headviz[large]'"


@dataclass(frozen=True)
class Plan:
    """How one model will be loaded."""

    name: str
    n_bytes: int
    """Of the weights' files."""
    to_fetch: int
    """Bytes to download first."""
    needed: int
    """Memory in bytes for weights and working space."""
    left: int | None
    """Memory in bytes that the device has left, None where the system does not tell."""
    device: torch.device
    spread: bool
    """Over all devices and the disk."""
    limits: dict[int | str, int]
    """Bytes that a spread model may take on each device; the rest stays on the disk."""

    @property
    def fits(self) -> bool:
        """Whether one device has room for all of it, as far as is known."""
        return self.left is None or self.needed <= self.left

    def __str__(self) -> str:
        """One sentence for people."""
        fetch = f"{size_text(self.to_fetch)} to download, " if self.to_fetch else ""
        left = "" if self.left is None else f" of {size_text(self.left)} left on {self.device}"
        spread = ", spread over devices and disk" if self.spread else ""
        return (
            f"{self.name}: {fetch}{size_text(self.n_bytes)} of weights, "
            f"{size_text(self.needed)} of memory{left}{spread}"
        )


@dataclass(frozen=True)
class Weights:
    """The weights that are to be loaded."""

    name: str
    """Of the model."""
    n_bytes: int
    """Of their files."""
    in_memory: int
    """Bytes once they are loaded."""
    to_fetch: int = 0
    """Bytes to download first."""
    quantised: bool = False
    """In 8 or 4 bits, which stay on GPUs."""
    may_spread: bool = True
    """Whether a model of this kind can be spread, and kept in fewer bits."""


def plan_of(weights: Weights, device: torch.device, asked: str, held: int = 0) -> Plan:
    """How to load the weights; too large ones are spread.

    Args:
        weights: what is to be loaded.
        device: what was chosen.
        asked: what was asked for; `auto` and `spread` may be spread.
        held: memory in bytes on that device that will be free by then.

    Raises:
        ModelError: where it fits nowhere, with what is needed, what is there and what to do.
    """
    needed = int(weights.in_memory * _WORKING)
    left = memory_left(device)
    left = None if left is None else left + held
    limits = devices_left()
    if weights.quantised:
        limits.pop("cpu", None)
    limits = {where: int(room * _USED) for where, room in limits.items()}
    of = (weights.name, weights.n_bytes, weights.to_fetch)
    plan = Plan(*of, needed, left, device, asked == SPREAD, limits)
    if plan.fits and not plan.spread:
        return plan
    if not weights.may_spread:
        raise ModelError(f"{_lacking(plan)} Choose a smaller model.")
    whole = sum(room for where, room in limits.items() if where != "cpu")
    can_spread = not weights.quantised or (device.type == "cuda" and whole >= needed)
    if asked not in ("auto", SPREAD) or not can_spread:
        raise ModelError(_too_large(plan, weights.quantised))
    return replace(plan, spread=True)


def _too_large(plan: Plan, quantised: bool) -> str:
    advice = (
        "Choose a smaller model, or --dtype int4."
        if quantised
        else f"Choose a smaller model, --dtype bfloat16, or --device {SPREAD}, which is slower."
    )
    return f"{_lacking(plan)} {advice}"


def _lacking(plan: Plan) -> str:
    left = size_text(plan.left or 0)
    return (
        f"The model {plan.name!r} needs {size_text(plan.needed)} of memory and {left} are left on "
        f"{plan.device}."
    )


def weights_bytes(folder: Path) -> int:
    """Of a folder's weight files."""
    return sum(file.stat().st_size for file in weight_files(folder))


def weights_in_memory(folder: Path, dtype: torch.dtype, quantised: str = "") -> int:
    """Bytes that a folder's weights take in memory in this number format."""
    total = 0.0
    for file in weight_files(folder):
        for name, tensor in _tensors(file).items():
            if tensor.dtype not in _FLOATS:
                # Whole numbers are packed weights of a quantised checkpoint, and stay so.
                total += tensor.data_offsets[1] - tensor.data_offsets[0]
                continue
            kept = not quantised or len(tensor.shape) != 2 or any(k in name for k in _KEPT_WHOLE)
            total += tensor.parameter_count * (dtype.itemsize if kept else QUANTISED[quantised] / 8)
    return int(total)


def _tensors(file: Path) -> Mapping[str, TensorInfo]:
    try:
        return get_local_safetensors_metadata(file).files_metadata[file.name].tensors
    except SafetensorsParsingError:
        return {}  # a broken file: reading it will say so


def weights_of_hub(model: HubRepo, dtype: torch.dtype, quantised: str = "") -> int:
    """The least that a hub model's weights will take; their headers tell more once they are here.

    Where the hub does not count them, they are taken to be stored in float32.
    """
    counted = model.parameters or {"F32": model.weights_bytes // 4}
    each = QUANTISED[quantised] / 8 if quantised else dtype.itemsize
    return int(sum(n * each for kind, n in counted.items() if kind in _FLOATS))
