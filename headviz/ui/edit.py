"""Panel: scale the chosen heads and watch answers beside the original and a random control."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.edits import Edit
from headviz.generation import Sampling
from headviz.heads import Head
from headviz.images import Picture
from headviz.ui import editing, html, seeing
from headviz.ui.answering import answer
from headviz.ui.captioning import Asked, stream
from headviz.ui.errors import shown_stream
from headviz.ui.pictures import PictureBox
from headviz.ui.shared import MODEL_QUEUE, QUIET, Number, Shared
from headviz.ui.view import ModelShown, View

TITLE = "Edit and compare"
_LOWEST, _HIGHEST = -3.0, 8.0
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


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    chosen: tuple[Head, ...] = shared.chosen.value
    with gr.Row():
        count, alpha, share, pin, reset = _choice(shared, len(chosen))
    with gr.Row(elem_classes="hv-sliders"):
        sliders = tuple(_head_slider(i, chosen) for i in range(editing.MAX_SLIDERS))
    box, where = seeing.build(shared)
    with gr.Row(equal_height=False):
        prompt, example, sampling = _prompt(shared)
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", elem_id="generate")
        stop = gr.Button("Stop", scale=0, elem_id="stop")
    with gr.Row(equal_height=True):
        columns = tuple(gr.HTML(html.empty_column(c), elem_id=f"text-{c}") for c in _COLUMNS)
    rows = gr.HTML(elem_id="captions")
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
    )
    _wire_runs(shared, inputs)
    _wire_choices(shared, inputs)


def _choice(
    shared: Shared, n_chosen: int
) -> tuple[gr.Slider, gr.Slider, gr.Markdown, gr.Button, gr.Button]:
    count = gr.Slider(
        0,
        editing.MAX_SLIDERS,
        value=n_chosen,
        step=1,
        label="How many of the top heads",
        elem_id="count",
    )
    alpha = gr.Slider(
        _LOWEST,
        _HIGHEST,
        value=editing.START,
        step=0.1,
        label="α for all of them",
        info="−1 inhibits · 0 removes · 1 leaves alone · above 1 enhances",
        elem_id="alpha",
        elem_classes="hv-alpha",
    )
    with gr.Column(scale=0, min_width=170):
        share = gr.Markdown(editing.share_text(shared.first, n_chosen), elem_id="share")
        pin = gr.Button("Add the open head", size="sm", elem_id="pin")
        reset = gr.Button("Reset all to 1", size="sm", elem_id="reset")
    return count, alpha, share, pin, reset


def _head_slider(number: int, chosen: tuple[Head, ...]) -> gr.Slider:
    return gr.Slider(
        _LOWEST,
        _HIGHEST,
        value=editing.START,
        step=0.1,
        label=str(chosen[number]) if number < len(chosen) else "",
        visible=number < len(chosen),
        min_width=220,
        elem_classes="hv-alpha",
        elem_id=f"alpha-{number}",
    )


def _prompt(
    shared: Shared,
) -> tuple[gr.Textbox, gr.Dropdown, tuple[gr.Number, gr.Number, gr.Number]]:
    model: ModelShown = shared.model.value
    prompts = editing.offered_prompts(model)
    prompt = gr.Textbox(
        editing.first_prompt(shared.first),
        label="Prompt",
        placeholder=editing.usual_prompt(model) or None,
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
        "fn": editing.choose,
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
        chosen: tuple[Head, ...],
        pictures: tuple[Picture, ...],
        where: str,
        prompt: str,
        n_tokens: Number | None,
        temperature: Number | None,
        seed: Number | None,
        *factors: Number,
    ) -> Iterator[list[str]]:
        sampling = Sampling(int(n_tokens or 0), float(temperature or 0), int(seed or 0))
        factor_of = dict(zip(chosen, map(float, factors), strict=False))
        seen = pictures if model.sees else ()
        edit = Edit(factor_of, where if model.sees and model.writes else "everywhere")
        words = view.concept.words if view else ()
        asked = Asked(model.name, prompt, seen, edit, words, sampling)
        results = stream(shared, asked) if model.writes else answer(shared, asked)
        yield from shared.runs.until_next(request, results)

    streaming: dict[str, Any] = {
        "fn": run,
        "inputs": [
            shared.model,
            shared.view,
            shared.chosen,
            inputs.box.pictures,
            inputs.where,
            inputs.prompt,
            *inputs.sampling,
            *inputs.sliders,
        ],
        "outputs": [*inputs.columns, inputs.rows],
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        **MODEL_QUEUE,
    }
    runs: list[Any] = [inputs.generate.click(**streaming, api_name="generate")]
    streaming["api_visibility"] = "private"
    runs += [slider.release(**streaming) for slider in inputs.sliders]
    for release in (inputs.count.release, inputs.alpha.release):
        runs.append(release(**_choosing(shared, inputs)).then(**streaming))
    inputs.stop.click(None, None, None, cancels=runs, api_visibility="private")


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
    gr.on(
        [shared.view.change, shared.model.change],
        editing.new_view,
        [shared.view, shared.model, inputs.prompt],
        settings + choosing["outputs"],
        **QUIET,
    )
    inputs.pin.click(editing.pin_head, [shared.opened, inputs.pinned], inputs.pinned, **QUIET).then(
        **choosing
    )
    factors = [inputs.alpha, *inputs.sliders]
    inputs.reset.click(lambda: [1.0] * len(factors), None, factors, **QUIET)
    inputs.example.input(lambda text: text, inputs.example, inputs.prompt, **QUIET)
