"""Writes tiny-clip's reference pictures and its card: README.md for people, card.json for programs.

Everything is reported, what fails too. Measures nothing itself; `clip_measuring` does.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from headviz.clip.load import ClipModel, load_clip
from headviz.clip.name_concept import REFERENCE, TILE
from toyworld import clip_measuring as measuring
from toyworld.clip_schedule import CLIP_SCHEDULES, ClipSchedule
from toyworld.clip_texts import PROMPTS, WORDS
from toyworld.pictures.content import pictures
from toyworld.pictures.drawing import draw

REFERENCE_SEED = 3
ROWS = 8  # of reference pictures, and as many columns
WANTED = {"colors": 0.9, "shapes": 0.9, "digits": 0.9}
"""Concept -> the least share of right zero-shot answers that the model is made for."""


def write_reference(folder: Path) -> None:
    """The sheet of training pictures that words for pictures are compared on."""
    sheet = Image.new("RGB", (ROWS * TILE, ROWS * TILE))
    chosen = itertools.islice(pictures(REFERENCE_SEED), ROWS * ROWS)
    for number, picture in enumerate(chosen):
        row, column = divmod(number, ROWS)
        sheet.paste(draw(picture, TILE), (column * TILE, row * TILE))
    sheet.save(folder / Path(REFERENCE).name, optimize=True)


def write_clip_card(folder: Path, name: str, quick: bool = False) -> None:
    """Measure the model in `folder` and write its README.md and card.json.

    `quick`: few samples, to try it out.
    """
    clip = load_clip(str(folder), "cpu")
    results = measure(clip, name, n=20 if quick else 300, n_edited=10 if quick else 80)
    (folder / "card.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render(results, CLIP_SCHEDULES[name]), encoding="utf-8")


def measure(clip: ClipModel, name: str, n: int, n_edited: int) -> dict[str, Any]:
    """All numbers of the card as plain data.

    `n` pictures a concept for answers, `n_edited` for answers under edits.
    """
    tower = measuring.words_tower(clip)
    return {
        "model": name,
        "revision": clip.revision,
        "parameters": sum(p.numel() for p in clip.model.parameters()),
        "heads": tower.total_heads,
        "pictures": n,
        "accuracy": measuring.zero_shot_accuracy(clip, tower, measuring.tasks(n)),
        "phrases": measuring.phrase_accuracy(clip, n),
        "captions": measuring.caption_accuracy(clip, 100),
        "factor": measuring.FACTOR,
        "pictures_edited": n_edited,
        "edits": measuring.edits(clip, tower, measuring.tasks(n_edited)),
    }


def render(results: Mapping[str, Any], schedule: ClipSchedule) -> str:
    """The card as Markdown."""
    return f"""# {schedule.name}

A small open_clip model ({results["parameters"] / 1e6:.2f} million parameters; image tower of
{schedule.vision_layers} layers with {schedule.vision_width // schedule.d_head} heads each,
{results["heads"]} in all, d_head {schedule.d_head}, width {schedule.vision_width}; joint space of
{schedule.embed_dim} dimensions) that sees and reads a drawn world: shapes, faces, digits and
textures. It is made to name concepts from pictures and to explore the heads of an image tower with,
and knows nothing else: of a photograph it tells little but the colors.

## Zero-shot answers

{results["pictures"]} held-out pictures a concept, for which it has one right word (scenes of one or
two kinds of things; faces and textures also in pictures of their own), against all words of the
concept.

| concept | prompt | words | right | wanted |
|---|---|---|---|---|
{_answers(results)}

In held-out scenes with two kinds of things, the color in "a red circle" is right for
**{results["phrases"]:.3f}** of the things. The full caption of a held-out picture is the most
similar of 100 captions for **{results["captions"]:.2f}** of the pictures.

## Heads

Heads ranked for each concept on {measuring.RANKED} training pictures (pursuit, class token), then
edited with factor {results["factor"]:g}: share of right answers on {results["pictures_edited"]}
held-out pictures, with the median of {measuring.CONTROLS} random controls in the same layers, and
what is kept of the other concepts' right answers.

| concept | heads | k | original | edited | control | others kept |
|---|---|---|---|---|---|---|
{_edits(results)}

No head was told what to do, and nothing was planted. In the first {schedule.seeing_steps} steps of
the training the image tower alone learned what lies on each patch of a picture; in {schedule.steps}
further ones both towers learned to match pictures with texts, with a small penalty on every head's
signal. (The shipped weights came to this in pieces: 900 steps of matching on a fixed pool of
pictures in between, which the schedule no longer has, all with smaller digits, a third of them in a
calculator's segments; then 1100 steps of seeing and 400 of matching with digits as they are drawn
now, half of the pictures digits: docs/log.md.)

## Origin

`python -m toyworld train {schedule.name}` trains it again from nothing, with the schedule in
`toyworld/clip_schedule.py` (seed {schedule.seed}); numbers differ a little between machines.
`python -m toyworld card {schedule.name}` measured revision {results["revision"]} and wrote
this file. All pictures and texts are made by the program: no data set, no personal data. Licence:
that of this repository.
"""


def _answers(results: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {concept} | {PROMPTS[concept]} | {len(WORDS[concept])} | {share:.3f} | "
        f"{WANTED.get(concept, '')} |"
        for concept, share in results["accuracy"].items()
    )


def _edits(results: Mapping[str, Any]) -> str:
    lines = []
    for concept, found in results["edits"].items():
        for k, edit in zip(measuring.KS, found["edits"], strict=True):
            names = " ".join(h["head"] for h in found["heads"][:k])
            own = " | ".join(f"{own:.2f}" for own in edit["own"].values())
            lines.append(f"| {concept} | {names} | {k} | {own} | {edit['others_kept']:.2f} |")
    return "\n".join(lines)
