"""Panel, folded away at first: which model, which texts or pictures, which concept.

It ends in a ranking, and so in a new scene.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.base.errors import HeadvizError, ModelError
from headviz.clip.load import built_in_clips
from headviz.editing.recipe import Recipe
from headviz.inputs.concepts import Concept, known_concepts
from headviz.inputs.images import Picture
from headviz.models.known import known_models, offers
from headviz.models.memory import size_text
from headviz.page import heat_map, html, naming, prompt_sets, scoring
from headviz.page.errors import notice, sentence, told, told_stream
from headviz.page.image_input import first_pictures, samples
from headviz.page.model_handlers import (
    OWN_WORDS,
    chosen_concept,
    concept_words,
    describe,
    model_shown,
    name_of,
    tokens_of,
    usual_options,
)
from headviz.page.prompt_sets import PromptSetPicker
from headviz.page.scene import bench, drawn, opening
from headviz.page.scoring import ScoringFields
from headviz.page.shared import MODEL_QUEUE, QUIET, Scene, Shared, Updates
from headviz.page.view import ModelShown, View, first_view, shipped_of, shown_before, view_of
from headviz.page.work import Superseded
from headviz.pursuit.ranking import Ranking
from headviz.session.rankings import rank_stream
from headviz.session.session import Session
from headviz.session.shipped import FIRST_CONCEPT

KIND = "choosing"
LOADING_STOPPED = (
    "The loading was stopped; whole files that were downloaded are kept for the next time."
)
RANKING_STOPPED = (
    "The ranking was stopped; what was shown before is still there. What was read is kept, and "
    "the next ranking goes on from it."
)
_ANY = "one of these, a folder on this machine, or a name on the Hugging Face hub"
_LISTED = "another one takes a moment to load"
THIN = "Ranked for one word: heads that score high may carry just that word. Add more words."


@dataclass(frozen=True)
class Fields:
    """The panel's components."""

    model: gr.Dropdown
    about: gr.HTML
    """The model's size and device, and what went wrong with a name."""
    samples: PromptSetPicker
    concept: gr.Dropdown
    words: gr.Textbox
    chips: gr.HTML
    scoring: ScoringFields
    rank: gr.Button
    stop: gr.Button
    status: gr.HTML

    @property
    def fitting(self) -> list[Any]:
        """What depends on the model: see `fitted`."""
        return [self.scoring.pooling, *self.samples.outputs]

    @property
    def inputs(self) -> set[Any]:
        """All that a ranking depends on."""
        return {
            self.model,
            self.concept,
            self.words,
            *self.samples.inputs,
            *self.scoring.all,
        }


def offered_models(session: Session) -> list[str]:
    """The models that write text, and the CLIP models that come with them."""
    clips = built_in_clips() if session.allowed is None else ()
    return [*dict.fromkeys([*session.model_names(), *clips])]


def model_choices(session: Session) -> list[tuple[str, str]]:
    """What the list shows, and the name that it stands for: what would be fetched has a size."""
    known, choices = known_models(), []
    # Where any may be loaded: those that fit this machine, to choose from.
    fitting = [o.model.name for o in offers() if o.fits] if session.allowed is None else []
    for name in dict.fromkeys([*offered_models(session), *fitting]):
        row = known.get(name)
        if row is None or row.is_here:
            choices.append((name, name))
        else:
            size = f"{row.total_heads} heads, {size_text(row.to_fetch)} to fetch"
            choices.append((f"{name} · {size}", name))
    return choices


