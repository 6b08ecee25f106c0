"""Measures the contrastive model of the drawn world on pictures that training never saw.

Zero-shot answers, phrases told apart, captions found again, and what editing heads does to the
answers. Writes nothing.
"""

import itertools
import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from headviz.clip.embed import embed_images, embed_texts, fill
from headviz.clip.load import ClipModel
from headviz.clip.word_vocabulary import capture_images, tower_model
from headviz.clip.zero_shot import ZeroShotRequest, zero_shot
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept, tokenize_concept
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import rank_heads
from toyworld.clip_texts import PHRASES, PROMPTS, WORDS, phrase, shown
from toyworld.pictures.captions import EVERYTHING, caption
from toyworld.pictures.content import pictures
from toyworld.pictures.drawing import draw
from toyworld.pictures.words import COLORS

SCENES = ("colors", "shapes", "digits", "numbers", "sizes", "backgrounds")
"""Concepts that are measured on scenes; the others come in pictures of a sort of their own."""
RANKED = 240  # training pictures that heads are ranked on
KS = (1, 2, 4)  # heads edited
FACTOR = -1.0
CONTROLS = 3  # draws of the random control
TEST_SEED, RANK_SEED = 2026, 7


@dataclass(frozen=True)
class Task:
    """Pictures for which a concept has one right word."""

    concept: str
    images: tuple[Image.Image, ...]
    truth: tuple[str, ...]


def tasks(n: int, seed: int = TEST_SEED) -> dict[str, Task]:
    """`n` held-out pictures for each concept."""
    found: dict[str, list[tuple[Image.Image, str]]] = {concept: [] for concept in WORDS}
    for picture in pictures(seed, held_out=True):
        for concept, words in shown(picture).items():
            fits = picture.sort == "scene" or concept not in SCENES
            if fits and len(words) == 1 and len(found[concept]) < n:
                found[concept].append((draw(picture), next(iter(words))))
        if all(len(pairs) == n for pairs in found.values()):
            break
    return {c: Task(c, *map(tuple, zip(*pairs, strict=True))) for c, pairs in found.items()}


def answered(clip: ClipModel, tower: LoadedModel, task: Task, edit: Edit) -> dict[str, float]:
    """Share of right answers: original, edited, and the median of the controls."""
    runs = [
        zero_shot(
            clip,
            tower,
            ZeroShotRequest(
                images=task.images,
                classes=WORDS[task.concept],
                edit=edit,
                control_seed=seed,
                templates=(PROMPTS[task.concept],),
            ),
        ).accuracy(task.truth)
        for seed in range(CONTROLS if edit.factors else 1)
    ]
    control = statistics.median(run["control"] for run in runs)
    return {"original": runs[0]["original"], "edited": runs[0]["edited"], "control": control}


def zero_shot_accuracy(
    clip: ClipModel, tower: LoadedModel, asked: Mapping[str, Task]
) -> dict[str, float]:
    """Concept -> share of right answers, unedited."""
    return {c: answered(clip, tower, task, Edit())["original"] for c, task in asked.items()}


def phrase_accuracy(clip: ClipModel, n: int, seed: int = TEST_SEED) -> float:
    """Of held-out scenes with two kinds of things, how often each thing's own color wins.

    The phrases differ in the color alone: "a red circle", "a blue circle", ...
    """
    scenes = pictures(seed, held_out=True, sort="scene")
    two = (p for p in scenes if len(p.groups) == 2 and p.groups[0].noun != p.groups[1].noun)
    chosen = list(itertools.islice(two, n))
    seen = embed_images(clip, [draw(picture) for picture in chosen])
    read = dict(zip(PHRASES, embed_texts(clip, PHRASES), strict=True))
    found = []
    for picture, row in zip(chosen, seen, strict=True):
        for group in picture.groups:
            texts = [fill("a {}", f"{color} {group.noun}") for color in COLORS]
            best = int((torch.stack([read[text] for text in texts]) @ row).argmax())
            found.append(texts[best] == phrase(group))
    return sum(found) / len(found)


def caption_accuracy(clip: ClipModel, n: int, seed: int = TEST_SEED) -> float:
    """How often a held-out picture's full caption is the most similar of all `n` captions."""
    chosen = list(itertools.islice(pictures(seed, held_out=True), n))
    texts = [caption(picture, random.Random(0), EVERYTHING) for picture in chosen]
    scores = embed_images(clip, [draw(p) for p in chosen]) @ embed_texts(clip, texts).T
    return sum(texts[i] == text for i, text in zip(scores.argmax(1), texts, strict=True)) / n


def edits(clip: ClipModel, tower: LoadedModel, asked: Mapping[str, Task]) -> dict[str, Any]:
    """Concept -> its heads, and the answers when the first 1, 2 and 4 run with FACTOR."""
    training = itertools.islice(pictures(RANK_SEED), RANKED)
    activations = capture_images(clip, tower, [draw(picture) for picture in training])
    found: dict[str, Any] = {}
    for concept, words in WORDS.items():
        tokens = tokenize_concept(make_concept(concept, words), tower.tokenizer)
        ranking = rank_heads(tower, activations, tokens)
        found[concept] = {
            "heads": [
                {"head": str(h.head), "score": h.score, "chance": h.chance}
                for h in ranking.heads[: max(KS)]
            ],
            "edits": [
                _one_edit(clip, tower, asked, concept, Edit.of(ranking.top(k), FACTOR)) for k in KS
            ],
        }
    return found


def _one_edit(
    clip: ClipModel, tower: LoadedModel, asked: Mapping[str, Task], concept: str, edit: Edit
) -> dict[str, Any]:
    others = [answered(clip, tower, task, edit) for c, task in asked.items() if c != concept]
    kept = [a["edited"] / a["original"] for a in others if a["original"]]
    return {
        "edit": str(edit),
        "own": answered(clip, tower, asked[concept], edit),
        "others_kept": statistics.mean(kept),
    }


def words_tower(clip: ClipModel) -> LoadedModel:
    """The image tower with all words of the drawn world as its vocabulary."""
    return tower_model(clip, [word for words in WORDS.values() for word in words])
