"""What ships beside the weights: pictures to read heads on, and pictures to try on the page.

Probe pictures come from the training split, examples from the held-out one.
"""

import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path

from toyworld.pictures.captions import EVERYTHING, caption
from toyworld.pictures.content import SORTS, Picture, pictures
from toyworld.pictures.drawing import SIDE, draw

N_PROBES = 200
PROBE_SEED, EXAMPLE_SEED = 1, 11
PROBE_SIDE, EXAMPLE_SIDE = 2 * SIDE, 5 * SIDE  # scaled down by the processor, as uploads are
EXAMPLES_A_SORT = {"scene": 6, "faces": 3, "digits": 2, "textures": 2}


def training_pictures(n: int = N_PROBES, seed: int = PROBE_SEED) -> list[Picture]:
    """Pictures of the training split: what heads are ranked on."""
    return list(itertools.islice(pictures(seed), n))


def example_pictures() -> list[Picture]:
    """Held-out pictures of every sort, the fullest of each first: the page opens with one."""
    found: list[Picture] = []
    for sort in SORTS:
        endless = pictures(EXAMPLE_SEED, held_out=True, sort=sort)
        some = itertools.islice(endless, EXAMPLES_A_SORT[sort])
        found += sorted(some, key=lambda picture: -len(picture.groups))
    return found


def write_pictures(folder: Path) -> None:
    """Write prompts/pictures and examples: PNG files beside captions.jsonl."""
    _write(folder / "prompt_sets" / "pictures", training_pictures(), PROBE_SIDE)
    _write(folder / "examples", example_pictures(), EXAMPLE_SIDE)


def _write(folder: Path, shown: Iterable[Picture], side: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, picture in enumerate(shown):
        name = f"{number:03}-{picture.sort}.png"
        draw(picture, side).save(folder / name, optimize=True)
        text = caption(picture, random.Random(0), EVERYTHING, swap=0.0)
        lines.append(json.dumps({"file": name, "caption": text}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines), encoding="utf-8")