def build(shared: Shared) -> Fields:
    """Lay the panel out and wire it."""
    scene: Scene = shared.scene.value
    first = scene.view
    with gr.Column(elem_id="choose", elem_classes="hv-choose"):
        with gr.Row(equal_height=False):
            with gr.Column(min_width=240):
                model = gr.Dropdown(
                    model_choices(shared.session),
                    value=scene.model.name,
                    label="Model",
                    info=_ANY if shared.session.allowed is None else _LISTED,
                    allow_custom_value=shared.session.allowed is None,
                    elem_id="model",
                )
                about = gr.HTML(summary(shared.session, scene), elem_id="summary")
            with gr.Column(min_width=240):
                samples = prompt_sets.build(scene.model)
            with gr.Column(min_width=240):
                concept, words = _concept(first)
        chips = gr.HTML(_first_chips(first), elem_id="chips")
        naming.build(shared, words)
        scored = scoring.build(scene.model)
        with gr.Row():
            rank = gr.Button("Rank heads", variant="primary", elem_id="rank")
            stop = gr.Button("Stop", elem_id="stop-rank", scale=0, min_width=90)
        status = gr.HTML(html.note(describe(first)), elem_id="status")
    fields = Fields(model, about, samples, concept, words, chips, scored, rank, stop, status)
    _wire_samples(shared, fields)
    _wire_model(shared, fields)
    _wire_concept(shared, fields)
    _wire_ranking(shared, fields)
    return fields


def summary(session: Session, scene: Scene) -> str:
    """What is said of the scene's model, without reading its weights."""
    if session.has_loaded(scene.model.name):
        return html.note(session.model(scene.model.name).summary)
    return html.note(f"{scene.view.total_heads} heads") if scene.view else ""


