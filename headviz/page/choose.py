"""Panel: which model, which texts or pictures, which concept; ends in a ranking."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.inputs.concepts import known_concepts
from headviz.inputs.prompt_sets import PromptSet
from headviz.page import html, loading, naming, prompt_sets, scoring
from headviz.page.errors import shown
from headviz.page.loading import Loading
from headviz.page.model_handlers import Choosing, concept_words, describe
from headviz.page.prompt_sets import PromptSetPicker
from headviz.page.recipes import LoadedRecipe
from headviz.page.shared import MODEL_QUEUE, QUIET, Shared
from headviz.page.view import ModelShown, View
from headviz.session.shipped import load_shipped

TITLE = "Choose"
FIRST_CONCEPT = "colors"


@dataclass(frozen=True)
class _Inputs:
    """The panel's components."""

    loading: Loading
    samples: PromptSetPicker
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
            model = loading.build(shared, start.name)
        with gr.Column():
            samples = prompt_sets.build(start)
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
        loading=model,
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


def _wire_choices(shared: Shared, inputs: _Inputs, do: Choosing) -> None:
    samples = inputs.samples

    def load(
        request: gr.Request,
        name: str,
        concept: str,
        words: str,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        return do.load(request, name, concept, words, bar)

    loaded: list[Any] = [
        inputs.loading.summary,
        *samples.outputs,
        inputs.pooling,
        shared.model,
        shared.view,
        inputs.status,
    ]
    named: list[Any] = [inputs.loading.model, inputs.concept, inputs.words]
    loading.wire(shared, inputs.loading, load, named, loaded)
    _wire_recipe(shared, inputs, do, loaded)
    samples.upload.upload(
        shown(prompt_sets.take_files),
        [samples.upload, shared.model],
        [samples.uploaded, samples.choice, inputs.status],
        api_visibility="private",
    )
    samples.choice.change(
        lambda choice: gr.update(visible=choice == prompt_sets.TYPED),
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
        [inputs.words.change, inputs.pieces.change, shared.model.change],
        shown(do.words_to_chips),
        [shared.model, inputs.concept, inputs.words, inputs.pieces],
        inputs.chips,
        trigger_mode="always_last",
        **QUIET,
    )


def _wire_recipe(
    shared: Shared, inputs: _Inputs, do: Choosing, loaded: list[gr.components.Component]
) -> None:
    """A recipe brings its model and concept; whoever chooses others leaves it."""

    def adopt(
        request: gr.Request,
        given: LoadedRecipe,
        concept: str,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        return do.adopt(request, given, concept, bar)

    handler: dict[str, Any] = {
        "inputs": [shared.given, inputs.concept],
        "outputs": [inputs.loading.model, inputs.concept, inputs.words, *loaded],
        "api_visibility": "private",
        **MODEL_QUEUE,
    }
    loading.stoppable(
        shared.runs,
        inputs.loading.stop,
        shared.given.change,
        adopt,
        wanted=lambda given, *_: given is not None,
        **handler,
    )
    gr.on(
        [inputs.loading.model.input, inputs.concept.input],
        lambda: None,
        None,
        shared.given,
        **QUIET,
    )


def _wire_ranking(shared: Shared, inputs: _Inputs, do: Choosing) -> None:
    @shown
    def rank(
        request: gr.Request,
        model: str,
        choice: str,
        typed: str,
        asked: str,
        uploaded: PromptSet | None,
        concept: str,
        words: str,
        criterion: str,
        *options: Any,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[View, str, str]:
        samples = (choice, typed, asked, uploaded)
        return do.rank(request, bar, model, samples, (concept, words), criterion, options)

    given = [inputs.loading.model, *inputs.samples.inputs]
    asked = [inputs.concept, inputs.words, inputs.criterion, *inputs.options]
    inputs.rank.click(
        rank,
        [*given, *asked],
        [shared.view, inputs.status, inputs.loading.summary],
        api_visibility="private",
        **MODEL_QUEUE,
    )
    inputs.stop.click(shared.runs.stop, None, None, queue=False, api_visibility="private")


def _first_chips(first: View | None) -> str:
    shipped = load_shipped(first.model) if first else None
    return html.chips(shipped.ranking(first.concept.name).tokens) if first and shipped else ""
