"""How likely a text is for the model under factors: prompts with their answers, read at once.

The log-probability of what should be said moves smoothly with every head, where an exact match
jumps. Knows nothing of concepts and arms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from headviz.base.shapes import Bool, Float, Tensor
from headviz.heads.forward import Batch, batch_of
from headviz.heads.hooks import projection_inputs
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.inputs.concepts import in_sentence_ids
from headviz.models.loaded import LoadedModel
from headviz.studies.samples import Sample, StudyError

ROW_TOKENS = {"cpu": 2048, "cuda": 32768}
"""Tokens of a batch, padding counted, at most: on a processor as many as its caches like (a row of
tiny-lm took 18 ms in batches of 3,000 tokens, 32 ms in batches of 16,000)."""
_LOGITS = 2**27  # numbers in a batch's logits at most: half a gibibyte in float32


@dataclass(frozen=True)
class Forced:
    """A prompt with what is read after it."""

    prompt: EncodedPrompt
    scored: tuple[bool, ...]
    """The tokens whose probability counts."""


def force(model: LoadedModel, sample: Sample) -> Forced:
    """The sample's first answer after its prompt; without an answer, the prompt's own words.

    Raises StudyError where that leaves no token to score.
    """
    encoded = encode_prompt(model, sample.prompt, 0, sample.pictures)
    if sample.answers:
        ids = in_sentence_ids(sample.answers[0], model.tokenizer)
        vision_spec = model.family.vision_spec
        whole = encoded.continued(ids, 0 if vision_spec is None else vision_spec.answer_type)
        scored = (*[False] * len(encoded.ids), *[True] * len(ids))
    else:
        whole, scored = encoded, (False, *encoded.own[1:])
    if not any(scored):
        raise StudyError(f"{sample.prompt[:30]!r}… leaves no token to score. Leave it out.")
    return Forced(whole, scored)


def row_tokens(model: LoadedModel) -> int:
    """Tokens of a batch at most, padding counted."""
    return ROW_TOKENS.get(model.device.type, 8192)


def planned(
    model: LoadedModel, forced: Sequence[Forced], rows_each: int = 1
) -> Iterator[list[int]]:
    """Numbers of samples that go into one batch, of like length, each of them `rows_each` times.

    A single sample may be more than a batch should hold; the caller then runs it in parts.
    """
    vocabulary = model.model.get_output_embeddings().weight.shape[0]
    most = min(row_tokens(model), _LOGITS // vocabulary)
    rows: list[int] = []
    for number in sorted(range(len(forced)), key=lambda n: len(forced[n].prompt.ids)):
        if rows and len(forced[number].prompt.ids) * (len(rows) + 1) * rows_each > most:
            yield rows
            rows = []
        rows.append(number)
    if rows:
        yield rows


def read(
    model: LoadedModel, forced: Sequence[Forced]
) -> tuple[Batch, Bool[Tensor, "row position"]]:
    """A batch padded on the right, and the tokens that are scored."""
    batch = batch_of(model, [f.prompt for f in forced], left=False)
    scored = torch.zeros_like(batch.image)
    for row, f in enumerate(forced):
        scored[row, : len(f.scored)] = torch.tensor(f.scored, device=model.device)
    return batch, scored


def log_probability(
    model: LoadedModel,
    batch: Batch,
    scored: Bool[Tensor, "row position"],
    table: Float[Tensor, "row layer head"],
) -> Float[Tensor, " row"]:
    """Mean log-probability of each row's scored tokens with the factors of its row.

    A gradient flows into `table` where it asks for one.
    """
    wide = table.repeat_interleave(model.d_head, dim=2)[:, :, None]

    def scale(layer: int, signals: Tensor) -> Tensor:
        return signals * wide[:, layer]

    with projection_inputs(model, scale):
        logits = model.model(**batch.inputs(), use_cache=False).logits[:, :-1].float()
    chosen = logits.log_softmax(2).gather(2, batch.ids[:, 1:, None])[:, :, 0]
    weights = scored[:, 1:].float()
    return (chosen * weights).sum(1) / weights.sum(1)
