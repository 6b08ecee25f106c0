"""Panel: every head's score as a map, and the ranked table beside it."""

from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from headviz.heads import Head
from headviz.ui import html
from headviz.ui.errors import shown
from headviz.ui.figures import ranking_table
from headviz.ui.shared import QUIET, Shared
from headviz.ui.view import View, find_ranking

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

    states = [shared.view, shared.chosen, shared.opened]
    gr.on([s.change for s in states], redraw, states, heat_map, trigger_mode="always_last", **QUIET)
    shared.view.change(fill_table, shared.view, table, **QUIET)
    heat_map.head_open(open_cell, None, shared.opened, **QUIET)
    table.select(open_row, None, shared.opened, **QUIET)


def draw(shared: Shared, view: View | None, chosen: Any, opened: Head | None) -> str:
    """The map of a view, or a hint where there is none."""
    if view is None:
        return '<p class="hv-note">No ranking yet.</p>'
    return html.heat_map(find_ranking(shared.session, view), chosen or (), opened)
