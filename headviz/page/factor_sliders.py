"""Part of the panel `edit`: how many heads are edited, and by which factors."""

import gradio as gr

from headviz.base.head import Head
from headviz.page import edit_handlers
from headviz.page.shared import Shared


def build(
    shared: Shared, n_chosen: int
) -> tuple[gr.Slider, gr.Slider, gr.Markdown, gr.Button, gr.Button]:
    """Lay out how many of the top heads, one factor for all, their share, and two buttons."""
    count = gr.Slider(
        0,
        edit_handlers.MAX_SLIDERS,
        value=n_chosen,
        step=1,
        label="How many of the top heads",
        elem_id="count",
    )
    alpha = gr.Slider(
        edit_handlers.LOWEST,
        edit_handlers.HIGHEST,
        value=edit_handlers.START,
        step=0.1,
        label="α for all of them",
        info="−1 inhibits · 0 removes · 1 leaves alone · above 1 enhances",
        elem_id="alpha",
        elem_classes="hv-alpha",
    )
    with gr.Column(scale=0, min_width=170):
        share = gr.Markdown(edit_handlers.share_text(shared.first, n_chosen), elem_id="share")
        pin = gr.Button("Add the open head", size="sm", elem_id="pin")
        reset = gr.Button("Reset all to 1", size="sm", elem_id="reset")
    return count, alpha, share, pin, reset


def head_slider(number: int, chosen: tuple[Head, ...]) -> gr.Slider:
    """The slider of one of the chosen heads, hidden where there are fewer."""
    return gr.Slider(
        edit_handlers.LOWEST,
        edit_handlers.HIGHEST,
        value=edit_handlers.START,
        step=0.1,
        label=str(chosen[number]) if number < len(chosen) else "",
        visible=number < len(chosen),
        min_width=220,
        elem_classes="hv-alpha",
        elem_id=f"alpha-{number}",
    )
