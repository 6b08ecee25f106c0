"""A lock with two ways in: for what a person waits for, and for work in the background.

Whoever waits gets it in the order in which they came: a thread that takes it again at once, token
after token, would else keep all others out. Knows nothing of what runs under it.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

_QUIET = 0.1  # seconds after a turn in which the next of the same answer may come
_AT_MOST = 10.0  # seconds that the background waits: a busy server gets its work done too
_LOOK = 0.02  # seconds between two looks


class _Ticket:
    """A thread that waits, told when the lock is its."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.called = threading.Event()


class Turns:
    """A lock that a thread may take again while it has it."""

    def __init__(self) -> None:
        """Nobody has it."""
        self._counting = threading.Lock()
        self._line: deque[_Ticket] = deque()
        self._holder, self._depth = 0, 0  # the thread that has it, and how often
        self._wanted = 0  # by threads in front that have it or wait for it
        self._left = 0.0

    def acquire(self, blocking: bool = True, timeout: int | float = -1) -> bool:
        """As of threading.RLock."""
        with self._counting:
            self._wanted += 1
        taken = False
        try:
            taken = self._take(blocking, timeout)
        finally:
            if not taken:
                self._leave()
        return taken

    def release(self) -> None:
        """As of threading.RLock."""
        self._give()
        self._leave()

    @property
    def is_awaited(self) -> bool:
        """Whether another thread stands in line."""
        return bool(self._line)

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
        self._take()
        try:
            yield
        finally:
            self._give()

    def _take(self, blocking: bool = True, timeout: int | float = -1) -> bool:
        ticket = _Ticket()
        with self._counting:
            if self._holder in (0, ticket.thread):
                self._holder = ticket.thread
                self._depth += 1
                return True
            if not blocking:
                return False
            self._line.append(ticket)
        is_mine = False
        try:
            is_mine = ticket.called.wait(None if timeout < 0 else timeout)
        finally:
            if not is_mine:
                # It may have been called in the last moment, or this thread was interrupted.
                with self._counting:
                    if ticket.called.is_set():
                        self._pass_on()
                    else:
                        self._line.remove(ticket)
        return is_mine

    def _give(self) -> None:
        with self._counting:
            assert self._holder == threading.get_ident(), "released by a thread that has it not"
            self._depth -= 1
            if not self._depth:
                self._pass_on()

    def _pass_on(self) -> None:
        """The first in line has it now; `_counting` is held."""
        self._holder, self._depth = 0, 0
        if self._line:
            ticket = self._line.popleft()
            self._holder, self._depth = ticket.thread, 1
            ticket.called.set()

    def _busy(self) -> bool:
        if self._holder == threading.get_ident():
            return False
        with self._counting:
            return bool(self._wanted) or time.monotonic() - self._left < _QUIET

    def _leave(self) -> None:
        with self._counting:
            self._wanted -= 1
            self._left = time.monotonic()
