"""Measures smol-vlm: its captions and short answers on held-out pictures, and how English it stays.

Everything that is said comes through the public functions of the core, as on the page. Writes
nothing; `card` does.
"""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from headviz.base.errors import PictureError
from headviz.base.head import Head
from headviz.editing.control import matched_control
from headviz.editing.generate import Sampling, generate
from headviz.heads.edits import NO_EDIT, Edit
from headviz.inputs.images import open_picture
from headviz.models.loaded import LoadedModel
from toyworld.pictures.content import Picture, pictures
from toyworld.pictures.drawing import draw
from toyworld.pictures.head_assignment import concepts_in
from toyworld.pictures.speaking import CoreSpeaker
from toyworld.pictures.words import CONCEPTS
from toyworld.smol.processor import END
from toyworld.smol.reading import answers_match, caption_claims, plain
from toyworld.smol.texts import SUMMONS, Question, questions

BATCH = 30
MOST_TOKENS = 40
HEADS_SEED = 31
DRAWS = 2  # of other heads
_SEVERAL = ("two", "three", "four", "five")


@dataclass(frozen=True)
class Line:
    """How captions fared with one concept."""

    named: int
    """Captions that claim something of it."""
    right: float
    """Share of them in which every such claim is right."""
    claims: int
    claims_right: float
    """Share of single claims that are right."""


def say(
    model: LoadedModel,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    edit: Edit = NO_EDIT,
) -> list[str]:
    """What the model says about each image, greedily."""
    said: list[str] = []
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        seen = [(open_picture(image),) for image in images[rows]]
        sampling = Sampling(MOST_TOKENS)
        edits = [edit] * len(seen)
        *_, last = generate(model, prompts[rows], edits, sampling, pictures=seen)
        said += last.texts
    return said


def held_out(n: int, seed: int) -> list[Picture]:
    """`n` pictures of combinations that training never saw."""
    return list(itertools.islice(pictures(seed, held_out=True), n))


def captions(model: LoadedModel, shown: Sequence[Picture], edit: Edit = NO_EDIT) -> list[str]:
    """What the model says to "Describe the picture."."""
    return say(model, [draw(picture) for picture in shown], [SUMMONS[0]] * len(shown), edit)


def mark(texts: Sequence[str], shown: Sequence[Picture]) -> dict[str, Line]:
    """Concept -> how the captions fared; `several` are numbers from two on."""
    each: dict[str, list[list[bool]]] = defaultdict(list)
    for text, picture in zip(texts, shown, strict=True):
        found: dict[str, list[bool]] = defaultdict(list)
        for concept, ok in caption_claims(text, picture):
            found[concept].append(ok)
        if found["numbers"] and set(plain(text).split()) & set(_SEVERAL):
            found["several"] = found["numbers"]
        for concept, oks in found.items():
            if oks:
                each[concept].append(oks)
    return {concept: _line(each[concept]) for concept in (*CONCEPTS, "several")}


def _line(captions: Sequence[Sequence[bool]]) -> Line:
    every = [ok for oks in captions for ok in oks]
    right = sum(all(oks) for oks in captions) / len(captions) if captions else math.nan
    return Line(len(captions), right, len(every), sum(every) / len(every) if every else math.nan)


@dataclass(frozen=True)
class Asked:
    """A question about a picture, and what was answered."""

    question: Question
    said: str

    @property
    def is_right(self) -> bool:
        """Whether it is the answer, but for capitals and the stop."""
        return answers_match(self.said, self.question.answer)


def answers(model: LoadedModel, n: int, seed: int) -> dict[str, list[Asked]]:
    """Concept -> `n` questions about held-out pictures, a picture each."""
    found: dict[str, list[tuple[Picture, Question]]] = {}
    for concept in CONCEPTS:
        rng = random.Random(f"asked {concept} {seed}")
        found[concept] = []
        for picture in pictures(seed, held_out=True):
            fitting = [q for q in questions(picture, rng) if q.concept == concept]
            if fitting:
                found[concept].append((picture, rng.choice(fitting)))
            if len(found[concept]) == n:
                break
    every = [pair for pairs in found.values() for pair in pairs]
    said = iter(say(model, [draw(p) for p, _ in every], [q.text for _, q in every]))
    return {c: [Asked(q, next(said)) for _, q in pairs] for c, pairs in found.items()}


