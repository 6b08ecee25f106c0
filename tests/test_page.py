"""The page as a person uses it: a real browser, the built-in model, nothing mocked."""

import re
import time
from pathlib import Path

import pytest
from paging import (
    WAIT,
    drag,
    finished,
    generate,
    mark_texts,
    pick,
    reset,
    serving,
    texts,
    visiting,
)

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.inputs.concepts import find_concept, known_concepts
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.session.session import Session

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page on a free port of this process: its URL and its session."""
    with serving(Session(store=Store(tmp_path_factory.mktemp("cache")))) as served:
        yield served


@pytest.fixture
def page(server, browser):
    """A visitor's page; at its end the console must have been silent and no other host asked."""
    with visiting(browser, server[0]) as visitor:
        visitor.wait_for_selector(".hv-cell")
        yield visitor


def hooks_of(session):
    model = session.model("tiny-lm")
    return sum(len(p._forward_pre_hooks) for p in model.projections.values())


def test_the_first_view_is_true_before_a_model_is_loaded(server, browser):
    context = browser.new_context()
    visitor = context.new_page()
    visitor.goto(server[0])
    visitor.wait_for_selector(".hv-cell.opened")
    assert "shipped with the model" in visitor.locator("#status").inner_text()
    top = (
        Session()
        .rank("tiny-lm", find_concept("colors"), find_prompt_set(None, "tiny-lm"))
        .top(1)[0]
    )
    opened = visitor.locator(".hv-cell.opened")
    assert (opened.get_attribute("data-layer"), opened.get_attribute("data-head")) == (
        str(top.layer),
        str(top.index),
    )
    context.close()


def test_ranking_on_the_page_is_the_ranking_of_the_library(page, server):
    words = "two, three, seven, umpteen"
    page.locator("#words textarea").fill(words)
    page.wait_for_selector("#chips li:not(.kept):has-text('umpteen')")
    page.locator("#rank").click()
    page.wait_for_selector("#status:has-text('computed here')")
    own = find_concept(None, words)
    top = server[1].rank("tiny-lm", own, find_prompt_set(None, "tiny-lm")).top(1)[0]
    page.wait_for_selector(f"#head-title:has-text('{top} · number 1 of')")
    assert str(top) in page.locator("#ranked").inner_text()


def test_a_preset_shows_its_shipped_ranking_at_once(page):
    pick(page, "concept", "numbers")
    page.wait_for_selector(f"#status:has-text('{known_concepts()['numbers'].title}')")
    page.wait_for_selector("#chips li.kept:has-text('three')")


def test_a_click_opens_a_head(page):
    page.locator('.hv-cell[data-layer="1"][data-head="5"]').click()
    page.wait_for_selector("#head-title:has-text('L1.H5')")
    page.wait_for_selector("#spectrum .main-svg")
    assert page.locator("#samples li").count() > 0
    assert page.locator("#lens li").count() > 0


def test_arrows_and_enter_open_a_head(page):
    page.locator('.hv-cell[data-layer="0"][data-head="3"]').focus()
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#head-title:has-text('L1.H4')")


def test_a_row_of_the_table_opens_its_head(page):
    cell = page.locator("#ranked [role=gridcell][aria-colindex='2']").nth(2)
    name = cell.inner_text().strip()
    cell.click()
    page.wait_for_selector(f"#head-title:has-text('{name} ·')")


def test_turning_the_color_heads_down_takes_the_color_from_the_answer(page):
    page.locator("#tokens input").fill("2")
    generate(page)
    original, edited, control = texts(page)
    colors = re.compile("|".join(find_concept("colors").words))
    assert colors.search(original)
    assert edited != original
    assert control == original


def test_three_columns_differ_when_many_heads_are_edited(page):
    mark_texts(page)
    drag(page, "#count", 0.6)
    page.wait_for_function("document.querySelectorAll('.hv-sliders input[type=range]').length > 10")
    finished(page)
    page.locator("#prompt textarea").fill("Story: On a sunny morning")
    generate(page)
    assert len(set(texts(page))) == 3


def test_releasing_a_slider_generates_anew(page):
    generate(page)
    before = page.locator("#text-edited .hv-edit").inner_text()
    mark_texts(page)
    drag(page, "#alpha-0", 0.9)
    finished(page)
    assert page.locator("#text-edited .hv-edit").inner_text() != before


