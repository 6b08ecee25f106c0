"""A table of numbers between 0 and 1 as coloured squares, drawn as SVG by hand.

Light is 0, dark is 1 and beyond; every square says its number.
"""

from collections.abc import Sequence
from html import escape

from headviz.studies.figures import canvas

_SIDE, _LEFT, _TOP = 64.0, 150.0, 60.0
_LETTER = 6.5
"""About the width of a letter, in pixels."""


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    axes: tuple[str, str],
) -> str:
    """SVG text. `axes` say what a row and what a column is; a value of None is left empty."""
    width = max(_LEFT + _SIDE * len(columns) + 20, 20 + _LETTER * len(title) * 1.1)
    height = _TOP + _SIDE * len(rows) + 30
    parts = [
        canvas(width, height),
        f'<text x="10" y="18" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="{_TOP - 8:g}" fill="#555">{escape(axes[0])}</text>',
        f'<text x="{_LEFT:g}" y="{height - 10:g}" fill="#555">{escape(axes[1])}</text>',
    ]
    for number, name in enumerate(columns):
        at = _LEFT + (number + 0.5) * _SIDE
        parts.append(_label(name, at, _TOP - 8, "middle", _SIDE))
    for number, name in enumerate(rows):
        at = _TOP + (number + 0.5) * _SIDE + 4
        parts.append(_label(name, _LEFT - 8, at, "end", _LEFT - 16))
        for column, value in enumerate(values[number]):
            parts.append(_square(value, column, number, f"{name}, {columns[column]}"))
    return "".join([*parts, "</svg>\n"])


def _label(text: str, x: float, y: float, anchor: str, room: float) -> str:
    most = int(room / _LETTER)
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"><title>{escape(text)}</title>'
        f"{escape(short)}</text>"
    )


def _square(value: float | None, column: int, row: int, name: str) -> str:
    x, y = _LEFT + column * _SIDE, _TOP + row * _SIDE
    if value is None:
        return (
            f'<text x="{x + _SIDE / 2:g}" y="{y + _SIDE / 2 + 4:g}" text-anchor="middle">–</text>'
        )
    share = min(max(value, 0.0), 1.0)
    # From white to the dark blue of the bars.
    color = ",".join(str(round(255 + (dark - 255) * share)) for dark in (0, 82, 140))
    ink = "#fff" if share > 0.5 else "#000"
    return (
        f'<g><title>{escape(name)}: {value:.3f}</title><rect x="{x:g}" y="{y:g}" '
        f'width="{_SIDE - 2:g}" height="{_SIDE - 2:g}" fill="rgb({color})"/>'
        f'<text x="{x + _SIDE / 2 - 1:g}" y="{y + _SIDE / 2 + 4:g}" text-anchor="middle" '
        f'fill="{ink}">{value:.2f}</text></g>'
    )
