"""Rows to train on: a picture, then captions and answers that do not see one another.

A row is a tree. Its root is the chat's opening and the picture; every prompt sees the root, every
caption or answer its own prompt and the root, so what costs most, the picture's tokens, is read
once. Positions go on as if nothing stood between. Knows no model.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from headviz.base.shapes import Bool, Int, Tensor
from toyworld.pictures.content import Picture
from toyworld.smol.processor import ANSWER, END, IMAGE_TOKEN, N_IMAGE, OPENING
from toyworld.smol.texts import SUMMONS, caption, questions

SUMMONS_WEIGHTS = (4, 1, 2, 1, 1, 1)
QUESTION_WEIGHTS: Mapping[str, float] = {
    "positions": 3.0,
    "numbers": 2.5,
    "textures": 1.3,
    "shapes": 1.2,
    "sizes": 1.2,
    "colors": 0.8,
    "backgrounds": 0.3,
}
"""Concept -> how readily it is asked about, 1 for others: some are hard, some known at once."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of equal length."""

    ids: Int[Tensor, "row token"]
    mask: Bool[Tensor, "row 1 token token"]
    """Who sees whom."""
    positions: Int[Tensor, "row token"]
    places: Int[Tensor, "said 2"]
    """Row and token behind which something is said; the end of a prompt is there several times."""
    targets: Int[Tensor, " said"]
    """What is said there."""


@dataclass(frozen=True)
class _Node:
    """Tokens that follow those of their parent."""

    ids: list[int]
    parent: int
    is_said: bool


class Writer:
    """Writes rows with a tokenizer."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, n_captions: int, n_questions: int
    ) -> None:
        """So many captions and questions a picture, as far as there are so many."""
        self.tokenizer, self.n_captions, self.n_questions = tokenizer, n_captions, n_questions
        image = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.root = [*self._encode(OPENING), *[image] * N_IMAGE]
        self.first_image = len(self.root) - N_IMAGE

    def batch(self, pictures: Sequence[Picture], rng: random.Random) -> Batch:
        """A row for each picture."""
        return self._collate([self._nodes(picture, rng) for picture in pictures])

    def _nodes(self, picture: Picture, rng: random.Random) -> list[_Node]:
        found = [_Node(self.root, -1, False)]
        summons = rng.choices(SUMMONS, SUMMONS_WEIGHTS)[0]
        said = [caption(picture, rng) for _ in range(self.n_captions)]
        self._add(found, summons, said)
        # Drawn by weight, none twice: the largest of random numbers, each to the power 1 / weight.
        asked = sorted(
            questions(picture, rng),
            key=lambda q: rng.random() ** (1 / QUESTION_WEIGHTS.get(q.concept, 1.0)),
        )
        for question in asked[-self.n_questions :]:
            self._add(found, question.text, [question.said])
        return found

    def _add(self, nodes: list[_Node], prompt: str, said: Sequence[str]) -> None:
        nodes.append(_Node(self._encode(prompt + ANSWER), 0, False))
        parent = len(nodes) - 1
        nodes += [_Node(self._encode(text + END), parent, True) for text in said]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _collate(self, rows: Sequence[list[_Node]]) -> Batch:
        length = max(sum(len(node.ids) for node in row) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        # Padding sees itself alone: a row of the mask without a True would be nan.
        mask = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
        positions = torch.zeros(len(rows), length, dtype=torch.long)
        said: list[tuple[int, int, int]] = []  # row, token, what comes next
        for row, nodes in enumerate(rows):
            spans: list[tuple[int, int]] = []
            start = 0
            for node in nodes:
                end = start + len(node.ids)
                ids[row, start:end] = torch.tensor(node.ids)
                begins = 0
                if node.parent >= 0:
                    last = spans[node.parent][1]
                    begins = int(positions[row, last - 1]) + 1
                    mask[row, start:end] |= mask[row, last - 1]
                mask[row, start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
                positions[row, start:end] = torch.arange(begins, begins + end - start)
                if node.is_said:
                    last = spans[node.parent][1] - 1
                    before = [last, *range(start, end - 1)]
                    said += [(row, at, token) for at, token in zip(before, node.ids, strict=True)]
                spans.append((start, end))
                start = end
        told = torch.tensor(said)
        return Batch(ids, mask[:, None], positions, told[:, :2], told[:, 2])
