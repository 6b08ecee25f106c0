"""What the panel `edit` shows for a CLIP model: its zero-shot answers before and after."""

from collections.abc import Iterator
from html import escape
from typing import Any

from headviz.base.errors import PromptError
from headviz.clip.tower import tower_of
from headviz.clip.zero_shot import ZeroShot, ZeroShotRequest, classes_of
from headviz.inputs.images import Picture
from headviz.page.captioning import Request
from headviz.page.html import TITLES
from headviz.page.picture_html import source
from headviz.page.shared import Shared

_LISTED = 5  # classes in a column


def answer(shared: Shared, asked: Request, results: list[Any]) -> Iterator[list[str]]:
    """The three columns' HTML, and a table with a row for each picture.

    The answers are added to `results`.

    The prompt names the classes, separated by commas; the concept's words are the classes if it is
    empty. Raises PromptError where there is no picture, ConceptError for fewer than two classes.
    """
    tower = tower_of(shared.session.model(asked.model))
    if not asked.pictures:
        raise PromptError("Put one or more pictures into the box first.")
    classes = classes_of(tower.clip, asked.prompt, asked.words)
    images = [picture.image() for picture in asked.pictures]
    request = ZeroShotRequest(images, classes, asked.edit)
    found = shared.session.zero_shot(asked.model, request)
    results.append(found)
    columns = [_column(found, n) for n in range(len(found.answers))]
    yield [*columns, _table(found, asked.pictures)]


def _column(found: ZeroShot, n: int) -> str:
    """The likeliest classes of one answer, on average over the pictures."""
    one = found.answers[n]
    mean = one.probabilities.mean(0)
    top = mean.topk(min(_LISTED, len(mean)))
    rows = "".join(
        f'<li><span>{escape(found.classes[i])}</span><meter value="{p:.3f}"></meter>'
        f"<small>{p:.0%}</small></li>"
        for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    )
    chosen = one.probabilities.argmax(1)
    same = int((chosen == found.answers[0].probabilities.argmax(1)).sum())
    facts = f"the original's answer for {same} of {len(chosen)}" if n else f"{len(chosen)} pictures"
    edit = f'<p class="hv-edit">{escape(one.edit)}</p>' if one.edit else ""
    return (
        f'<section class="hv-column {one.name}"><h4>{TITLES[one.name]}</h4>{edit}'
        f'<ul class="hv-classes">{rows}</ul><p class="hv-facts">{facts}</p></section>'
    )


def _table(found: ZeroShot, pictures: tuple[Picture, ...]) -> str:
    """Each picture's likeliest class: original, edited and control."""
    head = "".join(f'<th scope="col">{TITLES[a.name]}</th>' for a in found.answers)
    rows = []
    for number, picture in enumerate(pictures):
        cells = []
        for one in found.answers:
            probability, best = one.probabilities[number].max(0)
            name = escape(found.classes[int(best)])
            cells.append(f"<td>{name} <small>{float(probability):.0%}</small></td>")
        name = escape(picture.name)
        shown = f'<img src="{source(picture)}" alt="{name}" title="{name}">'
        rows.append(f'<tr><th scope="row">{shown}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="hv-answers"><tr><th scope="col">Picture</th>{head}</tr>'
        f"{''.join(rows)}</table>"
    )
