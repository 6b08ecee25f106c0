"""What each image token is drawn to before the language model is asked: words of what is there.

The class token stands for the whole picture: how its groups lie to one another, how many things
there are. Every patch stands for one word about the group whose half it lies in, so that a row of
patches reads like a phrase: " two red circles". Which word goes by the patch's place, see `_FORMS`.
Knows no numbers; `aligning` turns words into embeddings.
"""

from toyworld.pictures.content import Group, Picture
from toyworld.pictures.drawing import SIDE
from toyworld.pictures.processor import PATCH
from toyworld.pictures.words import NUMBERS
from toyworld.smol.texts import both_colors, plural

GRID = SIDE // PATCH  # patches in a row
_FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "shape": (("count", "color", "noun"), ("size", "color", "noun"), ("noun", "on", "ground")),
    "face": (("count", "color", "noun"), ("size", "mood", "noun"), ("noun", "on", "ground")),
    "digit": (("count", "color", "noun"), ("size", "color", "noun"), ("noun", "on", "ground")),
    "texture": (
        ("color", "second", "noun"),
        ("size", "color", "noun"),
        ("color", "second", "noun"),
    ),
}
"""Kind of a group -> the word at a patch, by its row modulo 3 and its column modulo 3."""
RELATIONS = {"above": "above", "left": "left", "": "single"}


def image_words(picture: Picture) -> list[tuple[str, ...]]:
    """The words that each image token stands for, the class token's first."""
    total = sum(group.count for group in picture.groups)
    whole = (RELATIONS[picture.relation], NUMBERS[total - 1])
    patches = [
        (_word(group_at(picture, row, column), picture, row, column),)
        for row in range(GRID)
        for column in range(GRID)
    ]
    return [whole, *patches]


def group_at(picture: Picture, row: int, column: int) -> Group:
    """The group in whose half a patch lies."""
    if picture.relation == "above":
        return picture.groups[row >= GRID // 2]
    if picture.relation == "left":
        return picture.groups[column >= GRID // 2]
    return picture.groups[0]


def _word(group: Group, picture: Picture, row: int, column: int) -> str:
    kind = _FORMS[group.kind][row % 3][column % 3]
    colors = both_colors(group)
    words = {
        "count": NUMBERS[group.count - 1],
        "color": colors[0],
        "second": colors[-1],
        "size": group.size,
        "mood": group.mood,
        "noun": plural(group),
        "on": "on",
        "ground": picture.background,
    }
    return words[kind]
