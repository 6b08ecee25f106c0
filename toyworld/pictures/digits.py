"""Draws a digit in one of several hands: type, pen strokes, or brush strokes.

Type is the font that comes with pillow, so that no font file of the machine is needed.
"""

import random
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from toyworld.pictures.outlines import STROKES, Outline
from toyworld.pictures.words import Rgb

JITTER = 0.07  # of a pen stroke's points, in half heights of the digit
STEADY = 0.03  # that of a brush's


@cache
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)


def _typed(rng: random.Random, digit: str, side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    bold = rng.choice((0.02, 0.04, 0.06)) * side
    ImageDraw.Draw(mask).text(
        (side / 2, side / 2),
        digit,
        fill=255,
        font=_font(round(side * rng.uniform(1.1, 1.3))),
        anchor="mm",
        stroke_width=round(bold),
    )
    return mask


def _stroked(
    rng: random.Random,
    strokes: tuple[Outline, ...],
    side: int,
    jitter: float,
    widths: tuple[float, float],
) -> Image.Image:
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    width = max(1, round(side * rng.uniform(*widths)))
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


def _penned(rng: random.Random, digit: str, side: int) -> Image.Image:
    return _stroked(rng, STROKES[digit], side, JITTER, (0.12, 0.17))


def _brushed(rng: random.Random, digit: str, side: int) -> Image.Image:
    return _stroked(rng, STROKES[digit], side, STEADY, (0.18, 0.23))


HANDS: tuple[Callable[[random.Random, str, int], Image.Image], ...] = (
    _typed,
    _penned,
    _brushed,
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
    shear, narrow = rng.uniform(-0.2, 0.2), rng.uniform(0.9, 1.15)
    middle = side / 2
    # Maps pixels of the new mask to those of the old one, both seen from the middle.
    across = (narrow, shear, middle * (1 - narrow - shear))
    mask = mask.transform(
        (side, side), Image.Transform.AFFINE, (*across, 0, 1, 0), Image.Resampling.BILINEAR
    )
    x, y = centre
    image.paste(paint, (round(x - middle), round(y - middle)), mask)
