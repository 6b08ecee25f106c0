"""Rows to train on: a picture, followed by captions and questions that do not see one another.

All that is said about a picture shares the picture's tokens: an attention mask keeps the segments
apart, and each segment's positions start right after the picture. A row may say that the concept of
edited heads is to be forgotten, or mentioned always; its targets then follow. Knows no model.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from headviz.base.shapes import Bool, Float, Int, Tensor
from toyworld.batching import IGNORED
from toyworld.pictures.captions import RATES, SUMMONS, caption
from toyworld.pictures.content import Picture
from toyworld.pictures.drawing import SIDE, draw
from toyworld.pictures.processor import ANSWER, IMAGE_TOKEN, N_PATCHES
from toyworld.pictures.questions import Question, questions
from toyworld.pictures.words import CONCEPTS

PREFIX = 1 + N_PATCHES  # the start mark and the picture
CAPTION_SHARE = 0.45  # of the segments are captions
SUMMONS_WEIGHTS = (2, 1, 2)
SIDES = (SIDE, SIDE, SIDE, 2 * SIDE, 5 * SIDE)  # larger drawings are scaled down, as uploads are
PADDING = -1


@dataclass(frozen=True)
class Twist:
    """How a row's heads are edited, and what that shall do to what is said."""

    factors: Mapping[tuple[int, int], float] = field(default_factory=dict)  # (layer, index) ->
    forgotten: frozenset[str] = frozenset()  # concepts
    enhanced: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of equal length."""

    pixels: Float[Tensor, "row 3 side side"]
    ids: Int[Tensor, "row token"]
    labels: Int[Tensor, "row token"]
    """IGNORED but for captions and answers."""
    weights: Float[Tensor, "row token"]
    segments: Int[Tensor, "row token"]
    """0 for the picture, then 1, 2, ... for what is said, PADDING after it."""
    positions: Int[Tensor, "row token"]

    @property
    def mask(self) -> Bool[Tensor, "row 1 token token"]:
        """Who sees whom: the past of the own segment, and the picture."""
        n_tokens = self.ids.shape[1]
        past = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=self.ids.device).tril()
        same = self.segments[:, :, None] == self.segments[:, None, :]
        return ((same | (self.segments == 0)[:, None, :]) & past)[:, None]

    def to(self, device: str) -> "Batch":
        """The same on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class _Segment:
    prompt: list[int]
    answer: list[int]
    weight: float


def pixels_of(image: Image.Image) -> Float[Tensor, "3 side side"]:
    """As the image processor gives them, for a picture that has its size already."""
    return torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)


class Writer:
    """Writes rows of a given room with a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, room: int, answer_weight: float) -> None:
        """`room`: tokens that a row has for what is said."""
        self.tokenizer, self.room, self.answer_weight = tokenizer, room, answer_weight
        image = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.prefix = [tokenizer.bos_token_id] + [image] * N_PATCHES

    def batch(
        self,
        pictures: Sequence[Picture],
        twists: Sequence[Twist],
        rng: random.Random,
        rates: Mapping[str, float] = RATES,
    ) -> Batch:
        """A row for each picture."""
        rows = [
            self._segments(picture, twist, rng, rates)
            for picture, twist in zip(pictures, twists, strict=True)
        ]
        length = PREFIX + max(sum(len(s.prompt) + len(s.answer) for s in row) for row in rows)
        images = [draw(picture, rng.choice(SIDES)) for picture in pictures]
        pixels = [
            pixels_of(i.resize((SIDE, SIDE), rng.choice(list(Image.Resampling)[1:])))
            for i in images
        ]
        return self._collate(torch.stack(pixels), rows, length)

    def _segments(
        self, picture: Picture, twist: Twist, rng: random.Random, rates: Mapping[str, float]
    ) -> list[_Segment]:
        rates = {
            **rates,
            **dict.fromkeys(twist.forgotten, 0.0),
            **dict.fromkeys(twist.enhanced, 1.0),
        }
        asked = [q for q in questions(picture, rng) if not _gives_away(q, twist.forgotten)]
        found: list[_Segment] = []
        left = self.room
        while True:
            if not asked or rng.random() < CAPTION_SHARE:
                summons = rng.choices(SUMMONS, SUMMONS_WEIGHTS)[0]
                segment = self._segment(summons, caption(picture, rng, rates), 1.0)
            else:
                question = asked.pop(rng.randrange(len(asked)))
                answer = question.answer
                if question.concept in twist.forgotten:
                    answer = rng.choice(CONCEPTS[question.concept])
                segment = self._segment(question.text, f"{answer}.", self.answer_weight)
            left -= len(segment.prompt) + len(segment.answer)
            if left < 0 and found:
                return found
            found.append(segment)

    def _segment(self, prompt: str, answer: str, weight: float) -> _Segment:
        end = [self.tokenizer.eos_token_id]
        asked, said = self._encode(f" {prompt}{ANSWER}"), self._encode(f" {answer}")
        return _Segment(asked, said + end, weight)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _collate(
        self, pixels: Float[Tensor, "row 3 side side"], rows: list[list[_Segment]], length: int
    ) -> Batch:
        shape = (len(rows), length)
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        labels = torch.full(shape, IGNORED)
        weights = torch.ones(shape)
        segments = torch.full(shape, PADDING)
        positions = torch.zeros(shape, dtype=torch.long)
        ids[:, :PREFIX] = torch.tensor(self.prefix)
        segments[:, :PREFIX] = 0
        positions[:, :PREFIX] = torch.arange(PREFIX)
        for row, said in enumerate(rows):
            start = PREFIX
            for number, segment in enumerate(said, 1):
                answer = start + len(segment.prompt)
                end = answer + len(segment.answer)
                ids[row, start:end] = torch.tensor(segment.prompt + segment.answer)
                labels[row, answer:end] = torch.tensor(segment.answer)
                weights[row, answer:end] = segment.weight
                segments[row, start:end] = number
                positions[row, start:end] = torch.arange(PREFIX, PREFIX + end - start)
                start = end
        return Batch(pixels, ids, labels, weights, segments, positions)


def _gives_away(question: Question, forgotten: frozenset[str]) -> bool:
    """Whether the question itself names what is forgotten: then its answer is not at stake."""
    said = set(re.findall(r"\w+", question.text))
    return any(said & set(CONCEPTS[concept]) for concept in forgotten - {question.concept})
