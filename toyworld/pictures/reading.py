"""Reads a caption back into what it claims, and compares that with the picture.

Knows no model: it is how captions are marked right or wrong, attribute by attribute.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from toyworld.pictures.content import Group, Picture
from toyworld.pictures.words import BACKGROUNDS, CONCEPTS, MOODS, NUMBERS, POSITIONS, SHAPES, SIZES

SINGULAR: Mapping[str, str] = {
    **{plural: shape for shape, plural in SHAPES.items()},
    "faces": "face",
}
VAGUE = {"thing", "things", "digit", "pattern"}
NOUNS = {
    *CONCEPTS["shapes"],
    *CONCEPTS["digits"],
    *CONCEPTS["textures"],
    "face",
    "faces",
    *VAGUE,
}
PLACES: Mapping[str, tuple[str, int]] = {
    word: (relation, side) for relation, pair in POSITIONS.items() for side, word in enumerate(pair)
}
"""Word -> the relation, and which group (0 or 1) is named first where it is said."""

Claim = tuple[str, bool]
"""A concept that something was said about, and whether it was right."""


@dataclass
class Said:
    """What a caption says of one group; empty where it says nothing."""

    noun: str = ""
    count: str = ""
    size: str = ""
    mood: str = ""
    colors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """A caption in parts."""

    groups: tuple[Said, ...]
    place: str
    background: str
    is_sound: bool
    """Whether every word was where the grammar has it."""


def words_of(text: str) -> list[str]:
    """Words and digits in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def read_caption(text: str) -> Reading:
    """The parts of a caption, as far as it follows the grammar."""
    groups: list[Said] = []
    said, place, background, sound = Said(), "", "", True
    for word in words_of(text):
        if word in NOUNS:
            said.noun = word
            groups.append(said)
            said = Said()
        elif word in BACKGROUNDS:
            sound &= not background and bool(groups)
            background = word
        elif word in PLACES:
            sound &= not place and len(groups) == 1
            place = word
        elif not _describes(said, word):
            sound = False
    sound &= said == Said() and 1 <= len(groups) <= 2
    return Reading(tuple(groups), place, background, sound)


def _describes(said: Said, word: str) -> bool:
    """Note an adjective; False for a second one of its kind or an unknown word."""
    if word in CONCEPTS["colors"]:
        said.colors.append(word)
        return len(said.colors) <= 2
    for kinds, name in ((NUMBERS, "count"), (SIZES, "size"), (MOODS, "mood")):
        if word in kinds:
            fresh = not getattr(said, name)
            setattr(said, name, word)
            return fresh
    return word in ("a", "an", "some", "and", "in", "on", "at", "the", "of")


def claims(text: str, picture: Picture) -> list[Claim]:
    """Everything the caption claims; of two ways to match the groups, the kinder one."""
    reading = read_caption(text)
    orders = [list(picture.groups), list(reversed(picture.groups))]
    found = [_claims(reading, order, picture, side) for side, order in enumerate(orders)]
    first = int(sum(ok for _, ok in found[1]) > sum(ok for _, ok in found[0]))
    return found[first]


def _claims(reading: Reading, groups: list[Group], picture: Picture, turned: int) -> list[Claim]:
    found: list[Claim] = []
    for said, group in zip(reading.groups, groups, strict=False):
        found += _about(said, group)
    found += [claim for said in reading.groups[len(groups) :] for claim in _unfounded(said)]
    if reading.place:
        relation, side = PLACES[reading.place]
        found.append(("positions", (relation, side) == (picture.relation, turned)))
    if reading.background:
        found.append(("backgrounds", reading.background == picture.background))
    return found


def _about(said: Said, group: Group) -> list[Claim]:
    found: list[Claim] = []
    named = SINGULAR.get(said.noun, said.noun)
    for concept in ("shapes", "digits", "textures"):
        if said.noun in CONCEPTS[concept]:
            found.append((concept, named == group.noun))
    if said.count:
        found.append(("numbers", NUMBERS.index(said.count) + 1 == group.count))
    if said.size:
        found.append(("sizes", said.size == group.size))
    if said.mood:
        found.append(("feelings", said.mood == group.mood))
    if said.colors:
        shown = [group.color, group.second] if group.second else [group.color]
        found += [("colors", color in shown) for color in said.colors]
    return found


def _unfounded(said: Said) -> list[Claim]:
    """What is said of a group that is not there is wrong."""
    nothing = Group("shape", "", "", "", count=0)
    return _about(said, nothing)
