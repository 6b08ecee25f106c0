"""Writes the card of the drawn world's model: README.md for people, card.json for programs.

Everything is reported, what fails too. Measures nothing itself; `measuring` does.
"""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from headviz.base.head import Head
from headviz.heads.edits import Edit
from toyworld.pictures import measuring
from toyworld.pictures.captions import SUMMONS
from toyworld.pictures.card_text import render
from toyworld.pictures.content import Picture, pictures
from toyworld.pictures.measuring import Asked, Fixture, Speaker, Told
from toyworld.pictures.schedule import PICTURE_SCHEDULES, PictureSchedule
from toyworld.pictures.words import CONCEPTS

LARGEST_SHARE = 0.01  # of the heads may be edited
ENHANCING = (2.0, 3.0, 5.0)
LIMITS: dict[str, float] = {
    "own": 0.3,
    "others": 0.9,
    "control": 0.95,
    "rate": 1.5,
    "kept": 0.95,
    "sound": 0.95,
}
EVALUATION_SEED, CHOICE_SEED = 2026, 5


def write_card(folder: Path, name: str, speaker: Speaker, quick: bool = False) -> None:
    """Measure the model in `folder` and write its README.md and card.json.

    `quick`: few samples, to try it out.
    """
    schedule = PICTURE_SCHEDULES[name]
    history = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    results = measure(speaker, schedule, history, n=20 if quick else 120)
    (folder / "card.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render(results, schedule), encoding="utf-8")


def measure(
    speaker: Speaker, schedule: PictureSchedule, history: dict[str, Any], n: int
) -> dict[str, Any]:
    """All numbers of the card as plain data; `n` pictures a concept, three times as many at all."""
    shown = list(itertools.islice(pictures(EVALUATION_SEED, held_out=True), 3 * n))
    told = measuring.describe(speaker, shown)
    examples = shown[:6]
    return {
        "model": schedule.name,
        "heads": speaker.n_layers * speaker.n_heads,
        "largest_k": largest_k(speaker),
        "pictures": len(shown),
        "pictures_per_concept": n,
        "limits": LIMITS,
        "captions": {c: caption_line(told, c, len(shown)) for c in CONCEPTS},
        "sound": told.sound,
        "answers": {c: Asked.about(c, n, EVALUATION_SEED).accuracy(speaker) for c in CONCEPTS},
        "digits": Asked.digits(n, EVALUATION_SEED).accuracy(speaker),
        "concepts": {c: judge_concept(speaker, c, n) for c in tqdm(CONCEPTS, desc="edits")},
        "training": history,
        "samples": speaker.say(examples, [SUMMONS[0]] * len(examples)),
    }


def caption_line(told: Told, concept: str, n_pictures: int) -> dict[str, float]:
    """How often a caption says something of the concept, and how often that is right."""
    return {"claims": told.made[concept] / n_pictures, "right": told.accuracy(concept)}


def largest_k(speaker: Speaker) -> int:
    """How many heads an edit may touch."""
    return int(speaker.n_layers * speaker.n_heads * LARGEST_SHARE)


def judge_concept(speaker: Speaker, concept: str, n: int) -> dict[str, Any]:
    """What editing a concept's first heads does; how many is chosen on training pictures."""
    ranking = speaker.rank(concept)
    sets = [ranking.top(k) for k in range(1, largest_k(speaker) + 1)]
    training = measuring.showing(concept, max(10, n // 3), CHOICE_SEED, held_out=False)
    shown = measuring.showing(concept, n, EVALUATION_SEED, held_out=True)
    k = choose_k(inhibit(speaker, training, concept, sets)).k
    heads = sets[k - 1]
    inhibited = inhibit(speaker, shown, concept, sets)
    control = measuring.control(speaker, shown[: max(10, n // 2)], concept, heads, -1.0)
    enhanced, unedited = enhance(speaker, shown, concept, heads)
    asked = Asked.about(concept, max(10, n // 2), EVALUATION_SEED + 1)
    chosen = inhibited[k - 1]
    return {
        "ranked": [asdict(line) | {"head": str(line.head)} for line in ranking.heads[:5]],
        "k": k,
        "heads": [str(head) for head in heads],
        "inhibited": [asdict(trial) for trial in inhibited],
        "control": asdict(control),
        "answers": {
            "unedited": asked.accuracy(speaker),
            "inhibited": asked.accuracy(speaker, Edit.of(heads, -1.0)),
        },
        "enhanced": [asdict(trial) for trial in enhanced],
        "sampled": unedited,
        "passes": chosen.own <= LIMITS["own"]
        and chosen.others >= LIMITS["others"]
        and control.own >= LIMITS["control"],
        "enhances": any(
            t.own >= LIMITS["rate"]
            and t.others >= LIMITS["kept"] * unedited
            and t.sound >= LIMITS["sound"]
            for t in enhanced
        ),
    }


def inhibit(
    speaker: Speaker, shown: list[Picture], concept: str, sets: list[tuple[Head, ...]]
) -> list[Fixture]:
    """Factor -1 on the first head, the first two, and so on."""
    base = measuring.describe(speaker, shown)
    return [
        measuring.judge(
            base,
            measuring.describe(speaker, shown, Edit.of(heads, -1.0)),
            concept,
            len(heads),
            -1.0,
        )
        for heads in sets
    ]


def choose_k(trials: list[Fixture]) -> Fixture:
    """The fewest heads that pass; failing that, those that take the most with the others right."""
    good = [t for t in trials if t.others >= LIMITS["others"]] or trials
    enough = [t for t in good if t.own <= LIMITS["own"] / 2]
    return enough[0] if enough else min(good, key=lambda t: t.own)


def enhance(
    speaker: Speaker, shown: list[Picture], concept: str, heads: tuple[Head, ...]
) -> tuple[list[Fixture], float]:
    """Factors above 1, on captions sampled at temperature 1: greedy ones say all they can.

    Also how often the unedited ones' claims about other concepts are right: not always.
    """
    base = measuring.describe(speaker, shown, temperature=1.0)
    found = []
    for factor in ENHANCING:
        edited = measuring.describe(speaker, shown, Edit.of(heads, factor), temperature=1.0)
        found.append(measuring.judge(base, edited, concept, len(heads), factor))
    return found, base.others(concept)[0]
