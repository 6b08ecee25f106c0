"""A box of pictures: several at a time by file, drag, paste and webcam.

What is no picture is named in one notice and left out; the others stay. The box shows small copies,
so that a browser draws also what it cannot read itself; the pictures are kept beside it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from headviz.base.errors import PictureError
from headviz.inputs.images import Picture, open_picture
from headviz.page.errors import shown, warn

MOST = 200
"""Pictures that a box takes."""
SIDE = 480  # pixels, of the copies
_NAMED = 3  # refused files that a notice names

Entry = tuple[Any, str | None]
"""A picture as gradio shows it, and the line below it: its name once it is kept."""


@dataclass(frozen=True)
class PictureBox:
    """A gallery to drop pictures in."""

    gallery: gr.Gallery
    pictures: gr.State
    """What the gallery shows: a tuple of Picture."""


def picture_box(label: str, elem_id: str, first: tuple[Picture, ...] = ()) -> PictureBox:
    """Lay a box out and wire it; it begins with the `first` pictures."""
    gallery = gr.Gallery(
        entries_of(first),
        label=label,
        sources=["upload", "webcam", "clipboard"],
        file_types=["image"],
        interactive=True,
        allow_preview=False,
        columns=4,
        fit_columns=False,
        object_fit="contain",
        buttons=[],
        elem_id=elem_id,
        elem_classes="hv-box",
    )
    pictures = gr.State(first)
    gallery.change(
        shown(take),
        [gallery, pictures],
        [gallery, pictures],
        show_progress="minimal",
        api_visibility="private",
    )
    return PictureBox(gallery, pictures)


def take(entries: list[Entry] | None, kept: tuple[Picture, ...]) -> tuple[Any, tuple[Picture, ...]]:
    """What the gallery shall show, and its pictures, after somebody added or removed some."""
    by_name = {picture.name: picture for picture in kept}
    stay = [entry for entry in entries or () if entry[1] in by_name]
    new = [path for path, name in entries or () if name not in by_name]
    pictures = [by_name[str(name)] for _, name in stay]
    if not new:
        return gr.skip(), tuple(pictures)
    opened, refused = open_all(new, MOST - len(pictures))
    warn(refused)
    added = with_own_names(opened, [picture.name for picture in pictures])
    return stay + entries_of(added), (*pictures, *added)


def open_all(paths: Iterable[str], room: int = MOST) -> tuple[list[Picture], list[str]]:
    """The pictures in these files, at most `room`, and a sentence on what was left out."""
    paths = list(paths)
    opened, refused = [], []
    for path in paths[:room]:
        try:
            opened.append(open_picture(Path(path)))
        except PictureError as error:
            refused.append(str(error))
    if len(refused) > _NAMED:
        rest = len(refused) - _NAMED
        refused = [*refused[:_NAMED], f"{rest} more files were left out for such reasons."]
    if len(paths) > room:
        refused.append(
            f"{len(paths) - room} pictures were left out: there is room for {room} more."
        )
    return opened, [" ".join(refused)] if refused else []


def with_own_names(pictures: Iterable[Picture], taken: Collection[str]) -> list[Picture]:
    """The pictures, each under a name that no other has: `photo.jpg (2)`."""
    names, named = set(taken), []
    for picture in pictures:
        name, number = picture.name, 1
        while name in names:
            number += 1
            name = f"{picture.name} ({number})"
        names.add(name)
        named.append(replace(picture, name=name))
    return named


def entries_of(pictures: Iterable[Picture]) -> list[Entry]:
    """The pictures for a gallery."""
    return [(small(picture), picture.name) for picture in pictures]


def small(picture: Picture, side: int = SIDE) -> Image.Image:
    """A copy at most `side` pixels wide and high."""
    image = picture.image()
    image.thumbnail((side, side))
    return image
