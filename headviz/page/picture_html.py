"""Pieces of HTML with pictures in them: captions of several, and where a head looks."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from PIL import Image

from headviz.editing.compare import Column, Comparison
from headviz.heads.patch_map import PatchMap
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet
from headviz.page.html import TITLES, marked
from headviz.page.pictures import small
from headviz.pursuit.spectrum import Sample

_SIDE = 220  # pixels, of pictures inside HTML
_VEIL = (15, 20, 28)
_DARKEST = 0.8


@dataclass(frozen=True)
class Captioned:
    """One picture, its finished captions, and how well CLIP finds that they fit."""

    picture: Picture
    comparison: Comparison
    fit: Mapping[str, float]
    """Column name -> cosine; empty where no CLIP model is at hand."""


@lru_cache(maxsize=512)
def source(picture: Picture) -> str:
    """A small copy as the source of an <img>."""
    buffer = io.BytesIO()
    small(picture, _SIDE).save(buffer, "WEBP", quality=80)
    return _data(buffer, "webp")


def _data(buffer: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def samples(
    strongest: Sequence[Sample],
    prompt_set: PromptSet,
    words: Iterable[str],
    maps: Sequence[PatchMap],
) -> str:
    """The pictures that drive a head most, each with its map as soon as that is there."""
    words = list(words)
    rows = []
    for number, sample in enumerate(strongest):
        picture = prompt_set.pictures[sample.number]
        label = prompt_set.labels[sample.number] if prompt_set.labels else ""
        share = f'<b title="share of the head\'s variance">{sample.share:.1%}</b>'
        rows.append(
            f"<li>{_figure(picture, maps[number] if maps else None)}"
            f"<p>{share} {marked(label, words) if label else escape(picture.name)}</p></li>"
        )
    return f'<ol class="hv-samples hv-looks">{"".join(rows)}</ol>'


def _figure(picture: Picture, found: PatchMap | None) -> str:
    over = "" if found is None else _veil(found)
    told = "a map over it shows where the head's signal is strongest" if over else picture.name
    focus = 'tabindex="0"' if over else ""
    return (
        f'<figure class="hv-look" {focus} role="img" aria-label="{escape(picture.name)}: '
        f'{escape(told)}"><img src="{source(picture)}" alt="">{over}</figure>'
    )


def _veil(found: PatchMap) -> str:
    """The weaker, the darker; the strongest patch has a ring."""
    rows, columns = found.strength.shape
    strength = found.strength - found.strength.min()
    strength = strength / strength.max().clamp_min(1e-12)
    veil = Image.new("RGBA", (columns, rows))
    veil.putdata([(*_VEIL, round(255 * _DARKEST * (1 - s))) for s in strength.flatten().tolist()])
    buffer = io.BytesIO()
    veil.save(buffer, "PNG")
    left, top, right, bottom = found.box
    row, column = divmod(int(strength.argmax()), columns)
    place = _place(left, top, right - left, bottom - top)
    ring = _place(column / columns, row / rows, 1 / columns, 1 / rows)
    return (
        f'<div class="hv-veil" style="{place}"><img src="{_data(buffer, "png")}" alt="">'
        f'<i style="{ring}"></i></div>'
    )


def _place(left: float, top: float, width: float, height: float) -> str:
    return f"left:{left:.2%};top:{top:.2%};width:{width:.2%};height:{height:.2%}"


def captions(done: Sequence[Captioned], total: int, words: Iterable[str]) -> str:
    """The pictures captioned so far, and the counts over all of them."""
    words = list(words)
    rows = "".join(_captioned(one, words) for one in done)
    progress = "" if len(done) == total else f" · {len(done)} of {total} done"
    return (
        f'<section class="hv-captions"><h4>All pictures{progress}</h4>{_totals(done)}'
        f"<ol>{rows}</ol></section>"
    )


def _totals(done: Sequence[Captioned]) -> str:
    """What was counted over all pictures, a column each."""
    cells = []
    for n, name in enumerate(TITLES):
        columns = [one.comparison.columns[n] for one in done]
        facts = []
        counts = [c.concept_words for c in columns if c.concept_words is not None]
        if counts:
            facts.append(f"<b>{sum(counts)}</b> concept words in {len(columns)} captions")
        if n:
            differ = sum(c.differs_at is not None for c in columns)
            facts.append(f"{differ} of {len(columns)} differ")
        fits = [one.fit[name] for one in done if name in one.fit]
        if fits:
            facts.append(f"CLIP {sum(fits) / len(fits):.3f} on average")
        cells.append(f'<p class="{name}"><b>{TITLES[name]}</b><br>{" · ".join(facts)}</p>')
    return f'<div class="hv-three hv-totals">{"".join(cells)}</div>' if done else ""


def _captioned(one: Captioned, words: list[str]) -> str:
    texts = "".join(_text(column, words) for column in one.comparison.columns)
    name = escape(one.picture.name)
    return (
        f'<li><img src="{source(one.picture)}" alt="{name}" title="{name}">'
        f'<div class="hv-three">{texts}</div></li>'
    )


def _text(column: Column, words: list[str]) -> str:
    text = marked(column.text, words) or "<i>(the model says nothing)</i>"
    return f'<p class="{column.name}" title="{TITLES[column.name]}">{text}</p>'
