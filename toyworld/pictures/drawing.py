"""Draws a picture with pillow: the same pixels for the same picture and size.

Everything is drawn at twice the wanted size and scaled down, so that edges are soft. Lengths here
are in units of the picture's side / SIDE. Knows no sentences.
"""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from toyworld.pictures.content import Group, Picture
from toyworld.pictures.digits import draw_digit
from toyworld.pictures.faces import draw_face
from toyworld.pictures.outlines import OUTLINES
from toyworld.pictures.textures import texture_mask
from toyworld.pictures.words import BACKGROUNDS, COLORS, Rgb

SIDE = 48
OVERSAMPLED = 2
# Side of a thing by kind and size. A grid cell is the smallest of CELLS that holds it.
EXTENTS: dict[str, dict[str, float]] = {
    "shape": {"small": 10.0, "large": 15.5, "huge": 30.0},
    "face": {"large": 22.0, "huge": 36.0},
    "digit": {"large": 23.5, "huge": 36.0},
}
CELLS = (16, 24, 48)
PAINT_JITTER = 10  # of 255, each channel

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Placed:
    """Where a thing lies, in units of the picture's side / SIDE."""

    group: int  # its number in the picture
    box: Box


def draw(picture: Picture, side: int = SIDE) -> Image.Image:
    """The picture as an RGB image of `side` × `side` pixels."""
    return draw_placed(picture, side)[0]


def draw_placed(picture: Picture, side: int = SIDE) -> tuple[Image.Image, tuple[Placed, ...]]:
    """The picture as `draw` gives it, and where its things lie."""
    rng = random.Random(picture.seed)
    scale = side * OVERSAMPLED / SIDE
    image = Image.new("RGB", (side * OVERSAMPLED, side * OVERSAMPLED))
    if picture.background:
        _draw_background(image, rng, picture.background, scale)
    placed: list[Placed] = []
    for number, (group, box) in enumerate(zip(picture.groups, _boxes(picture), strict=True)):
        if group.kind == "texture":
            _draw_texture(image, rng, group, box, scale)
            boxes = [box]
        else:
            boxes = _draw_things(image, rng, group, box, scale)
        placed += [Placed(number, found) for found in boxes]
    return image.reduce(OVERSAMPLED), tuple(placed)


def _boxes(picture: Picture) -> list[Box]:
    """Where each group has its place: all of the picture, or a half."""
    whole, half = float(SIDE), SIDE / 2
    if not picture.relation:
        return [(0.0, 0.0, whole, whole)]
    if picture.relation == "above":
        return [(0.0, 0.0, whole, half), (0.0, half, whole, whole)]
    return [(0.0, 0.0, half, whole), (half, 0.0, whole, whole)]


def paint_of(rng: random.Random, rgb: Rgb) -> Rgb:
    """Not quite the same paint each time."""
    red, green, blue = (min(255, max(0, c + rng.randint(-PAINT_JITTER, PAINT_JITTER))) for c in rgb)
    return red, green, blue


def _draw_background(image: Image.Image, rng: random.Random, name: str, scale: float) -> None:
    """A plain ground with faint marks: clouds, blades, grains, flakes, stars or ripples."""
    ground = paint_of(rng, BACKGROUNDS[name][1])
    image.paste(ground, (0, 0, *image.size))
    pen = ImageDraw.Draw(image)
    lighter: Rgb = tuple(min(255, c + 24) for c in ground)  # type: ignore[assignment]
    darker: Rgb = tuple(max(0, c - 24) for c in ground)  # type: ignore[assignment]
    for _ in range(rng.randint(6, 10)):
        x, y = rng.uniform(0, SIDE) * scale, rng.uniform(0, SIDE) * scale
        size = scale * rng.uniform(0.8, 1.4)
        if name == "sky":
            pen.ellipse((x - 5 * size, y - 1.2 * size, x + 5 * size, y + 1.2 * size), lighter)
        elif name == "grass":
            pen.line((x, y, x + rng.uniform(-1, 1) * size, y - 4 * size), darker, round(size))
        elif name == "sand":
            pen.ellipse((x, y, x + size, y + size), darker)
        elif name == "snow":
            pen.ellipse((x, y, x + 1.5 * size, y + 1.5 * size), (255, 255, 255))
        elif name == "night":
            pen.ellipse((x, y, x + 0.7 * size, y + 0.7 * size), (235, 235, 190))
        else:
            pen.arc((x - 4 * size, y, x + 4 * size, y + 3 * size), 200, 340, lighter, round(size))


def _draw_texture(
    image: Image.Image, rng: random.Random, group: Group, box: Box, scale: float
) -> None:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    mask = texture_mask(rng, group.noun, group.size, (right - left, bottom - top), scale)
    first, second = (paint_of(rng, COLORS[name]) for name in (group.color, group.second))
    image.paste(second, (left, top, right, bottom))
    image.paste(first, (left, top), mask)


def _draw_things(
    image: Image.Image, rng: random.Random, group: Group, box: Box, scale: float
) -> list[Box]:
    """Each thing somewhere in a grid cell of its own; where they lie."""
    extent = EXTENTS[group.kind][group.size]
    paint = paint_of(rng, COLORS[group.color])
    boxes: list[Box] = []
    for x, y in _centres(rng, box, extent, group.count):
        size = extent * rng.uniform(0.94, 1.0) / 2 * scale
        centre = (x * scale, y * scale)
        if group.kind == "face":
            draw_face(image, rng, centre, size, paint, group.mood)
        elif group.kind == "digit":
            draw_digit(image, rng, centre, size, paint, group.noun)
        else:
            _draw_shape(image, rng, centre, size, paint, group.noun)
        reach = extent / 2
        boxes.append((x - reach, y - reach, x + reach, y + reach))
    return boxes


def _centres(rng: random.Random, box: Box, extent: float, count: int) -> list[tuple[float, float]]:
    left, top, right, bottom = box
    cell = next(c for c in CELLS if c >= extent)
    columns, rows = int((right - left) // cell), int((bottom - top) // cell)
    if count == 1:  # anywhere
        columns = rows = 1
    wide, high = (right - left) / columns, (bottom - top) / rows
    found = []
    for place in rng.sample(range(columns * rows), count):
        row, column = divmod(place, columns)
        found.append(
            (
                left + (column + 0.5) * wide + rng.uniform(-0.5, 0.5) * (wide - extent),
                top + (row + 0.5) * high + rng.uniform(-0.5, 0.5) * (high - extent),
            )
        )
    return found


def _draw_shape(
    image: Image.Image,
    rng: random.Random,
    centre: tuple[float, float],
    size: float,
    paint: Rgb,
    name: str,
) -> None:
    turn = math.radians(rng.uniform(-10, 10))
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = centre
    points = [
        (x + size * (cos * u - sin * v), y + size * (sin * u + cos * v)) for u, v in OUTLINES[name]
    ]
    ImageDraw.Draw(image).polygon(points, fill=paint)
