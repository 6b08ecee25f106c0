"""How much memory a device has left, and sizes in words. Knows nothing of models."""

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def size_text(n_bytes: int) -> str:
    """A size for people: `14.2 GB`, `20 MB`; a GB is 10⁹ bytes, as the hub counts."""
    if n_bytes < 10**6:
        return f"{n_bytes / 10**3:.0f} kB"
    if n_bytes < 10**9:
        return f"{n_bytes / 10**6:.0f} MB"
    return f"{n_bytes / 10**9:.1f} GB"


def memory_left(device: torch.device) -> int | None:
    """Bytes that can still be had on a device, None where the system does not tell.

    On a CPU that is what the kernel could free without swapping, and no more than a container
    allows; on CUDA what torch has set aside and does not use counts as free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return _main_memory_left()


def devices_left() -> dict[int | str, int]:
    """Bytes left on every GPU by its number and on the "cpu", as accelerate names them."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    left: dict[int | str, int] = {gpu: memory_left(torch.device("cuda", gpu)) or 0 for gpu in gpus}
    cpu = memory_left(torch.device("cpu"))
    return left if cpu is None else {**left, "cpu": cpu}


def _main_memory_left() -> int:
    left = int(psutil.virtual_memory().available)
    container = _of_container()
    return left if container is None else min(left, container)


def _of_container() -> int | None:
    """What the control group of a container leaves; its file cache can be freed."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (_CGROUP / "memory.stat").read_text("ascii").splitlines()
        )
        return max(int(limit) - used + int(stat.get("inactive_file", 0)), 0)
    except (OSError, ValueError):
        return None  # no control groups of the second version
