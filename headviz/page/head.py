"""Panel: one head opened: its token spectrum, strongest samples and logit lens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.heads.patch_map import PatchMap, head_map
from headviz.page import html, picture_html
from headviz.page.errors import shown
from headviz.page.exporting import (
    FIGURES,
    Parcel,
    code_box,
    export_row,
    figure_parcel,
    result_parcel,
)
from headviz.page.figures import on_paper, spectrum_figure
from headviz.page.model_handlers import usual_options
from headviz.page.shared import MODEL_QUEUE, QUIET, Shared
from headviz.page.view import ModelShown, View, find_ranking, find_spectrum
from headviz.pursuit.spectrum import Spectrum
from headviz.session.shipped import SPECTRUM_STEPS
from headviz.session.snippets import spectrum_snippet

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
            about = gr.Markdown(_about(shared.model.value), elem_classes="hv-note")
            strongest = gr.HTML(start[2], elem_id="samples")
            gr.Markdown(
                "**Logit lens**, for comparison: tokens that its mean write raises most.",
                elem_classes="hv-note",
            )
            lens = gr.HTML(start[3], elem_id="lens")

    _share(shared)

    @shown
    def open_head(view: View | None, head: Head | None) -> tuple[Any, ...]:
        return _open(shared, view, head)

    @shown
    def look(view: View | None, head: Head | None) -> Any:
        return _look(shared, view, head) if view is not None and view.has_vision else gr.skip()

    shared.model.change(_about, shared.model, about, **QUIET)
    looking: dict[str, Any] = {
        "fn": look,
        "inputs": [shared.view, shared.opened],
        "outputs": strongest,
        "trigger_mode": "always_last",
        "show_progress": "hidden",
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    if shared.first is not None and shared.first.has_vision:
        shared.page.load(**looking)
    opening: dict[str, Any] = {
        "fn": open_head,
        "inputs": [shared.view, shared.opened],
        "outputs": [title, plot, strongest, lens],
        "trigger_mode": "always_last",
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    # The maps need the model, which may still be loading: everything else is shown before.
    shared.opened.change(**opening).then(**looking)
    # A new ranking opens its first head; that may be the head that is open already.
    shared.view.change(
        lambda view: view.top[0] if view else None,
        shared.view,
        shared.opened,
        **QUIET,
    ).then(**opening).then(**looking)


def _share(shared: Shared) -> None:
    """What the spectrum is saved as, and the Python that gives it."""
    export_row(
        "export-head",
        ("csv", "json", *FIGURES),
        lambda kind, view, head: export(shared, view, head, kind),
        [shared.view, shared.opened],
    )
    start_code = code_of(shared.first, shared.opened.value, shared.model.value)
    (box,) = code_box("code-head", {"": start_code})

    @shown
    def code(view: View | None, head: Head | None, model: ModelShown) -> str:
        return code_of(view, head, model)

    asked = [shared.view, shared.opened, shared.model]
    gr.on([s.change for s in asked], code, asked, box, trigger_mode="always_last", **QUIET)


def code_of(view: View | None, head: Head | None, model: ModelShown) -> str:
    """The Python that gives the head's spectrum."""
    if view is None or not view.top:
        return "# Rank heads first, then open one."
    options = replace(view.options, steps=usual_options(model).steps)
    return spectrum_snippet(
        view.model,
        _fitting(view, head),
        view.prompt_set,
        SPECTRUM_STEPS,
        options,
        usual_options(model),
    )


def export(shared: Shared, view: View | None, head: Head | None, kind: str) -> Parcel:
    """The head's spectrum as a file. Raises OptionError where no head is open."""
    if view is None or not view.top:
        raise OptionError("No head is open. Rank heads, then choose one.")
    head = _fitting(view, head)
    spectrum = find_spectrum(shared.session, view, head)
    names = (view.model, str(head), "spectrum")
    if kind in FIGURES:
        title = f"{head} of {view.model}: the tokens that it talks about"
        return figure_parcel(on_paper(spectrum_figure(spectrum), title), kind, *names)
    return result_parcel(spectrum, kind, *names)


def _open(shared: Shared, view: View | None, head: Head | None) -> tuple[str, Any, str, str]:
    """Title, figure, samples and lens of a head of the view."""
    if view is None or not view.top:
        return "Rank heads, then choose one.", None, "", ""
    head = _fitting(view, head)
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
        _samples(view, spectrum),
        html.lens(spectrum.lens),
    )


def _about(model: ModelShown) -> str:
    if not model.has_vision:
        return "**Strongest samples**: texts that move this head most."
    if not model.writes:
        return "**Strongest samples**: pictures that move this head most."
    return (
        "**Strongest samples**: pictures that move this head most, bright where in the picture its "
        "signal is strongest; the ring marks the strongest place. Point at one to see it plain."
    )


def _fitting(view: View, head: Head | None) -> Head:
    """The head, or the ranking's first where the model has no such head."""
    fits = head is not None and head.layer < view.n_layers and head.index < view.n_heads
    return head if head is not None and fits else view.top[0]


def _samples(view: View, spectrum: Spectrum, maps: Sequence[PatchMap] = ()) -> str:
    if view.has_vision:
        return picture_html.samples(spectrum.samples, view.prompt_set, view.concept.words, maps)
    return html.samples(spectrum.samples, view.concept.words)


def _look(shared: Shared, view: View, head: Head | None) -> str:
    """The strongest pictures, each with its map."""
    session, head = shared.session, _fitting(view, head)
    spectrum = find_spectrum(session, view, head)
    model, mean = session.model(view.model), None
    if view.options.centre:
        read = session.activations(view.model, view.prompt_set, view.options.pooling)
        mean = read.z[head.layer, head.index].mean(0)
    if not model.writes:  # it reads one position, the class token's
        return _samples(view, spectrum)
    maps = []
    for sample in spectrum.samples:
        picture, text = (
            view.prompt_set.pictures[sample.number],
            view.prompt_set.texts[sample.number],
        )
        with session.lock:
            maps.append(head_map(model, picture, head, text, mean))
    return _samples(view, spectrum, maps)
