"""Results that ship with a model: rankings, spectra, answers. True before any weight is read.

One JSON file in assets/<model>/, beside the weights of a built-in model and without any for one
that is fetched. It is refused where the model's revision is not the one that it was made from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headviz.base import assets
from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.editing.effect import Effect
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, ConceptTokens, WordTokens
from headviz.models.gguf import revision_of
from headviz.models.known import known_models
from headviz.models.places import revision_here
from headviz.pursuit.bootstrap import Spread
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Atom, LensToken, Sample, Spectrum

SPECTRUM_STEPS = 12
CRITERION = "somp"
USUAL_FACTOR = -1.0
"""What the heads of a concept are turned to at first."""


@dataclass(frozen=True, eq=False)
class ShippedEffects:
    """What the heads do to one concept, on what the model itself says to a set of prompts."""

    texts: str
    """Name of the prompt set."""
    estimate: torch.Tensor
    """layer head: the loss without each head to first order, in nats."""
    measured: Mapping[Head, Effect]


@dataclass(frozen=True)
class Shipped:
    """The results of one model with the default options."""

    data: dict[str, Any]

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts that are ranked."""
        return tuple(self.data["concepts"])

    @property
    def left_out(self) -> dict[str, str]:
        """Name of each preset that is not ranked -> why."""
        return dict(self.data.get("left_out", {}))

    def ranking(self, concept: str) -> Ranking:
        """The ranking for a preset concept, as the session would make it."""
        entry = self.data["concepts"][concept]
        words = tuple(
            WordTokens(word, tuple(ids), tuple(pieces), not why, why)
            for word, ids, pieces, why in entry["words"]
        )
        whole = Concept(concept, entry["title"], tuple(w.word for w in words))
        options = Options(**self.data["options"])
        return Ranking(
            model=self.data["model"],
            revision=self.data["revision"],
            tokens=ConceptTokens(whole, words, options.pieces),
            criterion=CRITERION,
            options=options,
            prompt_set=self.data["prompt_set_digest"],
            n_samples=self.data["n_samples"],
            scores=torch.tensor(entry["scores"]),
            chance=torch.tensor(entry["chance"]),
            spread=_spread(entry.get("spread")),
            n_positions=self.data.get("n_positions"),
        )

    def spectrum(self, head: Head) -> Spectrum:
        """The head's spectrum, with SPECTRUM_STEPS atoms."""
        entry = self.data["spectra"][str(head)]
        options = Options(**{**self.data["options"], "steps": SPECTRUM_STEPS})
        return Spectrum(
            model=self.data["model"],
            head=head,
            options=options,
            n_samples=self.data["n_samples"],
            atoms=tuple(Atom(*atom) for atom in entry["atoms"]),
            samples=tuple(self._sample(*sample) for sample in entry["samples"]),
            lens=tuple(LensToken(*token) for token in entry["lens"]),
        )

    def answers(self, concept: str) -> tuple[Recipe, ...]:
        """The usual edit tried on each example about the concept: original, edited, control."""
        return tuple(map(Recipe.from_dict, self.data.get("answers", {}).get(concept, ())))

    def answer(self, concept: str) -> Recipe | None:
        """The first of `answers`, None where there is none."""
        return next(iter(self.answers(concept)), None)

    def effects(self, concept: str) -> ShippedEffects | None:
        """What the heads do to the concept, None where that does not ship."""
        entry = self.data.get("effects", {}).get(concept)
        if entry is None:
            return None
        measured = {Head.parse(head): Effect.of(row) for head, row in entry["measured"].items()}
        return ShippedEffects(entry["texts"], torch.tensor(entry["estimate"]), measured)

    def _sample(self, number: int, share: float) -> Sample:
        pictures = self.data.get("pictures")
        name = pictures[number] if pictures else ""
        return Sample(self.data["texts"][number], share, number, name)


def usual_edit(ranking: Ranking) -> Edit:
    """The first heads of the ranking that surely stand above chance, turned down.

    One per cent of all heads (3 of 270 or 320), and at least one.
    """
    return Edit.of(ranking.preselected(max(1, round(ranking.total_heads / 100))), USUAL_FACTOR)


def load_shipped(name: str) -> Shipped | None:
    """What ships with the model, or None where nothing does or it was made from other weights."""
    if name not in built_in_models() and name not in known_models():
        return None
    path = shipped_file(name)
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return Shipped(data) if data["revision"] == _revision(name) else None


def shipped_file(name: str) -> Path:
    """Where the results of the model of that name are, or would be."""
    return assets.ASSETS / name / "shipped.json"


def _revision(name: str) -> str | None:
    """Of the model as it is here, or as it would come where it is not here yet."""
    if here := revision_here(name):
        return here
    known = known_models().get(name)
    return revision_of(known.package.sha256) if known and known.package else None


def _spread(lists: dict[str, Any] | None) -> Spread | None:
    return Spread(**{name: torch.tensor(rows) for name, rows in lists.items()}) if lists else None
