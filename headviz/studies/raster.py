"""SVG -> PNG, by resvg, an optional extra that needs neither a browser nor a system's library.

It draws letters with the system's fonts. Where none of the usual ones is there, no picture is made:
one without its labels would be worse than none.
"""

import re
from functools import cache

_FAMILIES = ("DejaVu Sans", "Liberation Sans", "Arial", "Helvetica Neue", "Noto Sans", "Verdana")
_PROBE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" font-family="sans-serif">'
    '<text x="2" y="14">α</text></svg>'
)
_VIEW = re.compile(r'viewBox="0 0 ([\d.]+)')
SCALE = 2
"""Pixels a unit of the drawing."""


def can_draw() -> bool:
    """Whether resvg is installed and finds a font."""
    return _family() is not None


def left_out() -> str:
    """One sentence where figures have no PNG, else nothing."""
    if can_draw():
        return ""
    return (
        "The figures have no PNG files: resvg is not installed (pip install 'headviz[studies]') "
        "or finds no font on this machine. The SVG files hold the same."
    )


def to_png(svg: str) -> bytes:
    """The drawing as a PNG. Only where `can_draw`."""
    found = _VIEW.search(svg)
    assert found is not None, "the drawings of this package have a view box from 0 0"
    family = _family()
    assert family is not None, "can_draw says that there is no font"
    return _drawn(svg, round(SCALE * float(found[1])), family)


@cache
def _family() -> str | None:
    """A font with which a letter leaves a mark."""
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        return None
    # An unknown font draws nothing, which is told by a drawing without letters.
    empty = _drawn(_PROBE.replace("α", ""), 16, _FAMILIES[0])
    drawn = (name for name in _FAMILIES if _drawn(_PROBE, 16, name) != empty)
    return next(drawn, None)


def _drawn(svg: str, width: int, family: str) -> bytes:
    import resvg_py

    made = resvg_py.svg_to_bytes(
        svg_string=svg, width=width, background="#ffffff", sans_serif_family=family
    )
    return bytes(made)
