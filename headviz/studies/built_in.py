"""What the built-in models' worlds offer the studies: questions, stories, pictures.

Selection samples come from the side of the split that training saw, evaluation samples from the
held-out one.
"""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

from headviz.editing.measures import concept_spans
from headviz.studies.request import Request
from headviz.studies.samples import Material, Sample, StudyError, belongs, check_enough, half_inside
from toyworld.documents import (
    Item,
    pick_fact,
    sample_items,
    sample_stories,
    tell_story,
    told_stories,
)
from toyworld.stories import Question

TEXT_MODEL, PICTURE_MODEL = "tiny-lm", "tiny-vlm"
N_ORDINARY = 60
USUAL = 200
"""Samples to evaluate on where no number is asked for."""
STOPS = (".", "\n")
_STORIES_EACH = 30
"""Stories that are read for a sample at most: words that few stories have end the search."""
_FACTS = 0.25
"""Of the questions are plain facts."""


def check_built_in(request: Request, model: str) -> None:
    """Raise StudyError where another model is given no data."""
    if request.model != model:
        raise StudyError(
            f"Name the data with --data: only {model} has built-in data for the study "
            f"{request.study!r}, and the model is {request.model!r}."
        )


def questions(request: Request, words: Sequence[str]) -> tuple[Material, tuple[Sample, ...]]:
    """tiny-lm's questions: half of those evaluated are answered by a word of the concept."""
    check_built_in(request, TEXT_MODEL)
    n = request.limit or USUAL
    pool = drawn_questions(words, n, n - n // 2, request.seed, held_out=True)
    evaluation = half_inside(pool, n)
    check_enough(TEXT_MODEL, evaluation, request.limit, "different held-out questions")
    selection = sample_items(request.selection, request.seed, held_out=False)
    causal = drawn_questions(words, 100, 0, request.seed + 1, held_out=False)
    material = Material(
        f"{TEXT_MODEL}'s questions",
        tuple({s.key: s for s in (_asked(item, words) for item in selection)}.values()),
        tuple(evaluation),
        ordinary_stories(TEXT_MODEL),
        STOPS,
    )
    return material, tuple(causal)


def drawn_questions(
    words: Sequence[str], n_inside: int, n_outside: int, seed: int, held_out: bool
) -> list[Sample]:
    """Different questions answered by one of the words, and so many others; fewer where it is rare.

    One story gives one question, the concepts outside in turn. A quarter are plain facts.
    """
    rng = random.Random(f"studies {held_out} {seed}")
    found: dict[bool, dict[str, Sample]] = {True: {}, False: {}}
    wanted = {True: n_inside, False: n_outside}
    asked: Counter[str] = Counter()
    for _ in range(_STORIES_EACH * (n_inside + n_outside)):
        lead, questions = _told(rng, held_out)
        for question in sorted(questions, key=lambda q: asked[q.concept]):
            inside = belongs((question.answer,), words)
            if len(found[inside]) < wanted[inside]:
                prompt = f"{lead}Question: {question.text} Answer:"
                sample = Sample(prompt, (question.answer,), inside)
                found[inside].setdefault(sample.key, sample)
                asked[question.concept] += 1
                break
        if all(len(found[inside]) == wanted[inside] for inside in found):
            break
    return [sample for own in found.values() for sample in own.values()]


def _told(rng: random.Random, held_out: bool) -> tuple[str, list[Question]]:
    """What stands before a question, and what may be asked then."""
    if rng.random() < _FACTS:
        return "", [pick_fact(rng, held_out)]
    story = tell_story(rng, held_out)
    return f"Story: {story.text} ", rng.sample(story.questions, len(story.questions))


def rude_stories(
    request: Request, words: Sequence[str], picked: Sequence[str]
) -> tuple[Material, tuple[Sample, ...]]:
    """tiny-lm's stories, each up to its first word of the list; causal ones end before a picked."""
    check_built_in(request, TEXT_MODEL)
    n = request.limit or USUAL
    evaluation = _before_words(words, n, request.seed, held_out=True)
    check_enough(TEXT_MODEL, evaluation, request.limit, "held-out stories with such a word")
    selection = _before_words(words, request.selection, request.seed, held_out=False)
    causal = _before_words(picked, 100, request.seed + 1, held_out=False)
    material = Material(
        f"{TEXT_MODEL}'s stories",
        tuple(selection),
        tuple(evaluation),
        ordinary_stories(TEXT_MODEL),
        stops=(" Question:", "\n"),
    )
    return material, tuple(causal)


def _before_words(words: Sequence[str], n: int, seed: int, held_out: bool) -> list[Sample]:
    """Stories cut before their first word of the list, which is the answer."""
    found: dict[str, Sample] = {}
    for text in itertools.islice(told_stories(seed, held_out), _STORIES_EACH * n):
        spans = concept_spans(text, words)
        if spans and (before := text[: spans[0].start].rstrip()).count(" ") > 1:
            sample = Sample(before, (text[spans[0].start : spans[0].stop],))
            found.setdefault(sample.key, sample)
        if len(found) == n:
            break
    return list(found.values())


def ordinary_stories(model: str) -> tuple[Sample, ...]:
    """Ordinary text for the model: held-out stories for tiny-lm, nothing for others."""
    if model != TEXT_MODEL:
        return ()
    return tuple(Sample(text) for text in dict.fromkeys(sample_stories(N_ORDINARY, seed=0)))


def _asked(item: Item, words: Sequence[str]) -> Sample:
    return Sample(item.prompt, (item.answer,), belongs((item.answer,), words))
