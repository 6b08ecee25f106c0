"""Panel: which model, which texts, which concept; ends in a ranking."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.capture import POOLINGS
from headviz.concepts import PIECES, known_concepts
from headviz.criteria import CRITERIA, Options
from headviz.probes import ProbeSet
from headviz.shipped import load_shipped
from headviz.ui import html
from headviz.ui.choosing import TYPED, Choosing, concept_words, describe, text_choices
from headviz.ui.errors import shown
from headviz.ui.shared import MODEL_QUEUE, QUIET, Shared
from headviz.ui.view import View

TITLE = "Choose"
FIRST_CONCEPT = "colors"
_CRITERIA_TITLES = {
    "somp": "share of variance explained (pursuit)",
    "logit-lens": "logit lens",
    "energy": "share of variance, atoms picked by energy",
}


@dataclass(frozen=True)
class _Inputs:
    """The panel's components."""

    model: gr.Dropdown
    summary: gr.Markdown
    texts: gr.Dropdown
    typed: gr.Textbox
    upload: gr.UploadButton
    uploaded: gr.State
    concept: gr.Dropdown
    words: gr.Textbox
    chips: gr.HTML
    criterion: gr.Dropdown
    options: tuple[gr.components.Component, ...]
    """In the order of criteria.Options."""
    pieces: gr.Dropdown
    """The last of the options."""
    rank: gr.Button
    stop: gr.Button
    status: gr.Markdown


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    first = shared.first
    model_name = first.model if first else shared.session.model_names()[0]
    with gr.Row(equal_height=False):
        with gr.Column():
            model, summary = _model(shared, model_name)
        with gr.Column():
            texts, typed, upload = _texts(model_name)
        with gr.Column():
            concept, words = _concept(first.concept.name if first else FIRST_CONCEPT)
    chips = gr.HTML(_first_chips(first), elem_id="chips")
    criterion, options, pieces = _options()
    with gr.Row():
        rank = gr.Button("Rank heads", variant="primary", elem_id="rank")
        stop = gr.Button("Stop", elem_id="stop-rank", scale=0)
    status = gr.Markdown(describe(first), elem_id="status", elem_classes="hv-note")
    uploaded = gr.State(None)
    inputs = _Inputs(
        model=model,
        summary=summary,
        texts=texts,
        typed=typed,
        upload=upload,
        uploaded=uploaded,
        concept=concept,
        words=words,
        chips=chips,
        criterion=criterion,
        options=(*options, pieces),
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
        list(session.model_names()),
        value=name,
        label="Model",
        info="built in, a folder on this machine, or a name on the Hugging Face hub",
        allow_custom_value=session.allowed is None,
        elem_id="model",
    )
    built_in = f"{shared.first.total_heads} heads · built in" if shared.first else ""
    return model, gr.Markdown(built_in, elem_id="summary", elem_classes="hv-note")


def _texts(model: str) -> tuple[gr.Dropdown, gr.Textbox, gr.UploadButton]:
    choices = text_choices(model)
    texts = gr.Dropdown(
        choices,
        value=choices[0],
        label="Texts",
        info="the heads are read on these",
        elem_id="texts",
    )
    typed = gr.Textbox(
        "",  # not None: a box that nobody typed in holds an empty text
        label="My own texts",
        info="one prompt a line",
        lines=5,
        visible=choices[0] == TYPED,
        elem_id="typed",
    )
    upload = gr.UploadButton(
        "Upload .txt, .csv or .jsonl",
        file_types=[".txt", ".csv", ".jsonl"],
        size="sm",
        elem_id="upload",
    )
    return texts, typed, upload


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


def _options() -> tuple[gr.Dropdown, tuple[gr.components.Component, ...], gr.Dropdown]:
    default = Options()
    with gr.Accordion("Options", open=False):
        with gr.Row():
            criterion = gr.Dropdown(
                [(_CRITERIA_TITLES.get(c, c), c) for c in CRITERIA], value="somp", label="Score"
            )
            pooling = gr.Dropdown(
                [(text, key) for key, text in POOLINGS.items()],
                value=default.pooling,
                label="Where a head is read",
            )
            pieces = gr.Dropdown(
                [(text, key) for key, text in PIECES.items()],
                value=default.pieces,
                label="Words of several tokens",
            )
        with gr.Row():
            steps = gr.Number(default.steps, label="Atoms at most", precision=0)
            centre = gr.Checkbox(default.centre, label="variance about the mean")
            normalise = gr.Checkbox(default.normalise, label="atoms of unit length")
            fold_norm = gr.Checkbox(default.fold_norm, label="final norm folded in")
    return criterion, (steps, centre, normalise, fold_norm, pooling), pieces


def _wire_choices(shared: Shared, inputs: _Inputs, do: Choosing) -> None:
    @shown
    def load(name: str, concept: str, bar: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008 (gradio finds it by its default)
        return do.load(name, concept, bar)

    inputs.model.change(
        load,
        [inputs.model, inputs.concept],
        [inputs.summary, inputs.texts, shared.view, inputs.status],
        api_visibility="private",
        **MODEL_QUEUE,
    )
    inputs.upload.upload(
        shown(do.take_file),
        inputs.upload,
        [inputs.uploaded, inputs.texts, inputs.status],
        api_visibility="private",
    )
    inputs.texts.change(
        lambda choice: gr.update(visible=choice == TYPED), inputs.texts, inputs.typed, **QUIET
    )
    inputs.concept.input(
        shown(do.pick),
        [inputs.concept, inputs.model, inputs.texts, inputs.criterion, *inputs.options],
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


def _wire_ranking(shared: Shared, inputs: _Inputs, do: Choosing) -> None:
    @shown
    def rank(
        request: gr.Request,
        model: str,
        choice: str,
        typed: str,
        uploaded: ProbeSet | None,
        concept: str,
        words: str,
        criterion: str,
        *options: Any,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[View, str, str]:
        texts = (choice, typed, uploaded)
        return do.rank(request, bar, model, texts, (concept, words), criterion, options)

    given = [inputs.model, inputs.texts, inputs.typed, inputs.uploaded]
    asked = [inputs.concept, inputs.words, inputs.criterion, *inputs.options]
    inputs.rank.click(
        rank,
        [*given, *asked],
        [shared.view, inputs.status, inputs.summary],
        api_name="rank",
        **MODEL_QUEUE,
    )
    inputs.stop.click(shared.runs.stop, None, None, queue=False, api_visibility="private")


def _first_chips(first: View | None) -> str:
    shipped = load_shipped(first.model) if first else None
    return html.chips(shipped.ranking(first.concept.name).tokens) if first and shipped else ""
