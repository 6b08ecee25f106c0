"""Part of the panel `choose`: a concept named by pictures instead of words."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.base.errors import ConceptError, ModelError, PromptError
from headviz.base.progress import Progress
from headviz.clip.name_concept import (
    MOST_WORDS,
    NamedConcept,
    NamedWord,
    name_concept,
    vocabulary_words,
)
from headviz.inputs.concepts import known_concepts
from headviz.inputs.images import Picture
from headviz.page import html
from headviz.page.errors import told, told_stream
from headviz.page.pictures import picture_box
from headviz.page.shared import MODEL_QUEUE, QUIET, Scene, Shared, Updates

KIND = "naming"
PROPOSED = 24
"""Words that are offered."""
NAMING_STOPPED = "Finding words was stopped; whole files that were downloaded are kept."
_TICKED = 0.5  # of the best word's score: what is ticked from the start


@dataclass(frozen=True)
class _Fields:
    """What is asked with."""

    like: gr.State
    unlike: gr.State
    clip: gr.Dropdown
    vocabulary: gr.Checkbox


@dataclass(frozen=True)
class _Asked:
    """What they hold."""

    model: str
    like: tuple[Picture, ...]
    unlike: tuple[Picture, ...]
    clip: str
    wide: bool


@dataclass(frozen=True)
class _Proposal:
    """What is proposed."""

    words: gr.CheckboxGroup
    told: gr.HTML
    use: gr.Button


def build(shared: Shared, concept_words: gr.Textbox) -> None:
    """Lay the part out and wire it: what is ticked becomes the text of `concept_words`."""
    clips = shared.clips
    scene: Scene = shared.scene.value
    with gr.Accordion(
        "A concept from pictures",
        open=False,
        visible=scene.model.has_vision,
        elem_id="naming",
    ) as part:
        with gr.Row(equal_height=False):
            with gr.Column():
                like = picture_box("Pictures of the concept", "like", gr.State(()))
            with gr.Column():
                unlike = picture_box("Unlike these (may be empty)", "unlike", gr.State(()))
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
                stop = gr.Button("Stop", size="sm", elem_id="stop-naming")
        proposed = _Proposal(
            gr.CheckboxGroup([], label="Words", visible=False, elem_id="proposed"),
            gr.HTML(
                html.note("Words that fit the pictures better than others are proposed here."),
                elem_id="named-by",
            ),
            gr.Button("Use the ticked words", visible=False, elem_id="use-words"),
        )
    fields = _Fields(like.pictures, unlike.pictures, clip, vocabulary)
    _wire_proposing(shared, propose, stop, fields, proposed)

    def use(words: list[str]) -> Updates:
        return {concept_words: joined(words)}

    proposed.use.click(
        told(proposed.told, use), proposed.words, [concept_words, proposed.told], **QUIET
    )
    shared.scene.change(
        lambda scene: gr.update(visible=scene.model.has_vision), shared.scene, part, **QUIET
    )


def _wire_proposing(
    shared: Shared, propose: gr.Button, stop: gr.Button, fields: _Fields, proposed: _Proposal
) -> None:
    def find(data: Mapping[Any, Any], request: gr.Request) -> Iterator[Updates]:
        scene = data[shared.scene]
        asked = _Asked(
            scene.model.name,
            data[fields.like],
            data[fields.unlike],
            data[fields.clip] or "",
            data[fields.vocabulary],
        )
        steps = shared.work.watched(
            request, KIND, lambda report: named_words(shared, asked, report), NAMING_STOPPED
        )
        while True:
            try:
                status = next(steps)
            except StopIteration as ended:
                named = ended.value
                break
            yield {proposed.told: html.progress(status)}
        words = named.words[:PROPOSED]
        text = (
            f"{named.model} compared {len(named.words)} words: how much better each fits the "
            f"pictures than {named.compared_with} (difference of cosines)."
        )
        yield {
            proposed.words: gr.update(choices=_choices(words), value=_best(words), visible=True),
            proposed.told: html.note(text),
            proposed.use: gr.update(visible=True),
        }

    propose.click(
        told_stream(proposed.told, find),
        {shared.scene, fields.like, fields.unlike, fields.clip, fields.vocabulary},
        [proposed.words, proposed.told, proposed.use],
        api_visibility="private",
        show_progress="hidden",
        **MODEL_QUEUE,
    )
    stop.click(shared.work.stopper(KIND), None, None, queue=False, api_visibility="private")


def named_words(shared: Shared, asked: _Asked, progress: Progress) -> NamedConcept:
    """Words by how much better they fit the pictures. Raises PromptError, ModelError."""
    if not asked.like:
        raise PromptError("Put one or more pictures of the concept into the box first.")
    if not asked.clip.strip():
        raise ModelError("Name a CLIP model that finds the words; none is built in.")
    clip = shared.clips.clip(asked.clip, progress)
    candidates = None
    if asked.wide:
        own = vocabulary_words(shared.session.model(asked.model))
        candidates = [*own, *(w for c in known_concepts().values() for w in c.words)]
    images, unlike = ([p.image() for p in some] for some in (asked.like, asked.unlike))
    with shared.session.lock:
        store = shared.session.store
        return name_concept(clip, images, unlike, candidates, store=store, progress=progress)


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
