"""Work on many heads in parts, each part on one processor core by itself.

A product for one head is too small to be shared well between cores, and torch's threads wait for
one another in a busy loop, which on a machine that does other work costs more than it gains. So
here every core takes whole parts: its own thread runs torch on one thread. Knows nothing of heads.
"""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")

_here = threading.local()
"""`stop` of a thread of the pool: the event that says that its work is not wanted any more."""
_lock = threading.Lock()


class _Left(Exception):
    """A part left its work because another one failed."""


def in_parts(
    work: Callable[[int, int], Part],
    total: int,
    size: int,
    device: torch.device,
    at_once: int | None = None,
) -> list[Part]:
    """What `work(start, stop)` returns for each part of `size` out of `total`, in order.

    On a CPU with several threads the parts run side by side, no more than `at_once` of them;
    elsewhere one after the other. What one part raises ends the others, at the latest where they
    call `leave_if_stopped`.
    """
    bounds = [(start, min(start + size, total)) for start in range(0, total, size)]
    threads = min(n_cores(device), len(bounds), at_once or len(bounds))
    if threads < 2:
        return [work(*part) for part in bounds]
    stop = threading.Event()
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(start: int, end: int) -> Part:
        _here.stop = stop
        try:
            leave_if_stopped()
            # A thread has modes of its own.
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                return work(start, end)
        except BaseException:
            stop.set()
            raise

    with _lock:
        pool = _pool(threads)
    futures = [pool.submit(run, *part) for part in bounds]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()
        left = [future for future in futures if not future.cancel()]
        wait(left)
    for error in [future.exception() for future in left]:
        if error is not None and not isinstance(error, _Left):
            raise error
    return [future.result() for future in futures]


def leave_if_stopped() -> None:
    """End a part whose work is not wanted any more; nothing outside `in_parts`."""
    stop = getattr(_here, "stop", None)
    if stop is not None and stop.is_set():
        raise _Left


def n_cores(device: torch.device) -> int:
    """How many parts can run side by side; 1 within a part."""
    inside = hasattr(_here, "stop")
    return torch.get_num_threads() if device.type == "cpu" and not inside else 1


def share_size(total: int, most: int, device: torch.device) -> int:
    """How large parts of `most` at most are to be, so that all cores have about the same to do."""
    cores = n_cores(device)
    rounds = -(-total // (most * cores))
    return max(1, -(-total // (rounds * cores)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that each run torch on one thread; they stay for the next time."""
    pool = ThreadPoolExecutor(threads, "headviz-part")
    ready = threading.Barrier(threads)

    def settle() -> None:
        torch.get_num_threads()  # takes over the process's number, which would undo the next line
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    for future in [pool.submit(settle) for _ in range(threads)]:
        future.result()
    torch.set_num_threads(before)  # the number for new threads is the last one set anywhere
    return pool
