"""The page looks as it did when somebody looked at it; `scripts/screenshots` makes it anew."""

import json

import pytest
from page_states import (
    BROWSER,
    FAR,
    FOLDER,
    MOST_FAR,
    STATES,
    far,
    kept,
    shown,
    version_of,
)
from paging import serving
from PIL import Image

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.session.session import Session

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    session = Session(store=Store(tmp_path_factory.mktemp("cache")), allowed=["tiny-lm"])
    with serving(session) as (url, _):
        yield session, url


@pytest.mark.parametrize("name", STATES)
def test_the_page_looks_as_it_did(server, browser, name, tmp_path):
    made_by = json.loads(BROWSER.read_text(encoding="utf-8"))["chromium"]
    if version_of(browser) != made_by:
        pytest.skip(f"the pictures were made by chromium {made_by}")
    session, url = server
    picture = shown(browser, session, url, name)
    share = far(kept(picture), Image.open(FOLDER / f"{name}.png").convert("RGB"))
    if share > MOST_FAR:
        picture.save(tmp_path / f"{name}.png")
    assert share <= MOST_FAR, f"{share:.1%} look different: see {tmp_path}/{name}.png"


def test_a_part_that_is_missing_is_seen_and_another_font_is_not():
    page = Image.new("RGB", (1280, 800), "white")
    page.paste((40, 80, 160), (0, 300, 640, 460))
    moved = page.copy()
    moved.paste((255, 255, 255), (0, 300, 640, 460))
    moved.paste((40, 80, 160), (2, 301, 642, 461))  # as much as a letter's width moves a line
    gone = Image.new("RGB", (1280, 800), "white")
    assert far(kept(page), kept(page)) == 0
    assert far(kept(page), kept(moved)) <= MOST_FAR < far(kept(page), kept(gone))
    assert far(kept(page), kept(page.crop((0, 0, 1280, 700)))) == 1
    assert FAR > 0


def test_the_pictures_are_small_and_of_every_state():
    files = {path.stem: path.stat().st_size for path in FOLDER.glob("*.png")}
    assert files.keys() == STATES.keys()
    assert sum(files.values()) < 2_000_000
