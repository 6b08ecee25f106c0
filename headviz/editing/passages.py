"""Passages: prompts with what follows them, on which the effect of an edit is measured.

What follows is given (a question's answer), or said by the unedited model itself. Where nobody
names texts, the model is asked to tell something in which the concept occurs: the concept's words
then stand where the model itself puts them. Knows nothing of edits and effects.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans
from headviz.heads.capture import Progress, no_progress
from headviz.heads.edits import NO_EDIT
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.inputs.concepts import Concept, in_sentence_ids, known_concepts
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

TOPICS = (
    "a market",
    "a garden in spring",
    "a long journey",
    "a birthday",
    "a day at school",
    "a harvest",
    "a holiday by the sea",
    "an old house",
    "a winter evening",
    "a festival",
    "a walk through the town",
    "a rainy day",
    "a new neighbor",
    "a family dinner",
    "a lost letter",
    "a train ride",
)
TASKS = (
    "Write a short story about {topic} and mention {what}.",
    "Describe {topic} in a few sentences. Mention {what}.",
    "Write a short letter to a friend about {topic} in which {what} come up.",
)


@dataclass(frozen=True, eq=False)
class Passage:
    """A prompt and what follows it."""

    prompt: EncodedPrompt
    """With the continuation at its end."""
    first: int
    """The position of the continuation's first token."""


def passage(
    model: LoadedModel, prompt: str, continuation: Sequence[int], pictures: Sequence[Picture] = ()
) -> Passage:
    """The prompt with these token ids after it."""
    encoded = encode_prompt(model, prompt, len(continuation), pictures)
    spec = model.family.vision_spec
    whole = encoded.continued(continuation, 0 if spec is None else spec.answer_type)
    return Passage(whole, len(encoded.ids))


def given_passages(
    model: LoadedModel, prompts: Sequence[str], answers: Sequence[str]
) -> tuple[Passage, ...]:
    """Each prompt with its answer, as it would be said inside a sentence."""
    return tuple(
        passage(model, prompt, in_sentence_ids(answer, model.tokenizer))
        for prompt, answer in zip(prompts, answers, strict=True)
    )


def own_passages(
    model: LoadedModel,
    prompts: Sequence[str],
    sampling: Sampling,
    pictures: Sequence[Sequence[Picture]] = (),
    progress: Progress = no_progress,
    at_once: int = 16,
) -> tuple[Passage, ...]:
    """Each prompt with what the unedited model says to it."""
    found: list[Passage] = []
    for start in range(0, len(prompts), at_once):
        progress(start / len(prompts), "the model answers, so that its own words can be looked at")
        part = list(prompts[start : start + at_once])
        shown = list(pictures[start : start + at_once])
        *_, last = generate(model, part, [NO_EDIT] * len(part), sampling, pictures=shown)
        for number, (prompt, ids) in enumerate(zip(part, last.ids, strict=True)):
            found.append(passage(model, prompt, ids, shown[number] if shown else ()))
    return tuple(one for one in found if len(one.prompt.ids) > one.first)


def begins_word(model: LoadedModel, ids: Sequence[int], words: Sequence[str]) -> tuple[bool, ...]:
    """For each token of a text, whether a word of the list begins in it."""
    ends = [len(model.tokenizer.decode(list(ids[:n]))) for n in range(len(ids) + 1)]
    starts = [span.start for span in concept_spans(model.tokenizer.decode(list(ids)), words)]
    return tuple(any(ends[n] <= start < ends[n + 1] for start in starts) for n in range(len(ids)))


def concept_prompts(concept: Concept, n: int, seed: int = 0) -> tuple[str, ...]:
    """Tasks whose answers should say words of the concept; the words themselves are not named.

    Words of a person's own have no name that a model knows: a few of them are named then.
    """
    generator = random.Random(f"passages {seed}")
    pairs = [(task, topic) for topic in TOPICS for task in TASKS]
    generator.shuffle(pairs)
    named = concept.name in known_concepts()
    prompts = []
    for task, topic in (pairs * (1 + n // len(pairs)))[:n]:
        few = generator.sample(concept.words, min(3, len(concept.words)))
        what = f"several {concept.name}" if named else f"things like {', '.join(few)}"
        prompts.append(task.format(topic=topic, what=what))
    return tuple(prompts)
