"""The model step of the panel `choose`: which model, what it is, its loading, and stopping that.

Knows the components and when they are shown; what loading gives is choosing.py's affair.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.base.errors import HeadvizError
from headviz.clip.load import built_in_clips
from headviz.page.errors import shown_stream
from headviz.page.runs import Runs
from headviz.page.shared import MODEL_QUEUE, QUIET, Shared
from headviz.session.session import Session


@dataclass(frozen=True)
class Loading:
    """The step's components."""

    model: gr.Dropdown
    summary: gr.Markdown
    stop: gr.Button
    """Seen while a model loads."""


def build(shared: Shared, name: str) -> Loading:
    """Lay the step out."""
    session = shared.session
    model = gr.Dropdown(
        offered_models(session),
        value=name,
        label="Model",
        info="built in, a folder on this machine, or a name on the Hugging Face hub",
        allow_custom_value=session.allowed is None,
        elem_id="model",
    )
    built_in = f"{shared.first.total_heads} heads · built in" if shared.first else ""
    summary = gr.Markdown(built_in, elem_id="summary", elem_classes="hv-note")
    stop = gr.Button("Stop loading", size="sm", visible=False, elem_id="stop-loading")
    return Loading(model, summary, stop)


def offered_models(session: Session) -> list[str]:
    """The models that write text, and the CLIP models that come with them."""
    clips = built_in_clips() if session.allowed is None else ()
    return [*session.model_names(), *clips]


def wire(
    shared: Shared,
    parts: Loading,
    load: Callable[..., tuple[Any, ...]],
    inputs: list[gr.components.Component],
    outputs: list[gr.components.Component],
) -> None:
    """Load whatever model is chosen, and the first one where nothing was shipped with it."""
    loading: dict[str, Any] = {
        "inputs": inputs,
        "outputs": outputs,
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    stoppable(shared.runs, parts.stop, parts.model.change, load, **loading)
    parts.stop.click(shared.runs.stop, None, None, queue=False, api_visibility="private")
    if shared.first is None:  # what the page must know is the model's own
        stoppable(shared.runs, parts.stop, shared.page.load, load, **loading)


def stoppable(
    runs: Runs,
    stop: gr.Button,
    listen: Callable[..., Any],
    load: Callable[..., tuple[Any, ...]],
    wanted: Callable[..., bool] = lambda *_: True,
    **event: Any,
) -> None:
    """Let an event call `load` where it is `wanted`, and show the button that stops it meanwhile.

    A load ends, without a word, when the visitor begins another one. So that the end of one does
    not hide the button of the next, each load shows it and hides it itself.
    """
    others = (gr.skip(),) * len(event["outputs"])

    def steps(request: gr.Request, *args: Any) -> Iterator[tuple[Any, ...]]:
        if not wanted(*args):
            yield (gr.skip(), *others)
            return
        is_last = runs.begin_load(request)
        yield (gr.update(visible=True), *others)
        try:
            found = load(request, *args)
        except HeadvizError:
            if not is_last():
                return
            runs.end_load(request)
            raise
        if is_last():
            runs.end_load(request)
            yield (gr.update(visible=False), *found)

    event["outputs"] = [stop, *event["outputs"]]
    # Not `always_last`, which drops what waits when the run before it fails.
    event["trigger_mode"] = "multiple"
    ended = listen(shown_stream(functools.wraps(load)(steps)), **event)
    ended.failure(lambda: gr.update(visible=False), None, stop, queue=False, **QUIET)
