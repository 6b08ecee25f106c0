"""The answers of a CLIP model: what it takes pictures for before and after an edit."""

from typing import Any

from markupsafe import Markup

from headviz.base.errors import PromptError
from headviz.clip.tower import tower_of
from headviz.clip.zero_shot import ZeroShot, ZeroShotRequest, classes_of
from headviz.inputs.images import Picture
from headviz.page.answers import MEANING, TITLES, whole
from headviz.page.ask import Ask
from headviz.page.html import joined, table
from headviz.page.picture_html import image
from headviz.page.shared import Shared

_LISTED = 5  # classes in a column


def answer(shared: Shared, ask: Ask, pictures: tuple[Picture, ...], results: list[Any]) -> str:
    """The three columns, and a table with a row for each picture.

    The answers are added to `results`.

    The prompt names the classes, separated by commas; the concept's words are the classes if it is
    empty. Raises PromptError where there is no picture, ConceptError for fewer than two classes.
    """
    tower = tower_of(shared.session.model(ask.model))
    if not pictures:
        raise PromptError("Put one or more pictures into the box first.")
    classes = classes_of(tower.clip, ask.prompt, ask.words)
    images = [picture.image() for picture in pictures]
    request = ZeroShotRequest(images, classes, ask.edit, control_seed=ask.control_seed)
    found = shared.session.zero_shot(ask.model, request)
    results.append(found)
    columns = joined(_column(found, n) for n in range(len(found.answers)))
    return whole(ask, columns, "done", _table(found, pictures))


def _column(found: ZeroShot, n: int) -> Markup:
    """The likeliest classes of one answer, on average over the pictures."""
    one = found.answers[n]
    mean = one.probabilities.mean(0)
    top = mean.topk(min(_LISTED, len(mean)))
    rows = joined(
        Markup(
            '<li><span>{}</span><meter value="{}" aria-label="{}"></meter><small>{}</small></li>'
        ).format(found.classes[i], f"{p:.3f}", found.classes[i], f"{p:.0%}")
        for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    )
    chosen = one.probabilities.argmax(1)
    same = int((chosen == found.answers[0].probabilities.argmax(1)).sum())
    facts = f"the original's answer for {same} of {len(chosen)}" if n else f"{len(chosen)} pictures"
    return Markup(
        '<article class="hv-column {}"><h3 title="{}">{}</h3><ul class="hv-classes">{}</ul>'
        '<p class="hv-facts">{}</p></article>'
    ).format(one.name, MEANING[one.name], TITLES[one.name], rows, facts)


def _table(found: ZeroShot, pictures: tuple[Picture, ...]) -> Markup:
    """Each picture's likeliest class: original, edited and control."""
    rows = []
    for number, picture in enumerate(pictures):
        cells = [image(picture)]
        for one in found.answers:
            probability, best = one.probabilities[number].max(0)
            cells.append(
                Markup("{} <small>{}</small>").format(
                    found.classes[int(best)], f"{float(probability):.0%}"
                )
            )
        rows.append(cells)
    header = {"Picture": "", **{TITLES[a.name]: MEANING[a.name] for a in found.answers}}
    return table(header, rows, "hv-answers-table")
