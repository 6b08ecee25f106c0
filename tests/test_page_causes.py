"""Cause on the page: map, table and the search for an edit, in a real browser."""

import csv
from pathlib import Path

import pytest
from paging import ask, change, choosing, serving, settled, visiting

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.editing import find
from headviz.editing.generate import Sampling
from headviz.inputs.concepts import find_concept
from headviz.session import causal
from headviz.session.causal import Causes
from headviz.session.session import Session
from headviz.session.shipped import load_shipped

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

WAIT = 400_000  # ms, for what takes a while on a busy machine
FEW = ["red", "pink", "black", "gray"]
MEASURED = "!headviz.effects.known.running && Object.keys(headviz.effects.known.measured).length"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page over tiny-lm, which answers each question once, in few words: the same laws."""
    patched = pytest.MonkeyPatch()
    for name, value in (("ROUNDS", 1), ("WITH", 8), ("WITHOUT", 3), ("FIRST", 6)):
        patched.setattr(causal, name, value)
    patched.setattr(find, "RANDOM_SETS", 4)
    patched.setattr(causal, "SAID", Sampling(max_new_tokens=4, temperature=0.8))
    store = Store(tmp_path_factory.mktemp("cache"))
    with serving(Session(store=store, allowed=["tiny-lm"])) as served:
        yield served
    patched.undo()


@pytest.fixture
def page(server, browser):
    with visiting(browser, server[0]) as visitor:
        visitor.wait_for_selector(".hv-ranked tbody tr")
        yield visitor


def measured(page) -> dict:
    """Wait until the heads that matter are measured; what was found, by head."""
    if page.locator("#measure").is_visible():
        page.locator("#measure").click()
    page.wait_for_function(MEASURED, timeout=WAIT)
    return page.evaluate("headviz.effects.known.measured")


def test_the_page_measures_what_the_library_measures_and_says_it_everywhere(page, server):
    session = server[1]
    found = measured(page)
    ranking = load_shipped("tiny-lm").ranking("colors")
    assert {str(head) for head in ranking.top(6)} <= set(found)
    causes, first = Causes(session), ranking.heads[0].head
    texts = causes.prompt_set("tiny-lm")
    ((_, effect),) = causes.effects("tiny-lm", find_concept("colors"), texts, [first])
    assert found[str(first)][:3] == pytest.approx(
        [effect.need, effect.need_low, effect.need_high], abs=1e-4
    )
    shown = f"{effect.need:.1f}"
    row = page.locator(".hv-ranked tbody tr", has_text=str(first))
    assert shown in row.locator("td").nth(5).inner_text()
    assert shown in page.locator("#head [data-effect=need] dd").inner_text()
    page.locator("[data-map=needs]").click()
    point = page.locator(f".hv-point[data-name='{first}']")
    assert "writes it and is needed" in point.get_attribute("aria-label")
    with page.expect_download() as waiting:
        page.locator("#export-needs button[data-kind=csv]").click()
    content = Path(waiting.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(content.splitlines()))
    assert len(rows) == 320 and rows[0]["head"] == str(first)
    assert float(rows[0]["need"]) == pytest.approx(effect.need, abs=1e-4)
    # Estimate and measurement stand beside each other.
    assert "estimated" in point.get_attribute("aria-label")
    assert page.locator(".hv-point[data-name]").count() == 320
    assert page.locator(".hv-point.measured[data-name]").count() == len(found)


def test_one_choice_shows_in_map_heat_map_table_and_head(page):
    measured(page)
    page.locator(".hv-ranked .hv-open").nth(3).click()
    name = page.locator(".hv-ranked .hv-open").nth(3).inner_text()
    page.wait_for_selector(f"#head-title[data-head='{name}']")
    assert page.locator(".hv-map .hv-cell.opened").get_attribute("title").startswith(f"{name}:")
    page.locator("[data-map=needs]").click()
    assert page.locator(".hv-point.opened").get_attribute("data-name") == name
    assert page.locator(".hv-ranked tr.opened").inner_text().split()[1] == name
    # By keyboard: one stop for Tab, arrows move, Enter opens.
    assert page.locator(".hv-point[tabindex='0']").count() == 1
    page.locator(".hv-point[tabindex='0']").focus()
    page.keyboard.press("Home")
    other = page.evaluate("document.activeElement.dataset.name")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.name") not in ("", other, None)
    page.keyboard.press("End")
    last = page.evaluate("document.activeElement.dataset.name")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#head-title[data-head='{last}']")
    assert page.locator(".hv-point.opened").get_attribute("data-name") == last


def test_a_head_that_is_opened_is_measured_by_itself_once_the_model_is_at_work(page):
    found = measured(page)
    cell = next(
        c
        for c in page.locator(".hv-map .hv-cell").all()[100:]
        if c.get_attribute("title").split(":")[0] not in found
    )
    name = cell.get_attribute("title").split(":")[0]
    cell.click()
    page.wait_for_function(f"headviz.effects.of('{name}').measured", timeout=WAIT)
    assert "≈" not in page.locator("#head [data-effect=need] dd").inner_text()


def test_the_map_fits_a_phone_and_is_chosen_from_by_a_finger(server, browser):
    with visiting(browser, server[0], 390, 844, has_touch=True) as page:
        page.wait_for_selector(".hv-ranked tbody tr")
        measured(page)
        page.locator("[data-map=needs]").tap()
        page.wait_for_selector(".hv-point.measured")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        point = page.evaluate(
            """() => { const one = document.querySelector('.hv-cause .hv-scatter').points.at(-2);
            const box = document.querySelector('.hv-cause .hv-scatter').getBoundingClientRect();
            scrollBy(0, box.top - 100); const now = document.querySelector('.hv-cause .hv-scatter')
              .getBoundingClientRect();
            return [now.left + one.x, now.top + one.y + 3, one.name]; }"""
        )
        page.touchscreen.tap(point[0], point[1])
        page.wait_for_selector(f"#head-title[data-head='{point[2]}']")


def search(page, **fields: object) -> None:
    """Open the search and begin it."""
    if not page.locator("#find-begin").is_visible():
        page.locator("#find-box summary").first.click()
    for name, value in fields.items():
        page.locator(f"#find-{name}").fill(str(value))
    page.locator("#find-begin").click()


def test_an_edit_that_is_found_is_the_pages_edit_beside_its_rivals(page, server):
    choosing(page)
    change(page, "#words textarea", ", ".join(FEW))  # asked for a color, it says one of the others
    page.locator("#rank").click()
    page.wait_for_selector("#headline:has-text('my words')", timeout=WAIT)
    search(page, heads=3, side=0.2)
    page.wait_for_selector(".hv-curve .step", timeout=WAIT)
    page.wait_for_selector(".hv-judged", timeout=WAIT)
    heads = ask(page)["heads"]
    assert 1 <= len(heads) <= 3
    assert page.locator("#find-best").inner_text().startswith("Found: L")
    rows = page.locator(".hv-judged tbody th").all_inner_texts()
    assert rows[0] == "found" and rows[-1] == "random"
    code = page.locator(".hv-find-result pre").text_content()
    assert "headviz.find(" in code and "heads=3" in code
    told = page.locator("#find-best").inner_text().replace("−", "-")
    assert told == "Found: " + ", ".join(f"{name} {factor:g}" for name, factor in heads.items())
    settled(page)
    page.keyboard.press("Control+z")
    assert ask(page)["heads"] != heads, "one step back"


def test_a_search_that_is_stopped_leaves_its_best_edit_and_no_hook(page, server):
    settled(page)
    before = ask(page)["heads"]
    search(page, heads=4)
    page.wait_for_selector(".hv-curve", timeout=WAIT)
    page.locator("#find-end").click()
    page.wait_for_function("!document.querySelector('#find-end').offsetParent", timeout=WAIT)
    assert "Stopped: the best of" in page.locator("#find-box .hv-progress").inner_text()
    assert ask(page)["heads"] != before
    model = server[1].model("tiny-lm")
    settled(page)
    with server[1].lock:
        assert not sum(len(p._forward_pre_hooks) for p in model.projections.values())


def test_answers_come_while_heads_are_measured(page):
    settled(page)
    search(page, heads=2)
    page.locator("#reset").click()
    assert settled(page)[0] == settled(page)[1]
    page.locator("#find-end").click()
