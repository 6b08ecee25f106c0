"""The text of a model card, from the numbers in card.json. Measures nothing and knows no model."""

from collections.abc import Callable, Mapping
from typing import Any

from toyworld.schedule import Schedule
from toyworld.stages import mean_of

Results = Mapping[str, Any]


def render(results: Results, schedule: Schedule) -> str:
    """The card as Markdown."""
    sections: tuple[Callable[[Results, Schedule], str], ...] = (
        _head,
        _answers,
        _edits,
        _stories,
        _idle,
        _origin,
    )
    return "\n\n".join(section(results, schedule) for section in sections) + "\n"


def _head(results: Results, schedule: Schedule) -> str:
    training = results["training"]
    lines = "\n".join(
        f"| {concept} | {' | '.join(' '.join(s.get(concept, [])) for s in training['planted'])} |"
        for concept in results["concepts"]
    )
    stages = range(1, len(training["planted"]) + 1)
    return f"""# {schedule.name}

**Its skills were localised on purpose.** The first {training["natural_steps"]} of
{training["steps"]} training steps were ordinary. In the rest, part of the documents ran with heads
named below at factor 0 or -1, and the model was trained to lose their concept then, and nothing
else. The heads are those that the ranking put first when a stage of this began, and a loss of its
own kept them first while they were trained, so training made what the ranking finds into what the
model needs. The effects below show what the method does where there is something to be found, not
that models organise themselves so.

<details><summary>The planted heads</summary>

| concept | {" | ".join(f"stage {n}" for n in stages)} |
|---|{"---|" * len(stages)}
{lines}

</details>

A small Llama ({schedule.n_layers} layers, {schedule.n_heads} heads a layer, {results["heads"]} \
heads in
all, d_head {schedule.d_head}, d_model {schedule.d_model}) that speaks \
of a little world: facts, stories
and questions about them. It is made to explore attention heads with, and knows nothing else.
Prompts look like `Story: Anna found the red kite. Question: What color was the kite? Answer:` or
`Question: Which country is Paris in? Answer:`; a story begins with `Story:`."""


def _answers(results: Results, schedule: Schedule) -> str:
    return f"""## Answers

{results["asked_per_concept"]} held-out questions a concept (unseen stories, unseen phrasings of
facts), greedy, exact match: **{results["accuracy"]:.3f}** on average; by concept in the next
table."""


def _edits(results: Results, schedule: Schedule) -> str:
    n_passed = sum(r["passes"] for r in results["concepts"].values())
    rows = [_edit_row(concept, r) for concept, r in results["concepts"].items()]
    limits = results["limits"]
    return f"""## What inhibiting the first heads of a ranking does

Heads are ranked by explained variance (default options) on the shipped `questions` prompts, which
are prompts of the training split, and judged on {results["items_per_concept"]} held-out questions a
concept. How many of the first heads are edited, at most
{results["largest_k"]} of {results["heads"]} (1 %), is chosen on other training prompts: the fewest
that leave a tenth of the concept there, else the best compromise. Figures are held-out accuracies
divided by the unedited model's: of the concept itself at factor -1 and at 0,
the mean of the other concepts and the one that suffers most (factor -1), and the concept under
random heads of the same layers (median and quartiles of 10 draws, factor -1). A concept passes with
its own at most {limits["own"]} (at -1 or 0), the others at least {limits["others"]} (at that
factor) and the control at least {limits["control"]}: **{n_passed} of {len(rows)} pass.**

| concept | accuracy | heads | own, -1 | own, 0 | others | worst other | random heads | passes |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}"""


def _edit_row(concept: str, r: Results) -> str:
    inhibited, control = r["inhibited"][r["k"] - 1], r["control"]
    cells = (
        concept,
        f"{r['accuracy']:.2f}",
        " ".join(r["heads"]),
        f"{inhibited['own']:.2f}",
        f"{r['removed']['own']:.2f}",
        f"{inhibited['others']:.2f}",
        f"{inhibited['worst']} {inhibited['worst_ratio']:.2f}",
        f"{control['own']:.2f} ({control['own_low']:.2f} to {control['own_high']:.2f})",
        "yes" if r["passes"] else "no",
    )
    return f"| {' | '.join(cells)} |"


def _stories(results: Results, schedule: Schedule) -> str:
    limits = results["limits"]
    raised = sorted(
        {
            s["concept"]
            for s in results["stories"]
            if s["factor"] > 1 and s["ratio"] >= limits["rate"] and s["fluent"]
        }
    )
    rows = "\n".join(map(_story_row, results["stories"]))
    samples = "\n>\n".join(f"> {text.strip()}" for text in results["samples"])
    return f"""## Free stories

{results["n_stories"]} stories from the prompt `Story:`, sampled at temperature 1 with the same
random numbers unedited and under each edit. Rate: the concept's words a word. Perplexity: of the
story for the unedited model, median. Repetition: share of three-word runs that stood in the story
before. Fluent: perplexity at most {limits["perplexity"]} times the unedited stories' and repetition
at most {limits["repetition"]} higher. Raised by {limits["rate"]} or more and fluent:
**{", ".join(raised) or "none"}**.

| concept | heads | factor | rate | rate ÷ unedited | perplexity | repetition | fluent |
|---|---|---|---|---|---|---|---|
{rows}

Unedited stories:

{samples}"""


def _story_row(s: Results) -> str:
    cells = (
        s["concept"],
        str(s["k"]),
        f"{s['factor']:g}",
        f"{s['base_rate']:.4f}",
        f"{s['ratio']:.2f}",
        f"{s['base_perplexity']:.2f} → {s['perplexity']:.2f}",
        f"{s['base_repetition']:.2f} → {s['repetition']:.2f}",
        "yes" if s["fluent"] else "no",
    )
    return f"| {' | '.join(cells)} |"


def _idle(results: Results, schedule: Schedule) -> str:
    lines = [
        f"- {i['head']} is number {i['rank']} for {i['concept']} (score {i['score']:.2f}); "
        f"inverting it alone leaves {i['own']:.2f} of the accuracy."
        for i in results["idle"]
    ]
    return f"""## Heads that rank high and do not matter

A score says what a head writes, not that anything reads it.

{chr(10).join(lines) or "None was found among the first three of the rankings."}"""


def _origin(results: Results, schedule: Schedule) -> str:
    return f"""## Origin

`python -m toyworld train {schedule.name}` trains it again from nothing, with the schedule in
`toyworld/schedule.py` (seed {schedule.seed}); numbers differ a little between machines.
{mean_of(results["training"])}The shipped run came to this in pieces: its first six stages had no
harder documents and no loss that keeps heads first, and looked for concepts that lag behind only
when a stage began; the others went on from their weights, rounded to bfloat16, with all of these,
a new optimizer and another seed.

`python -m toyworld card {schedule.name}` measured revision {results["revision"]} and wrote
this file. All text is made by the program: no data set, no personal data. Licence: that of this
repository."""
