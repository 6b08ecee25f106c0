"""Writes a built-in model's card: README.md for people and card.json for programs.

Everything is reported, what fails too. Measures nothing itself; `measuring` does.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from headviz.base.head import Head
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.models.load import LoadedModel, load_model
from headviz.pursuit.ranking import Ranking
from toyworld import measuring
from toyworld.card_text import render
from toyworld.measuring import Control, Fixture, FreeStories, Questions
from toyworld.schedule import SCHEDULES, Schedule
from toyworld.words import CONCEPTS

LIMITS: dict[str, float] = {
    "own": 0.2,
    "others": 0.95,
    "control": 0.95,
    "rate": 1.5,
    # A story is fluent while the unedited model finds it at most this many times as strange as its
    # own, and it repeats itself at most this much more.
    "perplexity": 1.5,
    "repetition": 0.05,
}
EVALUATION_SEED, CHOICE_SEED = 2026, 5
CHOICE_ITEMS = 24  # training questions a concept on which the number of heads is chosen
ENOUGH = 0.1  # of the answers left there: less than the limit, since so few questions tell little


def write_card(folder: Path, name: str, quick: bool = False) -> None:
    """Measure the model in `folder` and write its README.md and card.json.

    `quick`: few samples, to try it out.
    """
    model = load_model(str(folder))
    schedule = SCHEDULES[name]
    results = measure(
        model,
        schedule,
        asked=10 if quick else 200,
        per_concept=6 if quick else 40,
        n_stories=5 if quick else 60,
    )
    results["training"] = history_of(folder)
    (folder / "card.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render(results, schedule), encoding="utf-8")


def history_of(folder: Path) -> dict[str, Any]:
    """How the model was trained: steps, and the heads that each stage planted, as printed."""
    history = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    history["planted"] = [
        {concept: [str(Head(*head)) for head in heads] for concept, heads in stage["heads"].items()}
        for stage in history.pop("stages")
    ]
    return history


def measure(
    model: LoadedModel, schedule: Schedule, asked: int, per_concept: int, n_stories: int
) -> dict[str, Any]:
    """All numbers of the card as plain data.

    `asked` questions a concept for the unedited model's accuracy, `per_concept` under each edit.
    """
    accuracy = measuring.Questions.ask(model, asked, EVALUATION_SEED, held_out=True).base
    held_out = measuring.Questions.ask(model, per_concept, EVALUATION_SEED, held_out=True)
    n_training = min(per_concept, CHOICE_ITEMS)
    training = measuring.Questions.ask(model, n_training, CHOICE_SEED, held_out=False)
    ranked = measuring.rankings(model, find_prompt_set("questions", schedule.name))
    concepts = {
        concept: {"accuracy": accuracy[concept]}
        | judge(model, ranked[concept], concept, held_out, training)
        for concept in tqdm(CONCEPTS, desc="edits")
    }
    tops = {concept: ranked[concept].top(concepts[concept]["k"]) for concept in CONCEPTS}
    stories, samples = measuring.free_stories(model, tops, n_stories)
    return {
        "model": schedule.name,
        "revision": model.revision,
        "heads": model.total_heads,
        "largest_k": largest_k(model),
        "asked_per_concept": asked,
        "items_per_concept": per_concept,
        "limits": LIMITS,
        "accuracy": statistics.fmean(accuracy.values()),
        "concepts": concepts,
        "stories": [asdict(s) | {"ratio": s.ratio, "fluent": fluent(s)} for s in stories],
        "n_stories": n_stories,
        "idle": idle_heads(model, ranked, held_out),
        "samples": samples[:6],
    }


def largest_k(model: LoadedModel) -> int:
    """How many heads an edit may touch."""
    return int(model.total_heads * measuring.LARGEST_SHARE)


def judge(
    model: LoadedModel,
    ranking: Ranking,
    concept: str,
    held_out: Questions,
    training: Questions,
) -> dict[str, Any]:
    """What inhibiting a concept's first heads does; how many is chosen on training questions."""
    sets = [ranking.top(k) for k in range(1, largest_k(model) + 1)]
    tried = [measuring.try_edit(model, training, concept, heads, -1.0) for heads in sets]
    k = measuring.choose_k(tried, ENOUGH).k
    inhibited = [measuring.try_edit(model, held_out, concept, heads, -1.0) for heads in sets]
    removed = measuring.try_edit(model, held_out, concept, sets[k - 1], 0.0)
    control = measuring.try_control(model, held_out.of(concept), concept, sets[k - 1], -1.0)
    return {
        "ranked": [asdict(line) | {"head": str(line.head)} for line in ranking.heads[:5]],
        "k": k,
        "heads": [str(head) for head in sets[k - 1]],
        "inhibited": [asdict(trial) for trial in inhibited],
        "removed": asdict(removed),
        "control": asdict(control),
        "passes": passes(inhibited[k - 1], removed, control),
    }


def passes(inhibited: Fixture, removed: Fixture, control: Control) -> bool:
    """Whether factor -1 or 0 takes the concept and little else, and random heads do not."""
    good = any(
        t.own <= LIMITS["own"] and t.others >= LIMITS["others"] for t in (inhibited, removed)
    )
    return good and control.own >= LIMITS["control"]


def fluent(stories: FreeStories) -> bool:
    """Whether edited stories are hardly more surprising or repetitive than unedited ones."""
    return (
        stories.perplexity <= LIMITS["perplexity"] * stories.base_perplexity
        and stories.repetition <= stories.base_repetition + LIMITS["repetition"]
    )


def idle_heads(
    model: LoadedModel, ranked: Mapping[str, Ranking], questions: Questions
) -> list[dict[str, Any]]:
    """The three highest scores, among the first three heads of a ranking, that change nothing.

    Nothing: at least 0.95 of the concept's accuracy is left when this head alone is inverted.
    """
    found: list[dict[str, Any]] = []
    first = [(concept, line) for concept in CONCEPTS for line in ranked[concept].heads[:3]]
    for concept, line in sorted(first, key=lambda pair: -pair[1].score):
        own = measuring.try_edit(model, questions.of(concept), concept, [line.head], -1.0).own
        if own >= 0.95:
            entry = {"head": str(line.head), "concept": concept, "rank": line.rank}
            found.append(entry | {"score": line.score, "own": own})
        if len(found) == 3:
            break
    return found
