"""What to try on a model: prompts with the concept each is about, and pictures.

Prompts are in assets/<model>/examples.json, pictures in the folder examples beside it. Knows
nothing of models and pages.
"""

import json
from dataclasses import dataclass
from functools import cache

from headviz.base import assets
from headviz.inputs.image_folders import open_image_folder
from headviz.inputs.images import Picture


@dataclass(frozen=True)
class Example:
    """A prompt that ships with a model."""

    prompt: str
    concept: str
    """Name of a preset concept."""
    kind: str
    """question, story or caption."""
    picture: str = ""
    """Name of the picture beside a caption's prompt."""


def examples_of(model: str) -> tuple[Example, ...]:
    """The model's examples, none for one that ships without any."""
    path = assets.ASSETS / model / "examples.json"
    if not path.is_file():
        return ()
    items = json.loads(path.read_text(encoding="utf-8"))
    return tuple(
        Example(i["prompt"], i["concept"], i.get("kind", "question"), i.get("picture", ""))
        for i in items
    )


@cache
def example_pictures(model: str) -> tuple[Picture, ...]:
    """Pictures to try on this model: its own, or those of every built-in model."""
    folders = [assets.ASSETS / model / "examples"]
    if not folders[0].is_dir():
        folders = sorted(folder for folder in assets.ASSETS.glob("*/examples") if folder.is_dir())
    return tuple(picture for folder in folders for picture in open_image_folder(folder).pictures)


def named_pictures(model: str, names: tuple[str, ...]) -> tuple[Picture, ...]:
    """Those of the model's example pictures that have these names."""
    return tuple(picture for picture in example_pictures(model) if picture.name in names)
