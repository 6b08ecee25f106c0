"""What an ask gives: three texts as they are written, or the captions of several pictures in turn.

Also a CLIP model's choice among classes. Yields HTML; the results themselves are collected.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from headviz.base.errors import OptionError
from headviz.editing.compare import CompareRequest, Comparison, Knob
from headviz.inputs.images import Picture
from headviz.page import picture_html
from headviz.page.answers import answers
from headviz.page.ask import Ask
from headviz.page.picture_html import Captioned
from headviz.page.shared import Scene, Shared
from headviz.page.zero_shot_view import answer

MOST = 32
"""Pictures that are described in one go."""


class Waits(NamedTuple):
    """Nothing is written yet."""

    place: int
    """In the queue, from 1."""


def seen_for(ask: Ask, scene: Scene, pictures: tuple[Picture, ...]) -> tuple[Picture, ...] | None:
    """Of the box's pictures what an ask about one answer is about; None where it is of others."""
    seen = pictures if scene.model.has_vision else ()
    is_same = tuple(picture.digest for picture in seen) == ask.pictures
    return seen if is_same and len(seen) < 2 else None


def stream(
    shared: Shared,
    ask: Ask,
    pictures: tuple[Picture, ...],
    results: list[Any],
    knob: Knob = lambda: None,
) -> Iterator[str | Waits]:
    """The answers' HTML, as it is written; finished results are added to `results`.

    `knob` may turn the edit while one answer is written.
    """
    if not shared.session.model(ask.model).writes:
        yield answer(shared, ask, pictures, results)
        return
    if len(pictures) > MOST:
        raise OptionError(
            f"{len(pictures)} pictures are too many to describe in one go; leave {MOST} in the box."
        )
    if len(pictures) < 2:
        yield from _one(shared, ask, pictures, results, knob)
        return
    done: list[Captioned] = []
    rows = picture_html.captions((), len(pictures), ())
    for picture in pictures:
        for comparison in _compare(shared, ask, (picture,)):
            if comparison.place:
                yield Waits(comparison.place)
                continue
            yield answers(ask, comparison, "running", more=rows)
        results.append(comparison)
        done.append(Captioned(picture, comparison, _fit(shared, picture, comparison)))
        rows = picture_html.captions(done, len(pictures), ask.words)
        state = "done" if len(done) == len(pictures) else "running"
        yield answers(ask, comparison, state, done[-1].fit, rows)


def _one(
    shared: Shared, ask: Ask, pictures: tuple[Picture, ...], results: list[Any], knob: Knob
) -> Iterator[str | Waits]:
    for comparison in _compare(shared, ask, pictures, knob):
        if comparison.place:
            yield Waits(comparison.place)
            continue
        state = "done" if comparison.done else "running"
        yield answers(ask.under(comparison), comparison, state)
    results.append(comparison)
    for picture in pictures:
        fit = _fit(shared, picture, comparison)
        yield answers(ask.under(comparison), comparison, "done", fit)


def _compare(
    shared: Shared, ask: Ask, pictures: tuple[Picture, ...], knob: Knob = lambda: None
) -> Iterator[Comparison]:
    request = CompareRequest(
        prompt=ask.prompt,
        edit=ask.edit,
        words=ask.words,
        control_seed=ask.control_seed,
        sampling=ask.sampling,
        pictures=pictures,
        earlier=ask.earlier,
        chat=ask.chat,
    )
    return shared.session.compare(ask.model, request, knob)


def _fit(shared: Shared, picture: Picture, comparison: Comparison) -> dict[str, float]:
    """Column name -> how well its text fits the picture, where a CLIP model is at hand."""
    found = shared.clips.fit(picture, [column.text for column in comparison.columns])
    names = [column.name for column in comparison.columns]
    return dict(zip(names, found, strict=True)) if found else {}
