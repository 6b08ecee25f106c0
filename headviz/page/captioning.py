"""What an ask gives: three texts as they are written, or the captions of several pictures in turn.

Also a CLIP model's choice among classes. Yields HTML; the results themselves are collected.
"""

from collections.abc import Iterator
from typing import Any

from headviz.base.errors import OptionError
from headviz.editing.compare import CompareRequest, Comparison
from headviz.inputs.images import Picture
from headviz.page import picture_html
from headviz.page.answers import answers
from headviz.page.ask import Ask
from headviz.page.picture_html import Captioned
from headviz.page.shared import Shared
from headviz.page.zero_shot_view import answer

MOST = 32
"""Pictures that are described in one go."""


def stream(
    shared: Shared, ask: Ask, pictures: tuple[Picture, ...], results: list[Any]
) -> Iterator[str]:
    """The answers' HTML, word by word; finished results are added to `results`."""
    if not shared.session.model(ask.model).writes:
        yield answer(shared, ask, pictures, results)
        return
    if len(pictures) > MOST:
        raise OptionError(
            f"{len(pictures)} pictures are too many to describe in one go; leave {MOST} in the box."
        )
    if len(pictures) < 2:
        yield from _one(shared, ask, pictures, results)
        return
    done: list[Captioned] = []
    rows = picture_html.captions((), len(pictures), ())
    for picture in pictures:
        for comparison in _compare(shared, ask, (picture,)):
            yield answers(ask, comparison, "running", more=rows)
        results.append(comparison)
        done.append(Captioned(picture, comparison, _fit(shared, picture, comparison)))
        rows = picture_html.captions(done, len(pictures), ask.words)
        state = "done" if len(done) == len(pictures) else "running"
        yield answers(ask, comparison, state, done[-1].fit, rows)


def _one(
    shared: Shared, ask: Ask, pictures: tuple[Picture, ...], results: list[Any]
) -> Iterator[str]:
    for comparison in _compare(shared, ask, pictures):
        yield answers(ask, comparison, "done" if comparison.done else "running")
    results.append(comparison)
    for picture in pictures:
        yield answers(ask, comparison, "done", _fit(shared, picture, comparison))


def _compare(shared: Shared, ask: Ask, pictures: tuple[Picture, ...]) -> Iterator[Comparison]:
    request = CompareRequest(
        prompt=ask.prompt,
        edit=ask.edit,
        words=ask.words,
        control_seed=ask.control_seed,
        sampling=ask.sampling,
        pictures=pictures,
    )
    return shared.session.compare(ask.model, request)


def _fit(shared: Shared, picture: Picture, comparison: Comparison) -> dict[str, float]:
    """Column name -> how well its text fits the picture, where a CLIP model is at hand."""
    found = shared.clips.fit(picture, [column.text for column in comparison.columns])
    names = [column.name for column in comparison.columns]
    return dict(zip(names, found, strict=True)) if found else {}
