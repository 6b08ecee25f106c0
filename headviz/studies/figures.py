"""A study's ratios as bars with their intervals, drawn as SVG by hand.

SVG stands in report.md as it is, scales, needs no library, and browsers open it by itself. A group
of bars is a number of heads, a panel a factor; the line at 1 is the unedited model. Random heads
show the quartiles of their draws, all others the bootstrap interval.
"""

from collections.abc import Sequence
from html import escape

from headviz.studies.request import Measure
from headviz.studies.summary import Row

# Told apart by every kind of colour vision (Okabe and Ito).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#999999")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 300.0, 200.0, 50.0, 46.0, 40.0
TALLEST = 3.0
"""Ratios beyond are cut, and say so."""


def bars(rows: Sequence[Row], measure: Measure) -> str:
    """The figure of one measure: SVG text."""
    alphas = list(dict.fromkeys(r.alpha for r in rows))
    arms = list(dict.fromkeys(r.arm for r in rows))
    top = tallest(rows)
    parts, height = sheet(measure, len(alphas), top)
    for number, alpha in enumerate(alphas):
        left = LEFT + number * (WIDTH + 20)
        parts.append(_panel([r for r in rows if r.alpha == alpha], arms, left, top))
    return "".join([*parts, legend(arms, height), "</svg>\n"])


def canvas(width: float, height: float) -> str:
    """The opening of an SVG text, on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>'
    )


def sheet(measure: Measure, n_panels: int, top: float) -> tuple[list[str], float]:
    """What stands behind panels side by side, with ratios up to `top`; and the height of it all."""
    width, height = LEFT + n_panels * (WIDTH + 20), TOP + HEIGHT + BOTTOM + 20
    title = f"{escape(measure.what)} ÷ unedited"
    parts = [
        canvas(width, height),
        f'<text x="{LEFT:g}" y="16" font-weight="bold">{title}</text>',
        ticks(top, width),
    ]
    return parts, height


def tallest(rows: Sequence[Row]) -> float:
    """The largest ratio that is drawn."""
    ratios = [v for r in rows for v in (r.ratio, r.high, r.third_quarter) if v is not None]
    return min(TALLEST, max([1.2, *ratios]))


def level(value: float, top: float) -> float:
    """Where a ratio stands, in pixels from above; `top` is the largest that is drawn."""
    return TOP + HEIGHT * (1 - min(max(value, 0.0), top) / top)


def ticks(top: float, width: float) -> str:
    """Lines across the figure at round ratios."""
    parts = []
    step = 0.25 if top <= 1.5 else 0.5
    for number in range(int(top / step) + 1):
        value, at = number * step, level(number * step, top)
        color = "#444" if value == 1 else "#ddd"
        parts.append(
            f'<line x1="{LEFT:g}" x2="{width - 10:g}" y1="{at:.1f}" y2="{at:.1f}" '
            f'stroke="{color}"/><text x="{LEFT - 6:g}" y="{at + 4:.1f}" text-anchor="end">'
            f"{value:g}</text>"
        )
    return "".join(parts)


def counted(k: int | float) -> str:  # beartype takes no int for a float
    """So many heads, in words."""
    return f"{k:g} head{'' if k == 1 else 's'}"


def _panel(rows: Sequence[Row], arms: Sequence[str], left: float, top: float) -> str:
    ks = list(dict.fromkeys(r.k for r in rows))
    room = WIDTH / len(ks)
    wide = min(28.0, (room - 14) / len(arms))
    alpha = rows[0].alpha
    parts = [f'<text x="{left + 4:g}" y="{TOP - 10:g}">α = {alpha:g}</text>']
    for number, k in enumerate(ks):
        start = left + number * room + (room - wide * len(arms)) / 2
        middle = left + (number + 0.5) * room
        parts.append(
            f'<text x="{middle:.1f}" y="{TOP + HEIGHT + 16:g}" text-anchor="middle">'
            f"{counted(k)}</text>"
        )
        for row in (r for r in rows if r.k == k):
            at = arms.index(row.arm)
            parts.append(_bar(row, start + at * wide, wide - 2, COLORS[at % len(COLORS)], top))
    return "".join(parts)


def _bar(row: Row, x: float, wide: float, color: str, top: float) -> str:
    if row.ratio is None:
        return ""
    y = level(row.ratio, top)
    low, high = spread(row)
    middle = x + wide / 2
    cut = f'<text x="{middle:.1f}" y="{y - 3:.1f}" text-anchor="middle">{row.ratio:.1f}</text>'
    title = (
        f"{row.arm}, {row.k} heads, α = {row.alpha:g}: {row.ratio:.2f} ({low:.2f} to {high:.2f})"
    )
    return (
        f'<g><title>{escape(title)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
        f'height="{TOP + HEIGHT - y:.1f}" fill="{color}"/>'
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{level(low, top):.1f}" '
        f'y2="{level(high, top):.1f}" stroke="#000"/>{cut if row.ratio > top else ""}</g>'
    )


def spread(row: Row) -> tuple[float, float]:
    """The ends of a row's error bar: quartiles of random draws, else the bootstrap interval."""
    low, high = row.low, row.high
    if row.first_quarter is not None:
        low, high = row.first_quarter, row.third_quarter
    assert low is not None and high is not None, "a ratio has an interval"
    return low, high


def legend(arms: Sequence[str], height: float) -> str:
    """The arms and their colours, at the foot."""
    parts = []
    for number, arm in enumerate(arms):
        x, y = LEFT + number * 110, height - 14
        parts.append(
            f'<rect x="{x:g}" y="{y - 10:g}" width="12" height="12" '
            f'fill="{COLORS[number % len(COLORS)]}"/><text x="{x + 16:g}" y="{y:g}">'
            f"{escape(arm)}</text>"
        )
    return "".join(parts)
