"""Measures a built-in model: its answers, its free stories, and what edits do to both.

Everything that is measured goes through the public functions of the core, as a person would call
them. Heads are ranked on prompts of the training split and judged on held-out items. Writes
nothing; `card` does.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headviz.base.head import Head
from headviz.editing.control import matched_control
from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans, repetition, surprise
from headviz.heads.capture import capture
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import find_concept, tokenize_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.load import LoadedModel
from headviz.pursuit.ranking import Ranking, rank_heads
from toyworld.documents import Item, sample_items
from toyworld.words import CONCEPTS

LARGEST_SHARE = 0.01  # of the heads may be edited
CONTROL_DRAWS = 10
BATCH = 100
STORY_PROMPT = "Story:"
STORY_TOKENS = 90
STORY_FACTORS = (-1.0, 3.0, 6.0)


@dataclass(frozen=True)
class Fixture:
    """One edit of the first k heads of a concept's ranking, judged on held-out items."""

    concept: str
    k: int
    factor: float
    own: float  # the concept's accuracy, divided by that of the unedited model
    others: float  # mean over the other concepts of the same
    worst: str  # the other concept that suffers most
    worst_ratio: float


@dataclass(frozen=True)
class Control:
    """The concept's accuracy with random heads of the same layers: median and quartiles."""

    own: float
    own_low: float
    own_high: float


@dataclass(frozen=True)
class FreeStories:
    """What an edit does to freely sampled stories; rates are concept words a generated word."""

    concept: str
    k: int
    factor: float
    rate: float
    base_rate: float
    perplexity: float  # median over stories, for the unedited model
    base_perplexity: float  # of the unedited stories
    repetition: float  # share of three-word runs that came before in the same story
    base_repetition: float

    @property
    def ratio(self) -> float:
        """Rate divided by the unedited model's."""
        return self.rate / self.base_rate if self.base_rate else float("nan")


def answers(model: LoadedModel, items: Sequence[Item], edit: Edit = NO_EDIT) -> list[bool]:
    """Which items are answered exactly, greedily, under an edit."""
    right: list[bool] = []
    ordered = sorted(range(len(items)), key=lambda i: len(items[i].prompt))
    said: dict[int, str] = {}
    for start in range(0, len(ordered), BATCH):
        rows = ordered[start : start + BATCH]
        prompts = [items[i].prompt for i in rows]
        *_, last = generate(model, prompts, [edit] * len(rows), Sampling(max_new_tokens=2))
        said |= dict(zip(rows, last.texts, strict=True))
    for index, item in enumerate(items):
        right.append(said[index].strip() == f"{item.answer}.")
    return right


def accuracies(items: Sequence[Item], right: Sequence[bool]) -> dict[str, float]:
    """Concept -> share of its items that were right."""
    grouped: dict[str, list[bool]] = {}
    for item, ok in zip(items, right, strict=True):
        grouped.setdefault(item.concept, []).append(ok)
    return {concept: statistics.fmean(oks) for concept, oks in grouped.items()}


@dataclass(frozen=True)
class Questions:
    """Items, as many of each concept, and how the unedited model answers them."""

    items: tuple[Item, ...]
    right: tuple[bool, ...]

    @classmethod
    def ask(cls, model: LoadedModel, per_concept: int, seed: int, held_out: bool) -> "Questions":
        """`per_concept` fresh items of every concept, asked once."""
        items = sample_items(per_concept * len(CONCEPTS), seed, held_out)
        return cls(tuple(items), tuple(answers(model, items)))

    @property
    def base(self) -> dict[str, float]:
        """Concept -> accuracy of the unedited model."""
        return accuracies(self.items, self.right)

    def of(self, concept: str) -> "Questions":
        """Only one concept's."""
        kept = [p for p in zip(self.items, self.right, strict=True) if p[0].concept == concept]
        return Questions(tuple(item for item, _ in kept), tuple(right for _, right in kept))