def test_a_double_click_puts_a_factor_back_to_one(page):
    page.locator("#alpha-0 input[type=range]").dblclick()
    page.wait_for_function("document.querySelector('#alpha-0 input[type=number]').value == '1'")


def test_reset_puts_all_factors_to_one_and_the_edit_changes_nothing(page):
    reset(page)
    generate(page)
    original, edited, _ = texts(page)
    assert edited == original


def test_a_run_can_be_stopped_and_leaves_nothing_behind(page, server):
    page.locator("#prompt textarea").fill("Story: On a sunny morning")
    page.locator("#tokens input").fill("400")
    page.locator("#temperature input").fill("1")
    page.locator("#generate").click()
    page.wait_for_function(
        "document.querySelector('#text-original .hv-text')?.innerText.length > 40"
    )
    page.locator("#stop").click()
    page.wait_for_timeout(1500)
    stopped = texts(page)
    page.wait_for_timeout(1000)
    assert texts(page) == stopped
    assert hooks_of(server[1]) == 0
    page.locator("#tokens input").fill("5")
    generate(page)


def test_a_closed_tab_ends_its_run(server, browser):
    url, session = server
    model = session.model("tiny-lm").model
    steps: list[float] = []

    def step(*_) -> None:
        steps.append(time.time())
        time.sleep(0.05)  # or the run may be over before a busy browser has closed its tab

    counter = model.register_forward_hook(step)
    context = browser.new_context()
    visitor = context.new_page()
    visitor.goto(url)
    visitor.locator("#prompt textarea").fill("Story: On a sunny morning")
    visitor.locator("#tokens input").fill("400")
    visitor.locator("#temperature input").fill("3")
    visitor.locator("#generate").click()
    visitor.wait_for_selector(".hv-caret", state="attached")
    context.close()
    deadline = time.time() + 20
    while time.time() < deadline and (not steps or time.time() - steps[-1] < 2):
        time.sleep(0.2)
    counter.remove()
    assert len(steps) < 380
    assert hooks_of(session) == 0


def test_two_visitors_do_not_mix_their_edits(page, server, browser):
    other = browser.new_context().new_page()
    other.set_default_timeout(WAIT)
    other.goto(server[0])
    other.wait_for_selector(".hv-cell")
    reset(other)
    for visitor in (page, other):
        mark_texts(visitor)
        visitor.locator("#generate").click()
    for visitor in (page, other):
        finished(visitor)
    assert texts(other)[0] == texts(other)[1] == texts(page)[0]
    assert texts(page)[1] != texts(page)[0]
    other.context.close()


def test_bad_input_is_one_sentence_and_the_page_goes_on(page, tmp_path: Path):
    toast = page.locator(".toast-body.error")

    def refused(sentence: str) -> None:
        toast.filter(has_text=sentence).first.wait_for()
        assert "Traceback" not in toast.first.inner_text()
        page.locator(".toast-close").first.click()

    page.locator("#prompt textarea").fill("")
    page.locator("#generate").click()
    refused("The prompt is empty")
    page.locator("#prompt textarea").fill("word " * 2000)
    page.locator("#generate").click()
    refused("reads at most")
    page.locator("#words textarea").fill(" , ")
    page.locator("#rank").click()
    refused("no words")
    page.locator("#words textarea").fill("xqzzy")
    page.locator("#rank").click()
    refused("single token")
    for name, content, sentence in (
        ("empty.txt", b"", "no text"),
        ("picture.txt", b"\x89PNG\0\xff", "not"),
        ("large.txt", b"word " * (50 * 2**20 // 5), "at most"),
    ):
        (tmp_path / name).write_bytes(content)
        page.locator("input[type=file]").first.set_input_files(tmp_path / name)
        refused(sentence)
    page.locator("#prompt textarea").fill("Story: On a sunny morning")
    generate(page)


def test_an_unknown_model_is_refused_and_the_old_one_stays(page):
    page.locator("#model input").fill("no-such-model")
    page.locator("#model input").press("Enter")
    page.locator(".toast-body.error").filter(has_text="Unknown model").first.wait_for()
    generate(page)


def test_there_are_as_many_sliders_as_chosen_heads(page):
    for share in (0.6, 0.15):
        drag(page, "#count", share)
        page.wait_for_function(
            """() => {
                const chosen = document.querySelector('#share strong').innerText;
                const sliders = document.querySelectorAll('.hv-sliders input[type=range]').length;
                const asked = document.querySelector('#count input[type=number]').value;
                return chosen == asked && sliders == asked; }"""
        )
