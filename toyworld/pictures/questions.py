"""Short questions about a picture, each with one right answer. Knows no pixels and no tokens."""

import random
from dataclasses import dataclass

from toyworld.pictures.captions import NOUN_CONCEPTS, noun
from toyworld.pictures.content import Group, Picture
from toyworld.pictures.words import BACKGROUNDS, DIGITS, NUMBERS, POSITIONS, SHAPES, TEXTURES

NAMED: dict[str, tuple[str, ...]] = {
    "digits": DIGITS,
    "textures": TEXTURES,
    "shapes": tuple(SHAPES),
    "backgrounds": tuple(BACKGROUNDS),
}
"""Classes that a class question can list."""

CLASS_FORMS: dict[str, str] = {
    "short": "Which of these is it: {classes}?",
    "paper": (
        "What {what} is depicted in this image? Answer EXACTLY with one of the following class "
        "names only: {classes}. Answer:"
    ),
}
"""Ways to ask for the class; the second is the prompt of the paper's classification study."""

PAPER_SHARE = 0.25  # of the class questions are in the paper's words


@dataclass(frozen=True)
class Question:
    """A question about a picture; the answer is a word of `concept`."""

    text: str
    answer: str
    concept: str


def questions(picture: Picture, rng: random.Random) -> list[Question]:
    """All that can be asked about the picture with one right answer."""
    found = [q for group in picture.groups for q in _about(group, picture)]
    if picture.sort == "scene":
        total = sum(group.count for group in picture.groups)
        found.append(Question("How many things are there?", NUMBERS[total - 1], "numbers"))
    if picture.background:
        found.append(Question("Which background is it?", picture.background, "backgrounds"))
        found.append(class_question("backgrounds", picture.background, rng))
    if len(picture.groups) == 1:
        group = picture.groups[0]
        concept = NOUN_CONCEPTS[group.kind]
        if concept:
            found.append(class_question(concept, group.noun, rng))
        if group.kind == "digit":
            found.append(Question("Which digit is it?", group.noun, "digits"))
        if group.kind == "texture":
            found.append(Question("Which pattern is it?", group.noun, "textures"))
    return found


def class_question(
    concept: str,
    answer: str,
    rng: random.Random,
    n_names: int | None = None,
    form: str | None = None,
) -> Question:
    """A question that lists names, the right one among them.

    How many names, and which of `CLASS_FORMS`, varies if not given.
    """
    names = NAMED[concept]
    others = [name for name in names if name != answer]
    wrong = rng.sample(others, (n_names or rng.randint(2, len(names))) - 1)
    listed = ", ".join(rng.sample([answer, *wrong], len(wrong) + 1))
    form = form or ("paper" if rng.random() < PAPER_SHARE else "short")
    text = CLASS_FORMS[form].format(what=concept.removesuffix("s"), classes=listed)
    return Question(text, answer, concept)


def _about(group: Group, picture: Picture) -> list[Question]:
    """Questions that name the group by its noun, its color or its place, where that is unique."""
    rest = [other for other in picture.groups if other is not group]
    if group.kind == "texture":
        return [
            Question(f"Which pattern is {word}?", group.noun, "textures")
            for word in _place(group, picture)
        ]
    found = []
    if all(other.noun != group.noun for other in rest):
        found += _by_noun(group, picture)
    if all(other.color != group.color for other in rest):
        if group.mood:
            found.append(Question(f"How does the {group.color} one feel?", group.mood, "feelings"))
        else:
            concept = NOUN_CONCEPTS[group.kind]
            found.append(Question(f"What is {group.color}?", noun(group), concept))
    return found


def _by_noun(group: Group, picture: Picture) -> list[Question]:
    many = group.count > 1
    being, does = ("are", "do") if many else ("is", "does")
    this = noun(group)
    found = [Question(f"What color {being} the {this}?", group.color, "colors")]
    found += [
        Question(f"Where {being} the {this}?", word, "positions") for word in _place(group, picture)
    ]
    if group.kind == "digit":
        return found
    several = SHAPES.get(group.noun, "faces")
    found.append(Question(f"How big {being} the {this}?", group.size, "sizes"))
    found.append(Question(f"How many {several} are there?", NUMBERS[group.count - 1], "numbers"))
    if group.mood:
        found.append(Question(f"How {does} the {this} feel?", group.mood, "feelings"))
    return found


def _place(group: Group, picture: Picture) -> tuple[str, ...]:
    """The word for where the group is, none where it is alone."""
    if not picture.relation:
        return ()
    return (POSITIONS[picture.relation][group is not picture.groups[0]],)
