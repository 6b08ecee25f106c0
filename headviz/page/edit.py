"""Panel: scale the chosen heads and watch answers beside the original and a random control."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.base.head import Head
from headviz.editing.generate import Sampling
from headviz.heads.edits import Edit
from headviz.inputs.images import Picture
from headviz.page import edit_handlers as handlers
from headviz.page import factor_sliders, html, image_input, sharing
from headviz.page.captioning import Request, Result, stream
from headviz.page.errors import shown_stream
from headviz.page.pictures import PictureBox
from headviz.page.recipes import LoadedRecipe
from headviz.page.shared import MODEL_QUEUE, QUIET, Number, Shared
from headviz.page.view import ModelShown, View
from headviz.page.zero_shot_view import answer

TITLE = "Edit and compare"
_COLUMNS = ("original", "edited", "control")


@dataclass(frozen=True)
class _Inputs:
    """The panel's components."""

    pinned: gr.State
    count: gr.Slider
    alpha: gr.Slider
    share: gr.Markdown
    pin: gr.Button
    reset: gr.Button
    sliders: tuple[gr.Slider, ...]
    box: PictureBox
    where: gr.Radio
    prompt: gr.Textbox
    example: gr.Dropdown
    sampling: tuple[gr.Number, gr.Number, gr.Number]
    generate: gr.Button
    stop: gr.Button
    columns: tuple[gr.HTML, ...]
    rows: gr.HTML
    """The captions of several pictures."""
    told: gr.State
    """What was generated last: a Told or None."""


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    chosen: tuple[Head, ...] = shared.chosen.value
    with gr.Row():
        count, alpha, share, pin, reset = factor_sliders.build(shared, len(chosen))
    with gr.Row(elem_classes="hv-sliders"):
        sliders = tuple(factor_sliders.head_slider(i, chosen) for i in range(handlers.MAX_SLIDERS))
    box, where = image_input.build(shared)
    with gr.Row(equal_height=False):
        prompt, example, sampling = _prompt(shared)
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", elem_id="generate")
        stop = gr.Button("Stop", scale=0, elem_id="stop")
    with gr.Row(equal_height=True):
        columns = tuple(gr.HTML(html.empty_column(c), elem_id=f"text-{c}") for c in _COLUMNS)
    rows = gr.HTML(elem_id="captions")
    told = gr.State(None)
    sharing.build(shared, told, where, sliders)
    inputs = _Inputs(
        pinned=gr.State(()),
        count=count,
        alpha=alpha,
        share=share,
        pin=pin,
        reset=reset,
        sliders=sliders,
        box=box,
        where=where,
        prompt=prompt,
        example=example,
        sampling=sampling,
        generate=generate,
        stop=stop,
        columns=columns,
        rows=rows,
        told=told,
    )
    _wire_runs(shared, inputs)
    _wire_choices(shared, inputs)


def _prompt(
    shared: Shared,
) -> tuple[gr.Textbox, gr.Dropdown, tuple[gr.Number, gr.Number, gr.Number]]:
    model: ModelShown = shared.model.value
    prompts = handlers.offered_prompts(model)
    prompt = gr.Textbox(
        handlers.first_prompt(shared.first),
        label="Prompt",
        placeholder=handlers.usual_prompt(model) or None,
        lines=3,
        max_lines=8,
        scale=3,
        elem_id="prompt",
    )
    with gr.Column(scale=2, min_width=320):
        example = gr.Dropdown(
            prompts, value=None, label="Or an example", visible=bool(prompts), elem_id="example"
        )
        with gr.Row():
            sampling = (
                gr.Number(60, label="Tokens", precision=0, min_width=80, elem_id="tokens"),
                gr.Number(0.0, label="Temperature", min_width=80, elem_id="temperature"),
                gr.Number(0, label="Seed", precision=0, min_width=80, elem_id="seed"),
            )
    return prompt, example, sampling


def _choosing(shared: Shared, inputs: _Inputs) -> dict[str, Any]:
    """What lays the sliders out for the chosen heads anew."""
    return {
        "fn": handlers.choose,
        "inputs": [shared.view, inputs.count, inputs.pinned, inputs.alpha],
        "outputs": [shared.chosen, inputs.share, *inputs.sliders],
        **QUIET,
    }


