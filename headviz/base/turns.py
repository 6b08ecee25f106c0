"""A lock with two ways in: for what a person waits for, and for work in the background.

Knows nothing of what runs under it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

_QUIET = 0.1  # seconds after a turn in which the next of the same answer may come
_AT_MOST = 10.0  # seconds that the background waits: a busy server gets its work done too
_LOOK = 0.02  # seconds between two looks


class Turns:
    """A lock that a thread may take again while it has it."""

    def __init__(self) -> None:
        """Nobody has it."""
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._wanted = 0  # by threads in front that have it or wait for it
        self._left = 0.0
        self._holder, self._depth = 0, 0  # the thread in front that has it, and how often

    def acquire(self, blocking: bool = True, timeout: int | float = -1) -> bool:
        """As of threading.RLock."""
        with self._counting:
            self._wanted += 1
        taken = False
        try:
            taken = self._lock.acquire(blocking, timeout)
        finally:
            if not taken:
                self._leave()
        if taken:
            self._holder = threading.get_ident()
            self._depth += 1
        return taken

    def release(self) -> None:
        """As of threading.RLock."""
        assert self._depth, "released more often than taken"
        self._depth -= 1
        if not self._depth:
            self._holder = 0
        self._lock.release()
        self._leave()

    def __enter__(self) -> bool:
        """Take it."""
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.release()

    @contextmanager
    def after_others(self) -> Iterator[None]:
        """The lock for one turn of background work: whoever else wants it goes first."""
        until = time.monotonic() + _AT_MOST
        while self._busy() and time.monotonic() < until:
            time.sleep(_LOOK)
        with self._lock:
            yield

    def _busy(self) -> bool:
        if self._holder == threading.get_ident():
            return False
        with self._counting:
            return bool(self._wanted) or time.monotonic() - self._left < _QUIET

    def _leave(self) -> None:
        with self._counting:
            self._wanted -= 1
            self._left = time.monotonic()
