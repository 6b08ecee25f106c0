"""What a picture shows, as data: groups of like things, where they are, and on what.

The split into training and held-out pictures is by content: a picture is held out when a hash of
what it shows says so, whatever the seed, so training never sees that combination drawn in any way.
Knows no paint and no sentences.
"""

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toyworld.pictures.words import (
    BACKGROUNDS,
    COLORS,
    DIGITS,
    MOODS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
)

HELD_OUT_SHARE = 0.1
SORTS: dict[str, float] = {"scene": 0.5, "faces": 0.18, "digits": 0.16, "textures": 0.16}
TWO_GROUPS: dict[str, float] = {"scene": 0.65, "faces": 0.5, "digits": 0.3, "textures": 0.4}
SAME_COLOR_SHARE = 0.1  # of the pictures with two groups
MOST_THINGS = 5
MOST_IN_HALF = 3


@dataclass(frozen=True)
class Group:
    """Some things of one kind."""

    kind: str  # "shape", "face", "digit" or "texture"
    noun: str  # a shape, "face", a digit or a texture, in the singular
    color: str
    size: str
    count: int = 1
    mood: str = ""  # of a face
    second: str = ""  # a texture's other color


@dataclass(frozen=True)
class Picture:
    """One or two groups; how they are drawn in detail depends on `seed`."""

    sort: str  # a key of SORTS
    groups: tuple[Group, ...]
    relation: str  # how the first group lies to the second, a key of POSITIONS; "" for one group
    background: str  # "" for textures
    seed: int

    @property
    def content(self) -> str:
        """All that is shown, but not how it is drawn."""
        return repr((self.sort, self.groups, self.relation, self.background))

    @property
    def is_held_out(self) -> bool:
        """Whether training never sees this content."""
        digest = hashlib.sha256(self.content.encode()).digest()
        return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def _shape(rng: random.Random, color: str, most: int, alone: bool) -> Group:
    count = rng.randint(1, most)
    huge = alone and count == 1 and rng.random() < 0.5
    size = "huge" if huge else rng.choice(SIZES[:2])
    return Group("shape", rng.choice(list(SHAPES)), color, size, count)


def _face(rng: random.Random, color: str, most: int, alone: bool) -> Group:
    count = 2 if most > 1 and rng.random() < 0.25 else 1
    size = "huge" if alone and count == 1 and rng.random() < 0.5 else "large"
    return Group("face", "face", color, size, count, mood=rng.choice(MOODS))


def _digit(rng: random.Random, color: str, alone: bool) -> Group:
    size = "huge" if alone and rng.random() < 0.6 else "large"
    return Group("digit", rng.choice(DIGITS), color, size)


def _texture(rng: random.Random, color: str) -> Group:
    second = rng.choice([other for other in COLORS if other != color])
    size = rng.choice(SIZES[:2])
    return Group("texture", rng.choice(TEXTURES), color, size, second=second)


def _group(rng: random.Random, sort: str, color: str, most: int, alone: bool) -> Group:
    """A group of what this sort of picture shows, of at most `most` things."""
    draw = rng.random()
    if sort == "textures":
        return _texture(rng, color)
    if sort == "faces" or (sort == "scene" and draw < 0.15):
        return _face(rng, color, most, alone)
    if sort == "digits" or (sort == "scene" and draw < 0.3):
        return _digit(rng, color, alone)
    return _shape(rng, color, most, alone)


def _unlike(rng: random.Random, first: Group, sort: str, color: str, most: int) -> Group:
    """A second group, of another noun or another mood."""
    while True:
        other = _group(rng, sort, color, most, alone=False)
        if (other.noun, other.mood) != (first.noun, first.mood):
            return other


def sample_picture(rng: random.Random) -> Picture:
    """Any picture, of either side of the split."""
    sort = rng.choices(list(SORTS), list(SORTS.values()))[0]
    background = "" if sort == "textures" else rng.choice(list(BACKGROUNDS))
    hidden = BACKGROUNDS[background][2] if background else ()
    colors = rng.sample([color for color in COLORS if color not in hidden], 2)
    if rng.random() < SAME_COLOR_SHARE:
        colors[1] = colors[0]
    two = rng.random() < TWO_GROUPS[sort]
    groups = [_group(rng, sort, colors[0], MOST_IN_HALF if two else MOST_THINGS, not two)]
    if two:
        most = min(MOST_IN_HALF, MOST_THINGS - groups[0].count)
        groups.append(_unlike(rng, groups[0], sort, colors[1], most))
    relation = rng.choice(list(POSITIONS)) if two else ""
    return Picture(sort, tuple(groups), relation, background, rng.getrandbits(32))


def pictures(seed: int, held_out: bool = False, sort: str | None = None) -> Iterator[Picture]:
    """Endless pictures of one side of the split, all of one `sort` if wanted; same for a seed."""
    rng = random.Random(f"pictures {held_out} {seed}")
    while True:
        picture = sample_picture(rng)
        if picture.is_held_out == held_out and sort in (None, picture.sort):
            yield picture


def training_pictures(seed: int, n: int, more: Mapping[str, float]) -> list[Picture]:
    """`n` pictures to learn from: of any sort, and `more` of some (sort -> its share of them)."""
    extra = {sort: int(share * n) for sort, share in more.items()}
    found = list(itertools.islice(pictures(seed), n - sum(extra.values())))
    for sort, count in extra.items():
        found += itertools.islice(pictures(seed, sort=sort), count)
    return found
