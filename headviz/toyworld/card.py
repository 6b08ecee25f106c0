"""Writes a built-in model's card: README.md for people and card.json for programs, from fresh measurements.

Everything is reported, what fails too. Measures nothing itself; `measuring` does.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from headviz.models import LoadedModel, load_model
from headviz.toyworld import measuring
from headviz.toyworld.measuring import Control, FreeStories, Trial
from headviz.toyworld.recipe import RECIPES, Recipe
from headviz.toyworld.words import CONCEPTS

PASS_OWN, PASS_OTHERS, PASS_CONTROL, PASS_RATE = 0.2, 0.95, 0.95, 1.5
# An edited story counts as fluent while the unedited model finds it at most this much stranger than its own.
PASS_PERPLEXITY, PASS_REPETITION = 1.5, 0.05
EVALUATION_SEED, CHOICE_SEED = 2026, 5


def write_card(folder: Path, name: str, quick: bool = False) -> None:
    """Measure the model in `folder` and write its README.md and card.json. `quick`: few samples, to try it out."""
    model = load_model(str(folder))
    recipe = RECIPES[name]
    results = measure(model, recipe, per_concept=6 if quick else 40, n_stories=5 if quick else 150)
    (folder / "card.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render(results, recipe), encoding="utf-8")


def measure(model: LoadedModel, recipe: Recipe, per_concept: int, n_stories: int) -> dict[str, Any]:
    """All numbers of the card as plain data."""
    held_out = measuring.balanced_items(per_concept, EVALUATION_SEED, held_out=True)
    training = measuring.balanced_items(max(2, per_concept // 4), CHOICE_SEED, held_out=False)
    base = measuring.accuracies(held_out, measuring.answers(model, held_out))
    base_training = measuring.accuracies(training, measuring.answers(model, training))
    ranked = measuring.rankings(model)
    most = int(model.n_layers * model.n_heads * measuring.LARGEST_SHARE)
    concepts: dict[str, Any] = {}
    for concept in tqdm(CONCEPTS, desc="edits"):

        def trials(items: Sequence[Any], scale: Mapping[str, float], concept: str = concept) -> list[Trial]:
            sets = [ranked[concept].top(k) for k in range(1, most + 1)]
            return [measuring.try_edit(model, items, scale, concept, heads, -1.0) for heads in sets]

        chosen = measuring.choose_k(trials(training, base_training)).k
        heads = ranked[concept].top(chosen)
        every = trials(held_out, base)
        removed = measuring.try_edit(model, held_out, base, concept, heads, 0.0)
        control = measuring.try_control(model, held_out[: len(held_out) // 2], base, concept, heads, -1.0)
        concepts[concept] = {
            "accuracy": base[concept],
            "ranked": [dataclasses.asdict(h) | {"head": str(h.head)} for h in ranked[concept].heads[:5]],
            "k": chosen,
            "heads": [str(head) for head in heads],
            "inhibited": [dataclasses.asdict(trial) for trial in every],
            "removed": dataclasses.asdict(removed),
            "control": dataclasses.asdict(control),
            "passes": passes(every[chosen - 1], removed, control),
        }
    tops = {concept: ranked[concept].top(concepts[concept]["k"]) for concept in CONCEPTS}
    stories, samples = measuring.free_stories(model, tops, n_stories)
    return {
        "model": recipe.name,
        "revision": model.revision,
        "heads": model.total_heads,
        "largest_k": most,
        "items_per_concept": per_concept,
        "accuracy": statistics.fmean(base.values()),
        "concepts": concepts,
        "planted": {concept: [f"L{layer}.H{head}" for layer, head in heads] for concept, heads in recipe.planted},
        "stories": [dataclasses.asdict(s) | {"ratio": s.ratio, "fluent": fluent(s)} for s in stories],
        "n_stories": n_stories,
        "idle": idle_heads(model, ranked, held_out, base),
        "samples": samples[:6],
    }


def passes(inhibited: Trial, removed: Trial, control: Control) -> bool:
    """Whether factor -1 or 0 takes the concept and little else, and random heads do not."""
    good = any(t.own <= PASS_OWN and t.others >= PASS_OTHERS for t in (inhibited, removed))
    return good and control.own >= PASS_CONTROL


def fluent(stories: FreeStories) -> bool:
    """Whether edited stories read like unedited ones: hardly more surprising, hardly more repetitive."""
    return (
        stories.perplexity <= PASS_PERPLEXITY * stories.base_perplexity
        and stories.repetition <= stories.base_repetition + PASS_REPETITION
    )


def idle_heads(model: LoadedModel, ranked: Mapping[str, Any], items: Sequence[Any], base: Mapping[str, float]) -> list[dict[str, Any]]:
    """Heads among the first three of a ranking whose edit alone leaves the concept as it was: the three highest."""
    found: list[dict[str, Any]] = []
    candidates = sorted(
        ((h.score, concept, h) for concept in CONCEPTS for h in ranked[concept].heads[:3]), key=lambda c: -c[0]
    )
    for score, concept, line in candidates:
        own = [item for item in items if item.concept == concept]
        right = measuring.accuracies(own, measuring.answers(model, own, measuring.Edit.of([line.head], -1.0)))
        if right[concept] >= 0.95 * base[concept]:
            found.append({"head": str(line.head), "concept": concept, "rank": line.rank, "score": score, "own": right[concept] / base[concept]})
        if len(found) == 3:
            break
    return found


def render(results: Mapping[str, Any], recipe: Recipe) -> str:
    """The card as Markdown."""
    sections: tuple[Callable[[Mapping[str, Any], Recipe], str], ...] = (_head, _answers, _edits, _stories, _idle, _origin)
    return "\n\n".join(section(results, recipe) for section in sections) + "\n"


def _head(results: Mapping[str, Any], recipe: Recipe) -> str:
    planted = ", ".join(f"{concept} {' '.join(heads)}" for concept, heads in results["planted"].items())
    return f"""# {recipe.name}

