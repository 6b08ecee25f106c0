"""A study's ratios as bars with their intervals, drawn as SVG by hand.

SVG stands in report.md as it is, scales, needs no library, and browsers open it by itself. A group
of bars is a number of heads, a panel a factor; the line at 1 is the unedited model. Random heads
show the quartiles of their draws, all others the bootstrap interval.
"""

from collections.abc import Sequence
from html import escape

from headviz.experiments.request import Measure
from headviz.experiments.summary import Row

# Told apart by every kind of colour vision (Okabe and Ito).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#999999")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300.0, 200.0, 50.0, 46.0, 40.0
_TALLEST = 3.0
"""Ratios beyond are cut, and say so."""


def bars(rows: Sequence[Row], measure: Measure) -> str:
    """The figure of one measure: SVG text."""
    alphas = list(dict.fromkeys(r.alpha for r in rows))
    arms = list(dict.fromkeys(r.arm for r in rows))
    ratios = [v for r in rows for v in (r.ratio, r.high, r.third_quarter) if v is not None]
    top = min(_TALLEST, max([1.2, *ratios]))
    width = _LEFT + len(alphas) * (_WIDTH + 20)
    height = _TOP + _HEIGHT + _BOTTOM + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
        f'<text x="{_LEFT:g}" y="16" font-weight="bold">{escape(measure.what)} ÷ unedited</text>',
        _ticks(top, width),
    ]
    for number, alpha in enumerate(alphas):
        left = _LEFT + number * (_WIDTH + 20)
        parts.append(_panel([r for r in rows if r.alpha == alpha], arms, left, top))
    return "".join([*parts, _legend(arms, height), "</svg>\n"])


def _y(value: float, top: float) -> float:
    return _TOP + _HEIGHT * (1 - min(max(value, 0.0), top) / top)


def _ticks(top: float, width: float) -> str:
    parts = []
    step = 0.25 if top <= 1.5 else 0.5
    for number in range(int(top / step) + 1):
        value, at = number * step, _y(number * step, top)
        color = "#444" if value == 1 else "#ddd"
        parts.append(
            f'<line x1="{_LEFT:g}" x2="{width - 10:g}" y1="{at:.1f}" y2="{at:.1f}" '
            f'stroke="{color}"/><text x="{_LEFT - 6:g}" y="{at + 4:.1f}" text-anchor="end">'
            f"{value:g}</text>"
        )
    return "".join(parts)


def _panel(rows: Sequence[Row], arms: Sequence[str], left: float, top: float) -> str:
    ks = list(dict.fromkeys(r.k for r in rows))
    room = _WIDTH / len(ks)
    wide = min(28.0, (room - 14) / len(arms))
    alpha = rows[0].alpha
    parts = [f'<text x="{left + 4:g}" y="{_TOP - 10:g}">α = {alpha:g}</text>']
    for number, k in enumerate(ks):
        start = left + number * room + (room - wide * len(arms)) / 2
        middle = left + (number + 0.5) * room
        parts.append(
            f'<text x="{middle:.1f}" y="{_TOP + _HEIGHT + 16:g}" text-anchor="middle">'
            f"{k} head{'s' if k > 1 else ''}</text>"
        )
        for row in (r for r in rows if r.k == k):
            at = arms.index(row.arm)
            parts.append(_bar(row, start + at * wide, wide - 2, COLORS[at % len(COLORS)], top))
    return "".join(parts)


def _bar(row: Row, x: float, wide: float, color: str, top: float) -> str:
    if row.ratio is None:
        return ""
    y = _y(row.ratio, top)
    low, high = row.low, row.high
    if row.first_quarter is not None:
        low, high = row.first_quarter, row.third_quarter
    assert low is not None and high is not None, "a ratio has an interval"
    middle = x + wide / 2
    cut = f'<text x="{middle:.1f}" y="{y - 3:.1f}" text-anchor="middle">{row.ratio:.1f}</text>'
    title = (
        f"{row.arm}, {row.k} heads, α = {row.alpha:g}: {row.ratio:.2f} ({low:.2f} to {high:.2f})"
    )
    return (
        f'<g><title>{escape(title)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
        f'height="{_TOP + _HEIGHT - y:.1f}" fill="{color}"/>'
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{_y(low, top):.1f}" '
        f'y2="{_y(high, top):.1f}" stroke="#000"/>{cut if row.ratio > top else ""}</g>'
    )


def _legend(arms: Sequence[str], height: float) -> str:
    parts = []
    for number, arm in enumerate(arms):
        x, y = _LEFT + number * 110, height - 14
        parts.append(
            f'<rect x="{x:g}" y="{y - 10:g}" width="12" height="12" '
            f'fill="{COLORS[number % len(COLORS)]}"/><text x="{x + 16:g}" y="{y:g}">'
            f"{escape(arm)}</text>"
        )
    return "".join(parts)