def _wire_runs(shared: Shared, inputs: _Inputs) -> None:
    """What starts and stops the three columns."""

    @shown_stream
    def run(
        request: gr.Request,
        model: ModelShown,
        view: View | None,
        given: LoadedRecipe | None,
        chosen: tuple[Head, ...],
        pictures: tuple[Picture, ...],
        where: str,
        prompt: str,
        n_tokens: Number | None,
        temperature: Number | None,
        seed: Number | None,
        *factors: Number,
    ) -> Iterator[list[Any]]:
        sampling = Sampling(int(n_tokens or 0), float(temperature or 0), int(seed or 0))
        factor_of = dict(zip(chosen, map(float, factors), strict=False))
        seen = pictures if model.has_vision else ()
        # The choice of places follows a new model a moment later.
        held = model.writes and where in image_input.places(model)
        edit = Edit(factor_of, where if held else "everywhere")
        concept = view.concept if view else given.recipe.concept if given else None
        asked = Request(model.name, prompt, seen, edit, concept, sampling)
        yield from shared.runs.until_next(request, _run(shared, asked, model.writes))

    streaming: dict[str, Any] = {
        "fn": run,
        "inputs": [
            shared.model,
            shared.view,
            shared.given,
            shared.chosen,
            inputs.box.pictures,
            inputs.where,
            inputs.prompt,
            *inputs.sampling,
            *inputs.sliders,
        ],
        "outputs": [*inputs.columns, inputs.rows, inputs.told],
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    runs: list[Any] = [inputs.generate.click(**streaming)]
    runs += [slider.release(**streaming) for slider in inputs.sliders]
    for release in (inputs.count.release, inputs.alpha.release):
        runs.append(release(**_choosing(shared, inputs)).then(**streaming))
    inputs.stop.click(None, None, None, cancels=runs, api_visibility="private")


def _run(shared: Shared, asked: Request, writes: bool) -> Iterator[list[Any]]:
    """The columns as they come, and at the end what was told."""
    results: list[Any] = []
    shown = stream(shared, asked, results) if writes else answer(shared, asked, results)
    for parts in shown:
        yield [*parts, gr.skip()]
    yield [*(gr.skip() for _ in parts), Result(asked, tuple(results))]


def _wire_choices(shared: Shared, inputs: _Inputs) -> None:
    """What follows a new model or ranking, and the buttons beside the sliders."""
    choosing = _choosing(shared, inputs)
    shared.model.change(
        lambda model: [gr.update(visible=model.writes) for _ in inputs.sampling],
        shared.model,
        list(inputs.sampling),
        **QUIET,
    )
    settings = [inputs.prompt, inputs.pinned, inputs.count, inputs.alpha, inputs.example]

    def renew(
        view: View | None, model: ModelShown, prompt: str, given: LoadedRecipe | None
    ) -> list[Any]:
        if given is not None and given.fits(model, view):
            return handlers.new_edit(view, model, prompt, given.recipe.edit.factors)
        return handlers.new_view(view, model, prompt)

    def follow(
        view: View | None, model: ModelShown, prompt: str, given: LoadedRecipe | None
    ) -> list[Any]:
        if given is None:  # it was left: what follows the new choice does the rest
            return [gr.skip() for _ in settings + choosing["outputs"]]
        return renew(view, model, prompt, given)

    renewing: dict[str, Any] = {
        "inputs": [shared.view, shared.model, inputs.prompt, shared.given],
        "outputs": settings + choosing["outputs"],
        **QUIET,
    }
    gr.on([shared.view.change, shared.model.change], renew, **renewing)
    shared.given.change(follow, **renewing)
    inputs.pin.click(
        handlers.pin_head, [shared.opened, inputs.pinned], inputs.pinned, **QUIET
    ).then(**choosing)
    factors = [inputs.alpha, *inputs.sliders]
    inputs.reset.click(lambda: [1.0] * len(factors), None, factors, **QUIET)
    inputs.example.input(lambda text: text, inputs.example, inputs.prompt, **QUIET)
