"""What an edit did to a text: concept words, first difference from the original, fluency."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from headviz.base.shapes import Tensor
from headviz.heads.forward import batch_of
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel


@dataclass(frozen=True)
class Span:
    """A concept word in a text, as character offsets."""

    start: int
    stop: int


def concept_spans(text: str, words: Iterable[str]) -> list[Span]:
    """Where the words stand in the text: whole words, in either case."""
    longest_first = sorted({w.strip() for w in words if w.strip()}, key=len, reverse=True)
    if not longest_first:
        return []
    pattern = "|".join(map(re.escape, longest_first))
    found = re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text, re.IGNORECASE)
    return [Span(m.start(), m.end()) for m in found]


def first_difference(text: str, original: str) -> int | None:
    """The number (from 1) of the first word that differs from the original, None if none does."""
    words, others = text.split(), original.split()
    for number, (word, other) in enumerate(zip(words, others, strict=False), 1):
        if word != other:
            return number
    return None if len(words) == len(others) else min(len(words), len(others)) + 1


def repetition(text: str, n: int = 3) -> float:
    """Share of the text's n-word runs that stood in it before (0: none, near 1: a loop)."""
    words = text.lower().split()
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


@torch.inference_mode()
def surprise(
    model: LoadedModel, prompt: EncodedPrompt, continuations: Sequence[Sequence[int]]
) -> list[float | None]:
    """Perplexity of each continuation for the unedited model; None where there is no token.

    1 is what the model would say itself; a broken text has a large one.
    """
    values: list[float | None] = []
    vision_spec = model.family.vision_spec
    for ids in continuations:
        if not ids:
            values.append(None)
            continue
        whole = prompt.continued(ids, 0 if vision_spec is None else vision_spec.answer_type)
        batch = batch_of(model, [whole], left=True)
        first = len(prompt.ids)
        logits: Tensor = model.model(**batch.inputs()).logits[0, first - 1 : -1].float()
        chosen = logits.log_softmax(1).gather(1, batch.ids[0, first:, None])
        values.append(float(chosen.mean().neg().exp()))
    return values
