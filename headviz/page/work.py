"""A long step of one visitor: run aside, told of as it goes, and ended when the visitor asks.

The step runs in a thread; what watches it yields a Status a few times a second, so that the page
moves and a wish to stop is answered at once, however long the step takes to notice.
"""

import atexit
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import gradio as gr

from headviz.base.errors import Cancelled
from headviz.base.progress import Progress
from headviz.page.limits import deadline, within

T = TypeVar("T")
_Key = tuple[str, str]
"""A visitor, and a kind of step: each visitor has one step of a kind at a time."""
_NUMBERS = re.compile(r"[\d.,]+")
BEAT = 0.2
"""Seconds between two looks at a step."""
_LAST = 5.0  # seconds that the program waits at its end for steps to notice it


@dataclass(frozen=True)
class Status:
    """How far a step is."""

    what: str
    share: float
    """Done, from 0 to 1."""
    seconds_left: float | None = None
    """None as long as nothing can be said."""
    stopping: bool = False
    """Whether the visitor has asked to stop and the step has not noticed yet."""


class Superseded(Cancelled):
    """The visitor began the same kind of step again: the earlier one ends without a word."""


class Work:
    """The long steps of all visitors. A visitor is the browser tab's session hash."""

    def __init__(self, seconds: float | None = None) -> None:
        """Nothing runs; no step may take longer than so many `seconds` (None: any time)."""
        self._seconds = seconds
        self._stopped: set[_Key] = set()
        self._latest: dict[_Key, object] = {}
        self._turned: dict[_Key, tuple[int, Any]] = {}
        self._going: set[_Key] = set()
        self._threads: WeakSet[threading.Thread] = WeakSet()
        self._inside: set[object] = set()  # one for each result that is being made
        self._is_over = False
        self._last = Status("", 0.0)
        _all.add(self)

    def note(self, share: float, what: str) -> None:
        """Told by a step that no visitor waits for, so that who waits for it can be told."""
        self._last = Status(what, share)

    def stopper(self, kind: str) -> Callable[[gr.Request], None]:
        """What asks a visitor's running step of this kind to end."""

        def stop(request: gr.Request) -> None:
            self._stopped.add(_key(request, kind))

        return stop

    def stopped(self, request: gr.Request, kind: str) -> bool:
        """Whether this visitor has asked to stop since the last step of the kind began."""
        return _key(request, kind) in self._stopped

    def turn(self, request: gr.Request, kind: str, number: int, value: Any) -> None:
        """Hand something to a visitor's running step; of several the one of the highest number."""
        key = _key(request, kind)
        if number > self._turned.get(key, (0, None))[0]:
            self._turned[key] = number, value

    def turned(self, request: gr.Request, kind: str) -> Any:
        """What was handed over since this was last asked, else None."""
        key = _key(request, kind)
        number, value = self._turned.get(key, (0, None))
        self._turned[key] = number, None
        return value

    def forget(self, visitor: str) -> None:
        """Who does not come back; a step that still runs ends."""
        for marked in (self._stopped, self._going):
            marked -= {key for key in list(marked) if key[0] == visitor}
        for known in (self._latest, self._turned):
            for key in [key for key in list(known) if key[0] == visitor]:
                known.pop(key, None)

    def begin(self, request: gr.Request, kind: str) -> Callable[[], bool]:
        """A step begins, and an earlier wish to stop is forgotten.

        Returns what tells whether it is still the visitor's last of this kind.
        """
        key, run = _key(request, kind), object()
        self._stopped.discard(key)
        self._latest[key] = run
        return lambda: self._latest.get(key) is run

    def until_next(
        self, request: gr.Request, kind: str, is_last: Callable[[], bool], results: Iterator[T]
    ) -> Iterator[T]:
        """The results, until the same visitor starts another run: two would write one text.

        Raises Cancelled where they take too long.
        """
        key = _key(request, kind)
        self._going.add(key)
        results = within(self._seconds, results)
        try:
            while (result := self._next(results)) is not None and is_last():
                yield result
        finally:
            if is_last():
                self._going.discard(key)

    def _next(self, results: Iterator[T]) -> T | None:
        """The next result, None after the last or where the program ends."""
        inside = object()
        self._inside.add(inside)  # before the end is looked for, which then waits for this one
        try:
            return None if self._is_over else next(results, None)
        finally:
            self._inside.discard(inside)

    def is_going(self, request: gr.Request, kind: str) -> bool:
        """Whether the results of this visitor's last run are still being made."""
        return _key(request, kind) in self._going

    def watched(
        self,
        request: gr.Request,
        kind: str,
        step: Callable[[Progress], T],
        stopped: str,
        is_last: Callable[[], bool] | None = None,
    ) -> Generator[Status, None, T]:
        """Run the step aside; yields how far it is and returns its result.

        `is_last` where the step is part of one that has begun. Raises what the step raises,
        Cancelled, saying `stopped`, where the visitor ended it, and Superseded.
        """
        is_last = is_last or self.begin(request, kind)
        box: dict[str, Any] = {}
        seen = [Status("", 0.0)]
        gone = threading.Event()
        clock = _Clock()

        in_time = deadline(self._seconds)

        def report(share: float, what: str) -> None:
            in_time(share, what)
            if gone.is_set() or self._is_over or self.stopped(request, kind):
                raise Cancelled(stopped)
            seen[0] = clock.status(share, what)
            self._last = seen[0]

        def run() -> None:
            try:
                box["result"] = step(report)
            except BaseException as error:  # handed on to whoever watches
                box["error"] = error

        thread = threading.Thread(target=run, daemon=True)
        self._threads.add(thread)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(BEAT)
                if not is_last():
                    raise Superseded(stopped)
                if thread.is_alive():
                    now = seen[0] if seen[0].what else self._last
                    stopping = self.stopped(request, kind)
                    yield Status(now.what, now.share, now.seconds_left, stopping)
        finally:
            gone.set()
        if "error" in box:
            raise box["error"]
        result: T = box["result"]
        return result

    def end(self) -> None:
        """The program ends, and so all steps: a thread cut off inside torch would abort it."""
        self._is_over = True
        until = time.monotonic() + _LAST
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))
        while self._inside and time.monotonic() < until:
            time.sleep(0.01)


_all: WeakSet[Work] = WeakSet()


@atexit.register
def end_all() -> None:
    """The program ends, and so the steps of all pages."""
    for work in list(_all):
        work.end()


class _Clock:
    """Tells the time left from how far a step has come; numbers in its words may rise."""

    def __init__(self) -> None:
        self._kind, self._began, self._from = "", 0.0, 0.0

    def status(self, share: float, what: str) -> Status:
        """Of a step that reports this now."""
        now = time.monotonic()
        kind = _NUMBERS.sub("", what)
        if kind != self._kind:
            self._kind, self._began, self._from = kind, now, share
        done, passed = share - self._from, now - self._began
        left = passed * (1 - share) / done if done > 0 and passed > 1 else None
        return Status(what, share, left)


def _key(request: gr.Request, kind: str) -> _Key:
    return request.session_hash or "", kind
