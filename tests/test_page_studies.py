"""The panel of studies in a real browser: run, read, stop, go on."""

import re

import pytest
from paging import serving, visiting

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.session.session import Session

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

RUN = 240_000  # ms; a small study takes half a minute, on a busy machine more

DONE = "#study-said:has-text('of the unedited model')"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "cache"
    with serving(Session(store=Store(folder), allowed=["tiny-lm"])) as served:
        yield served


@pytest.fixture
def page(server, browser):
    with visiting(browser, server[0]) as visitor:
        visitor.get_by_role("tab", name="Studies").click()
        visitor.locator("#study-run").wait_for()
        yield visitor


def fill(page, limit, alphas="-1"):
    page.locator("#study-limit input").fill(str(limit))
    page.locator("#study-ks textarea").fill("2")
    page.locator("#study-alphas textarea").fill(alphas)
    page.locator("#study-alphas textarea").blur()


@pytest.mark.timeout(600)
def test_a_study_runs_on_the_page_and_says_what_it_found(page):
    fill(page, 8)
    page.locator("#study-estimate").click()
    page.wait_for_selector("#study-said:has-text('of them left: about')")
    page.locator("#study-run").click()
    page.wait_for_selector(DONE, timeout=RUN)
    said = page.locator("#study-said").inner_text()
    assert "4 samples are too few" in said
    assert said.startswith("Not clear"), "what limits a conclusion stands before it"
    assert page.locator("#study-figures img").count() == 2
    rows = page.locator("#study-figures table tr").all_inner_texts()
    assert {row.split()[0] for row in rows[1:]} == {"pursuit", "logit-lens", "random"}
    names = page.locator("#study-files").inner_text()
    assert all(name in names for name in ("cells", "summary", "report", "f1-inside"))


@pytest.mark.timeout(600)
def test_a_study_that_is_stopped_goes_on_from_there(page, server):
    fill(page, 10, "-1,0")
    page.locator("#study-run").click()
    cells = server[1].store.folder.parent / "studies"
    started = {p.parent.parent for p in cells.glob("*/cells/*.jsonl")}
    page.wait_for_function("document.querySelector('#study-said') !== null")
    page.wait_for_selector("text=/[0-9]+ of [0-9]+ cells, about/")
    page.locator("#study-stop").click()
    page.wait_for_selector("#study-said:has-text('Run goes on from there')")
    told = page.locator("#study-said").inner_text()
    done, total = map(int, re.search(r"(\d+) of (\d+) cells", told).groups())
    assert 0 < done < total
    kept = {
        p: p.stat().st_mtime_ns
        for p in cells.glob("*/cells/*.jsonl")
        if p.parent.parent not in started
    }
    page.locator("#study-run").click()
    page.wait_for_selector(DONE, timeout=RUN)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_bad_fields_are_one_sentence(page):
    fill(page, 20, "much")
    page.locator("#study-run").click()
    page.wait_for_selector("#study-said .hv-error:has-text(\"'much' is no factor\")")
