"""Writes smol-vlm's card: README.md for people, card.json for programs.

Everything is reported, what fails too. Measures nothing itself; `measuring` does.
"""

import json
import random
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headviz.models.load import load_model
from headviz.models.loaded import LoadedModel
from toyworld.pictures.speaking import CoreSpeaker
from toyworld.pictures.words import CONCEPTS
from toyworld.smol import measuring
from toyworld.smol.card_text import render
from toyworld.smol.measuring import Asked
from toyworld.smol.schedule import SMOL_SCHEDULES
from toyworld.smol.texts import SUMMONS, caption

SEED = 2026
TARGETS: Mapping[str, float] = {
    "colors": 0.9,
    "numbers": 0.85,
    "shapes": 0.85,
    "backgrounds": 0.9,
}
"""Concept -> the least share of the captions that name it in which all of that is right."""
ANSWERS_TARGET = 0.85
PERPLEXITY_TARGET = 1.5  # times that of the training's captions
N_HEADS, FACTOR = 8, -1.0
_SHOWN = 6  # pictures whose captions the card quotes


def write_card(folder: Path, name: str, quick: bool = False) -> None:
    """Measure the model and write its README.md and card.json in `folder`.

    `quick`: few samples, to try it out.
    """
    model = load_model(name, device="cpu", dtype="float32")
    history = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    results = measure(model, history, *((24, 4) if quick else (240, 40)))
    results["first_heads"] = measure_heads(model, *((8, 6) if quick else (120, 24)))
    (folder / "card.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render(results, SMOL_SCHEDULES[name]), encoding="utf-8")


def measure(
    model: LoadedModel, history: dict[str, Any], n_captions: int, n_answers: int
) -> dict[str, Any]:
    """All numbers of the card as plain data; `n_answers` questions a concept."""
    photographs = measuring.photographs()  # first: without them the minutes would be lost
    shown = measuring.held_out(n_captions, SEED)
    said = measuring.captions(model, shown)
    rng = random.Random(SEED)
    taught = [caption(picture, rng) for picture in shown]
    asked = measuring.answers(model, n_answers, SEED)
    seen = measuring.say(model, [i for _, i in photographs], [SUMMONS[0]] * len(photographs))
    own, of_taught = measuring.perplexity(model, said), measuring.perplexity(model, taught)
    lines = measuring.mark(said, shown)
    return {
        "model": model.name,
        "revision": model.revision,
        "heads": model.total_heads,
        "pictures": len(shown),
        "questions_per_concept": n_answers,
        "captions": {concept: asdict(line) for concept, line in lines.items()},
        "answers": {concept: _share(asked[concept]) for concept in CONCEPTS},
        "all_answers": _share([one for found in asked.values() for one in found]),
        "perplexity": {"said": own, "taught": of_taught},
        "targets": {
            **TARGETS,
            "answers": ANSWERS_TARGET,
            "perplexity": PERPLEXITY_TARGET,
        },
        "different_captions": len(set(said)),
        "samples": [
            {"said": text, "taught": right}
            for text, right in zip(said[:_SHOWN], taught[:_SHOWN], strict=True)
        ],
        "mistakes": [
            {"asked": one.question.text, "said": one.said, "right": one.question.said}
            for found in asked.values()
            for one in [one for one in found if not one.is_right][:2]
        ],
        "photographs": [
            {"name": name, "said": text} for (name, _), text in zip(photographs, seen, strict=True)
        ],
        "training": history,
    }


def measure_heads(model: LoadedModel, n_read: int, n_shown: int) -> dict[str, Any]:
    """What the first heads of rankings do; read on `n_read` training pictures."""
    speaker = CoreSpeaker.of(model, n_read)
    found = [
        measuring.first_heads(model, speaker, concept, N_HEADS, FACTOR, n_shown)
        for concept in TARGETS
    ]
    return {
        "factor": FACTOR,
        "read": n_read,
        "pictures": n_shown,
        "concepts": [asdict(one) for one in found],
    }


def _share(asked: list[Asked]) -> float:
    return statistics.fmean(one.is_right for one in asked)
