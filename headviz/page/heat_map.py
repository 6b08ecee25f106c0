"""Panel: every head's score as a map, and the ranked table beside it."""

from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.page import html
from headviz.page.errors import shown
from headviz.page.exporting import (
    FIGURES,
    Parcel,
    code_box,
    export_row,
    figure_parcel,
    file_name,
    file_parcel,
    result_parcel,
)
from headviz.page.figures import heat_figure, on_paper, ranking_table
from headviz.page.model_handlers import usual_options
from headviz.page.shared import QUIET, Shared
from headviz.page.view import ModelShown, View, find_ranking
from headviz.session.save import to_bytes
from headviz.session.session import Session
from headviz.session.snippets import ranking_snippet

TITLE = "Heads"
_SCRIPT = (Path(__file__).parent / "heat_map.js").read_text(encoding="utf-8")


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    session, first = shared.session, shared.first
    gr.Markdown(
        "A cell is a head. **The stronger its color, the more of what it writes is about the "
        "concept**; outlined heads are edited below. Click one, or move with the arrow keys and "
        "press Enter. *Chance* is the same score for random words: a head near its chance level "
        "says nothing about the concept. *±* is where the score lies in 95 % of bootstrap draws of "
        "the texts. A high score shows association; whether the head "
        "matters is seen by editing it.",
        elem_classes="hv-note",
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=420):
            heat_map = gr.HTML(
                draw(shared, first, shared.chosen.value, shared.opened.value),
                js_on_load=_SCRIPT,
                elem_id="heat-map",
            )
        with gr.Column(scale=2, min_width=320):
            table = gr.Dataframe(
                ranking_table(find_ranking(session, first)) if first else pd.DataFrame(),
                interactive=False,
                show_label=False,
                max_height=380,
                elem_id="ranked",
            )

    @shown
    def redraw(view: View | None, chosen: Any, opened: Head | None) -> str:
        return draw(shared, view, chosen, opened)

    @shown
    def fill_table(view: View | None) -> pd.DataFrame:
        return ranking_table(find_ranking(session, view)) if view else pd.DataFrame()

    def open_cell(event: gr.EventData) -> Head:
        return Head(int(event.layer), int(event.head))

    def open_row(event: gr.SelectData) -> Head:
        return Head.parse(str(event.row_value[1]))

    _share(shared)

    states = [shared.view, shared.chosen, shared.opened]
    gr.on([s.change for s in states], redraw, states, heat_map, trigger_mode="always_last", **QUIET)
    shared.view.change(fill_table, shared.view, table, **QUIET)
    heat_map.head_open(open_cell, None, shared.opened, **QUIET)
    table.select(open_row, None, shared.opened, **QUIET)


def _share(shared: Shared) -> None:
    """What the ranking is saved as, and the Python that gives it."""

    @shown
    def code(view: View | None, model: ModelShown) -> str:
        return code_of(view, model)

    export_row(
        "export-heads",
        ("csv", "json", "safetensors", "activations", *FIGURES),
        lambda kind, view: export(shared.session, view, kind),
        [shared.view],
    )
    (box,) = code_box("code-heads", {"": code_of(shared.first, shared.model.value)})
    asked = [shared.view, shared.model]
    gr.on([s.change for s in asked], code, asked, box, trigger_mode="always_last", **QUIET)


def code_of(view: View | None, model: ModelShown) -> str:
    """The Python that gives the ranking of the view."""
    if view is None:
        return "# Rank heads first."
    options = usual_options(model)
    return ranking_snippet(
        view.model, view.concept, view.prompt_set, view.criterion, view.options, options
    )


def export(session: Session, view: View | None, kind: str) -> Parcel:
    """The ranking of the view as a file. Raises OptionError where there is none."""
    if view is None:
        raise OptionError("There is no ranking yet. Rank heads first.")
    names = (view.model, view.concept.name)
    if kind == "activations":
        read = session.activations(view.model, view.prompt_set, view.options.pooling)
        content = to_bytes(read, "safetensors")
        return file_parcel(file_name("safetensors", *names[:1], kind), content)
    ranking = find_ranking(session, view)
    if kind in FIGURES:
        title = f"{view.concept.title} in {view.model}: every head's score"
        return figure_parcel(on_paper(heat_figure(ranking), title), kind, *names, "heads")
    return result_parcel(ranking, kind, *names, "heads")


def draw(shared: Shared, view: View | None, chosen: Any, opened: Head | None) -> str:
    """The map of a view, or a hint where there is none."""
    if view is None:
        return '<p class="hv-note">No ranking yet.</p>'
    return html.heat_map(find_ranking(shared.session, view), chosen or (), opened)
