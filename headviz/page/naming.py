"""Part of the panel `choose`: a concept named by pictures instead of words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.base.errors import ConceptError, ModelError, PromptError
from headviz.base.progress import Progress
from headviz.clip.name_concept import MOST_WORDS, NamedWord, name_concept, vocabulary_words
from headviz.inputs.concepts import known_concepts
from headviz.inputs.images import Picture
from headviz.page.errors import shown
from headviz.page.loading import stoppable
from headviz.page.pictures import picture_box
from headviz.page.runs import Runs
from headviz.page.shared import MODEL_QUEUE, QUIET, Shared
from headviz.page.view import ModelShown

PROPOSED = 24
"""Words that are offered."""
NAMING_STOPPED = "Finding words was stopped; whole files that were downloaded are kept."
_TICKED = 0.5  # of the best word's score: what is ticked from the start


@dataclass(frozen=True)
class _Words:
    """What is proposed."""

    words: gr.CheckboxGroup
    told: gr.Markdown
    use: gr.Button


def build(shared: Shared, concept_words: gr.Textbox) -> None:
    """Lay the part out and wire it: what is ticked becomes the text of `concept_words`."""
    clips = shared.clips
    with gr.Accordion(
        "A concept from pictures",
        open=False,
        visible=shared.model.value.has_vision,
        elem_id="naming",
    ) as part:
        with gr.Row(equal_height=False):
            with gr.Column():
                like = picture_box("Pictures of the concept", "like")
            with gr.Column():
                unlike = picture_box("Unlike these (may be empty)", "unlike")
            with gr.Column():
                clip = gr.Dropdown(
                    list(clips.names()),
                    value=next(iter(clips.names()), None),
                    label="CLIP model that finds the words",
                    allow_custom_value=shared.session.allowed is None,
                    elem_id="clip",
                )
                vocabulary = gr.Checkbox(
                    value=False,
                    label="choose from the model's vocabulary as well as the lists",
                    info=f"up to {MOST_WORDS} words; with a large CLIP model that takes minutes",
                )
                propose = gr.Button("Propose words", elem_id="propose")
                stop = gr.Button("Stop", size="sm", visible=False, elem_id="stop-naming")
        proposed = _Words(
            gr.CheckboxGroup([], label="Words", visible=False, elem_id="proposed"),
            gr.Markdown(
                "Words that fit the pictures better than others are proposed here.",
                elem_classes="hv-note",
                elem_id="named-by",
            ),
            gr.Button("Use the ticked words", visible=False, elem_id="use-words"),
        )

    pictures = [like.pictures, unlike.pictures]
    _wire_proposing(shared, propose, stop, [shared.model, *pictures, clip, vocabulary], proposed)
    proposed.use.click(shown(joined), proposed.words, concept_words, **QUIET)
    shared.model.change(
        lambda model: gr.update(visible=model.has_vision), shared.model, part, **QUIET
    )


def _wire_proposing(
    shared: Shared, propose: gr.Button, stop: gr.Button, inputs: list[Any], proposed: _Words
) -> None:
    runs = Runs()  # its own: naming neither ends the loading of a model nor is ended by it

    def find(
        request: gr.Request,
        model: ModelShown,
        pictures: tuple[Picture, ...],
        others: tuple[Picture, ...],
        name: str | None,
        wide: bool,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        report = runs.load_progress(request, bar, NAMING_STOPPED)
        return propose_words(shared, model, pictures, others, name or "", wide, report)

    stoppable(
        runs,
        stop,
        propose.click,
        find,
        inputs=inputs,
        outputs=[proposed.words, proposed.told, proposed.use],
        api_visibility="private",
        **MODEL_QUEUE,
    )
    stop.click(runs.stop, None, None, queue=False, api_visibility="private")


def propose_words(
    shared: Shared,
    model: ModelShown,
    pictures: tuple[Picture, ...],
    others: tuple[Picture, ...],
    name: str,
    wide: bool,
    progress: Progress,
) -> tuple[Any, ...]:
    """The words with their scores, the best ticked, and what the scores mean."""
    if not pictures:
        raise PromptError("Put one or more pictures of the concept into the box first.")
    if not name.strip():
        raise ModelError("Name a CLIP model that finds the words; none is built in.")
    clip = shared.clips.clip(name, progress)
    candidates = None
    if wide:
        own = vocabulary_words(shared.session.model(model.name))
        candidates = [*own, *(w for c in known_concepts().values() for w in c.words)]
    images, unlike = ([p.image() for p in some] for some in (pictures, others))
    with shared.session.lock:
        store = shared.session.store
        named = name_concept(clip, images, unlike, candidates, store=store, progress=progress)
    words = named.words[:PROPOSED]
    told = (
        f"{named.model} compared {len(named.words)} words: how much better each fits the "
        f"pictures than {named.compared_with} (difference of cosines)."
    )
    choices = gr.update(choices=_choices(words), value=_best(words), visible=True)
    return choices, told, gr.update(visible=True)


def _choices(words: Iterable[NamedWord]) -> list[tuple[str, str]]:
    return [(f"{w.word} {w.score:+.3f}", w.word) for w in words]


def _best(words: tuple[NamedWord, ...]) -> list[str]:
    """The words that score at least half as much as the first."""
    return [w.word for w in words if w.score > 0 and w.score >= _TICKED * words[0].score]


def joined(words: list[str]) -> str:
    """The words as the page writes a concept. Raises ConceptError where none is ticked."""
    if not words:
        raise ConceptError("No word is ticked. Tick one or more.")
    return ", ".join(words)
