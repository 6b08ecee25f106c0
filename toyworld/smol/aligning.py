"""The first part of the training: image tokens are drawn to the embeddings of words.

No language model runs. What `layout` says of a picture becomes vectors: the embedding of a word, or
of several the mean embedding plus what each has beside that mean. The loss is on image tokens, not
on heads: it says what the language model gets to read, and nothing of what it does with it.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from headviz.base.shapes import Float, Int, Tensor
from toyworld.pictures.content import Picture
from toyworld.pictures.words import (
    BACKGROUNDS,
    COLORS,
    DIGITS,
    MOODS,
    NUMBERS,
    SHAPES,
    SIZES,
    TEXTURES,
)
from toyworld.smol.layout import RELATIONS, image_words

WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *COLORS,
            *NUMBERS,
            *(word for pair in SHAPES.items() for word in pair),
            "face",
            "faces",
            *DIGITS,
            *MOODS,
            *TEXTURES,
            *SIZES,
            *BACKGROUNDS,
            "on",
            *RELATIONS.values(),
        ]
    )
)
"""Every word that an image token may stand for."""
_SHARPNESS = 2.0  # of the softmax over words


class WordVectors(nn.Module):
    """The language model's embeddings of WORDS. Nothing in it is trained."""

    mean: Float[Tensor, " d_model"]
    beside: Float[Tensor, "word d_model"]

    def __init__(
        self,
        embeddings: Float[Tensor, "vocab d_model"],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """From all embeddings of a language model, and its tokenizer."""
        super().__init__()
        mean = embeddings.mean(0)
        vectors = torch.stack([_vector(word, embeddings, tokenizer) for word in WORDS])
        self.register_buffer("mean", mean)
        self.register_buffer("beside", vectors - mean)

    def targets(
        self, words: Int[Tensor, "row token word"]
    ) -> tuple[Float[Tensor, "row token d_model"], Float[Tensor, "row token word_class"]]:
        """The vector of each image token, and its words as shares; -1 stands for no word."""
        there = (words >= 0).float().unsqueeze(-1)
        one_hot = nn.functional.one_hot(words.clamp_min(0), len(WORDS)) * there
        held = one_hot.sum(2)
        return self.mean + held @ self.beside, held / held.sum(-1, keepdim=True)

    def loss(
        self,
        seen: Float[Tensor, "row token d_model"],
        words: Int[Tensor, "row token word"],
    ) -> tuple[Tensor, Float[Tensor, " token"]]:
        """How far image tokens are from their words; how often the nearest word is one of them."""
        target, shares = self.targets(words)
        far = (seen - target).pow(2).mean() / self.beside.pow(2).mean()
        scores = _SHARPNESS * (seen - self.mean) @ self.beside.T
        scores = scores - _SHARPNESS / 2 * self.beside.pow(2).sum(1)
        told = -(shares * scores.log_softmax(-1)).sum(-1).mean()
        best = scores.argmax(-1, keepdim=True)
        right = (shares.gather(-1, best) > 0).float().mean((0, 2))
        return far + told, right


def _vector(
    word: str, embeddings: Float[Tensor, "vocab d_model"], tokenizer: PreTrainedTokenizerBase
) -> Float[Tensor, " d_model"]:
    """The embedding behind a space; of a word of several tokens their mean."""
    text = word if word.isdigit() else f" {word}"  # SmolLM2 has no token for a space with a digit
    return embeddings[tokenizer.encode(text, add_special_tokens=False)].mean(0)


_NUMBER_OF = {word: number for number, word in enumerate(WORDS)}


def word_ids(pictures: Sequence[Picture]) -> Int[Tensor, "row token word"]:
    """What each image token of each picture stands for: numbers in WORDS, at most two, else -1."""
    rows = []
    for picture in pictures:
        ids = [[_NUMBER_OF[word] for word in words] for words in image_words(picture)]
        rows.append([(*one, -1)[:2] for one in ids])
    return torch.tensor(rows)
