"""Twelve states of the page as pictures: made by `scripts/screenshots`, compared by the tests.

What is kept is a small copy of each, in which letters are gray and layout, colors and sizes are
left: fonts and antialiasing of another machine hardly show in it.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from paging import choosing, pick, serving, settled, visiting
from PIL import Image

from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept
from headviz.session.session import Session

FOLDER = Path(__file__).with_name("page_states")
BROWSER = FOLDER / "browser.json"
"""Which browser made the pictures."""
WIDTH = 240  # pixels of a kept picture
BLOCK = 6  # pixels: what is compared is the mean color of such a square
FAR = 28  # of 255: from which on a square looks different
MOST_FAR = 0.02
"""Share of the squares that may look different: about three lines of text."""
SETTLE = 400  # ms, for what moves at first


def nothing(page: Any, url: str) -> None:
    """As the page opens."""


@dataclass(frozen=True)
class State:
    """One state: how the page is opened, and what is done there."""

    width: int = 1280
    height: int = 800
    scheme: str = "light"
    do: Callable[[Any, str], None] = nothing
    options: dict[str, Any] = field(default_factory=dict)
    query: str = ""
    """What the address ends with."""


def open_head(page: Any, url: str) -> None:
    """A head is opened and the map is in sight."""
    page.locator('.hv-map .hv-cell[data-layer="2"][data-head="55"]').click()
    page.wait_for_selector("#head-title:has-text('L2.H55')")
    page.wait_for_selector("#samples .hv-tint")
    page.locator("#heads").evaluate("one => one.scrollIntoView()")


def choices(page: Any, url: str) -> None:
    """The choices are open."""
    choosing(page)


def lesson(page: Any, url: str) -> None:
    """A lesson is open and guessed."""
    page.get_by_role("tab", name="Lessons").click()
    page.locator(".hv-lesson summary").nth(3).click()
    page.locator(".hv-lesson[open] [data-option]").nth(1).click()
    page.locator(".hv-lesson[open] .hv-after").wait_for()


def studies(page: Any, url: str) -> None:
    """The studies."""
    page.get_by_role("tab", name="Studies").click()


def up(page: Any, url: str) -> None:
    """The heads are brought forward, and the list of edits is open."""
    page.locator("#up").click()
    settled(page)
    page.locator("#edits").click()
    page.wait_for_selector("#curve-told:not(:empty)")


def another_concept(page: Any, url: str) -> None:
    """Another concept, whose answers ship as well."""
    pick(page, "concept", "countries")
    page.wait_for_selector("#headline:has-text('ountries')")
    settled(page)
    page.locator("#change").click()


def error(page: Any, url: str) -> None:
    """Something that cannot be answered."""
    page.locator("#prompt").fill("word " * 2000)
    page.wait_for_selector("#said .hv-error")


_QUESTION = (
    "eyJxdWVzdGlvbiI6IldoYXQgZG9lcyB0aGUgbW9kZWwgc2F5PyIsIm9wdGlvbnMiOlsiYmxhY2siLCJwaW5rIl0sImFuc3"
    "dlciI6MCwiZXhwbGFpbiI6IiJ9"
)
_HEADS = Edit({Head(0, 51): -1.0, Head(0, 56): -1.0})
_EDIT = Recipe("tiny-lm", "", _HEADS, find_concept("colors"))
STATES: dict[str, State] = {
    "first": State(),
    "first-dark": State(scheme="dark"),
    "first-phone": State(390, 844),
    "first-phone-dark": State(390, 844, "dark"),
    "first-768": State(768, 1024),
    "first-1920": State(1920, 1080),
    "first-200-percent": State(640, 400, options={"device_scale_factor": 2}),
    "head-open": State(do=open_head),
    "choices-dark": State(scheme="dark", do=choices),
    "brought-forward": State(do=up),
    "another-concept-phone": State(390, 844, do=another_concept),
    "lesson": State(do=lesson),
    "lesson-by-link": State(
        768, 1024, "dark", query=f"?recipe={_EDIT.to_link()}&lesson={_QUESTION}"
    ),
    "studies": State(do=studies),
    "error-phone": State(390, 844, do=error),
}


def shown(browser: Any, session: Session, url: str, name: str) -> Image.Image:
    """The page in that state, as large as it is."""
    state = STATES[name]
    # One state must not see what another one has done.
    session.take_notices()
    opened = visiting(
        browser,
        url + state.query,
        state.width,
        state.height,
        color_scheme=state.scheme,
        reduced_motion="reduce",
        **state.options,
    )
    with opened as page:
        page.wait_for_selector(".hv-map .hv-cell")
        if state.query:
            page.wait_for_selector("#banner p")
        settled(page)
        state.do(page, url)
        page.wait_for_timeout(SETTLE)
        taken = page.screenshot(animations="disabled", caret="hide")
    return Image.open(io.BytesIO(taken)).convert("RGB")


def kept(picture: Image.Image) -> Image.Image:
    """The small copy."""
    height = round(picture.height * WIDTH / picture.width)
    return picture.resize((WIDTH, height), Image.Resampling.BOX)


def far(picture: Image.Image, other: Image.Image) -> float:
    """The share of squares in which two small copies look different; 1 for other sizes."""
    if picture.size != other.size:
        return 1.0
    size = (picture.width // BLOCK, picture.height // BLOCK)
    one, two = (
        np.asarray(p.resize(size, Image.Resampling.BOX), dtype=float) for p in (picture, other)
    )
    return float((np.abs(one - two).max(axis=2) > FAR).mean())


def version_of(browser: Any) -> str:
    """The browser's major version."""
    return str(browser.version).partition(".")[0]


def write(browser: Any, folder: Path, names: list[str], whole: Path | None = None) -> Iterator[str]:
    """Make the small copies of the states anew; `whole` is where the pictures themselves go."""
    folder.mkdir(exist_ok=True)
    cache = TemporaryDirectory()
    session = Session(store=Store(Path(cache.name)), allowed=["tiny-lm"])
    with cache, serving(session) as (url, _):
        for name in names:
            picture = shown(browser, session, url, name)
            kept(picture).quantize(128).save(folder / f"{name}.png", optimize=True)
            if whole is not None:
                whole.mkdir(parents=True, exist_ok=True)
                picture.save(whole / f"{name}.png")
            yield name
    BROWSER.write_text(json.dumps({"chromium": version_of(browser)}) + "\n", encoding="utf-8")
