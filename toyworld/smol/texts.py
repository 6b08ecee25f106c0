"""What is said about a picture in plain English: captions of many wordings, short questions.

A caption leaves things out at a rate by concept. Adjectives stand before their noun and a place
word says where the group that is named first lies, so that `smol.reading` can mark what a model
says. Knows no pixels and no tokens.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from toyworld.pictures.content import Group, Picture
from toyworld.pictures.words import BACKGROUNDS, COLORS, NUMBERS, POSITIONS, SHAPES

RATES: Mapping[str, float] = {
    "colors": 0.85,
    "numbers": 0.85,
    "shapes": 0.95,
    "digits": 0.95,
    "textures": 0.95,
    "feelings": 0.6,
    "sizes": 0.3,
    "positions": 0.7,
    "backgrounds": 0.6,
}
"""Concept -> how often a caption mentions it where it could."""

SUMMONS = (
    "Describe the picture.",
    "What is in the picture?",
    "Provide a one-sentence caption for the provided image.",
    "What do you see?",
    "Describe this image.",
    "Write a caption.",
)
"""Prompts that ask for a caption."""

SIZES: Mapping[str, tuple[str, ...]] = {
    "small": ("small", "small", "tiny", "little"),
    "large": ("large", "large", "big"),
    "huge": ("huge", "huge", "giant"),
}
"""Size -> the words for it; the first one more often."""

PLACES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "above": (("above", "above", "over"), ("below", "below", "under")),
    "left": (
        ("to the left of", "left of", "to the left of"),
        ("to the right of", "right of", "to the right of"),
    ),
}
"""Relation -> how the first group lies to the second, and the second to the first."""

CORNERS: Mapping[str, tuple[str, str]] = {
    "above": ("at the top", "at the bottom"),
    "left": ("on the left", "on the right"),
}
"""Relation -> where the first group is, and the second."""

FRAMES = (
    "{Things}.",
    "{Things}.",
    "{There} {things}.",
    "{There} {things}.",
    "{There} {things} in the picture.",
    "In the picture {there} {things}.",
    "In this image {there} {things}.",
    "The picture shows {things}.",
    "The image shows {things}.",
    "This picture shows {things}.",
    "This is a picture of {things}.",
    "This is a drawing of {things}.",
    "A picture of {things}.",
    "A drawing of {things}.",
    "An image of {things}.",
    "I see {things}.",
    "I can see {things}.",
    "You can see {things}.",
    "We see {things}.",
    "{Here} {things}.",
    "It is a picture of {things}.",
    "The drawing has {things}.",
    "The image contains {things}.",
    "Someone drew {things}.",
)
"""Sentences around what is there; {There} is "There is" or "There are"."""

GROUNDS: Mapping[str, tuple[str, ...]] = {
    name: (phrase, phrase, *more)
    for (name, (phrase, _, _)), more in zip(
        BACKGROUNDS.items(),
        (
            ("against the sky", "up in the sky"),
            ("in the grass", "lying on the grass"),
            ("in the sand", "lying on the sand"),
            ("on the snow", "lying in the snow"),
            ("in the night", "during the night"),
            ("on the sea", "out in the sea"),
        ),
        strict=True,
    )
}
"""Background -> phrases for it."""

Says = Callable[[str], bool]


@dataclass(frozen=True)
class Question:
    """A question about a picture with a short answer."""

    text: str
    answer: str
    """One word, in lower case."""
    concept: str

    @property
    def said(self) -> str:
        """The answer as a sentence of one word."""
        return f"{self.answer.capitalize()}."


def caption(picture: Picture, rng: random.Random, rates: Mapping[str, float] = RATES) -> str:
    """One English sentence about the picture."""

    def says(concept: str) -> bool:
        return rng.random() < rates[concept]

    groups = [_words(group, rng, says) for group in picture.groups]
    are = [group.count > 1 or group.noun.endswith("s") for group in picture.groups]
    turned = bool(picture.relation) and rng.random() < 0.25
    if turned:
        groups, are = groups[::-1], are[::-1]
    things = _placed(picture, groups, turned, rng, says("positions"))
    if picture.background and says("backgrounds"):
        ground = rng.choice(GROUNDS[picture.background])
        if rng.random() < 0.15:
            begun = ground[0].upper() + ground[1:]
            return f"{begun} {'there are' if are[0] else 'there is'} {things}."
        things = f"{things} {ground}"
    there = "there are" if are[0] else "there is"
    return rng.choice(FRAMES).format(
        things=things,
        Things=things[0].upper() + things[1:],
        there=there,
        There=there.capitalize(),
        Here="Here are" if are[0] else "Here is",
    )


def _placed(
    picture: Picture, groups: Sequence[str], turned: bool, rng: random.Random, told: bool
) -> str:
    """The groups in the order given, with or without where they lie to one another."""
    if not picture.relation:
        return groups[0]
    first, second = groups
    if not told:
        return f"{first} and {second}"
    if rng.random() < 0.3:
        here, there = CORNERS[picture.relation][:: -1 if turned else 1]
        return f"{first} {here} and {second} {there}"
    return f"{first} {rng.choice(PLACES[picture.relation][turned])} {second}"


def _words(group: Group, rng: random.Random, says: Says) -> str:
    """A group in words, with its article or number."""
    size = [rng.choice(SIZES[group.size])] if says("sizes") else []
    if group.kind == "texture":
        return _pattern(group, size, says)
    mood = [group.mood] if group.mood and says("feelings") else []
    color = [group.color] if says("colors") else []
    words = [*size, *mood, *color, *_noun(group, rng, says)]
    if group.count > 1:
        return " ".join([NUMBERS[group.count - 1] if says("numbers") else "some", *words])
    if says("numbers") and rng.random() < 0.3:
        return " ".join(["one", *words])
    return with_article(" ".join(words))


def _pattern(group: Group, size: list[str], says: Says) -> str:
    colors = f"{' and '.join(both_colors(group))} " if says("colors") else ""
    named = group.noun if says("textures") else "pattern"
    words = " ".join([*size, f"{colors}{named}"])
    return words if named.endswith("s") or named == "noise" else with_article(words)


def both_colors(group: Group) -> tuple[str, ...]:
    """A texture's colors in the order of COLORS: nobody sees which was painted first."""
    return tuple(sorted({group.color, group.second} - {""}, key=list(COLORS).index))


