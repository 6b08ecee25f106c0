"""Measures the model of the drawn world: its captions and answers, and what edits do to them.

Everything that is measured goes through a `Speaker`, which calls the public functions of the core
as a person would. Heads are ranked on pictures of the training split and judged on held-out ones.
Writes nothing; `card` does.
"""

import itertools
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from headviz.base.head import Head
from headviz.editing.control import matched_control
from headviz.heads.edits import NO_EDIT, Edit
from headviz.pursuit.ranking import Ranking
from toyworld.pictures.captions import SUMMONS
from toyworld.pictures.content import Picture, pictures
from toyworld.pictures.head_assignment import concepts_in
from toyworld.pictures.questions import Question, class_question, questions
from toyworld.pictures.reading import claims, read_caption, words_of
from toyworld.pictures.words import CONCEPTS, DIGITS

CONTROL_DRAWS = 10
FEWEST_CLAIMS = 10  # a concept with fewer is left out of means


@runtime_checkable
class Speaker(Protocol):
    """A loaded model that answers prompts about pictures under an edit."""

    @property
    def n_layers(self) -> int:
        """Of the text model."""
        ...

    @property
    def n_heads(self) -> int:
        """Of a layer."""
        ...

    def say(
        self,
        shown: Sequence[Picture],
        prompts: Sequence[str],
        edit: Edit = NO_EDIT,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """What is said about each picture."""
        ...

    def rank(self, concept: str) -> Ranking:
        """Heads ranked on training pictures, with the core's default options."""
        ...


@dataclass(frozen=True)
class Told:
    """How captions of some pictures fared, by concept."""

    words: Mapping[str, int]
    """Words of the concept that were said."""
    made: Mapping[str, int]
    """Claims made about it."""
    right: Mapping[str, int]
    """Of them, right ones."""
    sound: float
    """Share of captions in which every word was where the grammar has it."""

    def accuracy(self, concept: str) -> float:
        """Share of the claims that are right; nan without a claim."""
        made = self.made[concept]
        return self.right[concept] / made if made else float("nan")

    def others(self, concept: str) -> tuple[float, str, float]:
        """Mean accuracy of the other concepts; the one that suffers most, and its accuracy."""
        found = {
            c: self.accuracy(c) for c in CONCEPTS if c != concept and self.made[c] >= FEWEST_CLAIMS
        }
        if not found:
            return float("nan"), "", float("nan")
        worst = min(found, key=lambda c: found[c])
        return statistics.fmean(found.values()), worst, found[worst]


def mark(texts: Sequence[str], shown: Sequence[Picture]) -> Told:
    """Compare captions with their pictures."""
    words, made, right = (dict.fromkeys(CONCEPTS, 0) for _ in range(3))
    for text, picture in zip(texts, shown, strict=True):
        for word in words_of(text):
            for concept, own in CONCEPTS.items():
                words[concept] += word in own
        for concept, ok in claims(text, picture):
            made[concept] += 1
            right[concept] += ok
    sound = statistics.fmean(read_caption(text).is_sound for text in texts)
    return Told(words, made, right, sound)


def describe(
    speaker: Speaker,
    shown: Sequence[Picture],
    edit: Edit = NO_EDIT,
    temperature: float = 0.0,
    seed: int = 0,
) -> Told:
    """Let the model caption the pictures under an edit, and mark the captions."""
    prompts = [SUMMONS[0]] * len(shown)
    return mark(speaker.say(shown, prompts, edit, temperature, seed), shown)


def showing(concept: str, n: int, seed: int, held_out: bool) -> list[Picture]:
    """`n` pictures in which a caption can mention the concept."""
    stream = (p for p in pictures(seed, held_out) if concept in concepts_in(p))
    return list(itertools.islice(stream, n))


@dataclass(frozen=True)
class Asked:
    """Questions about pictures, a picture each."""

    shown: tuple[Picture, ...]
    asked: tuple[Question, ...]

    @classmethod
    def about(cls, concept: str, n: int, seed: int) -> "Asked":
        """`n` held-out pictures with a question about the concept."""
        rng = random.Random(f"asked {concept} {seed}")
        found: list[tuple[Picture, Question]] = []
        for picture in pictures(seed, held_out=True):
            fitting = [q for q in questions(picture, rng) if q.concept == concept]
            if fitting:
                found.append((picture, rng.choice(fitting)))
            if len(found) == n:
                break
        shown, asked = zip(*found, strict=True)
        return cls(shown, asked)

    @classmethod
    def digits(cls, n: int, seed: int) -> "Asked":
        """`n` held-out pictures of one digit, asked in the paper's words with all ten listed."""
        rng = random.Random(f"digits {seed}")
        one = (p for p in pictures(seed, held_out=True, sort="digits") if len(p.groups) == 1)
        shown = tuple(itertools.islice(one, n))
        asked = tuple(
            class_question("digits", p.groups[0].noun, rng, len(DIGITS), "paper") for p in shown
        )
        return cls(shown, asked)

    def accuracy(self, speaker: Speaker, edit: Edit = NO_EDIT) -> float:
        """Share of exact answers."""
        said = speaker.say(self.shown, [q.text for q in self.asked], edit)
        pairs = zip(said, self.asked, strict=True)
        return statistics.fmean(text.strip() == f"{q.answer}." for text, q in pairs)


@dataclass(frozen=True)
class Fixture:
    """One edit of the first k heads of a concept's ranking, judged on greedy captions."""

    concept: str
    k: int
    factor: float
    own: float  # words of the concept, divided by those of the unedited captions
    others: float  # mean share of right claims of the other concepts
    others_said: float  # right claims of the other concepts, divided by the unedited captions'
    worst: str  # the other concept that is least often right
    worst_right: float
    sound: float  # share of captions that follow the grammar


def judge(base: Told, edited: Told, concept: str, k: int, factor: float) -> Fixture:
    """Compare captions with and without an edit."""
    others, worst, worst_right = edited.others(concept)

    def right(told: Told) -> int:
        return sum(n for c, n in told.right.items() if c != concept)

    return Fixture(
        concept=concept,
        k=k,
        factor=factor,
        own=edited.words[concept] / max(1, base.words[concept]),
        others=others,
        others_said=right(edited) / max(1, right(base)),
        worst=worst,
        worst_right=worst_right,
        sound=edited.sound,
    )


@dataclass(frozen=True)
class Control:
    """Words of the concept under random heads of the same layers: median and quartiles."""

    own: float
    own_low: float
    own_high: float
    others: float  # median over draws of the other concepts' share of right claims


def control(
    speaker: Speaker, shown: Sequence[Picture], concept: str, heads: Sequence[Head], factor: float
) -> Control:
    """The same edit of other heads, `CONTROL_DRAWS` times."""
    base = describe(speaker, shown)
    trials = []
    for seed in range(CONTROL_DRAWS):
        drawn = matched_control(heads, range(speaker.n_layers), speaker.n_heads, seed)
        edited = describe(speaker, shown, Edit.of(drawn, factor))
        trials.append(judge(base, edited, concept, len(heads), factor))
    low, median, high = statistics.quantiles([t.own for t in trials], n=4, method="inclusive")
    return Control(median, low, high, statistics.median(t.others for t in trials))
