"""Progress on the command line: one line on stderr, written over as the step goes on.

In a terminal at once; in a file or a pipe a line every ten seconds, so that logs stay short.
"""

import io
import sys
import time
from collections.abc import Callable

_PAUSE = 10.0  # seconds between two lines where they cannot be written over
_CLEAR = "\r\x1b[K"


class Console:
    """A `Progress` that people read in a terminal."""

    def __init__(
        self, stream: io.TextIOBase | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Silent until it is called; `stream` is stderr where it is not given."""
        self._stream, self._clock = stream, clock
        self._last: float | None = None
        self._is_written = False

    def __call__(self, share: float, what: str) -> None:
        """Show what is being done and the share of it that is done."""
        stream = self._stream or sys.stderr
        if share >= 1:
            self.clear()
        elif stream.isatty():
            text = f"headviz: {what} ({share:.0%})" if share else f"headviz: {what}"
            stream.write(_CLEAR + text)
            stream.flush()
            self._is_written = True
        else:
            now = self._clock()
            if self._last is not None and now - self._last >= _PAUSE:
                print(f"headviz: {what} ({share:.0%})", file=stream, flush=True)
                self._last = now
            self._last = now if self._last is None else self._last

    def clear(self) -> None:
        """Leave an empty line for what is printed next."""
        if self._is_written:
            stream = self._stream or sys.stderr
            stream.write(_CLEAR)
            stream.flush()
            self._is_written = False
