"""Between the core's errors and the page: one sentence where it belongs, never a stack trace."""

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from headviz.base.errors import Cancelled, HeadvizError
from headviz.page import html
from headviz.page.work import Superseded


def sentence(error: Exception) -> str:
    """What a person is told of an error; the server's log has what is not theirs to mend."""
    if isinstance(error, HeadvizError):
        return str(error)
    logging.getLogger("headviz").exception("a handler of the page failed", exc_info=error)
    return "Something failed inside headviz; the server's log has the details."


def told(place: gr.HTML, handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, with every error told at its place on the page; it returns a dict of outputs."""

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            return {place: notice(error)}

    return call


def told_stream(
    place: gr.HTML, handler: Callable[..., Iterator[Any]]
) -> Callable[..., Iterator[Any]]:
    """The same for a handler that yields."""
    # A lambda, because gradio looks whether a handler is a generator function, and the shape checks
    # of the test run would wrap a def in a plain one.
    wrap: Any = functools.wraps(handler)
    return wrap(lambda *args: (yield from _guarded(place, handler(*args))))


def _guarded(place: gr.HTML, results: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from results
    except Superseded:
        return
    except Exception as error:
        yield {place: notice(error)}


def notice(error: Exception) -> str:
    """The error as a line on the page: calm where the visitor stopped something."""
    text = sentence(error)
    return html.note(text) if isinstance(error, Cancelled) else html.error(text)


def for_program(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that a program asks: every error as the sentence itself."""

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from None

    return call
