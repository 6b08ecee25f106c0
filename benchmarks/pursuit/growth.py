"""How time and memory grow when samples, atoms, vocabulary and heads double in turn.

Beside each time stands what the counted work alone would make of it: nothing may grow faster. The
picture is an SVG of two log plots, written by hand so that a bare machine can draw it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.pursuit.machine import Rates, seconds, watched
from benchmarks.pursuit.tasks import Task, floor, problem
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.somp import pursue_precomputed

_CONCEPT = Task("concept", 128, 32, 250, 128, 2048, 50, 50, 0, 0, None, None)
_VOCABULARY = Task("vocabulary", 1, 1, 500, 128, 2048, 8000, 20, 0, 0, None, None)
AXES = (
    ("samples", _CONCEPT, "samples"),
    ("atoms", _CONCEPT, "atoms"),
    ("heads", _CONCEPT, "heads"),
    ("vocabulary", _VOCABULARY, "atoms"),
)
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by every kind of colour vision


@dataclass(frozen=True)
class Point:
    """One size of one axis."""

    axis: str
    size: int
    seconds: float
    peak_mib: float
    work: float
    """Floor of the counted operations, in units of the axis's first size."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def grow(device: torch.device, rates: Rates, doublings: int = 3) -> Iterator[Point]:
    """Double each axis in turn."""
    for axis, base, field in AXES:
        first = floor(base, rates)
        for power in range(doublings + 1):
            size = getattr(base, field) * 2**power
            task = replace(base, **{field: size})
            # As many steps whatever the size: only the named axis changes.
            z, w_o, atoms = problem(task, device)

            def work(z=z, w_o=w_o, atoms=atoms, task=task) -> object:
                return pursue_precomputed(precompute_heads(z, w_o), atoms, task.steps)

            with watched(device) as used:
                work()
            taken = min(used.seconds, seconds(work, device))
            yield Point(axis, size, taken, used.peak_bytes / 2**20, floor(task, rates) / first)


def exponent(points: Sequence[Point], of: str = "seconds") -> float:
    """The slope of the log plot from the first to the last size: 1 is linear."""
    first, last = points[0], points[-1]
    low, high = max(getattr(first, of), 1e-9), max(getattr(last, of), 1e-9)
    return math.log(high / low) / math.log(last.size / first.size)


def by_axis(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points of each axis, in the order of size."""
    return {axis: [p for p in points if p.axis == axis] for axis, _, _ in AXES}


def draw(points: Sequence[Point]) -> str:
    """Two log plots side by side, time and memory against size, as SVG."""
    panels = [
        _panel(points, "seconds", "seconds", 0),
        _panel(points, "peak_mib", "MiB at the peak, beyond the inputs", 420),
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 340" '
        'font-family="sans-serif" font-size="12"><rect width="860" height="340" fill="#fff"/>'
        + "".join(panels)
        + "</svg>\n"
    )


def _panel(points: Sequence[Point], of: str, title: str, left: int) -> str:
    values = [max(getattr(p, of), 1e-3) for p in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    most = max(math.log2(group[-1].size / group[0].size) for group in by_axis(points).values())

    def x(point: Point, first: Point) -> float:
        return left + 60 + 300 * math.log2(point.size / first.size) / max(most, 1)

    def y(value: float) -> float:
        return 290 - 240 * (math.log10(max(value, 1e-3)) - low) / (high - low)

    parts = [f'<text x="{left + 60}" y="24" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(
            f'<line x1="{left + 60}" x2="{left + 360}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
            f'<text x="{left + 54}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for power in range(int(most) + 1):
        at = left + 60 + 300 * power / max(most, 1)
        parts.append(f'<text x="{at:.1f}" y="308" text-anchor="middle">×{2**power}</text>')
    for color, (axis, group) in zip(COLORS, by_axis(points).items(), strict=True):
        line = " ".join(f"{x(p, group[0]):.1f},{y(getattr(p, of)):.1f}" for p in group)
        last = group[-1]
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
            f'<text x="{x(last, group[0]) + 5:.1f}" y="{y(getattr(last, of)) + 4:.1f}" '
            f'fill="{color}">{axis}</text>'
        )
    return "".join(parts)
