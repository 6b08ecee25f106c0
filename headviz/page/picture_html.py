"""Pieces of HTML with pictures in them: captions of several, and where a head looks."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup
from PIL import Image

from headviz.editing.compare import Column, Comparison
from headviz.heads.patch_map import PatchMap
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet
from headviz.page.answers import TITLES
from headviz.page.html import folded, joined, marked
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


def image(picture: Picture) -> Markup:
    """A small copy; its name is said once."""
    return Markup('<img src="{}" alt="{}">').format(source(picture), picture.name)


def samples(
    strongest: Sequence[Sample],
    prompt_set: PromptSet,
    words: Iterable[str],
    maps: Sequence[PatchMap],
) -> Markup:
    """The pictures that drive a head most, each with its map as soon as that is there."""
    words = list(words)
    rows = []
    for number, sample in enumerate(strongest):
        picture = prompt_set.pictures[sample.number]
        label = prompt_set.labels[sample.number] if prompt_set.labels else ""
        rows.append(
            Markup('<li>{}<p><b title="share of the head\'s variance">{}</b> {}</p></li>').format(
                _figure(picture, maps[number] if maps else None),
                f"{sample.share:.1%}",
                marked(label, words) if label else picture.name,
            )
        )
    return folded(rows, "hv-samples hv-looks")


def _figure(picture: Picture, found: PatchMap | None) -> Markup:
    over = "" if found is None else _veil(found)
    told = "a map over it shows where the head's signal is strongest" if over else "as it is"
    return Markup(
        '<div class="hv-look"{} role="img" aria-label="{}: {}"><img src="{}" alt="">{}</div>'
    ).format(Markup(' tabindex="0"') if over else "", picture.name, told, source(picture), over)


def _veil(found: PatchMap) -> Markup:
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
    return Markup(
        '<div class="hv-veil" style="{}"><img src="{}" alt=""><i style="{}"></i></div>'
    ).format(place, _data(buffer, "png"), ring)


def _place(left: float, top: float, width: float, height: float) -> str:
    return f"left:{left:.2%};top:{top:.2%};width:{width:.2%};height:{height:.2%}"


def captions(done: Sequence[Captioned], total: int, words: Iterable[str]) -> Markup:
    """The pictures captioned so far, and the counts over all of them."""
    words = list(words)
    rows = joined(_captioned(one, words) for one in done)
    progress = "" if len(done) == total else f" · {len(done)} of {total} done"
    return Markup('<div class="hv-captions"><h4>All pictures{}</h4>{}<ol>{}</ol></div>').format(
        progress, _totals(done), rows
    )


def _totals(done: Sequence[Captioned]) -> Markup:
    """What was counted over all pictures, a column each."""
    cells = []
    for n, name in enumerate(TITLES):
        columns = [one.comparison.columns[n] for one in done]
        facts = []
        counts = [c.concept_words for c in columns if c.concept_words is not None]
        if counts:
            facts.append(f"{sum(counts)} concept words in {len(columns)} captions")
        if n:
            differ = sum(c.differs_at is not None for c in columns)
            facts.append(f"{differ} of {len(columns)} differ")
        fits = [one.fit[name] for one in done if name in one.fit]
        if fits:
            facts.append(f"CLIP {sum(fits) / len(fits):.3f} on average")
        cells.append(
            Markup('<p class="{}"><b>{}</b><br>{}</p>').format(
                name, TITLES[name], " · ".join(facts)
            )
        )
    whole = Markup('<div class="hv-three hv-totals">{}</div>').format(joined(cells))
    return whole if done else Markup("")


def _captioned(one: Captioned, words: list[str]) -> Markup:
    texts = joined(_text(column, words) for column in one.comparison.columns)
    return Markup('<li>{}<div class="hv-three">{}</div></li>').format(image(one.picture), texts)


def _text(column: Column, words: list[str]) -> Markup:
    text = marked(column.text, words) or Markup("<i>(the model says nothing)</i>")
    return Markup('<p class="{}" title="{}">{}</p>').format(column.name, TITLES[column.name], text)
