"""What an edit did to a text: concept words, first difference from the original, fluency."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from headviz.base.shapes import Float, Tensor
from headviz.heads.forward import NO_PREFIX, Prefix, batch_of, read_prefix
from headviz.heads.pooling import batch_tokens, batches
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel

_MOST_LOGITS = 2**26  # numbers worked out at once: a quarter of a gibibyte


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

    1 is what the model would say itself; a broken text has a large one. The prompt is read once,
    and what several say alike as well.
    """
    said = sorted({tuple(ids) for ids in continuations if ids}, key=len)
    found: dict[tuple[int, ...], float] = {}
    # The prompt's last token stays, since what comes after it is asked for.
    before = () if prompt.pictures or not said else prompt.ids[:-1]
    prefix = read_prefix(model, before) if before else NO_PREFIX
    at_once = max(1, _MOST_LOGITS // (model.n_tokens * max(map(len, said), default=1)))
    for start in range(0, len(said), at_once):
        rows = said[start : start + at_once]
        values = _log_probabilities(model, prompt, rows, prefix)
        found |= {ids: float(v.mean().neg().exp()) for ids, v in zip(rows, values, strict=True)}
    return [found.get(tuple(ids)) for ids in continuations]


@torch.inference_mode()
def surprises(
    model: LoadedModel, asked: Sequence[tuple[EncodedPrompt, Sequence[Sequence[int]]]]
) -> list[list[float | None]]:
    """`surprise` of several prompts without pictures, each with its continuations, read together.

    A row in another batch is summed in another order: the last digits may differ.
    """
    wholes = {
        (prompt.ids, tuple(ids)): prompt.continued(ids)
        for prompt, continuations in asked
        for ids in continuations
        if ids
    }
    keys = sorted(wholes, key=lambda key: len(wholes[key].ids))
    most = min(batch_tokens(model), _MOST_LOGITS // model.n_tokens)
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    for some in batches([len(wholes[key].ids) for key in keys], most):
        # Padded on the left, so that all end together.
        longest = max(len(keys[row][1]) for row in some)
        batch = batch_of(model, [wholes[keys[row]] for row in some], left=True)
        logits: Tensor = model.model(
            **batch.inputs(), use_cache=False, logits_to_keep=longest + 1
        ).logits[:, :-1]
        chosen = logits.float().log_softmax(2).gather(2, batch.ids[:, -longest:, None])[..., 0]
        for row, values in zip(some, chosen, strict=True):
            found[keys[row]] = float(values[-len(keys[row][1]) :].mean().neg().exp())
    return [
        [found.get((prompt.ids, tuple(ids))) for ids in continuations]
        for prompt, continuations in asked
    ]


def _log_probabilities(
    model: LoadedModel,
    prompt: EncodedPrompt,
    continuations: Sequence[Sequence[int]],
    prefix: Prefix,
) -> list[Float[Tensor, " token"]]:
    """Of every token of the continuations, read side by side after the prefix."""
    spec = model.family.vision_spec
    wholes = [
        prompt.continued(ids, 0 if spec is None else spec.answer_type) for ids in continuations
    ]
    batch = batch_of(model, wholes, left=False).after(prefix.length)
    longest = max(map(len, continuations))
    logits: Tensor = model.model(
        **batch.inputs(), **prefix.rows(len(wholes)), logits_to_keep=longest + 1
    ).logits[:, :-1]
    chosen = logits.float().log_softmax(2).gather(2, batch.ids[:, -longest:, None])[..., 0]
    return [row[: len(ids)] for row, ids in zip(chosen, continuations, strict=True)]
