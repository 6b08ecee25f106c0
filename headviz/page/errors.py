"""Between the core's errors and the page: one sentence in a notice, never a stack trace."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any

import gradio as gr

from headviz.base.errors import Cancelled, HeadvizError


def shown(handler: Callable[..., Any], as_html: bool = True) -> Callable[..., Any]:
    """The handler, with every error turned into a notice on the page.

    `as_html`: the page shows notices as HTML; a program that asks wants the sentence as it is.
    """

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise _notice(error, as_html) from None

    return call


def shown_stream(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The same for a handler that yields."""
    # A lambda, because gradio looks whether a handler is a generator function, and the shape checks
    # of the test run would wrap a def in a plain one.
    wrap: Any = functools.wraps(handler)
    return wrap(lambda *args: (yield from _guarded(handler(*args))))


def _guarded(results: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from results
    except Exception as error:
        raise _notice(error) from None


def warn(notices: Iterable[str]) -> None:
    """Show what went wrong without stopping the work."""
    for notice in notices:
        gr.Warning(escape(notice), duration=None)


def _notice(error: Exception, as_html: bool = True) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    if not isinstance(error, HeadvizError):
        logging.getLogger("headviz").exception("a handler of the page failed", exc_info=error)
        error = HeadvizError("Something failed inside headviz; the server's log has the details.")
    title = "Stopped" if isinstance(error, Cancelled) else "That did not work"
    text = escape(str(error)) if as_html else str(error)
    return gr.Error(text, title=title, duration=None, print_exception=False)
