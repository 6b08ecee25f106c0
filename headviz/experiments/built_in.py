"""What the built-in models' worlds offer the studies: questions, stories, pictures.

Selection samples come from the side of the split that training saw, evaluation samples from the
held-out one.
"""

from collections.abc import Sequence

from headviz.experiments.request import Request
from headviz.experiments.samples import (
    Material,
    Sample,
    StudyError,
    belongs,
    check_enough,
    half_inside,
)
from headviz.measures import concept_spans
from headviz.toyworld.documents import Item, sample_items, sample_stories
from headviz.toyworld.words import CONCEPTS

TEXT_MODEL, PICTURE_MODEL = "tiny-lm", "tiny-vlm"
N_ORDINARY = 60
USUAL = 200
"""Samples to evaluate on where no number is asked for."""
STOPS = (".", "\n")


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
    # The concepts come in turn: enough of each are drawn for half to be of one concept.
    pool = [_asked(i, words) for i in sample_items(n * len(CONCEPTS), request.seed, True)]
    unique = list({sample.key: sample for sample in pool}.values())
    evaluation = half_inside(unique, n)
    check_enough(TEXT_MODEL, evaluation, request.limit, "different held-out questions")
    selection = sample_items(request.selection, request.seed, held_out=False)
    more = sample_items(100 * len(CONCEPTS), request.seed + 1, held_out=False)
    causal = [s for s in (_asked(item, words) for item in more) if s.inside]
    material = Material(
        f"{TEXT_MODEL}'s questions",
        tuple({s.key: s for s in (_asked(item, words) for item in selection)}.values()),
        tuple(evaluation),
        ordinary_stories(TEXT_MODEL),
        STOPS,
    )
    return material, tuple({s.key: s for s in causal}.values())


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
    for text in sample_stories(12 * n, seed, held_out):  # one in four has such a word
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
