"""Draws a face whose eyes, brows and mouth show a mood. Knows no sentences."""

import random

from PIL import Image, ImageDraw

from toyworld.pictures.words import Rgb

DARK, LIGHT, TEAR = (16, 16, 16), (252, 252, 252), (90, 190, 255)
DARK_FACE = 95  # mean of the channels below which the features are light


def draw_face(
    image: Image.Image,
    rng: random.Random,
    centre: tuple[float, float],
    size: float,
    paint: Rgb,
    mood: str,
) -> None:
    """A face of radius `size` in pixels around `centre`."""
    ink = LIGHT if sum(paint) / 3 < DARK_FACE else DARK
    pen = ImageDraw.Draw(image)
    x, y = centre
    pen.ellipse((x - size, y - size, x + size, y + size), fill=paint)
    width = max(1, round(size * rng.uniform(0.14, 0.2)))
    _Features(pen, x, y, size, ink, width).show(mood)


class _Features:
    """Eyes, brows and mouth, in units of the face's radius."""

    def __init__(
        self, pen: ImageDraw.ImageDraw, x: float, y: float, size: float, ink: Rgb, width: int
    ) -> None:
        self.pen, self.x, self.y, self.size, self.ink, self.width = pen, x, y, size, ink, width

    def show(self, mood: str) -> None:
        """All features of one mood."""
        if mood == "happy":
            self.dot_eyes()
            self.arc(0, 0.1, 0.55, 0.5, 10, 170)
        elif mood == "sad":
            self.dot_eyes()
            self.arc(0, 0.75, 0.45, 0.4, 200, 340)
            self.oval(-0.42, 0.22, 0.1, 0.2, TEAR)
        elif mood == "angry":
            self.dot_eyes()
            self.line(-0.7, -0.6, -0.15, -0.3)
            self.line(0.7, -0.6, 0.15, -0.3)
            self.line(-0.4, 0.5, 0.4, 0.5)
        elif mood == "tired":
            self.line(-0.6, -0.2, -0.2, -0.2)
            self.line(0.6, -0.2, 0.2, -0.2)
            self.oval(0, 0.5, 0.2, 0.26, self.ink)
        elif mood == "scared":
            for side in (-0.4, 0.4):
                self.oval(side, -0.25, 0.32, 0.38, LIGHT)
                self.oval(side, -0.25, 0.13, 0.13, DARK)
            self.oval(0, 0.55, 0.34, 0.22, self.ink)
        else:
            assert mood == "calm", mood
            self.arc(-0.4, -0.25, 0.24, 0.2, 0, 180)
            self.arc(0.4, -0.25, 0.24, 0.2, 0, 180)
            self.arc(0, 0.35, 0.28, 0.16, 20, 160)

    def dot_eyes(self) -> None:
        self.oval(-0.38, -0.2, 0.14, 0.18, self.ink)
        self.oval(0.38, -0.2, 0.14, 0.18, self.ink)

    def _box(self, x: int | float, y: float, wide: float, high: float) -> tuple[float, ...]:
        middle, level = self.x + x * self.size, self.y + y * self.size
        a, b = wide * self.size, high * self.size
        return middle - a, level - b, middle + a, level + b

    def oval(self, x: int | float, y: float, wide: float, high: float, ink: Rgb) -> None:
        self.pen.ellipse(self._box(x, y, wide, high), fill=ink)

    def arc(self, x: int | float, y: float, wide: float, high: float, start: int, end: int) -> None:
        self.pen.arc(self._box(x, y, wide, high), start, end, fill=self.ink, width=self.width)

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        s = self.size
        ends = (self.x + x0 * s, self.y + y0 * s, self.x + x1 * s, self.y + y1 * s)
        self.pen.line(ends, fill=self.ink, width=self.width)
