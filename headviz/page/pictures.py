"""A box of pictures: several at a time by file, drag, paste and webcam.

What is no picture is named in one notice and left out; the others stay. The box shows small copies,
so that a browser draws also what it cannot read itself; the pictures are kept beside it.
"""

import atexit
import io
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from headviz.base.errors import PictureError
from headviz.base.write_whole import write_whole
from headviz.inputs.images import Picture, open_picture
from headviz.page import html
from headviz.page.errors import told
from headviz.page.limits import MAX_PICTURES
from headviz.page.shared import Updates

MOST = 200
"""Pictures that a box takes."""
SIDE = 480  # pixels, of the copies
_NAMED = 3  # refused files that a notice names
_MOST_COPIES = 512  # small copies that are kept as files

Entry = tuple[Any, str | None]
"""A picture as gradio shows it, and the line below it: its name once it is kept."""


@dataclass(frozen=True)
class PictureBox:
    """A gallery to drop pictures in."""

    gallery: gr.Gallery
    pictures: gr.State
    """What the gallery shows: a tuple of Picture."""
    said: gr.HTML
    """What was left out and why."""


def picture_box(
    label: str,
    elem_id: str,
    pictures: gr.State,
    samples: Callable[[], Collection[str]] = frozenset,
) -> PictureBox:
    """Lay a box out and wire it; it shows `pictures`.

    `samples` gives hashes of pictures that stand there only until somebody brings their own.
    """
    gallery = gr.Gallery(
        entries_of(pictures.value),
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
    said = gr.HTML()
    box = PictureBox(gallery, pictures, said)

    def change(entries: list[Entry] | None, kept: tuple[Picture, ...]) -> Updates:
        return take(box, entries, kept, samples())

    gallery.change(
        told(said, change),
        [gallery, pictures],
        [gallery, pictures, said],
        show_progress="hidden",
        api_visibility="private",
    )
    return box


def take(
    box: PictureBox,
    entries: list[Entry] | None,
    kept: tuple[Picture, ...],
    samples: Collection[str] = (),
) -> Updates:
    """What the box shows after somebody added or removed some; own pictures replace samples."""
    by_name = {picture.name: picture for picture in kept}
    stay = [entry for entry in entries or () if entry[1] in by_name]
    # What has a name that nobody keeps is of before: the box may tell of a change twice.
    new = [path for path, name in entries or () if name is None]
    pictures = [by_name[str(name)] for _, name in stay]
    if not new:
        return {box.pictures: tuple(pictures)}
    opened, refused = open_all(new, MOST - len(pictures))
    if opened and all(picture.digest in samples for picture in pictures):
        stay, pictures = [], []
    check_bytes([*pictures, *opened])
    added = with_own_names(opened, [picture.name for picture in pictures])
    return {
        box.gallery: stay + entries_of(added),
        box.pictures: (*pictures, *added),
        box.said: html.joined(html.error(text) for text in refused),
    }


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


def check_bytes(pictures: Iterable[Picture]) -> None:
    """Raise PictureError where the server would keep too much for one visitor."""
    total = sum(len(picture.data) for picture in pictures)
    if total > MAX_PICTURES:
        raise PictureError(
            f"The pictures have {total / 2**20:.0f} MB together; the page takes "
            f"{MAX_PICTURES // 2**20} MB. Take some away, or save them smaller."
        )


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
    return [(str(_copy(picture)), picture.name) for picture in pictures]


def _copy(picture: Picture) -> Path:
    """A file with the small copy, from which gradio takes one of its own.

    Of an image gradio writes the file anew at each time, also while another browser reads it.
    """
    path = _copies() / f"{picture.digest}.webp"
    if not path.is_file():
        old = sorted(path.parent.glob("*.webp"), key=lambda file: file.stat().st_mtime)
        for file in old[:-_MOST_COPIES]:
            file.unlink(missing_ok=True)
        buffer = io.BytesIO()
        small(picture).save(buffer, "WEBP")
        write_whole(path, buffer.getvalue())
    return path


@cache
def _copies() -> Path:
    """A folder of this process, removed with it."""
    folder = tempfile.TemporaryDirectory(prefix="headviz-pictures-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def small(picture: Picture, side: int = SIDE) -> Image.Image:
    """A copy at most `side` pixels wide and high."""
    image = picture.image()
    image.thumbnail((side, side))
    return image
