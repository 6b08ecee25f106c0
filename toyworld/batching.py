"""Documents -> batches of token ids, labels and weights. Knows nothing of the model."""

import itertools
import random
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from toyworld.documents import Piece, training_documents
from toyworld.schedule import Schedule

CHUNK = 16  # batches that are made together, so that documents of like length can share a batch
IGNORED = -100  # a label without a loss


def encode(pieces: list[Piece], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[bool]]:
    """Token ids of a document with its start and end marks, and which of them are answers."""
    ids, answers = [tokenizer.bos_token_id], [False]
    for piece in pieces:
        new = tokenizer.encode(piece.text, add_special_tokens=False)
        ids += new
        answers += [piece.is_answer] * len(new)
    return [*ids, tokenizer.eos_token_id], [*answers, False]


def batches(
    schedule: Schedule, tokenizer: PreTrainedTokenizerFast, start: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless (ids, labels, weights), each `row token`, from step `start` on."""
    for chunk in itertools.count(start // CHUNK):
        documents = itertools.islice(
            training_documents(
                schedule.seed * 1_000_000 + chunk + 1, harder=chunk * CHUNK >= schedule.harder_from
            ),
            CHUNK * schedule.batch,
        )
        coded = sorted(
            (encode(document, tokenizer) for document in documents), key=lambda pair: len(pair[0])
        )
        groups = [coded[i : i + schedule.batch] for i in range(0, len(coded), schedule.batch)]
        random.Random(chunk).shuffle(groups)
        for group in groups[start - chunk * CHUNK if chunk == start // CHUNK else 0 :]:
            yield _collate(group, schedule, tokenizer.pad_token_id)


def _collate(
    group: list[tuple[list[int], list[bool]]], schedule: Schedule, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), longest), pad)
    labels = torch.full((len(group), longest), IGNORED)
    weights = torch.ones(len(group), longest)
    for row, (tokens, answers) in enumerate(group):
        ids[row, : len(tokens)] = labels[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(tokens)][torch.tensor(answers)] = schedule.answer_weight
    return ids, labels, weights
