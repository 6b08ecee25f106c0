"""What this machine can do at best, measured: product rate, memory rate, vector rate, memory used.

The floor of a task is what its counted operations and bytes would take at these rates.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from headviz.pursuit.engine.matmul import rows_times_rows

_STATUS = Path("/proc/self/statm")
_PAGE = 4096


@dataclass(frozen=True)
class Rates:
    """A machine's measured rates."""

    product_flops: float
    """Floating point operations a second in a large float32 product, by the quicker library."""
    read_bytes: float
    """Bytes a second read from memory by a product of a matrix with a vector."""
    vector_updates: float
    """Numbers a second that a rank-one update changes inside the cache."""


@dataclass
class Used:
    """What a piece of work took."""

    seconds: float = 0.0
    peak_bytes: int = 0
    """Memory in use at the most, beyond what was in use before."""


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The median of several timed calls."""
    taken = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


def measure_rates(device: torch.device) -> Rates:
    """Measure the three rates; a few seconds."""
    on_gpu = device.type == "cuda"
    n = 8192 if on_gpu else 2048
    square = torch.randn(n, n, device=device)
    tall = torch.randn(2**16 if on_gpu else 2**14, 8192, device=device)
    vector = torch.randn(8192, device=device)
    table = torch.randn(16, 50, 500, device=device)
    column, row = table[:, :, :1].clone(), table[:, :1].clone() * 1e-6
    works: list[Callable[[], object]] = [
        lambda: square @ square.T,
        lambda: rows_times_rows(square, square),
        lambda: tall @ vector,
        lambda: [table.addcmul_(column, row) for _ in range(100)],
    ]
    for work in works:
        work()
    blas, other, read, update = (seconds(work, device, 5) for work in works)
    return Rates(
        product_flops=2 * n**3 / min(blas, other),
        read_bytes=tall.nbytes / read,
        vector_updates=100 * table.numel() / update,
    )


@contextmanager
def watched(device: torch.device) -> Iterator[Used]:
    """Time and peak memory of what is done inside."""
    used = Used()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        with suppress(OSError, AttributeError):  # glibc keeps freed memory; elsewhere it is not so
            ctypes.CDLL(None).malloc_trim(0)
        before = _resident()
    peak, done = before, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=sample, daemon=True)
    if device.type != "cuda":
        watcher.start()
    synchronise(device)
    start = time.perf_counter()
    try:
        yield used
    finally:
        synchronise(device)
        used.seconds = time.perf_counter() - start
        done.set()
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
        else:
            watcher.join()
        used.peak_bytes = peak - before


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        return int(_STATUS.read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
