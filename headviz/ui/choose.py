"""Panel: which model, which texts, which concept; ends in a ranking."""

from pathlib import Path
from typing import Any

import gradio as gr

from headviz.capture import POOLINGS
from headviz.concepts import PIECES, find_concept, known_concepts, make_concept, tokenize_concept
from headviz.criteria import CRITERIA, Options
from headviz.errors import ProbeError
from headviz.models import built_in_models
from headviz.probes import ProbeSet, default_probes, find_probes, make_probes, read_probes
from headviz.session import Session
from headviz.shipped import load_shipped
from headviz.ui import html
from headviz.ui.errors import shown
from headviz.ui.shared import MODEL_QUEUE, Shared
from headviz.ui.view import View, view_of

TITLE = "Choose"
TYPED, UPLOADED = "my own texts", "my file"
_CRITERION_LABELS = {"somp": "share of variance explained (pursuit)", "logit-lens": "logit lens"}


def find_texts(choice: str, typed: str, uploaded: ProbeSet | None, model: str) -> ProbeSet:
    """The texts chosen on the page. Raises ProbeError where there are none."""
    if choice == TYPED:
        return make_probes(TYPED, typed.splitlines())
    if choice == UPLOADED:
        if uploaded is None:
            raise ProbeError("No file was uploaded yet. Choose a .txt, .csv or .jsonl file.")
        return uploaded
    return find_probes(choice, model)


def concept_words(name: str) -> str:
    """A preset's words as the page shows them."""
    return ", ".join(find_concept(name).words)


def chosen_concept(name: str, words: str) -> Any:
    """The preset, or the words as they were changed."""
    known = known_concepts()
    if name in known and words == concept_words(name):
        return known[name]
    return make_concept(f"{name} (changed)" if name in known else "my words", words.split(","))


def describe_words(session: Session, model: str, name: str, words: str, pieces: str) -> str:
    """Which token each word became in this model."""
    concept = chosen_concept(name, words)
    shipped = load_shipped(model)
    if shipped and concept.name in shipped.concepts and pieces == shipped.data["options"]["pieces"]:
        return html.chips(shipped.ranking(concept.name).tokens)
    return html.chips(tokenize_concept(concept, session.model(model).tokenizer, pieces))


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    session, first = shared.session, shared.first
    names = list(session.model_names())
    concepts = list(known_concepts())
    name = first.concept.name if first else concepts[0]
    start = first.model if first else names[0]
    default = Options()
    sets = [*default_probes(start), TYPED, UPLOADED]

    with gr.Row(equal_height=False):
        with gr.Column():
            model = gr.Dropdown(
                names,
                value=start,
                label="Model",
                info="built in, a folder on this machine, or a name on the Hugging Face hub",
                allow_custom_value=session.allowed is None,
                elem_id="model",
            )
            summary = gr.Markdown(_first_summary(first), elem_classes="hv-note")
        with gr.Column():
            texts = gr.Dropdown(
                sets,
                value=sets[0],
                label="Texts",
                info="the heads are read on these",
                elem_id="texts",
            )
            typed = gr.Textbox(
                label="My own texts",
                info="one prompt a line",
                lines=5,
                visible=sets[0] == TYPED,
                elem_id="typed",
            )
            upload = gr.UploadButton(
                "Upload .txt, .csv or .jsonl", file_types=[".txt", ".csv", ".jsonl"], size="sm"
            )
            uploaded = gr.State(None)
        with gr.Column():
            concept = gr.Dropdown(concepts, value=name, label="Concept", elem_id="concept")
            words = gr.Textbox(
                concept_words(name),
                label="Its words",
                info="change them, or type your own",
                lines=2,
                max_lines=4,
                elem_id="words",
            )
    chips = gr.HTML(_first_chips(first), elem_id="chips")
    with gr.Accordion("Options", open=False):
        with gr.Row():
            criterion = gr.Dropdown(
                [(_CRITERION_LABELS.get(c, c), c) for c in CRITERIA], value="somp", label="Score"
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
    with gr.Row():
        rank = gr.Button("Rank heads", variant="primary", elem_id="rank")
        stop = gr.Button("Stop", elem_id="stop-rank", scale=0)
    status = gr.Markdown(_first_status(first), elem_id="status", elem_classes="hv-note")

    @shown
    def load(name: str, progress: gr.Progress = gr.Progress()) -> tuple[Any, Any]:
        progress(None, desc=f"loading {name}")
        loaded = session.model(name)
        choices = [*default_probes(name), TYPED, UPLOADED]
        return loaded.summary, gr.update(choices=choices, value=choices[0])

    @shown
    def take_file(path: str) -> tuple[Any, Any, str]:
        probes = read_probes(Path(path))
        note = f"{len(probes)} texts from {probes.name}."
        return probes, gr.update(value=UPLOADED), note

    @shown
    def rank_now(
        request: gr.Request,
        model_name: str,
        choice: str,
        typed_texts: str,
        file: ProbeSet | None,
        concept_name: str,
        concept_text: str,
        criterion_name: str,
        *options: Any,
        progress: gr.Progress = gr.Progress(),
    ) -> tuple[View, str, str]:
        report = shared.runs.progress(request, progress)
        found = chosen_concept(concept_name, concept_text)
        report(0.0, f"loading {model_name}")
        loaded = session.model(model_name)
        probes = find_texts(choice, typed_texts, file, model_name)
        n_steps, about_mean, unit, folded, pool, words_of = options
        chosen = Options(int(n_steps or 0), about_mean, unit, folded, pool, words_of)
        ranking = session.rank(model_name, found, probes, criterion_name, chosen, report)
        view = view_of(ranking, probes)
        return view, describe(view), loaded.summary

    option_inputs = [steps, centre, normalise, fold_norm, pooling, pieces]
    inputs = [model, texts, typed, uploaded, concept, words, criterion, *option_inputs]
    rank.click(rank_now, inputs, [shared.view, status, summary], api_name="rank", **MODEL_QUEUE)
    stop.click(shared.runs.stop, None, None, queue=False, api_visibility="private")
    model.change(load, model, [summary, texts], api_visibility="private", **MODEL_QUEUE)
    upload.upload(take_file, upload, [uploaded, texts, status], api_visibility="private")
    texts.change(
        lambda choice: gr.update(visible=choice == TYPED),
        texts,
        typed,
        queue=False,
        api_visibility="private",
    )
    concept.input(concept_words, concept, words, queue=False, api_visibility="private")

    @shown
    def words_to_chips(*given: Any) -> str:
        return describe_words(session, *given)

    gr.on(
        [words.change, pieces.change, model.change],
        words_to_chips,
        [model, concept, words, pieces],
        chips,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


def describe(view: View) -> str:
    """One line on what is shown."""
    origin = "shipped with the model" if view.shipped else "computed here"
    return (
        f"**{view.concept.title}** in {view.model}: {view.total_heads} heads read on "
        f"{len(view.probes)} texts ({view.probes.name}), {POOLINGS[view.options.pooling]}; {origin}."
    )


def _first_status(first: View | None) -> str:
    return describe(first) if first else "Choose a concept and press *Rank heads*."


def _first_summary(first: View | None) -> str:
    built_in = first is not None and first.model in built_in_models()
    return f"{first.total_heads} heads · built in" if first and built_in else ""


def _first_chips(first: View | None) -> str:
    shipped = load_shipped(first.model) if first else None
    return html.chips(shipped.ranking(first.concept.name).tokens) if first and shipped else ""
