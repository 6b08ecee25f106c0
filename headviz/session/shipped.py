"""Results that ship with a model: rankings, spectra, answers. True before any weight is read.

One JSON file in assets/<model>/, beside the weights of a built-in model and without any for one
that is fetched. It is refused where the model's revision is not the one that it was made from.
A second one, said.json, holds what the model said to the texts on which effects are measured: that
takes minutes to write and is the same for every concept.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from headviz.base import assets
from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.editing.effect import Effect
from headviz.editing.generate import Sampling
from headviz.editing.measures import concept_spans
from headviz.editing.recipe import Recipe
from headviz.heads.chat import Chat
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, ConceptTokens, WordTokens
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.gguf import revision_of
from headviz.models.joined import parts_of
from headviz.models.known import known_models
from headviz.models.loaded import LoadedModel
from headviz.models.places import revision_here
from headviz.pursuit.bootstrap import Spread
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Atom, LensToken, Sample, Spectrum

SPECTRUM_STEPS = 12
CRITERION = "somp"
FIRST_CONCEPT = "colors"
"""What the page opens on, unless another concept's examples show an edit more clearly."""
_WORD = re.compile(r"\w+")
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
    def sees(self) -> bool:
        """Whether heads were read on pictures."""
        return bool(self.data.get("pictures"))

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
        """The clearest of `answers`, else the first, None where there is none."""
        return clearest(self.answers(concept)) or next(iter(self.answers(concept)), None)

    @property
    def first_concept(self) -> str:
        """What the page opens on: FIRST_CONCEPT, or if no answer to it is clear, the clearest's."""
        known = FIRST_CONCEPT if FIRST_CONCEPT in self.concepts else self.concepts[0]
        found = clearest(self.answers(known)) or clearest(self.all_answers)
        return found.concept.name if found and found.concept else known

    @property
    def all_answers(self) -> tuple[Recipe, ...]:
        """Of all concepts."""
        return tuple(recipe for concept in self.concepts for recipe in self.answers(concept))

    def effects(self, concept: str) -> ShippedEffects | None:
        """What the heads do to the concept, None where that does not ship."""
        entry = self.data.get("effects", {}).get(concept)
        if entry is None:
            return None
        measured = {Head.parse(head): Effect.of(row) for head, row in entry["measured"].items()}
        return ShippedEffects(entry["texts"], torch.tensor(entry["estimate"]), measured)

    def _sample(self, number: int, share: float) -> Sample:
        name = self.data["pictures"][number] if self.sees else ""
        return Sample(self.data["texts"][number], share, number, name)


def usual_edit(ranking: Ranking) -> Edit:
    """The first heads of the ranking that surely stand above chance, turned down.

    One per cent of all heads (3 of 270 or 320), and at least one.
    """
    return Edit.of(ranking.preselected(max(1, round(ranking.total_heads / 100))), USUAL_FACTOR)


def clearest(answers: Iterable[Recipe]) -> Recipe | None:
    """The answer that shows best what an edit can do; the first of several, None without any.

    Of those that are clear, the one whose control is most like the original: the best case, and
    told as that.
    """
    return max(filter(is_clear, answers), key=_alike, default=None)


def is_clear(recipe: Recipe) -> bool:
    """Whether the edited text has none of the concept's words of the original, the control all."""
    original, edited, control = (set(_said(recipe, n)) for n in range(3))
    return bool(original) and not original & edited and original <= control


def _said(recipe: Recipe, column: int) -> list[str]:
    """The concept's words in a text."""
    if recipe.trial is None or recipe.concept is None or len(recipe.trial.texts) <= column:
        return []
    text = recipe.trial.texts[column].text
    spans = concept_spans(text, recipe.concept.words)
    return [text[span.start : span.stop].lower() for span in spans]


def _alike(recipe: Recipe) -> float:
    """The share of the original's and the control's words that both say (Jaccard)."""
    assert recipe.trial is not None
    original, _, control = (set(_WORD.findall(t.text.lower())) for t in recipe.trial.texts)
    return len(original & control) / max(1, len(original | control))


def load_shipped(name: str) -> Shipped | None:
    """What ships with the model, or None where nothing does or it was made from other weights."""
    if name not in built_in_models() and name not in known_models():
        return None
    path = shipped_file(name)
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return Shipped(data) if data["revision"] == _revision(name) else None


def load_said(name: str, about: Mapping[str, Any]) -> list[list[list[int]]] | None:
    """What the model said to each text in each round, as token ids; None where that is not kept.

    `about` is all that it depends on, see `said_about`: it has to be the very same.
    """
    path = said_file(name)
    if name not in {*built_in_models(), *known_models()} or not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    ids: list[list[list[int]]] = data.pop("ids")
    return ids if data == dict(about) else None


def said_about(
    model: LoadedModel, prompt_set: PromptSet, sampling: Sampling, rounds: int, chat: Chat
) -> dict[str, Any]:
    """What the words of a model depend on, as plain data for JSON."""
    return {
        "model": model.name,
        "revision": model.revision,
        "dtype": model.number_format,
        "prompt_set": prompt_set.digest,
        "sampling": asdict(sampling),
        "rounds": rounds,
        "chat": asdict(chat),
    }


def said_file(name: str) -> Path:
    """Where the words of the model of that name are, or would be."""
    return shipped_file(name).with_name("said.json")


def shipped_file(name: str) -> Path:
    """Where the results of the model of that name are, or would be."""
    return assets.ASSETS / name / "shipped.json"


def _revision(name: str) -> str | None:
    """Of the model as it is here, or as it would come where it is not here yet."""
    if here := revision_here(name):
        return here
    if (parts := parts_of(name)) is not None:
        return revision_of(parts.content)
    known = known_models().get(name)
    return revision_of(known.package.sha256) if known and known.package else None


def _spread(lists: dict[str, Any] | None) -> Spread | None:
    return Spread(**{name: torch.tensor(rows) for name, rows in lists.items()}) if lists else None
