"""Panel: one head opened: its token spectrum, strongest samples and logit lens."""

from typing import Any

import gradio as gr

from headviz.heads import Head
from headviz.ui import html
from headviz.ui.errors import shown
from headviz.ui.figures import spectrum_figure
from headviz.ui.shared import MODEL_QUEUE, QUIET, Shared
from headviz.ui.view import View, find_ranking, find_spectrum

TITLE = "One head"


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    start = _open(shared, shared.first, shared.opened.value)
    title = gr.Markdown(start[0], elem_id="head-title")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=420):
            gr.Markdown(
                "**Spectrum**: the tokens that explain this head's writes best, in the order "
                "picked; the line shows how much of its variance they explain together.",
                elem_classes="hv-note",
            )
            plot = gr.Plot(start[1], show_label=False, elem_id="spectrum")
        with gr.Column(scale=2, min_width=320):
            gr.Markdown(
                "**Strongest samples**: texts that move this head most.", elem_classes="hv-note"
            )
            strongest = gr.HTML(start[2], elem_id="samples")
            gr.Markdown(
                "**Logit lens**, for comparison: tokens that its mean write raises most.",
                elem_classes="hv-note",
            )
            lens = gr.HTML(start[3], elem_id="lens")

    @shown
    def open_head(view: View | None, head: Head | None) -> tuple[Any, ...]:
        return _open(shared, view, head)

    opening: dict[str, Any] = {
        "fn": open_head,
        "inputs": [shared.view, shared.opened],
        "outputs": [title, plot, strongest, lens],
        "trigger_mode": "always_last",
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    shared.opened.change(**opening)
    # A new ranking opens its first head; that may be the head that is open already.
    shared.view.change(
        lambda view: view.top[0] if view else None,
        shared.view,
        shared.opened,
        **QUIET,
    ).then(**opening)


def _open(shared: Shared, view: View | None, head: Head | None) -> tuple[str, Any, str, str]:
    """Title, figure, samples and lens of a head of the view."""
    if view is None or not view.top:
        return "Rank heads, then choose one.", None, "", ""
    fits = head is not None and head.layer < view.n_layers and head.index < view.n_heads
    head = head if head is not None and fits else view.top[0]
    spectrum = find_spectrum(shared.session, view, head)
    ranking = find_ranking(shared.session, view)
    ranked = next(r for r in ranking.heads if r.head == head)
    told = html.score_text(view.criterion, ranked.score, ranked.chance)
    title = (
        f"### {head} · number {ranked.rank} of {view.total_heads} for {view.concept.title}: {told}"
    )
    return (
        title,
        spectrum_figure(spectrum),
        html.samples(spectrum.samples, view.concept.words),
        html.lens(spectrum.lens),
    )
