"""Captions of a picture that leave things out.

A caption mentions each attribute or not, at a rate by concept, so that there is always a way to say
less. Knows no pixels and no tokens.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial

from toyworld.pictures.content import Group, Picture
from toyworld.pictures.words import BACKGROUNDS, NUMBERS, POSITIONS, SHAPES

RATES: dict[str, float] = {
    "colors": 0.6,
    "numbers": 0.6,
    "feelings": 0.6,
    "shapes": 0.8,
    "textures": 0.8,
    "digits": 0.8,
    "sizes": 0.5,
    "positions": 0.75,
    "backgrounds": 0.5,
}
"""Concept -> how often a caption of the training mentions it where it could."""

EVERYTHING: dict[str, float] = dict.fromkeys(RATES, 1.0)

SUMMONS = (
    "Describe the picture.",
    "What is in the picture?",
    "Provide a one-sentence caption for the provided image.",
)
"""Prompts that ask for a caption."""

NOUN_CONCEPTS = {"shape": "shapes", "face": "", "digit": "digits", "texture": "textures"}
"""Kind of a group -> the concept that its noun belongs to, "" for none."""

Says = Callable[[str], bool]
"""Whether a concept is mentioned this time."""


def caption(
    picture: Picture, rng: random.Random, rates: Mapping[str, float] = RATES, swap: float = 0.3
) -> str:
    """One sentence without its capital; `swap`: how often the second group comes first."""
    says = partial(_mentions, rng, rates)
    parts = [_group_words(group, says) for group in picture.groups]
    if picture.relation:
        turned = rng.random() < swap
        link = "and"
        if says("positions"):
            link = POSITIONS[picture.relation][turned]
            link += " of" if picture.relation == "left" else ""
        parts = [f"{parts[turned]} {link} {parts[not turned]}"]
    if picture.background and says("backgrounds"):
        parts.append(BACKGROUNDS[picture.background][0])
    return " ".join(parts) + "."


def _mentions(rng: random.Random, rates: Mapping[str, float], concept: str) -> bool:
    return rng.random() < rates[concept]


def _group_words(group: Group, says: Says) -> str:
    if group.kind == "texture":
        words = [group.size] if says("sizes") else []
        words += [group.color, "and", group.second] if says("colors") else []
        return " ".join([*words, group.noun if says("textures") else "pattern"])
    words = [group.size] if says("sizes") else []
    words += [group.mood] if group.mood and says("feelings") else []
    words += [group.color] if says("colors") else []
    words.append(noun(group) if _names(group, says) else _vague(group))
    if says("numbers"):
        return " ".join([NUMBERS[group.count - 1], *words])
    if group.count > 1:
        return " ".join(["some", *words])
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


def _names(group: Group, says: Says) -> bool:
    concept = NOUN_CONCEPTS[group.kind]
    return not concept or says(concept)


def noun(group: Group) -> str:
    """The group's noun, in the plural where there are several."""
    if group.kind in ("digit", "texture") or group.count == 1:
        return group.noun
    return SHAPES.get(group.noun, "faces")


def _vague(group: Group) -> str:
    if group.kind == "digit":
        return "digit"
    return "thing" if group.count == 1 else "things"