def rankings(model: LoadedModel, prompt_set: PromptSet) -> dict[str, Ranking]:
    """Concept -> its heads in order on these texts, with default options."""
    activations = capture(model, prompt_set)
    return {
        concept: rank_heads(
            model, activations, tokenize_concept(find_concept(concept), model.tokenizer)
        )
        for concept in CONCEPTS
    }


def try_edit(
    model: LoadedModel, questions: Questions, concept: str, heads: Sequence[Head], factor: float
) -> Fixture:
    """Edit these heads and compare each concept's accuracy with the unedited model's."""
    edited = accuracies(questions.items, answers(model, questions.items, Edit.of(heads, factor)))
    base = questions.base
    ratios = {c: edited[c] / base[c] if base[c] else 1.0 for c in edited}
    others = {c: ratio for c, ratio in ratios.items() if c != concept} or {"": 1.0}
    worst = min(others, key=lambda c: others[c])
    mean = statistics.fmean(others.values())
    return Fixture(concept, len(heads), factor, ratios[concept], mean, worst, others[worst])


def try_control(
    model: LoadedModel, questions: Questions, concept: str, heads: Sequence[Head], factor: float
) -> Control:
    """The same edit on random heads of the same layers, drawn again and again.

    `questions` are the concept's own.
    """
    draws = [
        matched_control(heads, model.head_layers, model.n_heads, seed)
        for seed in range(CONTROL_DRAWS)
    ]
    trials = [try_edit(model, questions, concept, draw, factor) for draw in draws]
    low, middle, high = statistics.quantiles(
        [trial.own for trial in trials], n=4, method="inclusive"
    )
    return Control(middle, low, high)


def choose_k(trials: Sequence[Fixture], enough: float = 0.2) -> Fixture:
    """Of one concept's trials: the fewest heads that leave `enough`, else the best compromise."""
    passing = [t for t in trials if t.own <= enough and t.others >= 0.95]
    return (
        passing[0] if passing else min(trials, key=lambda t: t.own + 4 * max(0.0, 0.95 - t.others))
    )


def free_stories(
    model: LoadedModel, heads_of: Mapping[str, Sequence[Head]], n: int
) -> tuple[list[FreeStories], list[str]]:
    """What every edit does to `n` stories made of the same random numbers; and those unedited."""
    plan = [
        (concept, heads, factor) for concept, heads in heads_of.items() for factor in STORY_FACTORS
    ]
    edits = [NO_EDIT, *(Edit.of(heads, factor) for _, heads, factor in plan)]
    told: list[list[str]] = [[] for _ in edits]
    puzzled: list[list[float]] = [[] for _ in edits]
    prompt = encode_prompt(model, STORY_PROMPT)
    for seed in range(n):
        sampling = Sampling(max_new_tokens=STORY_TOKENS, temperature=1.0, seed=seed)
        *_, last = generate(model, [STORY_PROMPT] * len(edits), edits, sampling)
        texts = [text.split(" Question:")[0] for text in last.texts]
        lengths = [
            len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts
        ]
        continuations = [ids[:length] for ids, length in zip(last.ids, lengths, strict=True)]
        for row, value in enumerate(surprise(model, prompt, continuations)):
            told[row].append(texts[row])
            if value is not None:
                puzzled[row].append(value)
    words = {
        concept: [w.word for w in tokenize_concept(find_concept(concept), model.tokenizer).kept]
        for concept in heads_of
    }
    found = [
        FreeStories(
            concept,
            len(heads),
            factor,
            rate(told[row], words[concept]),
            rate(told[0], words[concept]),
            statistics.median(puzzled[row]),
            statistics.median(puzzled[0]),
            statistics.fmean(map(repetition, told[row])),
            statistics.fmean(map(repetition, told[0])),
        )
        for row, (concept, heads, factor) in enumerate(plan, 1)
    ]
    return found, told[0]


def rate(texts: Sequence[str], words: Sequence[str]) -> float:
    """Concept words a word, over all texts."""
    return sum(len(concept_spans(t, words)) for t in texts) / max(
        1, sum(len(t.split()) for t in texts)
    )
