"""Draws a digit in one of several hands: type, calculator segments, or pen strokes.

Type is the font that comes with pillow, so that no font file of the machine is needed.
"""

import random
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from headviz.toyworld.pictures.outlines import SEGMENTS, STROKES, Outline
from headviz.toyworld.pictures.words import Rgb

JITTER = 0.07  # of a pen stroke's points, in half heights of the digit


@cache
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


def _typed(rng: random.Random, digit: str, side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    bold = rng.choice((0.0, 0.025, 0.05)) * side
    ImageDraw.Draw(mask).text(
        (side / 2, side / 2),
        digit,
        fill=255,
        font=_font(round(side * rng.uniform(0.95, 1.2))),
        anchor="mm",
        stroke_width=round(bold),
    )
    return mask


def _stroked(
    rng: random.Random, strokes: tuple[Outline, ...], side: int, jitter: float
) -> Image.Image:
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    width = max(1, round(side * rng.uniform(0.11, 0.18)))
    room = (side - width) / 2
    for stroke in strokes:
        points = [
            (
                side / 2 + room * (x + rng.uniform(-jitter, jitter)),
                side / 2 + room * (y + rng.uniform(-jitter, jitter)),
            )
            for x, y in stroke
        ]
        pen.line(points, fill=255, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return mask


def _segments(rng: random.Random, digit: str, side: int) -> Image.Image:
    return _stroked(rng, SEGMENTS[digit], side, 0.0)


def _handwritten(rng: random.Random, digit: str, side: int) -> Image.Image:
    return _stroked(rng, STROKES[digit], side, JITTER)


HANDS: tuple[Callable[[random.Random, str, int], Image.Image], ...] = (
    _typed,
    _segments,
    _handwritten,
)
"""Ways to draw a digit: a mask of the given side."""


def draw_digit(
    image: Image.Image,
    rng: random.Random,
    centre: tuple[float, float],
    size: float,
    paint: Rgb,
    digit: str,
) -> None:
    """A digit of half height `size` in pixels around `centre`, sheared and stretched a little."""
    side = round(2 * size)
    mask = rng.choice(HANDS)(rng, digit, side)
    shear, narrow = rng.uniform(-0.2, 0.2), rng.uniform(1.0, 1.25)
    middle = side / 2
    # Maps pixels of the new mask to those of the old one, both seen from the middle.
    across = (narrow, shear, middle * (1 - narrow - shear))
    mask = mask.transform(
        (side, side), Image.Transform.AFFINE, (*across, 0, 1, 0), Image.Resampling.BILINEAR
    )
    x, y = centre
    image.paste(paint, (round(x - middle), round(y - middle)), mask)
