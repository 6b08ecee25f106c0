"""The model step of the panel `choose`: which model, what it is, its loading, and stopping that.

Knows the components and when they are shown; what loading gives is choosing.py's affair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.clip import built_in_clips
from headviz.session import Session
from headviz.ui.errors import shown
from headviz.ui.shared import MODEL_QUEUE, QUIET, Shared


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
        "fn": shown(load),
        "inputs": inputs,
        "outputs": outputs,
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    stoppable(parts.stop, parts.model.change, loading)
    parts.stop.click(shared.runs.stop, None, None, queue=False, api_visibility="private")
    if shared.first is None:  # what the page must know is the model's own
        stoppable(parts.stop, shared.page.load, loading)


def stoppable(stop: gr.Button, listen: Callable[..., Any], handler: dict[str, Any]) -> None:
    """Let an event call the handler, and show the button that stops it for as long as it runs."""
    listen(lambda: gr.update(visible=True), None, stop, queue=False, **QUIET)
    ended = listen(**handler)
    # gradio's `then` is left out after an error, which a stop is.
    for follow in (ended.success, ended.failure):
        follow(lambda: gr.update(visible=False), None, stop, queue=False, **QUIET)
