"""Textures as masks: where the first of two paints goes. Knows no paint."""

import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PERIODS: dict[str, float] = {"small": 7.0, "large": 12.0}  # in units of the picture's side / 48


def texture_mask(
    rng: random.Random, name: str, size: str, shape: tuple[int, int], scale: float
) -> Image.Image:
    """A mask of `shape` (width, height) pixels, white where the first paint goes."""
    period = PERIODS[size] * scale * rng.uniform(0.9, 1.1)
    width, height = shape
    y, x = np.indices((height, width), dtype=np.float32) / period
    x, y = x + rng.random(), y + rng.random()
    # A lattice may lean a little; bands may run in any direction.
    lean = rng.uniform(0, math.pi) if name == "stripes" else rng.uniform(-0.12, 0.12)
    u, v = x * math.cos(lean) + y * math.sin(lean), y * math.cos(lean) - x * math.sin(lean)
    filled = _filled(rng, name, u, v)
    return Image.fromarray((filled * 255).astype(np.uint8))


def _filled(
    rng: random.Random, name: str, u: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Where the texture is filled; `u` and `v` count periods across and down."""
    across, down = u % 1, v % 1
    if name == "stripes":
        return across < 0.5
    if name == "dots":
        return np.hypot(across - 0.5, down - 0.5) < 0.33
    if name == "checks":
        return (across < 0.5) != (down < 0.5)
    if name == "waves":
        return (v + 0.3 * np.sin(2 * math.pi * u / 1.6)) % 1 < 0.5
    if name == "zigzag":
        return (v + 0.9 * np.abs((u / 1.6) % 1 - 0.5)) % 1 < 0.5
    if name == "grid":
        return (across < 0.2) | (down < 0.2)
    if name == "bricks":
        shifted = (u / 1.7 + 0.5 * (np.floor(v) % 2)) % 1
        return (down > 0.2) & (shifted > 0.12)
    assert name == "noise", name
    grains = np.random.default_rng(rng.getrandbits(32)).random((64, 64)) < 0.5
    rows, columns = (np.floor(4 * part).astype(int) % 64 for part in (v, u))
    found: NDArray[np.bool_] = grains[rows, columns]
    return found
