"""Two edits side by side: an earlier answer beside the present one, both beside the original."""

import pytest
from paging import ask, change, settled, slide, texts, visiting

from headviz.base.assets import built_in_models

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


def brought_forward(page) -> tuple[list[str], list[str]]:
    """Two edits: the usual one, and the heads brought forward; what the answers were and are."""
    before = settled(page)
    page.locator("#up").click()
    return before, settled(page)


def compare(page, number: int = 0) -> None:
    """Set an earlier edit of the list beside the present one."""
    if not page.locator("#history").is_visible():
        page.locator("#edits").click()
    page.locator("#history [data-beside]").nth(number).click()
    page.wait_for_selector(".hv-column.beside")


def said(page, column: str) -> str:
    return page.locator(f".hv-column.{column} .hv-text").inner_text().strip()


def test_original_this_and_that_stand_beside_each_other_with_what_differs(page):
    before, now = brought_forward(page)
    assert before[1] != now[1]
    compare(page)
    assert [said(page, name) for name in ("original", "edited", "beside")] == [*now[:2], before[1]]
    that = page.locator(".hv-column.beside")
    assert that.locator("mark.first").inner_text() == before[1]
    words = that.locator(".hv-facts").inner_text()
    assert "1 word of “colors”" in words and "perplexity" in words
    assert f"{before[1].strip('.')} → {now[1].strip('.')}" in (
        that.locator(".hv-to-present").inner_text()
    )
    # No effect without its control: each tells what random heads did.
    assert not page.locator(".hv-column.control").is_visible()
    lines = page.locator(".hv-control-line:has-text('random heads')").all_inner_texts()
    assert lines == ["random heads: the same as the original"] * 2
    told = page.locator("#beside-told").inner_text()
    assert all(name in told for name in ask(page)["heads"]) and "α = −1" in told
    boxes = [page.locator(f".{name}").bounding_box() for name in ("original", "edited", "beside")]
    assert boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"] and boxes[0]["y"] == boxes[2]["y"]


def test_the_earlier_edit_stays_while_the_present_one_is_turned(page):
    before, _ = brought_forward(page)
    compare(page)
    page.locator("#reset").click()
    now = settled(page)
    assert (said(page, "edited"), said(page, "beside")) == (now[0], before[1])
    slide(page, "#alpha", -1)  # the very same edit
    settled(page)
    assert page.locator(".hv-to-present").inner_text() == "the present edit says the same"
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    page.wait_for_selector(".hv-column.beside", state="detached")
    assert not page.locator("#leave-beside").is_visible(), "it has another original"
    settled(page)
    assert page.locator(".hv-column.control").is_visible()


def test_an_edit_of_another_question_is_not_offered(page):
    settled(page)
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    settled(page)
    page.locator("#edits").click()
    assert page.locator("#history [data-steps]").count() == 1
    assert not page.locator("#history [data-beside]").count()


@pytest.mark.parametrize("how", ["button", "escape"])
def test_one_leaves_it_again_and_the_control_is_back(page, how):
    _, now = brought_forward(page)
    compare(page)
    assert page.evaluate("document.activeElement.id") == "leave-beside"
    if how == "button":
        page.locator("#leave-beside").click()
    else:
        page.keyboard.press("Escape")
    assert not page.locator(".hv-column.beside, .hv-control-line").count()
    assert page.locator(".hv-column.control").is_visible()
    assert page.evaluate("document.activeElement.id") == "edits"
    assert texts(page) == now


def test_on_a_phone_by_keys_alone(server, browser):
    with visiting(browser, server[0], 390, 844) as page:
        page.wait_for_selector(".hv-map .hv-cell")
        before, _ = brought_forward(page)
        page.locator("#edits").focus()
        page.keyboard.press("Enter")
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("'beside' in document.activeElement.dataset"):
                break
        page.keyboard.press("Enter")
        page.wait_for_selector(".hv-column.beside")
        assert said(page, "beside") == before[1]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        box = page.locator(".hv-column.beside").bounding_box()
        assert box["x"] >= 0 and box["width"] > 300
        page.keyboard.press("Enter")  # on the way out, where the focus is
        page.wait_for_selector(".hv-column.beside", state="detached")


def test_the_list_keeps_the_focus_of_who_is_in_it(page):
    brought_forward(page)
    page.locator("#edits").click()
    page.locator("#history [data-beside]").first.focus()
    page.evaluate("headviz.tell()")
    assert page.evaluate("'beside' in document.activeElement.dataset")
