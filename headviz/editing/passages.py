"""Passages: prompts with what follows them, on which the effect of an edit is measured.

What follows is given (a question's answer), or said by the unedited model itself, so that the
concept's words stand where the model puts them. Knows nothing of edits and effects.
"""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans
from headviz.heads.capture import Progress, no_progress
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import NO_EDIT
from headviz.heads.pooling import Lock
from headviz.heads.prompts import (
    EncodedPrompt,
    check_have_weights,
    default_prompt,
    encode_prompt,
    question_of,
)
from headviz.inputs.concepts import in_sentence_ids
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class Passage:
    """A prompt and what follows it."""

    text: str
    """The prompt's own words."""
    prompt: EncodedPrompt
    """With the continuation at its end."""
    first: int
    """The position of the continuation's first token."""
    pictures: tuple[str, ...] = ()
    """Digests of those that the prompt is about."""

    @property
    def continuation(self) -> tuple[int, ...]:
        """Token ids of what follows the prompt."""
        return self.prompt.ids[self.first :]


def passage(
    model: LoadedModel,
    prompt: str,
    continuation: Sequence[int],
    pictures: Sequence[Picture] = (),
    chat: Chat = PLAIN,
) -> Passage:
    """The prompt with these token ids after it."""
    asked = question_of(model, prompt, pictures)
    encoded = encode_prompt(model, asked, len(continuation), pictures, chat)
    check_have_weights(model, continuation)
    spec = model.family.vision_spec
    whole = encoded.continued(continuation, 0 if spec is None else spec.answer_type)
    return Passage(prompt, whole, len(encoded.ids), tuple(one.digest for one in pictures))


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
    lock: Lock = nullcontext,
    chat: Chat = PLAIN,
) -> tuple[Passage, ...]:
    """Each prompt with what the unedited model says to it, which may be nothing."""
    found: list[Passage] = []
    for start in range(0, len(prompts), at_once):
        progress(start / len(prompts), "the model answers, so that its own words can be looked at")
        part = list(prompts[start : start + at_once])
        shown = list(pictures[start : start + at_once])
        asked = [prompt or default_prompt(model) for prompt in part] if shown else part
        *_, last = generate(model, asked, [NO_EDIT] * len(part), sampling, lock, shown, chat)
        for number, (prompt, ids) in enumerate(zip(part, last.ids, strict=True)):
            found.append(passage(model, prompt, ids, shown[number] if shown else (), chat))
    return tuple(found)


def shuffled(model: LoadedModel, one: Passage, chat: Chat = PLAIN) -> Passage:
    """The same words in a drawn order: the prompt's among themselves, and so what follows it."""
    said = _in_drawn_order(model.tokenizer.decode(list(one.continuation)))
    ids = in_sentence_ids(said, model.tokenizer)
    return passage(model, _in_drawn_order(one.text), ids, one.prompt.pictures, chat)


def _in_drawn_order(text: str) -> str:
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)


def begins_word(model: LoadedModel, ids: Sequence[int], words: Sequence[str]) -> tuple[bool, ...]:
    """For each token of a text, whether a word of the list begins in it."""
    ends = [len(model.tokenizer.decode(list(ids[:n]))) for n in range(len(ids) + 1)]
    starts = [span.start for span in concept_spans(model.tokenizer.decode(list(ids)), words)]
    return tuple(any(ends[n] <= start < ends[n + 1] for start in starts) for n in range(len(ids)))
