"""The first part of tiny-clip's training: its image tower learns to see, before it learns to match.

From the patches of the last layer but one it is read off what the thing on each patch is (its kind,
its noun, its color, how many of them there are, ...), and from the picture's embedding which words
hold for the picture. Matching captions alone teaches small shapes far more slowly (docs/log.md).
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn

from headviz.base.shapes import Float, Int, Tensor
from toyworld.batching import IGNORED
from toyworld.clip_schedule import ClipSchedule
from toyworld.clip_texts import WORDS
from toyworld.clip_texts import shown as words_shown
from toyworld.pictures.batches import pixels_of
from toyworld.pictures.captions import NOUN_CONCEPTS
from toyworld.pictures.content import Group, Picture, training_pictures
from toyworld.pictures.drawing import SIDE, Placed, draw_placed

SIDES = (SIDE, SIDE, 2 * SIDE)  # larger drawings are scaled down, as uploads are
KINDS = ("nothing", *NOUN_CONCEPTS)
CLASSES: Mapping[str, tuple[str, ...]] = {"kinds": KINDS, **WORDS}
"""What is read off a patch -> the classes that it may be in."""
N_CLASSES = sum(map(len, CLASSES.values()))
N_WORDS = sum(map(len, WORDS.values()))


class Readout(nn.Module):
    """Linear maps from what the tower gives to words; thrown away after this part."""

    def __init__(self, schedule: ClipSchedule) -> None:
        """With random weights."""
        super().__init__()
        self.patches = nn.Linear(schedule.vision_width, N_CLASSES)
        self.whole = nn.Linear(schedule.embed_dim, N_WORDS)


def fresh_pictures(schedule: ClipSchedule, step: int, n: int) -> list[Picture]:
    """`n` pictures for a step: of any sort, and more of digits and scenes, which take longest."""
    more = {"digits": schedule.more_digits, "scene": schedule.more_scenes}
    return training_pictures(schedule.seed * 1_000_000 + step + 1, n, more)


def seen_pixels(
    picture: Picture, rng: random.Random
) -> tuple[Float[Tensor, "3 side side"], tuple[Placed, ...]]:
    """The picture drawn at one of SIDES and scaled to SIDE, from -1 to 1; where its things lie."""
    image, placed = draw_placed(picture, rng.choice(SIDES))
    return pixels_of(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), placed


def classes_of(group: Group) -> dict[str, str]:
    """What holds for each patch that a thing of the group lies on."""
    found = {"kinds": group.kind, "colors": group.color, "sizes": group.size}
    if group.kind != "texture":
        found["numbers"] = WORDS["numbers"][group.count - 1]
    if group.mood:
        found["feelings"] = group.mood
    if noun := NOUN_CONCEPTS[group.kind]:
        found[noun] = group.noun
    return found


def patch_labels(
    picture: Picture, placed: tuple[Placed, ...], patch: int
) -> dict[str, Int[Tensor, " patch"]]:
    """Key of CLASSES -> the class at each patch; IGNORED where it has none.

    A patch shows the thing in whose box its middle lies, of several the nearest.
    """
    row = [patch * (n + 0.5) for n in range(SIDE // patch)]
    middles = [(x, y) for y in row for x in row]
    told = [classes_of(group) for group in picture.groups]
    nothing = {"kinds": KINDS[0]} | (
        {"backgrounds": picture.background} if picture.background else {}
    )
    here = [
        nothing if thing is None else told[thing]
        for thing in (_thing_at(x, y, placed) for x, y in middles)
    ]
    return {
        concept: torch.tensor(
            [names.index(one[concept]) if concept in one else IGNORED for one in here]
        )
        for concept, names in CLASSES.items()
    }


def _thing_at(x: float, y: float, placed: tuple[Placed, ...]) -> int | None:
    """The number of the group whose thing lies at (x, y)."""
    around = [
        (abs(x - (left + right) / 2) + abs(y - (top + bottom) / 2), thing.group)
        for thing in placed
        for left, top, right, bottom in [thing.box]
        if left <= x <= right and top <= y <= bottom
    ]
    return min(around)[1] if around else None


def drawn(
    shown: Sequence[Picture], patch: int, rng: random.Random
) -> tuple[Float[Tensor, "row 3 side side"], dict[str, Int[Tensor, "row patch"]]]:
    """Of some pictures: their pixels, and key of CLASSES -> the class of every patch."""
    pixels, labels = [], []
    for picture in shown:
        image, placed = seen_pixels(picture, rng)
        pixels.append(image)
        labels.append(patch_labels(picture, placed, patch))
    return torch.stack(pixels), {c: torch.stack([one[c] for one in labels]) for c in CLASSES}


def look(
    visual: Any, pixels: Float[Tensor, "row 3 side side"]
) -> tuple[Float[Tensor, "row embed"], Float[Tensor, "row patch width"]]:
    """What the tower gives for each picture, and for each patch in the last layer but one."""
    before_last: list[Tensor] = []
    handle = visual.transformer.resblocks[-2].register_forward_hook(
        lambda _module, _args, output: before_last.append(output)
    )
    try:
        embedded = visual(pixels)
    finally:
        handle.remove()
    return embedded, before_last[0][:, 1:]  # without the class token


def patch_loss(
    readout: Readout,
    patches: Float[Tensor, "row patch width"],
    labels: Mapping[str, Int[Tensor, "row patch"]],
) -> tuple[Tensor, Tensor]:
    """The loss of what is read off the patches; the share told right, of shapes and digits."""
    parts = readout.patches(patches).split([len(names) for names in CLASSES.values()], dim=2)
    loss, right, asked = torch.zeros(()), torch.zeros(()), 0
    for (concept, target), part in zip(labels.items(), parts, strict=True):
        due = target != IGNORED
        loss = loss + nn.functional.cross_entropy(part[due], target[due])
        if concept in ("shapes", "digits"):
            right = right + (part[due].argmax(1) == target[due]).sum()
            asked += int(due.sum())
    return loss, right / asked


def seeing_loss(
    visual: Any, readout: Readout, schedule: ClipSchedule, step: int
) -> tuple[Tensor, Tensor]:
    """The loss on the pictures of a step; the share of patches told right, of shapes and digits."""
    shown = fresh_pictures(schedule, step, schedule.seeing_batch)
    pixels, labels = drawn(shown, schedule.patch, random.Random(f"seeing {schedule.seed} {step}"))
    truths = [words_shown(picture) for picture in shown]
    words = torch.tensor(
        [[float(w in truth[c]) for c, own in WORDS.items() for w in own] for truth in truths]
    )
    embedded, patches = look(visual, pixels)
    whole = nn.functional.binary_cross_entropy_with_logits(readout.whole(embedded), words)
    loss, right = patch_loss(readout, patches, labels)
    return loss + schedule.whole_weight * whole, right
