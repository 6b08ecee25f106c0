"""Prompts to try on a model, each with the concept it is about: assets/<model>/examples.json.

Knows nothing of models and pages.
"""

import json
from dataclasses import dataclass

from headviz.base import assets


@dataclass(frozen=True)
class Example:
    """A prompt that ships with a model."""

    prompt: str
    concept: str
    """Name of a preset concept."""
    kind: str
    """question or story."""


def examples_of(model: str) -> tuple[Example, ...]:
    """The model's examples, none for one that ships without any."""
    path = assets.ASSETS / model / "examples.json"
    if not path.is_file():
        return ()
    items = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Example(i["prompt"], i["concept"], i.get("kind", "question")) for i in items)
