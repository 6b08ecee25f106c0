"""Results that ship with a model: rankings, spectra, answers. True before any weight is read.

One JSON file beside the weights, made from them by `python -m headviz ship`, and refused when the
weights' hash is not the one it was made from.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from headviz.base.assets import built_in_models
from headviz.base.errors import ConceptError, ModelError
from headviz.base.head import Head
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling, usual_stop
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.capture import Progress, no_progress
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, ConceptTokens, WordTokens, known_concepts
from headviz.inputs.examples import examples_of
from headviz.models.places import model_revision
from headviz.pursuit.bootstrap import Spread
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Atom, LensToken, Sample, Spectrum
from headviz.session.session import Session

SPECTRUM_STEPS = 12
USUAL_FACTOR = -1.0
"""What the heads of a concept are turned to at first."""
_CRITERION = "somp"


@dataclass(frozen=True)
class Shipped:
    """The results of one built-in model with the default options."""

    data: dict[str, Any]

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts that are ranked."""
        return tuple(self.data["concepts"])

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
            criterion=_CRITERION,
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

    def answer(self, concept: str) -> Recipe | None:
        """The usual edit tried on an example about the concept; None where there is none."""
        found = self.data.get("answers", {}).get(concept)
        return Recipe.from_dict(found) if found else None

    def _sample(self, number: int, share: float) -> Sample:
        pictures = self.data.get("pictures")
        name = pictures[number] if pictures else ""
        return Sample(self.data["texts"][number], share, number, name)


def usual_edit(ranking: Ranking) -> Edit:
    """The first heads of the ranking, one per cent of all and at least one, turned down."""
    return Edit.of(ranking.top(max(1, ranking.total_heads // 100)), USUAL_FACTOR)


def load_shipped(name: str) -> Shipped | None:
    """What ships with the model, or None where nothing does or it was made from other weights."""
    folder = built_in_models().get(name)
    path = folder and _file(folder)
    if not folder or not path or not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return Shipped(data) if data["revision"] == model_revision(folder) else None


def ship(session: Session, name: str, progress: Progress = no_progress) -> Path:
    """Make the file anew for a built-in model: every preset concept, every head."""
    if name not in built_in_models():
        raise ModelError(f"{name!r} is not built in. Built in: {', '.join(built_in_models())}.")
    model = session.model(name)
    prompt_set = session.prompt_set(name)
    options = session.default_options(name)
    concepts, answers = {}, {}
    for concept in known_concepts().values():
        try:
            ranking = session.rank(name, concept, prompt_set, _CRITERION, options)
        except ConceptError:
            continue  # no word of this preset is a token of this model
        concepts[concept.name] = {
            "title": concept.title,
            "words": [[w.word, w.ids, w.pieces, w.why] for w in ranking.tokens.words],
            "scores": _rounded(ranking.scores),
            "chance": _rounded(ranking.chance),
            "spread": _spread_as_lists(ranking.spread),
        }
        if recipe := _answer(session, ranking):
            answers[concept.name] = recipe.as_dict()
    spectra = {}
    n_positions = session.activations(name, prompt_set, options.pooling).n_positions
    found = session.all_spectra(name, prompt_set, SPECTRUM_STEPS, options, progress)
    for head, opened in found.items():
        spectra[str(head)] = {
            "atoms": [[a.token, round(a.weight, 4), round(a.explained, 4)] for a in opened.atoms],
            "samples": [[s.number, round(s.share, 4)] for s in opened.samples],
            "lens": [[t.token, round(t.logit, 4)] for t in opened.lens],
        }
    data = {
        "model": name,
        "revision": model.revision,
        "prompt_set": prompt_set.name,
        "prompt_set_digest": prompt_set.digest,
        "n_samples": len(prompt_set),
        "options": options.as_dict(),
        "concepts": concepts,
        "n_positions": n_positions,
        "texts": list(prompt_set.texts),
        "pictures": [picture.name for picture in prompt_set.pictures],
        "spectra": spectra,
        "answers": answers,
    }
    path = _file(built_in_models()[name])
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _answer(session: Session, ranking: Ranking) -> Recipe | None:
    """The usual edit, tried on the first example about the concept."""
    concept, model = ranking.tokens.concept, ranking.model
    example = next((e for e in examples_of(model) if e.concept == concept.name), None)
    if example is None:
        return None
    recipe = Recipe.of(usual_edit(ranking), ranking)
    sampling = Sampling(stop=usual_stop(example.prompt))
    asked = CompareRequest(
        prompt=example.prompt, edit=recipe.edit, words=concept.words, sampling=sampling
    )
    comparison = last_of(session.compare(model, asked))
    return replace(recipe, trial=Trial.of(comparison, sampling, sampling.seed))


def _spread_as_lists(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {
        "low": _rounded(spread.low),
        "high": _rounded(spread.high),
        "best_rank": spread.best_rank.tolist(),
        "worst_rank": spread.worst_rank.tolist(),
    }


def _spread(lists: dict[str, Any] | None) -> Spread | None:
    return Spread(**{name: torch.tensor(rows) for name, rows in lists.items()}) if lists else None


def _file(folder: Path) -> Path:
    return folder / "shipped.json"


def _rounded(scores: torch.Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in scores.tolist()]
