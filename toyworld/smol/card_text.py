"""The text of smol-vlm's card, from the numbers in card.json. Measures nothing, knows no model."""

from collections.abc import Mapping
from typing import Any

from toyworld.smol.schedule import SmolSchedule
from toyworld.stages import mean_of

Results = Mapping[str, Any]


def render(results: Results, schedule: SmolSchedule) -> str:
    """The card as Markdown."""
    sections = (_head, _captions, _answers, _english, _heads, _photographs, _origin)
    return "\n\n".join(section(results, schedule) for section in sections) + "\n"


def missed(results: Results) -> list[str]:
    """The targets that are not reached, in words."""
    targets, lines = results["targets"], results["captions"]
    found = [
        f"{concept} in captions ({lines[concept]['right']:.3f} of {targets[concept]})"
        for concept in lines
        if concept in targets and not lines[concept]["right"] >= targets[concept]
    ]
    if results["all_answers"] < targets["answers"]:
        found.append(f"answers ({results['all_answers']:.3f} of {targets['answers']})")
    if _times(results) > targets["perplexity"]:
        found.append(f"perplexity ({_times(results):.2f} times, at most {targets['perplexity']})")
    return found


def _times(results: Results) -> float:
    found: float = results["perplexity"]["said"] / results["perplexity"]["taught"]
    return found


def _head(results: Results, schedule: SmolSchedule) -> str:
    return f"""# {schedule.name}

A LLaVA with a real language model inside: an image tower ({schedule.vision_layers} layers of width
{schedule.vision_width}) and a connector, both trained here, before SmolLM2-135M-Instruct, none of
whose numbers was changed. **No head was planted, and no loss was on heads**: its
{results["heads"]} heads are those of {schedule.language_model}, and what a ranking finds in them is
what there is. It captions pictures that the repository draws (shapes, faces with a mood, digits,
textures, on a background of 48 × 48 pixels) in plain English, and answers short questions about
them.

Of the model this folder holds tower and connector alone (`parts/`). The language model comes as
`{schedule.language_model}` does; both are joined in the cache at the first loading, or by
`python -m headviz get {schedule.name}`, and only where the language model's file has the sha256
that they were trained with. transformers opens the joined folder as a
LlavaForConditionalGeneration.

**What it is not.** Its tower knows the drawn world alone. And what it writes at the picture's
positions was at first drawn to the embeddings of words: {schedule.aligning_steps} steps in which no
language model ran taught the tower that patches in the half of a group of two red circles stand for
" two", " red", " circles" and the like, one word a patch by its place, and the class token for how
the groups lie and how many things there are. So the language model reads a picture somewhat as it
reads a list of words, and a patch tells of its half of the picture more than of its own 8 × 8
pixels: where in the picture a head is strongest says which half, and not which pixel. In the second
part the loss of captions and answers reached tower and connector through the frozen language model,
with the first part's loss kept beside it at {schedule.beside_weight:g}."""


def _captions(results: Results, schedule: SmolSchedule) -> str:
    return f"""## Captions

{results["pictures"]} held-out pictures (combinations of things that training never saw), captioned
greedily ("Describe the picture."). A caption of the training names each thing at random. The share
of the captions that name something of a concept in which all of that is right; what is wanted; and
the share of single claims. "A circle" counts as one circle; *several* are the captions that say a
number from two on.

| concept | captions that name it | all right | wanted | claims | claims right |
|---|---|---|---|---|---|
{_caption_lines(results)}

{_verdict(results)} {results["different_captions"]} of the {results["pictures"]} captions are
different ones. The first, each above one of the training's wordings for the same picture:

{_samples(results)}"""


def _caption_lines(results: Results) -> str:
    wanted = results["targets"]
    return "\n".join(
        f"| {concept} | {line['named']} | {line['right']:.3f} | {wanted.get(concept, '')} | "
        f"{line['claims']} | {line['claims_right']:.3f} |"
        for concept, line in results["captions"].items()
    )


def _verdict(results: Results) -> str:
    found = missed(results)
    return f"**Missed: {'; '.join(found)}.**" if found else "**All targets of this card are met.**"


def _samples(results: Results) -> str:
    pairs = (f"> {one['said'].strip()}  \n> *{one['taught']}*" for one in results["samples"])
    return "\n>\n".join(pairs)


