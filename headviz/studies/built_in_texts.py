"""What the built-in language model's study data offers: questions, and stories up to a rude word.

Selection samples come from the side of the split that training saw, evaluation samples from the
held-out one.
"""

from collections import Counter
from collections.abc import Sequence

from headviz.editing.measures import concept_spans
from headviz.studies.built_in import (
    STOPS,
    TEXT_MODEL,
    USUAL,
    Row,
    check_built_in,
    check_shipped,
    rows,
)
from headviz.studies.request import Request
from headviz.studies.samples import Material, Sample, belongs, check_enough, half_inside

N_ORDINARY = 60
N_CAUSAL = 100


def questions(request: Request, words: Sequence[str]) -> tuple[Material, tuple[Sample, ...]]:
    """tiny-lm's questions: half of those evaluated are answered by a word of the concept.

    Raises StudyError where fewer ship than were asked for.
    """
    check_built_in(request, TEXT_MODEL)
    n = request.limit or USUAL
    held_out = rows(TEXT_MODEL, "questions/evaluation", request.seed)
    evaluation = half_inside(_one_a_story(held_out, words, n, n - n // 2), n)
    check_enough(TEXT_MODEL, evaluation, request.limit, "different held-out questions")
    items = rows(TEXT_MODEL, "questions/selection", request.seed)
    check_shipped(f"{TEXT_MODEL}'s questions/selection", items, request.selection)
    selection = [_sample(row["prompt"], row["answer"], words) for row in items[: request.selection]]
    causal = rows(TEXT_MODEL, "questions/attribution", request.seed)
    material = Material(
        f"{TEXT_MODEL}'s questions",
        tuple({sample.key: sample for sample in selection}.values()),
        tuple(evaluation),
        ordinary_stories(TEXT_MODEL),
        STOPS,
    )
    return material, tuple(_one_a_story(causal, words, N_CAUSAL, 0))


def _one_a_story(
    stories: Sequence[Row], words: Sequence[str], n_inside: int, n_outside: int
) -> list[Sample]:
    """Different questions answered by one of the words, and so many others; fewer where it is rare.

    One story gives one question, the concepts outside in turn.
    """
    found: dict[bool, dict[str, Sample]] = {True: {}, False: {}}
    wanted = {True: n_inside, False: n_outside}
    asked: Counter[str] = Counter()
    for story in stories:
        for row in sorted(story["questions"], key=lambda row: asked[row["concept"]]):
            prompt = f"{story['lead']}Question: {row['question']} Answer:"
            sample = _sample(prompt, row["answer"], words)
            if len(found[sample.inside]) < wanted[sample.inside]:
                found[sample.inside].setdefault(sample.key, sample)
                asked[row["concept"]] += 1
                break
        if all(len(found[inside]) == wanted[inside] for inside in found):
            break
    return [sample for own in found.values() for sample in own.values()]


def _sample(prompt: str, answer: str, words: Sequence[str]) -> Sample:
    return Sample(prompt, (answer,), belongs((answer,), words))


def rude_stories(
    request: Request, words: Sequence[str], picked: Sequence[str]
) -> tuple[Material, tuple[Sample, ...]]:
    """tiny-lm's stories, each up to its first word of the list; causal ones end before a picked.

    Raises StudyError where too few stories have such a word.
    """
    check_built_in(request, TEXT_MODEL)
    evaluation = _before_words("evaluation", words, request.limit or USUAL, request.seed)
    check_enough(TEXT_MODEL, evaluation, request.limit, "held-out stories with such a word")
    material = Material(
        f"{TEXT_MODEL}'s stories",
        tuple(_before_words("selection", words, request.selection, request.seed)),
        tuple(evaluation),
        ordinary_stories(TEXT_MODEL),
        stops=(" Question:", "\n"),
    )
    return material, tuple(_before_words("attribution", picked, N_CAUSAL, request.seed))


def _before_words(part: str, words: Sequence[str], n: int, seed: int) -> list[Sample]:
    """Stories cut before their first word of the list, which is the answer."""
    found: dict[str, Sample] = {}
    for row in rows(TEXT_MODEL, f"stories/{part}", seed):
        text = row["text"]
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
    kept = rows(TEXT_MODEL, "stories/evaluation")[:N_ORDINARY]
    return tuple(Sample(text) for text in dict.fromkeys(row["text"] for row in kept))
