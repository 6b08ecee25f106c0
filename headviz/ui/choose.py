"""Panel: which model, which texts or pictures, which concept; ends in a ranking."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.clip import built_in_clips
from headviz.concepts import known_concepts
from headviz.probes import ProbeSet
from headviz.session import Session
from headviz.shipped import load_shipped
from headviz.ui import html, naming, probing, scoring
from headviz.ui.choosing import Choosing, concept_words, describe
from headviz.ui.errors import shown
from headviz.ui.probing import Probing
from headviz.ui.recipes import Given
from headviz.ui.shared import MODEL_QUEUE, QUIET, Shared
from headviz.ui.view import ModelShown, View

TITLE = "Choose"
FIRST_CONCEPT = "colors"


@dataclass(frozen=True)
class _Inputs:
    """The panel's components."""

    model: gr.Dropdown
    summary: gr.Markdown
    samples: Probing
    concept: gr.Dropdown
    words: gr.Textbox
    chips: gr.HTML
    criterion: gr.Dropdown
    options: tuple[gr.components.Component, ...]
    """In the order of criteria.Options."""
    pooling: gr.Dropdown
    pieces: gr.Dropdown
    """The last two of the options."""
    rank: gr.Button
    stop: gr.Button
    status: gr.Markdown


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    first, start = shared.first, shared.model.value
    with gr.Row(equal_height=False):
        with gr.Column():
            model, summary = _model(shared, start.name)
        with gr.Column():
            samples = probing.build(start)
        with gr.Column():
            concept, words = _concept(first.concept.name if first else FIRST_CONCEPT)
    chips = gr.HTML(_first_chips(first), elem_id="chips")
    naming.build(shared, words)
    criterion, options, pooling, pieces = scoring.build(start)
    with gr.Row():
        rank = gr.Button("Rank heads", variant="primary", elem_id="rank")
        stop = gr.Button("Stop", elem_id="stop-rank", scale=0)
    status = gr.Markdown(describe(first), elem_id="status", elem_classes="hv-note")
    inputs = _Inputs(
        model=model,
        summary=summary,
        samples=samples,
        concept=concept,
        words=words,
        chips=chips,
        criterion=criterion,
        options=(*options, pooling, pieces),
        pooling=pooling,
        pieces=pieces,
        rank=rank,
        stop=stop,
        status=status,
    )
    _wire_choices(shared, inputs, Choosing(shared))
    _wire_ranking(shared, inputs, Choosing(shared))


def _model(shared: Shared, name: str) -> tuple[gr.Dropdown, gr.Markdown]:
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
    return model, gr.Markdown(built_in, elem_id="summary", elem_classes="hv-note")


def offered_models(session: Session) -> list[str]:
    """The models that write text, and the CLIP models that come with them."""
    clips = built_in_clips() if session.allowed is None else ()
    return [*session.model_names(), *clips]


def _concept(name: str) -> tuple[gr.Dropdown, gr.Textbox]:
    concept = gr.Dropdown(
        list(known_concepts()),
        value=name,
        label="Concept",
        info="a list of words to start from",
        elem_id="concept",
    )
    words = gr.Textbox(
        concept_words(name),
        label="Its words",
        info="change them, or type your own",
        lines=2,
        max_lines=4,
        elem_id="words",
    )
    return concept, words


def _loading(shared: Shared, inputs: _Inputs, do: Choosing) -> dict[str, Any]:
    """What loads the model that is named."""

    @shown
    def load(
        name: str,
        concept: str,
        words: str,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        return do.load(name, concept, words, bar)

    return {
        "fn": load,
        "inputs": [inputs.model, inputs.concept, inputs.words],
        "outputs": [
            inputs.summary,
            *inputs.samples.outputs,
            inputs.pooling,
            shared.model,
            shared.view,
            inputs.status,
        ],
        "api_visibility": "private",
        **MODEL_QUEUE,
    }


def _wire_choices(shared: Shared, inputs: _Inputs, do: Choosing) -> None:
    samples, loading = inputs.samples, _loading(shared, inputs, do)
    inputs.model.change(**loading)
    if shared.first is None:  # nothing was shipped: what the page must know is the model's own
        shared.page.load(**loading)
    _wire_recipe(shared, inputs, do, loading["outputs"])
    samples.upload.upload(
        shown(probing.take_files),
        [samples.upload, shared.model],
        [samples.uploaded, samples.choice, inputs.status],
        api_visibility="private",
    )
    samples.choice.change(
        lambda choice: gr.update(visible=choice == probing.TYPED),
        samples.choice,
        samples.typed,
        **QUIET,
    )

    scored = [inputs.criterion, *inputs.options]

    @shown
    def pick(
        concept: str, model: ModelShown, choice: str, asked: str, criterion: str, *options: Any
    ) -> tuple[Any, ...]:
        return do.pick(concept, model, (choice, asked), criterion, options)

    inputs.concept.input(
        pick,
        [inputs.concept, shared.model, samples.choice, samples.asked, *scored],
        [inputs.words, shared.view, inputs.status],
        **QUIET,
    )
    gr.on(
        [inputs.words.change, inputs.pieces.change, inputs.model.change],
        shown(do.words_to_chips),
        [inputs.model, inputs.concept, inputs.words, inputs.pieces],
        inputs.chips,
        trigger_mode="always_last",
        **QUIET,
    )


def _wire_recipe(
    shared: Shared, inputs: _Inputs, do: Choosing, loaded: list[gr.components.Component]
) -> None:
    """A recipe brings its model and concept; whoever chooses others leaves it."""

    @shown
    def adopt(
        given: Given | None,
        concept: str,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        return do.adopt(given, concept, bar)

    shared.given.change(
        adopt,
        [shared.given, inputs.concept],
        [inputs.model, inputs.concept, inputs.words, *loaded],
        api_visibility="private",
        **MODEL_QUEUE,
    )
    gr.on([inputs.model.input, inputs.concept.input], lambda: None, None, shared.given, **QUIET)


def _wire_ranking(shared: Shared, inputs: _Inputs, do: Choosing) -> None:
    @shown
    def rank(
        request: gr.Request,
        model: str,
        choice: str,
        typed: str,
        asked: str,
        uploaded: ProbeSet | None,
        concept: str,
        words: str,
        criterion: str,
        *options: Any,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[View, str, str]:
        samples = (choice, typed, asked, uploaded)
        return do.rank(request, bar, model, samples, (concept, words), criterion, options)

    given = [inputs.model, *inputs.samples.inputs]
    asked = [inputs.concept, inputs.words, inputs.criterion, *inputs.options]
    inputs.rank.click(
        rank,
        [*given, *asked],
        [shared.view, inputs.status, inputs.summary],
        api_visibility="private",
        **MODEL_QUEUE,
    )
    inputs.stop.click(shared.runs.stop, None, None, queue=False, api_visibility="private")


def _first_chips(first: View | None) -> str:
    shipped = load_shipped(first.model) if first else None
    return html.chips(shipped.ranking(first.concept.name).tokens) if first and shipped else ""
