"""CLIP's zero-shot answer with and without an edit of its image tower's heads.

Original, edited and control run side by side in one batch: each image is three rows with factors
of their own. No effect is shown without its control.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from headviz.base.errors import ConceptError, OptionError, PromptError
from headviz.base.shapes import Float, Tensor
from headviz.base.store import Store
from headviz.clip.embed import embed_texts
from headviz.clip.load import ClipModel
from headviz.clip.word_vocabulary import BATCH, pixels_of
from headviz.editing.control import control_of
from headviz.heads.edits import NO_EDIT, Edit, applied, factor_table
from headviz.models.loaded import LoadedModel

CLASS_TEMPLATES = ("a photo of {}",)


def classes_of(clip: ClipModel, named: str, words: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes that a person named, separated by commas; if none, the words the model knows."""
    classes = tuple(name.strip() for name in named.split(",") if name.strip())
    return classes or tuple(word for word in words if clip.knows(word))


@dataclass(frozen=True, eq=False)
class ZeroShotRequest:
    """Pictures, the classes to choose from, and the edit of the image tower."""

    images: Sequence[Image.Image] = field(repr=False)
    """One or more."""
    classes: Sequence[str]
    """Names that fill the templates; at least two."""
    edit: Edit = NO_EDIT
    control: bool = True
    """Also edit as many random other heads of the same layers."""
    control_seed: int = 0
    """Which ones."""
    templates: Sequence[str] = CLASS_TEMPLATES
    """Sentences with a {} for the class; their embeddings are averaged."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What the model takes the images for, under one edit."""

    name: str
    """original, edited or control."""
    edit: str
    """As on the command line, '' for the original."""
    probabilities: Float[Tensor, "image class"]
    """Softmax over the classes of logit scale · cosine; each row sums to 1."""


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """The answers of original, edited and control over the same images and classes."""

    model: str
    revision: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    answers: tuple[Answers, ...]

    def accuracy(self, truth: Sequence[str]) -> dict[str, float]:
        """Share of the images whose likeliest class is the true one, by the answers' names."""
        right = torch.tensor([self.classes.index(name) for name in truth])
        return {
            a.name: float((a.probabilities.argmax(1) == right).float().mean()) for a in self.answers
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "classes": list(self.classes),
            "templates": list(self.templates),
            "answers": [
                {"name": a.name, "edit": a.edit, "probabilities": a.probabilities.tolist()}
                for a in self.answers
            ],
        }


@torch.inference_mode()
def zero_shot(
    clip: ClipModel, tower: LoadedModel, asked: ZeroShotRequest, store: Store | None = None
) -> ZeroShot:
    """Probabilities of the classes for each image: original, edited, and the matched control.

    Args:
        clip: the model.
        tower: its image tower (`word_vocabulary.tower_model`), whose heads the edit names.
        asked: pictures, classes and edit.
        store: where text embeddings are kept.

    Raises:
        PromptError: where there is no image.
        ConceptError: for fewer than two classes, or the same one twice.
        OptionError: for a head that the tower does not have, a layer without heads left, or an
            edit that holds only in places.
    """
    images, classes, edit = asked.images, asked.classes, asked.edit
    if not images:
        raise PromptError("No image given. Add at least one.")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ConceptError("Name at least two different classes to choose from.")
    if edit.where != "everywhere":
        raise OptionError("An image tower has no prompt and no answer: edit it everywhere.")
    edits = {"original": NO_EDIT, "edited": edit}
    if asked.control:
        edits["control"] = control_of(tower, edit, asked.control_seed)
    texts = embed_texts(clip, classes, asked.templates, store).to(clip.device)
    table = factor_table(tower, list(edits.values()))
    parts = []
    for start in range(0, len(images), max(1, BATCH // len(edits))):
        pixels = pixels_of(clip, images[start : start + max(1, BATCH // len(edits))])
        rows = pixels.repeat_interleave(len(edits), 0)
        with applied(tower, table.repeat(len(pixels), 1, 1)):
            embeddings = tower.model.embed(rows)
        parts.append((tower.model.scale * embeddings @ texts.T).softmax(1).cpu())
    found = torch.cat(parts).unflatten(0, (len(images), len(edits)))
    return ZeroShot(
        model=clip.name,
        revision=clip.revision,
        classes=tuple(classes),
        templates=tuple(asked.templates),
        answers=tuple(
            Answers(name, str(e), found[:, n]) for n, (name, e) in enumerate(edits.items())
        ),
    )
