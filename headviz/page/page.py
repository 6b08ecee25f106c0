"""The page: a header and the panels of PANELS, one below the other."""

from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr

from headviz.base.head import Head
from headviz.page import api, choose, edit, edit_handlers, exporting, head, heat_map, studies
from headviz.page.clips import Clips
from headviz.page.runs import Runs
from headviz.page.shared import Shared
from headviz.page.view import ModelShown, View, first_view
from headviz.session.session import Session

PANELS: tuple[ModuleType, ...] = (choose, heat_map, head, edit, studies)
"""A panel is a module with a TITLE and `build(shared)`."""

_HERE = Path(__file__).parent
_HEADER = (
    "<header><h1>headviz</h1><p>Which attention heads carry a concept, and what happens when you "
    "turn them up or down?</p><button id='hv-theme' aria-label='Light or dark'>◐</button></header>"
)


def build_page(session: Session) -> gr.Blocks:
    """The page over this session, opened on the shipped results of its first model."""
    first = (
        first_view(session.model_names()[0], choose.FIRST_CONCEPT)
        if session.model_names()
        else None
    )
    chosen: tuple[Head, ...] = first.top[: edit_handlers.one_percent(first)] if first else ()
    with gr.Blocks(title="headviz", analytics_enabled=False) as page:
        api.build(session)  # first, so that no handler of a panel takes an endpoint's name
        exporting.serve_plotly()
        gr.HTML(_HEADER, elem_id="header")
        shared = Shared(
            page=page,
            session=session,
            clips=Clips(session),
            runs=Runs(),
            first=first,
            model=gr.State(_first_model(session, first)),
            view=gr.State(first),
            opened=gr.State(chosen[0] if chosen else None),
            chosen=gr.State(chosen),
            given=gr.State(None),
        )
        for panel in PANELS:
            gr.Markdown(f"## {panel.TITLE}")
            panel.build(shared)
    page.queue(default_concurrency_limit=4)
    return page


def _first_model(session: Session, first: View | None) -> ModelShown:
    """Named without loading it."""
    if first is not None:
        return ModelShown(first.model, first.has_vision)
    return ModelShown(session.model_names()[0] if session.model_names() else "")


def launch_options() -> dict[str, Any]:
    """Theme, style and script, which belong to `launch` in gradio 6."""
    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    theme = gr.themes.Base(
        primary_hue="sky", neutral_hue="slate", font=list(system), font_mono=list(mono)
    )
    return {
        "theme": theme,
        "css": (_HERE / "style.css").read_text(encoding="utf-8"),
        "js": f"() => {{ {_run('page.js')} {_run('export.js')} }}",
    }


def _run(script: str) -> str:
    """A call of the function that the script is."""
    return f"({(_HERE / script).read_text(encoding='utf-8').rstrip().rstrip(';')})();"
