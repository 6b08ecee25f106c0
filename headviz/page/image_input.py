"""Part of the page for models that see: the pictures to describe.

They are shown for models that read them alone.
"""

from typing import Any

import gradio as gr

from headviz.base import assets
from headviz.base.assets import TRAINED_HERE
from headviz.inputs.examples import example_pictures, named_pictures
from headviz.inputs.images import Picture
from headviz.page import html
from headviz.page.errors import told
from headviz.page.pictures import Entry, PictureBox, entries_of, picture_box, with_own_names
from headviz.page.shared import QUIET, Scene, Shared, Updates
from headviz.page.view import shipped_of

DRAWINGS = (
    "{model} was trained on drawings like these alone: of a photograph it describes a drawing that "
    "is not there."
)


def first_pictures(scene: Scene) -> tuple[Picture, ...]:
    """What a model that sees is asked about at first: what it ships an answer on, if it does."""
    if not scene.model.has_vision:
        return ()
    view, name = scene.view, scene.model.name
    shipped = shipped_of(name) if view is not None and view.shipped else None
    answer = shipped.answer(view.concept.name) if shipped and view else None
    names = answer.trial.pictures if answer and answer.trial else ()
    return named_pictures(name, names) or example_pictures(name)[:1]


def samples() -> frozenset[str]:
    """Hashes of all example pictures."""
    folders = assets.ASSETS.glob("*/examples")
    names = {folder.parent.name for folder in folders if folder.is_dir()}
    return frozenset(picture.digest for name in names for picture in example_pictures(name))


def build(shared: Shared) -> PictureBox:
    """Lay the pictures out and wire them."""
    scene: Scene = shared.scene.value
    model = scene.model
    known = example_pictures(model.name) if model.has_vision else ()
    with gr.Row(visible=model.has_vision, equal_height=False, elem_id="picture-row") as row:
        with gr.Column(scale=3, min_width=280):
            box = picture_box("Pictures to describe", "pictures", shared.pictures, samples)
            about = gr.HTML(_about(scene), elem_id="about-pictures")
        with gr.Column(scale=2, min_width=280):
            examples = gr.Gallery(
                _plain(known),
                label="Or try one of these",
                visible=bool(known),
                interactive=False,
                allow_preview=False,
                columns=5,
                fit_columns=False,
                object_fit="contain",
                buttons=[],
                elem_id="examples",
                elem_classes="hv-box",
            )

    def fit(scene: Scene, kept: tuple[Picture, ...]) -> Updates:
        model = scene.model
        known = example_pictures(model.name) if model.has_vision else ()
        updates: Updates = {
            row: gr.update(visible=model.has_vision),
            examples: gr.update(value=_plain(known), visible=bool(known)),
            about: _about(scene),
        }
        if model.has_vision:
            updates[box.gallery] = entries_of(kept)
        return updates

    def add(scene: Scene, event: gr.SelectData) -> Updates:
        number = int(event.index)
        new = with_own_names(example_pictures(scene.model.name)[number : number + 1], ())
        return {box.gallery: entries_of(new), box.pictures: tuple(new)}

    shared.scene.change(
        told(box.said, fit),
        [shared.scene, shared.pictures],
        [row, examples, about, box.gallery, box.said],
        **QUIET,
    )
    # The browser asks about what is in the box.
    digests = gr.JSON(visible=False)
    shared.pictures.change(
        lambda pictures: [picture.digest for picture in pictures],
        shared.pictures,
        digests,
        **QUIET,
    ).then(None, digests, None, js="(digests) => window.headviz.see(digests)")
    examples.select(
        told(box.said, add), shared.scene, [box.gallery, box.pictures, box.said], **QUIET
    )
    return box


def _about(scene: Scene) -> Any:
    known = scene.model.name in TRAINED_HERE and scene.model.writes
    return html.note(DRAWINGS.format(model=scene.model.name)) if known else ""


def _plain(pictures: tuple[Picture, ...]) -> list[Entry]:
    """For a gallery, without names."""
    return [(image, None) for image, _ in entries_of(pictures)]