@torch.inference_mode()
def perplexity(model: LoadedModel, texts: Sequence[str]) -> float:
    """Of the texts, each behind the mark that begins one, as the language model alone reads them.

    `model`: smol-vlm, whose language model is smollm2-135m's, or that itself.
    """
    loss, n_tokens = 0.0, 0
    begin = model.tokenizer.bos_token_id
    end = model.tokenizer.convert_tokens_to_ids(END)
    for text in texts:
        ids = model.tokenizer.encode(text.strip(), add_special_tokens=False)
        row = torch.tensor([[begin, *ids, end]], device=model.device)
        logits = model.model(input_ids=row, use_cache=False).logits[0, :-2].float()
        loss += float(torch.nn.functional.cross_entropy(logits, row[0, 1:-1], reduction="sum"))
        n_tokens += len(ids)
    return math.exp(loss / n_tokens)


@dataclass(frozen=True)
class Turned:
    """What captions are like with some heads turned."""

    heads: str
    words: int
    """Of the concept, in all captions together."""
    others_right: float
    """Share of the claims about other concepts that are right."""
    perplexity: float


@dataclass(frozen=True)
class FirstHeads:
    """The first heads of a ranking, and what captions are like without them."""

    concept: str
    ranked: tuple[tuple[str, float, float], ...]
    """Head, score and chance level of the first ones."""
    original: Turned
    edited: Turned
    controls: tuple[Turned, ...]
    """Random other heads of the same layers."""


def first_heads(
    model: LoadedModel, speaker: CoreSpeaker, concept: str, n_heads: int, factor: float, n: int
) -> FirstHeads:
    """Turn the first `n_heads` of the concept's ranking, on `n` held-out pictures that show it."""
    ranking = speaker.rank(concept)
    stream = (p for p in pictures(HEADS_SEED, held_out=True) if concept in concepts_in(p))
    shown = list(itertools.islice(stream, n))
    heads = ranking.top(n_heads)
    others = [
        matched_control(heads, range(model.n_layers), model.n_heads, seed) for seed in range(DRAWS)
    ]

    def turned(some: Sequence[Head]) -> Turned:
        said = captions(model, shown, Edit.of(some, factor) if some else NO_EDIT)
        made = [
            ok
            for text, picture in zip(said, shown, strict=True)
            for about, ok in caption_claims(text, picture)
            if about != concept
        ]
        right = sum(made) / len(made) if made else math.nan
        names = " ".join(map(str, some))
        spoken = [text for text in said if text.strip()]
        english = perplexity(model, spoken) if spoken else math.nan
        return Turned(names, words_said(said)[concept], right, english)

    told = tuple((str(h.head), h.score, h.chance) for h in ranking.heads[:n_heads])
    controls = tuple(turned(some) for some in others)
    return FirstHeads(concept, told, turned(()), turned(heads), controls)


def words_said(texts: Sequence[str]) -> Mapping[str, int]:
    """Concept -> how many of its words the captions say."""
    found: dict[str, int] = dict.fromkeys(CONCEPTS, 0)
    for text in texts:
        for word in plain(text).split():
            for concept, own in CONCEPTS.items():
                found[concept] += word in own
    return found


def photographs() -> list[tuple[str, Image.Image]]:
    """The two photographs that scikit-learn ships, by name.

    Raises:
        PictureError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise PictureError(
            "The card's photographs come with scikit-learn: pip install scikit-learn."
        ) from None
    found: Any = load_sample_images()
    return [
        (str(name).rpartition("/")[2], Image.fromarray(pixels))
        for name, pixels in zip(found.filenames, found.images, strict=True)
    ]
