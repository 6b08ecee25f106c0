"""What the panel `edit` streams: three texts, or the captions of several pictures in turn."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headviz.base.errors import OptionError
from headviz.editing.compare import CompareRequest, Comparison
from headviz.editing.generate import Sampling
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept
from headviz.inputs.images import Picture
from headviz.page import html, picture_html
from headviz.page.picture_html import Captioned
from headviz.page.shared import Shared

MOST = 32
"""Pictures that are captioned in one go."""


@dataclass(frozen=True)
class Request:
    """One press of Generate."""

    model: str
    prompt: str
    pictures: tuple[Picture, ...]
    """Each is asked about by itself; none for a language model."""
    edit: Edit
    concept: Concept | None
    """Its words are counted."""
    sampling: Sampling

    @property
    def words(self) -> tuple[str, ...]:
        """Of the concept."""
        return self.concept.words if self.concept else ()


@dataclass(frozen=True, eq=False)
class Result:
    """What came of it: a result for each picture, or one."""

    asked: Request
    results: tuple[Any, ...]
    """Comparison, or ZeroShot where a CLIP model answered."""


def stream(shared: Shared, asked: Request, results: list[Any]) -> Iterator[list[str]]:
    """The three columns' HTML, token by token, and the captions of all pictures, one by one.

    Finished comparisons are added to `results`.
    """
    if len(asked.pictures) > MOST:
        raise OptionError(
            f"{len(asked.pictures)} pictures are too many to describe in one go; leave {MOST} in "
            "the box."
        )
    if len(asked.pictures) < 2:
        yield from _one(shared, asked, asked.pictures, results)
        return
    done: list[Captioned] = []
    rows = picture_html.captions((), len(asked.pictures), ())
    for picture in asked.pictures:
        for comparison in _compare(shared, asked, (picture,)):
            yield [*html.columns(comparison, asked.words), rows]
        results.append(comparison)
        done.append(Captioned(picture, comparison, _fit(shared, picture, comparison)))
        rows = picture_html.captions(done, len(asked.pictures), asked.words)
        yield [*html.columns(comparison, asked.words, done[-1].fit), rows]


def _one(
    shared: Shared, asked: Request, pictures: tuple[Picture, ...], results: list[Any]
) -> Iterator[list[str]]:
    for comparison in _compare(shared, asked, pictures):
        yield [*html.columns(comparison, asked.words), ""]
    results.append(comparison)
    for picture in pictures:
        yield [*html.columns(comparison, asked.words, _fit(shared, picture, comparison)), ""]


def _compare(shared: Shared, asked: Request, pictures: tuple[Picture, ...]) -> Iterator[Comparison]:
    request = CompareRequest(
        prompt=asked.prompt,
        edit=asked.edit,
        words=asked.words,
        control_seed=asked.sampling.seed,
        sampling=asked.sampling,
        pictures=pictures,
    )
    return shared.session.compare(asked.model, request)


def _fit(shared: Shared, picture: Picture, comparison: Comparison) -> dict[str, float]:
    """Column name -> how well its text fits the picture, where a CLIP model is at hand."""
    found = shared.clips.fit(picture, [column.text for column in comparison.columns])
    names = [column.name for column in comparison.columns]
    return dict(zip(names, found, strict=True)) if found else {}
