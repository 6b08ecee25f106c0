"""What one visitor may take of the server: bytes of a request, seconds of a step, pictures, memory.

Uploaded files are limited by gradio itself (`max_file_size`). Knows nothing of what is asked.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

from headviz.base.errors import Cancelled
from headviz.base.progress import Progress, no_progress

T = TypeVar("T")
MAX_REQUEST = 64 * 2**20
"""Bytes of one request that brings no file: some pictures in base64."""
MAX_PICTURES = 512 * 2**20
"""Bytes of all pictures that a visitor's box or set holds, as files."""
MOST_SECONDS = 600.0
"""Of one step on a page that offers its models to others."""
KEPT_SECONDS = 24 * 3600
"""After which gradio removes an uploaded file."""
KEPT_TABS = 100
"""Tabs that were closed of which the page is kept: a laptop that wakes up wants its own back."""
MOST_TABS = 2000
"""Of which the page is kept at all, whether they said that they were closed or not."""
_UPLOAD = "/gradio_api/upload"


class Closed:
    """Tabs that were closed. gradio would keep what each of them showed, about 1 MiB, for ever."""

    def __init__(
        self, page: gr.Blocks, forget: Callable[[str], None], most: int = KEPT_TABS
    ) -> None:
        """None yet. `forget` is told which tab does not come back."""
        self._page, self._forget, self._most = page, forget, most
        self._closed: deque[tuple[str, datetime]] = deque()

    def add(self, request: gr.Request) -> None:
        """The visitor's tab was closed, or its network was lost."""
        self._closed.append((request.session_hash or "", datetime.now()))
        tabs = self._page.state_holder
        while len(self._closed) > self._most:
            tab, at = self._closed.popleft()
            if tabs.time_last_used.get(tab, at) > at:
                continue  # it has come back
            with tabs.lock:
                tabs.session_data.pop(tab, None)
                tabs.time_last_used.pop(tab, None)
            self._forget(tab)


def deadline(seconds: float | None) -> Progress:
    """A progress that raises Cancelled once so many seconds have passed; None: never."""
    if seconds is None:
        return no_progress
    end = time.monotonic() + seconds

    def check(share: float, what: str) -> None:
        if time.monotonic() > end:
            raise Cancelled(
                f"This took longer than the {seconds / 60:.0f} minutes that one step may take on a "
                "page for others; what was read is kept. Ask for less, or run headviz yourself."
            )

    return check


def within(seconds: float | None, results: Iterator[T]) -> Iterator[T]:
    """The results as they come. Raises Cancelled where the next one comes too late."""
    in_time = deadline(seconds)
    for result in results:
        in_time(0.0, "")
        yield result


def while_wanted(results: Iterator[T]) -> Iterator[T]:
    """The results as they come. Raises Cancelled where the program that asked has gone.

    gradio ends what yields to it, and leaves alone what only returns: this is for the latter.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    events = blocks._queue.event_ids_to_events if blocks is not None else {}
    event = events.get(event_id) if event_id else None
    for result in results:
        if event is not None and not event.alive:
            raise Cancelled("Nobody waits for this any more.")
        yield result


class RequestLimit:
    """ASGI middleware that refuses a request as soon as more than `MAX_REQUEST` bytes came."""

    def __init__(self, app: Any) -> None:
        """Around the app."""
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, as long as it is small enough."""
        if scope["type"] != "http" or scope["path"].endswith(_UPLOAD):
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > MAX_REQUEST:
            await _refuse(send)
            return
        n_bytes = 0

        async def counted() -> Any:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            # To the app it looks as if the visitor had gone.
            return {"type": "http.disconnect"} if n_bytes > MAX_REQUEST else message

        await self._app(scope, counted, send)


async def _refuse(send: Any) -> None:
    text = f"A request has at most {MAX_REQUEST // 2**20} MB.".encode()
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text})
