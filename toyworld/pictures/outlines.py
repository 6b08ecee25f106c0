"""Outlines of shapes and strokes of digits in a unit square: x right, y down, from -1 to 1.

Knows no paint and no picture.
"""

import math

Point = tuple[float, float]
Outline = tuple[Point, ...]


def _arc(radius: float, start: float, end: float, n: int, x: float = 0.0) -> Outline:
    """`n` + 1 points of a circle around (x, 0), angles in turns, clockwise from the right."""
    angles = (2 * math.pi * (start + (end - start) * i / n) for i in range(n + 1))
    return tuple((x + radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _star() -> Outline:
    radii = (1.1, 0.46)
    angles = [math.pi * (i / 5 - 0.5) for i in range(10)]
    return tuple(
        (radii[i % 2] * math.cos(a), radii[i % 2] * math.sin(a) + 0.06)
        for i, a in enumerate(angles)
    )


def _heart() -> Outline:
    def at(t: float) -> Point:
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        return math.sin(t) ** 3, -(y + 2.5) / 14.5

    return tuple(at(2 * math.pi * i / 28) for i in range(28))


def _cross(arm: float = 0.34) -> Outline:
    a, b = arm, 0.98
    return (
        (-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
        (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a),
    )  # fmt: skip


# A ring is one outline with a seam; a moon is an outer arc and a shifted inner one on the way back.
OUTLINES: dict[str, Outline] = {
    "circle": _arc(1.0, 0.0, 1.0, 24),
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "triangle": ((0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)),
    "star": _star(),
    "heart": _heart(),
    "cross": _cross(),
    "ring": _arc(1.05, 0.0, 1.0, 24) + _arc(0.55, 1.0, 0.0, 24),
    "moon": _arc(1.05, 0.12, 0.88, 20) + _arc(0.88, 0.82, 0.18, 16, x=0.42),
}

_LOOP: Outline = tuple((0.62 * x, 0.95 * y) for x, y in _arc(1.0, 0.7, 1.7, 14))
_UPPER_LOOP: Outline = tuple((0.5 * x, 0.46 * y - 0.48) for x, y in _arc(1.0, 0.25, 1.25, 12))
_LOWER_LOOP: Outline = tuple((0.58 * x, 0.48 * y + 0.46) for x, y in _arc(1.0, 0.75, 1.75, 12))

STROKES: dict[str, tuple[Outline, ...]] = {
    "0": (_LOOP,),
    "1": (((-0.35, -0.6), (0.08, -0.95), (0.08, 0.95)),),
    "2": (
        (
            (-0.55, -0.5), (-0.42, -0.82), (0.0, -0.97), (0.45, -0.82), (0.55, -0.45),
            (0.35, -0.05), (-0.1, 0.45), (-0.6, 0.93), (0.65, 0.93),
        ),
    ),
    "3": (
        (
            (-0.55, -0.75), (-0.1, -0.97), (0.4, -0.82), (0.5, -0.45), (0.3, -0.12), (-0.1, -0.03),
            (0.4, 0.1), (0.6, 0.48), (0.4, 0.85), (-0.1, 0.97), (-0.6, 0.75),
        ),
    ),
    "4": (((0.2, -0.95), (-0.65, 0.35), (0.68, 0.35)), ((0.28, -0.3), (0.28, 0.95))),
    "5": (
        (
            (0.55, -0.93), (-0.42, -0.93), (-0.5, -0.1), (0.05, -0.25), (0.5, 0.0), (0.6, 0.42),
            (0.4, 0.82), (-0.05, 0.97), (-0.58, 0.78),
        ),
    ),
    "6": (
        ((0.4, -0.93), (-0.1, -0.6), (-0.45, -0.1), (-0.57, 0.4)),
        _LOWER_LOOP,
    ),
    "7": (((-0.6, -0.93), (0.6, -0.93), (0.1, 0.0), (-0.2, 0.95)),),
    "8": (_UPPER_LOOP, _LOWER_LOOP),
    "9": (
        tuple((0.54 * x, 0.48 * y - 0.45) for x, y in _arc(1.0, 0.0, 1.0, 12)),
        ((0.54, -0.45), (0.45, 0.3), (0.1, 0.95)),
    ),
}  # fmt: skip
"""Digits as a hand writes them."""
