"""A study's ratios as lines over the number of heads, or over the factor: the paper's sweeps.

A panel is what stays the same; the line at 1 is the unedited model. Points keep equal distances,
whatever their numbers are.
"""

from collections.abc import Callable, Sequence
from html import escape

from headviz.studies.figures import (
    COLORS,
    HEIGHT,
    LEFT,
    TOP,
    WIDTH,
    counted,
    legend,
    level,
    sheet,
    spread,
    tallest,
)
from headviz.studies.request import Measure
from headviz.studies.summary import Row

Value = Callable[[Row], float]
Name = Callable[[float], str]


def over_heads(rows: Sequence[Row], measure: Measure) -> str:
    """Lines over k, a panel a factor: SVG text, empty for fewer than two k."""
    names = (counted, "α = {:g}".format)
    return _sweep(rows, measure, lambda row: row.k, lambda row: row.alpha, names)


def over_factors(rows: Sequence[Row], measure: Measure) -> str:
    """Lines over α, a panel a number of heads: SVG text, empty for fewer than two α."""
    names = ("α = {:g}".format, counted)
    return _sweep(rows, measure, lambda row: row.alpha, lambda row: row.k, names)


def _sweep(
    rows: Sequence[Row], measure: Measure, along: Value, across: Value, names: tuple[Name, Name]
) -> str:
    points = sorted({along(row) for row in rows})
    if len(points) < 2:
        return ""
    panels = sorted({across(row) for row in rows})
    arms = list(dict.fromkeys(row.arm for row in rows))
    top = tallest(rows)
    parts, height = sheet(measure, len(panels), top)
    for number, panel in enumerate(panels):
        left = LEFT + number * (WIDTH + 20)
        parts.append(f'<text x="{left + 4:g}" y="{TOP - 10:g}">{names[1](panel)}</text>')
        places = {p: left + (at + 0.5) * WIDTH / len(points) for at, p in enumerate(points)}
        parts += [
            f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16:g}" text-anchor="middle">'
            f"{names[0](point)}</text>"
            for point, x in places.items()
        ]
        for at, arm in enumerate(arms):
            own = [r for r in rows if r.arm == arm and across(r) == panel and r.ratio is not None]
            # Arms stand a little apart, so that error bars do not hide one another.
            shift = (at - (len(arms) - 1) / 2) * 5
            dots = [(places[along(row)] + shift, row) for row in sorted(own, key=along)]
            parts.append(_line(dots, COLORS[at % len(COLORS)], top))
    return "".join([*parts, legend(arms, height), "</svg>\n"])


def _line(dots: Sequence[tuple[float, Row]], color: str, top: float) -> str:
    path, parts = [], []
    for x, row in dots:
        assert row.ratio is not None, "rows without a ratio are left out"
        y, (low, high) = level(row.ratio, top), spread(row)
        path.append(f"{x:.1f},{y:.1f}")
        parts.append(
            f"<g><title>{escape(row.arm)}, {counted(row.k)}, α = {row.alpha:g}: {row.ratio:.2f} "
            f"({low:.2f} to {high:.2f})</title>"
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{level(low, top):.1f}" '
            f'y2="{level(high, top):.1f}" stroke="{color}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/></g>'
        )
    line = f'<polyline points="{" ".join(path)}" fill="none" stroke="{color}" stroke-width="1.5"/>'
    return "".join([line, *parts])
