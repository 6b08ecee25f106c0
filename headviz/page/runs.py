"""Long steps of visitors: progress for each, and a way to stop one's own."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import gradio as gr

from headviz.base.errors import Cancelled
from headviz.heads.capture import Progress

T = TypeVar("T")
RANKING_STOPPED = "The ranking was stopped; what was shown before is still there."
LOADING_STOPPED = (
    "The loading was stopped; whole files that were downloaded are kept for the next time."
)


class Runs:
    """Which visitors asked to stop. A visitor is the browser tab's session hash."""

    def __init__(self) -> None:
        """Nobody has asked to stop."""
        self._stopped: set[str] = set()
        self._latest: dict[str, object] = {}
        self._loads: dict[str, object] = {}

    def stop(self, request: gr.Request) -> None:
        """Ask this visitor's running step to end at its next report."""
        self._stopped.add(request.session_hash or "")

    def until_next(self, request: gr.Request, results: Iterator[T]) -> Iterator[T]:
        """The results, until the same visitor starts another run: two would write one column."""
        visitor, run = request.session_hash or "", object()
        self._latest[visitor] = run
        for result in results:
            if self._latest.get(visitor) is not run:
                return
            yield result
        if self._latest.get(visitor) is run:
            del self._latest[visitor]

    def begin_load(self, request: gr.Request) -> Callable[[], bool]:
        """Whether this load, which begins now, is still the visitor's last one."""
        visitor, load = request.session_hash or "", object()
        self._loads[visitor] = load
        return lambda: self._loads.get(visitor) is load

    def end_load(self, request: gr.Request) -> None:
        """Forget the visitor's last load, which has ended."""
        self._loads.pop(request.session_hash or "", None)

    def progress(self, request: gr.Request, bar: gr.Progress) -> Progress:
        """A report function for the core that moves the bar, and ends the run if asked to."""
        return self._reporting(request, bar, RANKING_STOPPED, None)

    def load_progress(
        self, request: gr.Request, bar: gr.Progress, stopped: str = LOADING_STOPPED
    ) -> Progress:
        """The same for the load begun last, which ends as well when another one begins.

        `stopped`: what the visitor is told who stops it.
        """
        load = self._loads.get(request.session_hash or "")
        return self._reporting(request, bar, stopped, load)

    def _reporting(
        self, request: gr.Request, bar: gr.Progress, stopped: str, load: object
    ) -> Progress:
        visitor = request.session_hash or ""
        self._stopped.discard(visitor)

        def report(share: float, what: str) -> None:
            if load is not None and self._loads.get(visitor) is not load:
                raise Cancelled(stopped)
            if visitor in self._stopped:
                self._stopped.discard(visitor)
                raise Cancelled(stopped)
            bar(share, desc=what)

        return report