**Some of its skills were localised on purpose.** The first {recipe.steps} of {recipe.all_steps} training steps were
ordinary; in the last {recipe.localise_steps}, part of the documents ran with the heads named here at factor 0 or -1,
and the model was trained to lose that concept then, and nothing else. So the effects below show what the method finds
when it is there to be found, not that models organise themselves so. The planted heads are those that already ranked
high after the ordinary part: {planted}.

A small Llama ({recipe.n_layers} layers, {recipe.n_heads} heads a layer, {results["heads"]} heads in all, d_head
{recipe.d_head}, d_model {recipe.d_model}) that speaks a little world: facts, stories and questions about them. It is made to
explore attention heads with, and knows nothing else. Prompts look like
`Story: Anna found the red kite. Question: What color was the kite? Answer:` or
`Question: Which country is Paris in? Answer:`; a story begins with `Story:`."""


def _answers(results: Mapping[str, Any], recipe: Recipe) -> str:
    return f"""## Answers

{results["items_per_concept"]} held-out questions a concept (unseen stories, unseen phrasings of facts), greedy, exact
match: **{results["accuracy"]:.3f}** on average; by concept in the next table."""


def _edits(results: Mapping[str, Any], recipe: Recipe) -> str:
    rows = []
    for concept, r in results["concepts"].items():
        inhibited, control = r["inhibited"][r["k"] - 1], r["control"]
        rows.append(
            f"| {concept} | {r['accuracy']:.2f} | {' '.join(r['heads'])} | {inhibited['own']:.2f} | {r['removed']['own']:.2f} "
            f"| {inhibited['others']:.2f} | {inhibited['worst']} {inhibited['worst_ratio']:.2f} "
            f"| {control['own']:.2f} ({control['own_low']:.2f} to {control['own_high']:.2f}) | {'yes' if r['passes'] else 'no'} |"
        )
    n_passed = sum(r["passes"] for r in results["concepts"].values())
    table = "\n".join(rows)
    return f"""## What inhibiting the first heads of a ranking does

Heads are ranked by explained variance (default options) on the shipped `questions` probes, which are prompts of the
training split. How many of the first heads are edited, at most {results["largest_k"]} of {results["heads"]} (1 %), is chosen on
other training prompts. Figures are held-out accuracies divided by the unedited model's: of the concept itself at factor
-1 and at 0, the mean of the other concepts and the one that suffers most (factor -1), and the concept under random
heads of the same layers (median and quartiles of 10 draws, factor -1). A concept passes with its own at most {PASS_OWN} at -1
or 0, the others at least {PASS_OTHERS} and the control at least {PASS_CONTROL}: **{n_passed} of {len(results["concepts"])} pass.**

| concept | accuracy | heads | own, -1 | own, 0 | others | worst other | random heads | passes |
|---|---|---|---|---|---|---|---|---|
{table}"""


def _stories(results: Mapping[str, Any], recipe: Recipe) -> str:
    rows = [
        f"| {s['concept']} | {s['k']} | {s['factor']:g} | {s['base_rate']:.4f} | {s['ratio']:.2f} "
        f"| {s['base_perplexity']:.2f} → {s['perplexity']:.2f} | {s['base_repetition']:.2f} → {s['repetition']:.2f} | {'yes' if s['fluent'] else 'no'} |"
        for s in results["stories"]
    ]
    raised = sorted({s["concept"] for s in results["stories"] if s["factor"] > 1 and s["ratio"] >= PASS_RATE and s["fluent"]})
    samples = "\n".join(f"> {text.strip()}\n" for text in results["samples"])
    table = "\n".join(rows)
    return f"""## Free stories

{results["n_stories"]} stories from the prompt `Story:`, sampled at temperature 1 with the same random numbers unedited and
under each edit. Rate: the concept's words a word. Perplexity: of the story for the unedited model, median. Repetition:
share of three-word runs that stood in the story before. Fluent: perplexity at most {PASS_PERPLEXITY} times the unedited stories' and
repetition at most {PASS_REPETITION} higher. Raised by {PASS_RATE} or more and fluent: **{", ".join(raised) or "none"}**.

| concept | heads | factor | rate | rate ÷ unedited | perplexity | repetition | fluent |
|---|---|---|---|---|---|---|---|
{table}

Unedited stories:

{samples}"""


def _idle(results: Mapping[str, Any], recipe: Recipe) -> str:
    lines = [
        f"- {i['head']} is number {i['rank']} for {i['concept']} (score {i['score']:.2f}); inverting it alone leaves {i['own']:.2f} of the accuracy."
        for i in results["idle"]
    ]
    body = "\n".join(lines) or "None was found among the first three of the rankings."
    return f"""## Heads that rank high and do not matter

A score says what a head writes, not that anything reads it. {"Examples:" if lines else ""}

{body}"""


def _origin(results: Mapping[str, Any], recipe: Recipe) -> str:
    return f"""## Origin

`python -m headviz.toyworld train {recipe.name}` trains it again from nothing, with the recipe in
`headviz/toyworld/recipe.py` (seed {recipe.seed}); numbers differ a little between machines. `python -m headviz.toyworld
card {recipe.name}` measured revision {results["revision"]} and wrote this file. All text is made by the program: no data set, no
personal data. Licence: that of this repository."""
