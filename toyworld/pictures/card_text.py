"""The text of the card, from the numbers in card.json. Measures nothing and knows no model."""

from collections.abc import Mapping
from typing import Any

from toyworld.pictures.schedule import PictureSchedule
from toyworld.stages import mean_of

Results = Mapping[str, Any]


def render(results: Results, schedule: PictureSchedule) -> str:
    """The card as Markdown."""
    sections = (_head, _captions, _edits, _enhanced, _origin)
    return "\n\n".join(section(results, schedule) for section in sections) + "\n"


def _head(results: Results, schedule: PictureSchedule) -> str:
    history = results["training"]
    return f"""# {schedule.name}

{_localised(history)}

A LLaVA in small: a CLIP vision tower ({schedule.vision_layers} layers of width
{schedule.vision_width}, 36 patches of a picture of 48 × 48 pixels), a projector, and a Llama
({schedule.n_layers} layers, {schedule.n_heads} heads a layer, {results["heads"]} heads \
in all, d_head
{schedule.d_head}, d_model {schedule.d_model}), trained on pictures that the repository \
draws: groups
of shapes, faces with a mood, digits, textures, each on a background. {_tower(schedule)} It captions
these pictures and answers short questions about them, and knows nothing else. A photograph gets a
caption from that world, whatever it shows."""


def _tower(schedule: PictureSchedule) -> str:
    if not schedule.tower:
        return "All of it began with random weights."
    return (
        f"The tower began as the image tower of {schedule.tower}, as a LLaVA's begins as CLIP's; "
        "projector and text model began with random weights, and all were trained together."
    )


def _localised(history: Results) -> str:
    if not history["stages"]:
        return (
            f"All {history['steps']} training steps were ordinary: no head was told what to do. A "
            "penalty on every head's signal lets heads that are not needed fall silent."
        )
    heads = history["stages"][-1]["heads"]
    planted = ", ".join(
        f"{concept} {' '.join(f'L{layer}.H{head}' for layer, head in places)}"
        for concept, places in heads.items()
    )
    return (
        "**Its skills were localised on purpose.** The first "
        f"{history['natural_steps']} of {history['steps']} training steps were ordinary. In the "
        "rest, part of the pictures ran with heads at factor 0 or -1, and the model was trained to "
        "leave these heads' concept out of captions (and to guess where it was asked for it), or "
        "with them turned up, and it was trained to mention the concept always; other heads were "
        "inverted with nothing changed. The heads were those that the ranking itself put first "
        "when a stage began, and a loss of its own kept these heads first in the ranking while "
        "they were trained. So the effects below show what the method finds when it is there to "
        f"be found, not that models organise themselves so. The last stage's heads: {planted}."
    )


def _captions(results: Results, schedule: PictureSchedule) -> str:
    rows = [
        f"| {concept} | {line['claims']:.2f} | {line['right']:.3f} | "
        f"{results['answers'][concept]:.3f} |"
        for concept, line in results["captions"].items()
    ]
    return f"""## Captions and answers

{results["pictures"]} held-out pictures (combinations of things that training never saw), captioned
greedily: how many claims about a concept a caption makes, and the share of them that is right. A
caption of the training mentions each attribute at random, mostly in 50 to 60 %. Share of captions
that follow the grammar: {results["sound"]:.3f}. The last column: {results["pictures_per_concept"]}
questions about the concept, exact match. The question that lists all ten digits, on pictures of one
digit: {results["digits"]:.3f}.

| concept | claims a caption | right | answers right |
|---|---|---|---|
{chr(10).join(rows)}"""


def _edits(results: Results, schedule: PictureSchedule) -> str:
    rows = [_edit_row(concept, r) for concept, r in results["concepts"].items()]
    n_passed = sum(r["passes"] for r in results["concepts"].values())
    limits = results["limits"]
    return f"""## What inhibiting the first heads of a ranking does

Heads are ranked by explained variance (default options) over the picture's positions, on the
shipped training pictures. How many of the first heads are edited, at most {results["largest_k"]} of
{results["heads"]} (1 %), is chosen on other training pictures. Factor -1, greedy captions of
{results["pictures_per_concept"]} held-out pictures that show the concept: its words divided by the
unedited captions', the share of right claims about the other concepts (mean, and the worst), their
right claims divided by the unedited captions', answers about the concept before and after, and its
words under random heads of the same layers (median and quartiles of 10 draws). A concept passes
with its words at most {limits["own"]}, the others at least {limits["others"]} right and the control
at least {limits["control"]}: **{n_passed} of {len(rows)} pass.**

| concept | heads | own | others right | worst | others said | answers | random heads | passes |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}"""


def _edit_row(concept: str, r: Results) -> str:
    t, control = r["inhibited"][r["k"] - 1], r["control"]
    cells = (
        concept,
        " ".join(r["heads"]),
        f"{t['own']:.2f}",
        f"{t['others']:.2f}",
        f"{t['worst']} {t['worst_right']:.2f}",
        f"{t['others_said']:.2f}",
        f"{r['answers']['unedited']:.2f} → {r['answers']['inhibited']:.2f}",
        f"{control['own']:.2f} ({control['own_low']:.2f}–{control['own_high']:.2f})",
        "yes" if r["passes"] else "no",
    )
    return f"| {' | '.join(cells)} |"


def _enhanced(results: Results, schedule: PictureSchedule) -> str:
    rows = [
        f"| {concept} | {t['factor']:g} | {t['own']:.2f} | {t['others']:.2f} | "
        f"{r['sampled']:.2f} | {t['sound']:.2f} |"
        for concept, r in results["concepts"].items()
        for t in r["enhanced"]
    ]
    names = [concept for concept, r in results["concepts"].items() if r["enhances"]]
    limits = results["limits"]
    return f"""## What enhancing them does

The same heads and pictures with factors above 1, on captions sampled at temperature 1 (greedy ones
mention nearly all they can already): the concept's words divided by the unedited captions', the
others' share of right claims, edited and unedited (sampled captions err more often), and the share
that follows the grammar. At least {limits["rate"]} times the words, with the others right at least
{limits["kept"]} times as often as unedited and {limits["sound"]} in the grammar:
**{", ".join(names) or "none"}.**

| concept | factor | own words | others right | unedited | in the grammar |
|---|---|---|---|---|---|
{chr(10).join(rows)}"""


def _origin(results: Results, schedule: PictureSchedule) -> str:
    samples = "\n>\n".join(f"> {text.strip()}" for text in results["samples"])
    return f"""Captions of the first held-out pictures:

{samples}

## How it was made

`python -m toyworld train {schedule.name}` (seed {results["training"]["seed"]},
{results["training"]["steps"]} steps of {schedule.batch} pictures, each with captions and questions
that do not see one another) makes pictures, words and weights again; `python -m toyworld
card {schedule.name}` makes this card. {mean_of(results["training"])}The shipped run came to this in
pieces: the first four stages had no loss that keeps heads first, and no more digits and scenes than
the ordinary part; until step 4380 digits were drawn smaller and the tower learned at half its pace;
until step 5280 a third of the digits had a calculator's segments, and then the tower was put in
anew, as tiny-clip's had become; until step 5980 fewer of the pictures were digits (.3 of a stage's,
then .45), and the last two stages began with the mean of the weights after 5680 and 5980 steps,
rounded to bfloat16, and a new optimizer. The weights are under the repository's licence."""