def _concept(first: View | None) -> tuple[gr.Dropdown, gr.Textbox]:
    name = first.concept.name if first else FIRST_CONCEPT
    concept = gr.Dropdown(
        [*known_concepts(), OWN_WORDS],
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


def _first_chips(first: View | None) -> str:
    shipped = shipped_of(first.model) if first else None
    return html.chips(shipped.ranking(first.concept.name).tokens) if first and shipped else ""


def _wire_samples(shared: Shared, fields: Fields) -> None:
    samples = fields.samples

    def take(paths: Any, scene: Scene) -> Updates:
        taken = prompt_sets.take_files(paths, scene.model)
        refused = html.joined(html.error(text) for text in taken.refused)
        return {
            samples.uploaded: taken.prompt_set,
            samples.choice: taken.choice,
            fields.status: refused + html.note(taken.told),
        }

    samples.upload.upload(
        told(fields.status, take),
        [samples.upload, shared.scene],
        [samples.uploaded, samples.choice, fields.status],
        api_visibility="private",
    )
    samples.choice.change(
        lambda choice: gr.update(visible=choice == prompt_sets.TYPED),
        samples.choice,
        samples.typed,
        **QUIET,
    )


def _wire_model(shared: Shared, fields: Fields) -> None:
    """Whatever model is chosen is loaded; a name that stands for none leaves the old one."""

    def load(
        request: gr.Request, name: str, words: str, pictures: tuple[Picture, ...], scene: Scene
    ) -> Iterator[Updates]:
        if name == scene.model.name:
            yield {fields.about: gr.skip()}
            return
        try:
            yield from loading(shared, fields, request, name, words, pictures)
        except Superseded:
            return
        except HeadvizError as error:
            # What ships with a model is on the page by now, and stays.
            on_page = name if shipped_scene(name, words) else scene.model.name
            yield {fields.model: on_page, fields.about: notice(error)}

    fields.model.change(
        told_stream(fields.about, load),
        [fields.model, fields.words, shared.pictures, shared.scene],
        [fields.model, *_loaded(shared, fields)],
        trigger_mode="multiple",
        api_visibility="private",
        show_progress="hidden",
        **MODEL_QUEUE,
    )


def _loaded(shared: Shared, fields: Fields) -> list[Any]:
    """What another model changes."""
    return [
        fields.about,
        fields.status,
        fields.concept,
        fields.words,
        shared.pictures,
        *fields.fitting,
        *_drawn(shared),
    ]


def _drawn(shared: Shared) -> list[Any]:
    """What another scene changes."""
    parts = shared.parts
    return [
        shared.scene,
        shared.result,
        parts.banner,
        parts.headline,
        parts.said,
        parts.answers,
        parts.bench,
        parts.heat_map,
        parts.causes,
        parts.head,
    ]


def loading(
    shared: Shared,
    fields: Fields,
    request: gr.Request,
    name: str,
    words: str,
    pictures: tuple[Picture, ...],
) -> Iterator[Updates]:
    """Load a model: what ships with it at once, how far it is, then its summary and its scene."""
    session = shared.session
    early = shipped_scene(name, words)
    if early is not None:
        # Somebody else's pictures stay; a sample makes room for the one of the shipped answer.
        own = any(picture.digest not in samples() for picture in pictures)
        pictures = pictures if own else first_pictures(early)
        yield shown(shared, fields, early, pictures)
    steps = shared.work.watched(
        request, KIND, lambda report: session.model(name, report), LOADING_STOPPED
    )
    while True:
        try:
            status = next(steps)
        except StopIteration as ended:
            loaded = ended.value
            break
        yield {fields.about: html.progress(status)}
    model, known = model_shown(loaded), html.note(loaded.summary)
    if early is not None:  # somebody may be at work there: only what was not known is added
        scene = Scene(model, early.view)
        about = bench(scene, opening(session, scene, pictures).ask, more=True)
        yield {fields.about: known, shared.scene: scene, shared.parts.bench: about}
        return
    scene = Scene(model)
    pictures = pictures or first_pictures(scene)
    # A CLIP model chooses among the concept's words, whether or not heads are ranked for them.
    chosen = chosen_concept(words) if not model.writes and words.strip() else None
    yield {**shown(shared, fields, scene, pictures, chosen), fields.about: known}


def shown(
    shared: Shared,
    fields: Fields,
    scene: Scene,
    pictures: tuple[Picture, ...],
    chosen: Concept | None = None,
) -> Updates:
    """A model's first scene on the page, with what it can be asked.

    `chosen` is the concept where no head is ranked yet.
    """
    concept = scene.view.concept.name if scene.view else None
    updates: Updates = {
        fields.status: html.note(describe(scene.view)),
        **fitted(fields, scene.model),
        shared.pictures: pictures,
        **drawn(shared, scene, opening(shared.session, scene, pictures, chosen)),
    }
    if concept is not None:
        updates |= {fields.concept: concept, fields.words: concept_words(concept)}
    return updates


def fitted(fields: Fields, model: ModelShown) -> Updates:
    """What the model can be read on and where, at first the usual."""
    choices = prompt_sets.pooling_choices(model)
    return {
        fields.scoring.pooling: gr.update(choices=choices, value=choices[0][1]),
        **prompt_sets.fitted(fields.samples, model),
    }


def shipped_scene(name: str, words: str) -> Scene | None:
    """What ships with the model, on the concept of these words where that does; None: nothing.

    A model that sees keeps them only where it was tried on a picture that shows the concept.
    """
    shipped = shipped_of(name)
    if shipped is None or name_of(words) == OWN_WORDS:
        return None
    concept, model = name_of(words), shown_before(name)
    fits = concept in shipped.concepts and not (model.has_vision and not shipped.answers(concept))
    return Scene(model, first_view(name, concept if fits else shipped.first_concept))


def _wire_concept(shared: Shared, fields: Fields) -> None:
    """A preset shows its words, and its ranking at once where that is shipped."""

    def pick(data: Mapping[Any, Any]) -> Updates:
        name, scene = data[fields.concept], data[shared.scene]
        if name == OWN_WORDS:
            return {fields.words: ""}
        updates: Updates = {fields.words: concept_words(name)}
        usual = prompt_sets.is_usual(fields.samples, data, scene.model)
        usual = usual and data[fields.scoring.criterion] == "somp"
        if not usual or fields.scoring.read(data) != usual_options(scene.model):
            return {**updates, fields.status: html.note("Press Rank heads.")}
        view = first_view(scene.model.name, name)
        if view is None:
            return {**updates, fields.status: html.note("Press Rank heads.")}
        found = Scene(scene.model, view)
        return {
            **updates,
            fields.status: html.note(describe(view)),
            **drawn(shared, found, opening(shared.session, found, data[shared.pictures])),
        }

    fields.concept.input(
        told(fields.status, pick),
        {*fields.inputs, shared.scene, shared.pictures},
        [fields.words, fields.status, *_drawn(shared)],
        **QUIET,
    )
    fields.words.change(name_of, fields.words, fields.concept, **QUIET)

    def show_chips(scene: Scene, words: str, pieces: str) -> Updates:
        try:
            return {
                fields.chips: html.chips(tokens_of(shared.session, scene.model.name, words, pieces))
            }
        except HeadvizError as error:
            return {fields.chips: html.error(sentence(error))}

    gr.on(
        [fields.words.change, fields.scoring.pieces.change, shared.scene.change],
        told(fields.chips, show_chips),
        [shared.scene, fields.words, fields.scoring.pieces],
        [fields.chips],
        trigger_mode="always_last",
        **QUIET,
    )


def _wire_ranking(shared: Shared, fields: Fields) -> None:
    session = shared.session

    def rank(request: gr.Request, data: Mapping[Any, Any]) -> Iterator[Updates]:
        name = data[fields.model]
        concept = chosen_concept(data[fields.words])
        options = fields.scoring.read(data)
        criterion = data[fields.scoring.criterion]

        drafts: list[tuple[Ranking, int]] = []

        def step(report: Any) -> tuple[ModelShown, View]:
            report(0.0, f"loading {name}")
            model = model_shown(session.model(name, report))
            prompt_set = prompt_sets.find_samples(fields.samples, data, model)
            for ranking in rank_stream(
                session, name, concept, prompt_set, criterion, options, report
            ):
                drafts.append((ranking, len(prompt_set)))
            return model, view_of(drafts[-1][0], prompt_set)

        steps = shared.work.watched(request, KIND, step, RANKING_STOPPED)
        heat, shown = shared.parts.heat_map, 0
        try:
            while True:
                try:
                    status = next(steps)
                except StopIteration as ended:
                    model, view = ended.value
                    break
                updates: Updates = {fields.status: html.progress(status)}
                if len(drafts) > shown and drafts[-1][0].n_samples < drafts[-1][1]:
                    shown = len(drafts)
                    updates[heat] = heat_map.draft(*drafts[-1])
                yield updates
        except HeadvizError as error:
            # What the map shows has to be what the rest of the page is about.
            if shown and not isinstance(error, Superseded):
                yield {heat: heat_map.draw(session, data[shared.scene].view)}
            raise
        scene = Scene(model, view)
        thin = html.warning(THIN) if len(concept.words) < 2 else ""
        notices = html.joined(html.warning(text) for text in session.take_notices())
        yield {
            fields.status: thin + notices + html.note(describe(view)),
            **drawn(shared, scene, opening(session, scene, data[shared.pictures])),
        }

    # gradio hands the visitor's request to a handler of named arguments alone.
    def ranked(data: Mapping[Any, Any], request: gr.Request) -> Iterator[Updates]:
        yield from rank(request, data)

    fields.rank.click(
        told_stream(fields.status, ranked),
        {*fields.inputs, shared.scene, shared.pictures},
        [fields.status, *_drawn(shared)],
        trigger_mode="multiple",
        api_visibility="private",
        show_progress="hidden",
        **MODEL_QUEUE,
    )
    fields.stop.click(shared.work.stopper(KIND), None, None, queue=False, api_visibility="private")


def check_offered(session: Session, recipe: Recipe) -> None:
    """Raise ModelError where a link's model is not offered: it must not load what it names."""
    if recipe.model not in offered_models(session):
        raise ModelError(
            f"The link's edit is for the model {recipe.model!r}, which is not offered here. If you "
            "trust it, write its name under Model, then save the edit as a file and load that."
        )