def _answers(results: Results, schedule: SmolSchedule) -> str:
    rows = "\n".join(f"| {c} | {share:.3f} |" for c, share in results["answers"].items())
    wrong = "; ".join(
        f"{one['asked']} {one['said'].strip() or '(nothing)'} ({one['right']})"
        for one in results["mistakes"][:5]
    )
    return f"""## Short answers

{results["questions_per_concept"]} questions a concept about held-out pictures, right if the answer
is the word, but for capitals and the stop: **{results["all_answers"]:.3f}** of all (wanted
{results["targets"]["answers"]}).

| concept | right |
|---|---|
{rows}

Some mistakes, the right answer behind: {wrong or "none"}."""


def _english(results: Results, schedule: SmolSchedule) -> str:
    found = results["perplexity"]
    return f"""## English

Perplexity of the captions as {schedule.language_model} alone reads them, behind the mark that
begins a text: {found["said"]:.1f}; of captions of the training for the same pictures
{found["taught"]:.1f}: {_times(results):.2f} times (wanted: at most
{results["targets"]["perplexity"]})."""


def _heads(results: Results, schedule: SmolSchedule) -> str:
    found = results["first_heads"]
    rows = "\n".join(map(_heads_line, found["concepts"]))
    return f"""## What turning the first heads of a ranking does

Heads ranked by explained variance (default options) over the picture's positions of
{found["read"]} training pictures; the first {len(found["concepts"][0]["ranked"])} of
{results["heads"]}, at factor {found["factor"]:g}, on {found["pictures"]} held-out pictures that
show the concept, captioned greedily: its words, the share of right claims about everything else,
and the captions' perplexity, unedited → edited, and in brackets with as many random other heads of
the same layers. Nothing here was trained for; what it shows is what there is.

| concept | heads | words | others right | perplexity |
|---|---|---|---|---|
{rows}"""


def _heads_line(one: Results) -> str:
    def cell(name: str, form: str) -> str:
        before, after = one["original"][name], one["edited"][name]
        controls = ", ".join(format(control[name], form) for control in one["controls"])
        return f"{before:{form}} → {after:{form}} ({controls})"

    words, right, english = (
        cell("words", "d"),
        cell("others_right", ".2f"),
        cell("perplexity", ".1f"),
    )
    return f"| {one['concept']} | {one['edited']['heads']} | {words} | {right} | {english} |"


def _photographs(results: Results, schedule: SmolSchedule) -> str:
    told = "; ".join(f"{one['name']}: “{one['said'].strip()}”" for one in results["photographs"])
    shown = f" The two that scikit-learn ships get: {told}."
    return f"""## Photographs

It has never seen one. A photograph gets a caption from the drawn world whatever it shows, in good
English and about nothing that is there, but perhaps a color.{shown}"""


def _origin(results: Results, schedule: SmolSchedule) -> str:
    n = results["training"]["steps"]
    return f"""## How it was made

`python -m toyworld train {schedule.name}` (seed {schedule.seed}) makes tower and connector again,
on one core of a CPU: {schedule.aligning_steps} steps of {schedule.aligning_batch} pictures without
the language model, the tower beginning as {schedule.tower}'s (with {schedule.vision_layers} layers,
of which that model reads {schedule.seen_layers}); then {n - schedule.aligning_steps} steps through
it, each with {schedule.captions} captions and {schedule.questions} questions of
{schedule.batch} pictures and {schedule.beside} further pictures aligned; places and numbers are
asked about more readily. (The shipped weights came to this in pieces: a quarter of the first 400
steps' pictures were scenes beside those of any sort, and the second part was begun anew after 280
steps, with four questions; after 1,480, with one caption and six; after 1,920, from the mean of the
weights after 1,480 and 1,920, with two and six; after 2,620, with three and five; and after 3,060
twice, for 1,000 steps each on pictures of their own, with two and seven and with three and six: the
weights are the mean of these two ends. Each piece had a warm-up and a cosine, and but for the fifth
a new optimizer. Until 1,920 half of the pictures were scenes and none more were textures, all
questions were as likely and the language model computed in float32. On one core beside other work
20 minutes and 30, 56, 24, 25, 18 and twice 41: docs/log.md. One run of all of it was not made.)
{mean_of(results["training"])}`python -m toyworld card {schedule.name}` measured revision
{results["revision"]} and wrote this file. All pictures and texts are made by the program. Tower and
connector are under the repository's licence, SmolLM2 under Apache 2.0."""