def _noun(group: Group, rng: random.Random, says: Says) -> list[str]:
    if group.kind == "face":
        return ["faces" if group.count > 1 else "face"]
    if group.kind == "digit":
        if not says("digits"):
            return ["number"]
        return [*rng.choice((["number"], ["digit"], [])), group.noun]
    if not says("shapes"):
        return ["shapes" if group.count > 1 else "shape"]
    return [plural(group)]


def plural(group: Group) -> str:
    """The noun of a group of shapes or faces, in the plural where there are several."""
    if group.kind in ("digit", "texture") or group.count == 1:
        return group.noun
    return SHAPES.get(group.noun, "faces")


def with_article(words: str) -> str:
    """Behind "a" or "an"; a numeral is read as it is spoken."""
    an = words[0] in "aeio8"
    return f"{'an' if an else 'a'} {words}"


def questions(picture: Picture, rng: random.Random) -> list[Question]:
    """All that is asked about the picture, each in one of its wordings."""
    found = [q for group in picture.groups for q in _about(group, picture, rng)]
    if picture.sort == "scene":
        total = sum(group.count for group in picture.groups)
        asked = ("How many things are there?", "How many things do you see?")
        found.append(Question(rng.choice(asked), NUMBERS[total - 1], "numbers"))
    if picture.background:
        asked = ("What is the background?", "Which background is it?")
        found.append(Question(rng.choice(asked), picture.background, "backgrounds"))
    if len(picture.groups) == 1:
        found += _alone(picture.groups[0], rng)
    return found


def _alone(group: Group, rng: random.Random) -> list[Question]:
    if group.kind == "digit":
        asked = ("Which digit is it?", "What number is shown?", "Which number do you see?")
        return [Question(rng.choice(asked), group.noun, "digits")]
    if group.kind == "texture":
        asked = ("Which pattern is it?", "What is the pattern?")
        return [Question(rng.choice(asked), group.noun, "textures")]
    if group.kind == "shape":
        asked = ("What shape is it?", "Which shape is shown?", "What is shown?")
        if group.count > 1:
            asked = ("What shapes are these?", "Which shapes are shown?", "What is shown?")
        return [Question(rng.choice(asked), plural(group), "shapes")]
    return []


def _about(group: Group, picture: Picture, rng: random.Random) -> list[Question]:
    """Questions that name the group by its noun, its color or its place, where that is unique."""
    rest = [other for other in picture.groups if other is not group]
    found: list[Question] = []
    where = CORNERS[picture.relation][group is not picture.groups[0]] if picture.relation else ""
    if group.kind == "texture":
        if where:
            found.append(Question(f"Which pattern is {where}?", group.noun, "textures"))
        return found
    if all(other.noun != group.noun for other in rest):
        found += _by_noun(group, picture, rng)
    concept = {"shape": "shapes", "digit": "digits", "face": "feelings"}[group.kind]
    if all(other.color != group.color for other in rest):
        if group.mood:
            asked = f"How does the {group.color} face feel?"
            if group.count > 1:
                asked = f"How do the {group.color} faces feel?"
            found.append(Question(asked, group.mood, concept))
        else:
            found.append(Question(f"What is {group.color}?", plural(group), concept))
    if where and not group.mood:
        found.append(Question(f"What is {where}?", plural(group), concept))
    return found


def _by_noun(group: Group, picture: Picture, rng: random.Random) -> list[Question]:
    many = group.count > 1
    being, does = ("are", "do") if many else ("is", "does")
    this = f"number {group.noun}" if group.kind == "digit" else plural(group)
    asked: tuple[str, ...] = (
        f"What color {being} the {this}?",
        f"Which color {does} the {this} have?",
    )
    found = [Question(rng.choice(asked), group.color, "colors")]
    if picture.relation:
        place = POSITIONS[picture.relation][group is not picture.groups[0]]
        word = {"above": "top", "below": "bottom"}.get(place, place)
        found.append(Question(f"Where {being} the {this}?", word, "positions"))
    if group.kind == "digit":
        return found
    several = SHAPES.get(group.noun, "faces")
    asked = (f"How many {several} are there?", f"How many {several} do you see?")
    found.append(Question(rng.choice(asked), NUMBERS[group.count - 1], "numbers"))
    found.append(Question(f"How big {being} the {this}?", group.size, "sizes"))
    if group.mood:
        found.append(Question(f"How {does} the {this} feel?", group.mood, "feelings"))
    return found
