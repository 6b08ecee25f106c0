"""Part of the panel `edit`: the pictures to describe, and where in the sequence an edit holds.

The pictures are shown for models that read them alone.
"""

from functools import cache
from typing import Any

import gradio as gr

from headviz.base import assets
from headviz.heads.edits import WHERE
from headviz.inputs.image_folders import open_image_folder
from headviz.inputs.images import Picture
from headviz.page.errors import shown
from headviz.page.pictures import Entry, PictureBox, entries_of, picture_box, with_own_names
from headviz.page.recipes import LoadedRecipe
from headviz.page.shared import QUIET, Shared
from headviz.page.view import ModelShown


@cache
def example_pictures(model: str) -> tuple[Picture, ...]:
    """Pictures to try on this model: its own, or those of every built-in model."""
    folders = [assets.ASSETS / model / "examples"]
    if not folders[0].is_dir():
        folders = sorted(folder for folder in assets.ASSETS.glob("*/examples") if folder.is_dir())
    return tuple(picture for folder in folders for picture in open_image_folder(folder).pictures)


def build(shared: Shared) -> tuple[PictureBox, gr.Radio]:
    """Lay the pictures and the places out and wire them."""
    model: ModelShown = shared.model.value
    known = example_pictures(model.name) if model.has_vision else ()
    with gr.Row(visible=model.has_vision, equal_height=False) as row:
        with gr.Column(scale=3, min_width=320):
            box = picture_box("Pictures to describe", "pictures", known[:1])
        with gr.Column(scale=2, min_width=320):
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
    where = gr.Radio(
        places(model),
        value="everywhere",
        label="Where the edit holds",
        info=WHERE["everywhere"],
        visible=model.writes,
        elem_id="where",
    )

    @shown
    def fit(model: ModelShown, entries: list[Entry] | None, kept: tuple[Picture, ...]) -> Any:
        known = example_pictures(model.name) if model.has_vision else ()
        filled = (gr.skip(), kept) if kept else added(known[:1], entries, kept)
        return (
            gr.update(visible=model.has_vision),
            gr.update(value=_plain(known), visible=bool(known)),
            *filled,
        )

    @shown
    def add(
        model: ModelShown,
        entries: list[Entry] | None,
        kept: tuple[Picture, ...],
        event: gr.SelectData,
    ) -> Any:
        number = int(event.index)
        return added(example_pictures(model.name)[number : number + 1], entries, kept)

    held = [box.gallery, box.pictures]
    shared.model.change(fit, [shared.model, *held], [row, examples, *held], **QUIET)
    placing = [shared.model.change, shared.given.change]
    gr.on(placing, shown(place), [shared.model, shared.given], where, **QUIET)
    examples.select(add, [shared.model, *held], held, **QUIET)
    where.input(lambda place: gr.update(info=WHERE[place]), where, where, **QUIET)
    return box, where


def places(model: ModelShown) -> list[str]:
    """Where an edit of this model may hold."""
    return [name for name in WHERE if model.has_vision or name != "image"]


def place(model: ModelShown, given: LoadedRecipe | None) -> Any:
    """The choice of places for a model: everywhere, or what its recipe says."""
    own = given is not None and given.recipe.model == model.name
    value = given.recipe.edit.where if given is not None and own else "everywhere"
    return gr.update(choices=places(model), value=value, info=WHERE[value], visible=model.writes)


def _plain(pictures: tuple[Picture, ...]) -> list[Entry]:
    """For a gallery, without names."""
    return [(image, None) for image, _ in entries_of(pictures)]


def added(
    pictures: tuple[Picture, ...], entries: list[Entry] | None, kept: tuple[Picture, ...]
) -> tuple[Any, tuple[Picture, ...]]:
    """What a box shows, and its pictures, with these; one that is there already is left alone."""
    known = {picture.digest for picture in kept}
    new = with_own_names((p for p in pictures if p.digest not in known), [p.name for p in kept])
    return [*(entries or ()), *entries_of(new)], (*kept, *new)
