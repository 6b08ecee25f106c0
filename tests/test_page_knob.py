"""The knob while the answer is written, in a real browser: it goes on, and says where it moved."""

import pytest
from paging import ask, change, sampling, settled, slide, slowly, texts, visiting

from headviz.base.assets import built_in_models
from headviz.editing.recipe import Recipe
from headviz.page.bench import KIND
from headviz.page.work import Work

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

LONG = "Story: On a sunny morning"


@pytest.fixture(scope="module")
def page(server, browser):
    """One page for all: every test begins with a question or a place of its own."""
    with visiting(browser, server[0]) as visitor:
        visitor.wait_for_selector(".hv-map .hv-cell")
        yield visitor


@pytest.fixture(autouse=True)
def turned_down(page):
    """Every test begins with a short answer under the usual edit."""
    sampling(page, tokens=60)
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    settled(page)
    page.locator("#down").click()  # not while it is written: it would go on from there
    settled(page)


def writing(page, tokens=60):
    """Have a long text written, and wait for its first words."""
    sampling(page, tokens=tokens)
    change(page, "#prompt", LONG)
    page.wait_for_function(
        "document.querySelector('.hv-answers[data-state=running] .edited .hv-text')"
        "?.innerText.length > 10"
    )


def plain_texts(page):
    """The texts without the marks of turns."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.hv-text')].map((one) => {
            const copy = one.cloneNode(true);
            copy.querySelectorAll('.hv-turn').forEach((mark) => mark.remove());
            return copy.textContent.trim(); })"""
    )


def test_a_text_goes_on_under_the_hand_and_says_where_it_moved_and_to_what(
    page, server, monkeypatch
):
    runs, begin = [], Work.begin
    monkeypatch.setattr(Work, "begin", lambda *args: runs.append(args[-1]) or begin(*args))
    with slowly(server[1]):
        writing(page)
        begun = page.locator(".edited .hv-text").inner_text().strip()
        n_runs = runs.count(KIND)
        slide(page, "#alpha", 3)
        page.wait_for_selector(".edited .hv-turn:has-text('α = 3')")
        assert not page.locator("#answers .hv-stale").count()
    settled(page)
    assert runs.count(KIND) == n_runs > 0, "the text was begun anew"
    marked = page.locator(".edited .hv-text").inner_text()
    assert marked.strip().startswith(begun) and "α = 3" in marked[len(begun) :]
    assert page.locator(".original .hv-turn").count() == 0
    assert page.locator(".control .hv-turn").count() == 1
    asked = ask(page)
    assert set(asked["heads"].values()) == {3}
    (stretch,) = asked["earlier"]
    assert set(stretch["heads"].values()) == {-1} and 0 < stretch["tokens"] < 60
    assert "while it was written" in history(page)


def history(page):
    if not page.locator("#history").is_visible():
        page.locator("#edits").click()
    return page.locator("#history").inner_text()


def test_a_turned_text_leaves_the_page_as_one_and_comes_back_as_one(page, server, browser):
    with slowly(server[1]):
        writing(page, 40)
        page.locator("#up").click()
        page.wait_for_selector(".edited .hv-turn")
    settled(page)
    seen, asked = plain_texts(page), ask(page)
    page.locator("#export-edit button[data-kind=link]").click()
    page.wait_for_function("document.querySelector('#link').value.includes('recipe=')")
    token = page.locator("#link").input_value().partition("recipe=")[2]
    recipe = Recipe.from_link(token)
    (stretch,) = recipe.trial.earlier
    assert set(stretch.edit.factors.values()) == {-1}
    assert set(recipe.edit.factors.values()) == {3}
    with visiting(browser, f"{server[0]}?recipe={token}") as other:
        other.wait_for_selector("#banner:has-text('A link opened this page')")
        settled(other)
        assert ask(other) == asked
        assert plain_texts(other) == seen
        assert other.locator(".edited .hv-turn").inner_text() == "α = 3"
        other.locator("#again").click()  # the course is asked for again, and gives the same
        other.wait_for_selector(".hv-answers[data-state=running]")
        settled(other)
        assert plain_texts(other) == seen


def test_it_is_written_anew_at_one_factor_and_the_turned_one_is_a_step_back(page, server):
    with slowly(server[1]):
        writing(page, 40)
        page.locator("#up").click()
        page.wait_for_selector(".edited .hv-turn")
    turned = settled(page)
    page.locator("[data-anew]").click()
    plain = settled(page)
    assert ask(page)["earlier"] == []
    assert plain[0] == turned[0] and plain[1] != turned[1]
    assert not page.locator(".hv-turn").count()
    page.locator("#alpha").focus()
    page.keyboard.press("Control+z")
    assert settled(page) == turned


def test_a_knob_that_comes_too_late_for_a_text_has_it_written_anew(page):
    sampling(page, tokens=12)
    page.evaluate("window.headviz.setAll(1, 'reset', 0)")
    settled(page)
    # The first words are there, and the server has all of them.
    page.evaluate(
        """() => { const { state } = headviz;
            headviz.set({ prompt: 'Story: On a sunny morning' }, 'x', 'prompt', 0);
            headviz.listen(() => {
                if (state.open && state.ask.heads && !window.done) {
                    window.done = true;
                    setTimeout(() => headviz.setAll(8, 'alpha'), 0);
                } }); }"""
    )
    page.wait_for_function("window.done && headviz.state.done && !headviz.state.running")
    settled(page)
    assert set(ask(page)["heads"].values()) == {8}
    assert {*page.evaluate("Object.values(headviz.state.asked.heads)")} == {8}


@pytest.mark.parametrize("how", ["key", "button", "touch"])
def test_while_held_the_original_stands_in_place_of_the_edited_text(page, how):
    original, edited, _ = settled(page)
    shown = page.locator(".edited")
    assert edited in shown.inner_text()
    if how == "key":
        page.locator("#alpha").focus()
        page.keyboard.down("o")
    elif how == "button":
        page.locator("#hold").hover()
        page.mouse.down()
    else:
        page.locator("#hold").dispatch_event(
            "pointerdown", {"pointerId": 1, "pointerType": "touch"}
        )
    page.wait_for_selector(".edited .hv-copy")
    assert original in shown.inner_text() and edited not in shown.inner_text()
    assert page.locator("#hold").get_attribute("aria-pressed") == "true"
    if how == "key":
        page.keyboard.up("o")
    elif how == "button":
        page.mouse.up()
    else:
        page.locator("#hold").dispatch_event("pointerup", {"pointerType": "touch", "bubbles": True})
    page.wait_for_selector(".edited .hv-copy", state="detached")
    assert edited in shown.inner_text()
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    page.locator("#prompt").press_sequentially("o")  # a letter where one writes
    assert page.locator("#prompt").input_value().endswith("o")
    assert not page.locator(".hv-copy").count()
    assert texts(page)


def test_on_a_phone_the_knob_stays_in_sight_of_the_answers(page):
    page.set_viewport_size({"width": 390, "height": 500})
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#alpha").bounding_box()
    page.set_viewport_size({"width": 1280, "height": 800})
    assert box["y"] > 0 and box["y"] + box["height"] <= 500
