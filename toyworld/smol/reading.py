"""Reads an English caption back into what it claims about a picture.

The sentence is put into the few words of the drawn world's own captions, of which
`toyworld.pictures.reading` knows what they claim. Words that neither know say nothing. Knows no
model.
"""

import re
from collections.abc import Mapping

from toyworld.pictures.content import Picture
from toyworld.pictures.reading import NOUNS, Claim, claims
from toyworld.pictures.words import BACKGROUNDS, COLORS, DIGITS, MOODS, NUMBERS, SHAPES, SIZES
from toyworld.smol.texts import SIZES as SIZE_WORDS

_SAME: Mapping[str, str] = {
    **{word: size for size, words in SIZE_WORDS.items() for word in words},
    **dict.fromkeys(("over", "top", "atop"), "above"),
    **dict.fromkeys(("under", "bottom", "beneath", "underneath"), "below"),
    **dict.fromkeys(("shape", "object"), "thing"),
    **dict.fromkeys(("shapes", "objects"), "things"),
    **{
        name: digit
        for digit, name in zip("67890", ("six", "seven", "eight", "nine", "zero"), strict=True)
    },
    "number": "digit",
    "grey": "gray",
    "single": "one",
    "striped": "stripes",
    "stripe": "stripes",
    "wave": "waves",
    "brick": "bricks",
    "dot": "dots",
    "check": "checks",
}
"""Word -> the drawn world's word for it."""
_ADJECTIVES = {*COLORS, *SIZES, *MOODS, *NUMBERS}
_SINGULAR = {*SHAPES, "face", "thing"}
_PLACES = ("above", "below", "left", "right")
_KEPT = {*_ADJECTIVES, *NOUNS, *BACKGROUNDS, "and"}


def plain(text: str) -> str:
    """The caption in the drawn world's words; "a red circle" says that there is one of them."""
    words = [_SAME.get(word, word) for word in re.findall(r"[a-z]+|[0-9]", text.lower())]
    found: list[str] = []
    is_placed = False
    for place, word in enumerate(words):
        if word in ("a", "an"):
            if _is_one(words[place + 1 :]):
                found.append("one")
        elif word in _PLACES:  # "... on the left and ... on the right" says one thing twice
            found += [] if is_placed else [word]
            is_placed = True
        elif word in _KEPT:
            found.append(word)
    return " ".join(_without_doubled_nouns(found))


def _is_one(words: list[str]) -> bool:
    """Whether an article before these words stands for one thing."""
    for word in words:
        if word in _SINGULAR:
            return True
        if word not in _ADJECTIVES or word in NUMBERS:
            return False
    return False


def _without_doubled_nouns(words: list[str]) -> list[str]:
    """One noun a group: "digit 3" and "stripes pattern" name one each."""
    return [
        word
        for place, word in enumerate(words)
        if not (word == "digit" and place + 1 < len(words) and words[place + 1] in DIGITS)
        and not (word == "pattern" and place and words[place - 1] in NOUNS)
    ]


def caption_claims(text: str, picture: Picture) -> list[Claim]:
    """Everything that the caption claims, and whether it is right."""
    return claims(plain(text), picture)


def answers_match(said: str, answer: str) -> bool:
    """Whether what was said is the answer, but for capitals and the stop."""
    return said.strip().rstrip(".").lower() == answer.lower()
