"""Between the core's errors and the page: one sentence in a notice, never a stack trace."""

import functools
from collections.abc import Callable, Iterator
from html import escape
from inspect import isgeneratorfunction
from typing import Any

import gradio as gr

from headviz.errors import Cancelled, HeadvizError


def shown(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, with HeadvizError turned into a notice on the page."""
    if isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except HeadvizError as error:
                raise _notice(error) from None

        return stream

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except HeadvizError as error:
            raise _notice(error) from None

    return call


def _notice(error: HeadvizError) -> gr.Error:
    title = "Stopped" if isinstance(error, Cancelled) else "That did not work"
    return gr.Error(escape(str(error)), title=title, duration=None, print_exception=False)
