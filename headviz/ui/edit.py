"""Panel: scale the chosen heads and watch answers beside the original and a random control."""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from headviz.edits import Edit
from headviz.generation import Sampling
from headviz.heads import Head
from headviz.models import ASSETS
from headviz.ui import html
from headviz.ui.errors import shown
from headviz.ui.shared import MODEL_QUEUE, Shared
from headviz.ui.view import View

TITLE = "Edit and compare"
LOWEST, HIGHEST, START = -3.0, 8.0, -1.0
MAX_SLIDERS = 32
COLUMNS = ("original", "edited", "control")


def one_percent(view: View) -> int:
    """How many heads are one per cent of all, at least one."""
    return max(1, view.total_heads // 100)


def share_text(view: View | None, n_chosen: int) -> str:
    """How many heads that is."""
    if view is None:
        return ""
    return f"**{n_chosen}** of {view.total_heads} heads ({n_chosen / view.total_heads:.1%})"


def example_prompts(model: str) -> list[str]:
    """Prompts that ship with a built-in model; none for others."""
    path = ASSETS / model / "examples.json"
    if not path.is_file():
        return []
    return [item["prompt"] for item in json.loads(path.read_text(encoding="utf-8"))]


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    first = shared.first
    chosen_first: tuple[Head, ...] = shared.chosen.value
    pinned = gr.State(())
    with gr.Row():
        count = gr.Slider(
            0,
            MAX_SLIDERS,
            value=len(chosen_first),
            step=1,
            label="How many of the top heads",
            elem_id="count",
        )
        alpha = gr.Slider(
            LOWEST,
            HIGHEST,
            value=START,
            step=0.1,
            label="α for all of them",
            info="−1 inhibits · 0 removes · 1 leaves alone · above 1 enhances",
            elem_id="alpha",
            elem_classes="hv-alpha",
        )
        with gr.Column(scale=0, min_width=170):
            share = gr.Markdown(share_text(first, len(chosen_first)), elem_id="share")
            pin = gr.Button("Add the open head", size="sm", elem_id="pin")
            reset = gr.Button("Reset all to 1", size="sm", elem_id="reset")
    with gr.Row(elem_classes="hv-sliders"):
        sliders = [_slider(i, chosen_first) for i in range(MAX_SLIDERS)]
    prompts = example_prompts(first.model) if first else []
    with gr.Row(equal_height=False):
        prompt = gr.Textbox(
            prompts[0] if prompts else "",
            label="Prompt",
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
                length = gr.Number(60, label="Tokens", precision=0, min_width=80)
                heat = gr.Number(0.0, label="Temperature", min_width=80)
                seed = gr.Number(0, label="Seed", precision=0, min_width=80)
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", elem_id="generate")
        stop = gr.Button("Stop", scale=0, elem_id="stop")
    with gr.Row(equal_height=True):
        texts = [gr.HTML(html.empty_column(c), elem_id=f"text-{c}") for c in COLUMNS]

    @shown
    def run(
        view: View | None,
        chosen: tuple[Head, ...],
        text: str,
        n_tokens: float | None,
        temperature: float | None,
        noise: float | None,
        *factors: float,
    ) -> Iterator[list[str]]:
        model = view.model if view else shared.session.model_names()[0]
        words = view.concept.words if view else ()
        edit = Edit(dict(zip(chosen, factors, strict=False)))
        sampling = Sampling(int(n_tokens or 0), float(temperature or 0), int(noise or 0))
        compared = shared.session.compare(model, text, edit, words, True, sampling, int(noise or 0))
        for comparison in compared:
            yield html.columns(comparison, words)

    inputs = [shared.view, shared.chosen, prompt, length, heat, seed, *sliders]
    streaming: dict[str, Any] = {
        "fn": run,
        "inputs": inputs,
        "outputs": texts,
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        **MODEL_QUEUE,
    }
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def choose(view: View | None, k: float, extra: tuple[Head, ...], value: float) -> list[Any]:
        heads = _chosen(view, int(k), extra)
        return [heads, share_text(view, len(heads)), *_updates(heads, value)]

    choosing: dict[str, Any] = {
        "fn": choose,
        "inputs": [shared.view, count, pinned, alpha],
        "outputs": [shared.chosen, share, *sliders],
        **quiet,
    }

    def new_view(view: View | None) -> list[Any]:
        heads = _chosen(view, one_percent(view), ()) if view else ()
        examples = example_prompts(view.model) if view else []
        return [
            heads,
            share_text(view, len(heads)),
            (),
            gr.update(value=len(heads)),
            gr.update(choices=examples, visible=bool(examples)),
            *_updates(heads, START),
            gr.update(value=START),
        ]

    def pin_head(head: Head | None, extra: tuple[Head, ...]) -> tuple[Head, ...]:
        return extra if head is None or head in extra else (*extra, head)

    shared.view.change(
        new_view,
        shared.view,
        [shared.chosen, share, pinned, count, example, *sliders, alpha],
        **quiet,
    )
    runs = [generate.click(**streaming, api_name="generate")]
    streaming["api_visibility"] = "private"
    runs += [s.release(**streaming) for s in sliders]
    runs += [event(**choosing).then(**streaming) for event in (count.release, alpha.release)]
    pin.click(pin_head, [shared.opened, pinned], pinned, **quiet).then(**choosing)
    reset.click(
        lambda: [gr.update(value=1.0)] * (MAX_SLIDERS + 1), None, [alpha, *sliders], **quiet
    )
    example.input(lambda text: text, example, prompt, **quiet)
    stop.click(None, None, None, cancels=runs, api_visibility="private")


def _chosen(view: View | None, k: int, extra: tuple[Head, ...]) -> tuple[Head, ...]:
    top = view.top[:k] if view else ()
    return (*top, *(h for h in extra if h not in top))[:MAX_SLIDERS]


def _slider(number: int, chosen: tuple[Head, ...]) -> gr.Slider:
    return gr.Slider(
        LOWEST,
        HIGHEST,
        value=START,
        step=0.1,
        label=str(chosen[number]) if number < len(chosen) else "",
        visible=number < len(chosen),
        min_width=220,
        elem_classes="hv-alpha",
    )


def _updates(heads: tuple[Head, ...], value: float) -> list[Any]:
    shown_sliders = [gr.update(visible=True, label=str(h), value=value) for h in heads]
    return shown_sliders + [gr.update(visible=False)] * (MAX_SLIDERS - len(heads))
