"""The page as a person uses it: a real browser, the built-in model, nothing mocked."""

import json
import time
from pathlib import Path

import pytest
from paging import (
    ask,
    change,
    choose_model,
    choosing,
    pick,
    sampling,
    serving,
    settled,
    slide,
    slowly,
    texts,
    visiting,
)

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.inputs.concepts import find_concept, known_concepts
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.session.session import Session
from headviz.session.shipped import load_shipped

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

LONG = "Story: On a sunny morning"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page on a free port of this process: its URL and its session."""
    store = Store(tmp_path_factory.mktemp("cache"))
    with serving(Session(store=store, allowed=["tiny-lm", "tiny-vlm"])) as served:
        yield served


@pytest.fixture
def page(server, browser):
    """A visitor's page; at its end the console must have been silent and no other host asked."""
    with visiting(browser, server[0]) as visitor:
        visitor.wait_for_selector(".hv-map .hv-cell")
        yield visitor


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def hooks_of(session):
    model = session.model("tiny-lm")
    return sum(len(p._forward_pre_hooks) for p in model.projections.values())


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_screen_has_a_true_finished_answer_before_any_weight_is_read(
    browser, tmp_path, width, height
):
    session = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm"])
    recipe = load_shipped("tiny-lm").answer("colors")
    with serving(session) as (url, _), visiting(browser, url, width, height) as page:
        expected = [column.text.strip() for column in recipe.trial.texts]
        assert texts(page) == expected
        assert page.locator(".edited mark.first").inner_text() == expected[1]
        for seen in ("#prompt", ".hv-column.control .hv-facts", "#alpha", "#down", "#up", "#reset"):
            box = page.locator(seen).bounding_box()
            assert box["y"] + box["height"] <= height, f"{seen} is below the first screen"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not list(session._model_cache._models.values()), "a model was loaded"
    request = session.compare(
        "tiny-lm",
        compare_request(recipe),
    )
    *_, fresh = request
    assert [c.text for c in fresh.columns] == [c.text for c in recipe.trial.texts]


def compare_request(recipe):
    from headviz.editing.compare import CompareRequest

    trial = recipe.trial
    return CompareRequest(
        prompt=trial.prompt,
        edit=recipe.edit,
        words=recipe.concept.words,
        control_seed=trial.control_seed,
        sampling=trial.sampling,
    )


@pytest.mark.parametrize("how", ["keys", "drag", "button", "question", "head"])
def test_whatever_is_changed_the_answers_follow_and_until_then_are_dimmed(page, how):
    before = settled(page)
    page.locator("#reset").click()
    settled(page)
    if how == "keys":
        page.locator("#alpha").focus()
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
    elif how == "drag":
        slide(page, "#alpha", -1)
    elif how == "button":
        page.locator("#down").click()
    elif how == "question":
        change(page, "#prompt", "Question: What color is a tomato? Answer:")
    else:
        page.locator("#more").click()
        page.locator("#down").click()
    # Nobody takes the old answers for new ones.
    assert page.evaluate(
        """() => {
            const other = headviz.state.shown !== headviz.key(headviz.state.ask);
            return other === Boolean(document.querySelector('#answers .hv-stale')); }"""
    )
    after = settled(page)
    assert not page.locator("#answers .hv-stale").count()
    if how in ("drag", "button"):
        assert after == before
    shown = json.loads(page.locator(".hv-answers").get_attribute("data-ask"))
    assert shown == ask(page)


def test_one_goes_back_by_key_and_by_the_list_of_edits(page):
    first = settled(page)
    page.locator("#reset").click()
    settled(page)
    page.locator("#up").click()
    settled(page)
    page.locator("#alpha").focus()
    page.keyboard.press("Control+z")
    assert set(ask(page)["heads"].values()) == {1}
    page.keyboard.press("Control+Shift+z")
    assert set(ask(page)["heads"].values()) == {3}
    page.locator("#edits").click()
    assert "all heads → 1" in page.locator("#history").inner_text()
    page.locator("#history button").last.click()
    assert settled(page) == first
    assert set(ask(page)["heads"].values()) == {-1}


def test_factors_are_told_as_they_are(page):
    page.locator(".hv-chip").first.click()
    slide(page, "#alpha-one", 8)
    assert page.locator("#alpha-value").inner_text() == "−1 to 8"
    page.locator("#alpha-one").dblclick()
    page.wait_for_function("Object.values(headviz.state.ask.heads)[0] === 1")
    settled(page)
    page.locator("#reset").click()
    settled(page)
    assert page.locator("#alpha-value").inner_text() == "α = 1"
    assert page.locator("#who").inner_text() == "3 heads, as they are"
    assert not page.locator(".hv-map .down, .hv-map .up").count(), "a factor of 1 edits nothing"
    assert texts(page)[0] == texts(page)[1]


def test_the_menu_of_questions_never_takes_the_prompt(page):
    before = page.locator("#prompt").input_value()
    menu = page.locator("#examples-menu")
    menu.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")
    menu.click()
    page.keyboard.press("Escape")
    page.mouse.click(5, 5)
    assert page.locator("#prompt").input_value() == before
    assert not [text for text in menu.locator("option").all_inner_texts() if "{" in text]
    menu.select_option(index=2)
    assert page.locator("#prompt").input_value() != before
    settled(page)


def test_a_concept_brings_its_heads_its_question_and_its_answer(page):
    pick(page, "concept", "numbers")
    page.wait_for_selector(f"#headline:has-text('{known_concepts()['numbers'].title}')")
    recipe = load_shipped("tiny-lm").answer("numbers")
    assert settled(page) == [column.text.strip() for column in recipe.trial.texts]
    assert ask(page)["heads"].keys() == {str(head) for head in recipe.edit.factors}
    page.wait_for_selector("#chips li.kept:has-text('three')")


def test_another_model_takes_answers_question_and_link_of_the_old_one_away(page):
    page.locator("#examples-menu").select_option(index=3)
    settled(page)
    page.locator("#export-edit button[data-kind=link]").click()
    page.wait_for_function("document.querySelector('#link').value")
    choose_model(page, "tiny-vlm")
    page.wait_for_selector("#headline:has-text('tiny-vlm')")
    assert ask(page)["model"] == "tiny-vlm"
    settled(page)
    shown = json.loads(page.locator(".hv-answers").get_attribute("data-ask"))
    assert shown["model"] == "tiny-vlm"
    assert not page.locator("#link").is_visible()
    assert not page.locator(".hv-error, .toast-body").count()
    assert not [one for one in page.locator("#examples-menu").all_inner_texts() if "{" in one]
    page.wait_for_selector("#about-pictures:has-text('was trained on drawings like these alone')")


def test_ranking_on_the_page_is_the_ranking_of_the_library(page, server):
    words = "two, three, seven, umpteen"
    choosing(page)
    change(page, "#words textarea", words)
    page.wait_for_selector("#chips li:not(.kept):has-text('umpteen')")
    page.wait_for_function("document.querySelector('#concept input').value == 'my own words'")
    page.locator("#rank").click()
    page.wait_for_selector("#status:has-text('computed here')")
    own = find_concept(None, words)
    top = server[1].rank("tiny-lm", own, find_prompt_set(None, "tiny-lm")).top(1)[0]
    assert str(top) in page.locator("#head-title").inner_text()
    assert str(top) in page.locator(".hv-ranked").inner_text()
    assert "my words" in page.locator("#headline").inner_text()
    settled(page)


def test_the_map_sharpens_while_texts_are_read_and_a_stop_brings_the_old_one_back(page, server):
    page.evaluate("""() => {
        window.drafts = [];
        new MutationObserver(() => {
            const told = document.querySelector('#heat-map .hv-note:has(+ .hv-draft)');
            if (told && window.drafts.at(-1) !== told.innerText) window.drafts.push(told.innerText);
        }).observe(document.querySelector('#heat-map'), {childList: true, subtree: true});
    }""")
    before = page.locator(".hv-map .hv-cell").first.get_attribute("title")
    choosing(page)
    change(page, "#words textarea", "one, two, six, ten")
    page.locator("#choose button:has-text('Options')").first.click()
    page.locator("#pooling input").click()
    page.locator("[role=option]:has-text('last token')").click()
    with slowly(server[1]):
        page.locator("#rank").click()
        page.wait_for_selector("#heat-map .hv-draft[inert] .hv-map")
        page.locator("#stop-rank").click()
        page.wait_for_selector("#status:has-text('What was read is kept')")
    page.wait_for_selector("#heat-map .hv-draft", state="detached")
    assert page.locator(".hv-map .hv-cell").first.get_attribute("title") == before
    page.locator("#rank").click()
    page.wait_for_selector("#status:has-text('computed here')")
    page.wait_for_selector("#heat-map .hv-draft", state="detached")
    read = [int(told.split(" from ")[1].split(" of ")[0]) for told in page.evaluate("drafts")]
    assert read and max(read) < 240 and all("of 240 so far" in d for d in page.evaluate("drafts"))
    assert page.locator(".hv-map .hv-cell").first.get_attribute("title") != before
    settled(page)


def test_one_word_ranks_with_a_warning(page):
    choosing(page)
    change(page, "#words textarea", "red")
    page.wait_for_selector("#chips .hv-warning")
    page.locator("#rank").click()
    page.wait_for_selector("#status .hv-warning:has-text('one word')")
    settled(page)


def test_a_click_opens_a_head_beside_the_map_and_marks_it(page):
    page.locator('.hv-map .hv-cell[data-layer="1"][data-head="5"]').click()
    page.wait_for_selector("#head-title:has-text('L1.H5')")
    assert page.locator(".hv-map .opened").get_attribute("data-head") == "5"
    assert page.locator("#head-title").bounding_box()["y"] < 800
    assert page.locator(".hv-spectrum li").count() > 5
    assert page.locator("#samples li").count() > 0
    opened = page.locator(".hv-map .opened")
    turned = page.locator(".hv-map .down").first
    look = "one => getComputedStyle(one, '::after').content + getComputedStyle(one).outlineStyle"
    assert opened.evaluate(look) != turned.evaluate(look)


def test_the_map_is_moved_in_by_keys(page):
    page.locator('.hv-map .hv-cell[data-layer="1"][data-head="3"]').focus()
    where = "[document.activeElement.dataset.layer, document.activeElement.dataset.head]"
    page.keyboard.press("End")
    assert page.evaluate(where) == ["1", "63"]
    page.keyboard.press("Home")
    assert page.evaluate(where) == ["1", "0"]
    page.keyboard.press("Control+Home")
    assert page.evaluate(where) == ["0", "0"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#head-title:has-text('L0.H1')")
    page.wait_for_function(f"{where}.join() == '0,1'")


def test_the_map_has_cells_to_hit_axes_and_one_scale_for_all_concepts(page):
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(200)
        boxes = page.eval_on_selector_all(
            ".hv-map .hv-cell", "all => all.map(one => one.getBoundingClientRect().toJSON())"
        )
        assert min(box["width"] for box in boxes) >= 18
        assert min(box["height"] for box in boxes) >= 14
        assert max(box["right"] for box in boxes) <= width, "heads are cut off"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".hv-axis").count() > 3
    legend = page.locator("#heat-map .hv-legend").inner_text()
    pick(page, "concept", "positions")
    page.wait_for_selector("#headline:has-text('osition')")
    assert page.locator("#heat-map .hv-legend").inner_text() == legend


def test_a_run_can_be_stopped_and_leaves_nothing_behind(page, server):
    with slowly(server[1], 0.1):  # or it ends by itself
        sampling(page, tokens=400, temperature=3)
        change(page, "#prompt", LONG)
        page.wait_for_function(
            "document.querySelector('.hv-answers[data-state=running] .hv-text')"
            "?.innerText.length > 30"
        )
        page.locator("#stop").click()
        page.wait_for_selector(".hv-answers[data-state=stopped]")
    assert not page.locator(".hv-caret").count()
    assert "Stopped here" in page.locator("#said").inner_text()
    stopped = texts(page)
    page.wait_for_timeout(1000)
    assert texts(page) == stopped
    with server[1].lock:  # what works in the background has hooks of its own for a pass
        assert hooks_of(server[1]) == 0
    sampling(page, tokens=5, temperature=0)
    settled(page)


def test_a_closed_tab_ends_its_run(server, browser):
    url, session = server
    crowd = session.crowd(session.model("tiny-lm"))
    with slowly(session, 0.05) as passes:
        with visiting(browser, url) as visitor:
            sampling(visitor, tokens=400, temperature=3)
            change(visitor, "#prompt", LONG)
            until(lambda: len(crowd) == 1 and passes)
        until(lambda: len(crowd) == 0)
        assert len(passes) < 380, "it was written to the end"
    with session.lock:  # what works in the background has hooks of its own for a pass
        assert hooks_of(session) == 0


def test_two_visitors_do_not_mix_their_edits(page, server, browser):
    with visiting(browser, server[0]) as other:
        for visitor, button in ((page, "#up"), (other, "#reset")):
            visitor.locator(button).click()
            change(visitor, "#prompt", "Question: What color is a tomato? Answer:")
        mine, theirs = settled(page), settled(other)
        assert theirs[0] == theirs[1] == mine[0]
        assert set(ask(page)["heads"].values()) == {3}


def test_bad_input_is_one_sentence_where_it_belongs(page, tmp_path: Path):
    change(page, "#prompt", "word " * 2000)
    page.wait_for_selector("#said .hv-error:has-text('reads at most')")
    assert page.locator(".hv-error").count() == 1
    assert not page.locator(".toast-body").count()
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    settled(page)
    assert not page.locator(".hv-error").count(), "an error stays after it is mended"
    choosing(page)
    for words, sentence in ((" , ", "no words"), ("xqzzy", "single token")):
        change(page, "#words textarea", words)
        page.locator("#rank").click()
        page.wait_for_selector(f"#status .hv-error:has-text('{sentence}')")
    for name, content, sentence in (
        ("empty.txt", b"", "no text"),
        ("picture.txt", b"\x89PNG\0\xff", "not"),
    ):
        (tmp_path / name).write_bytes(content)
        page.locator("#choose input[type=file]").first.set_input_files(tmp_path / name)
        page.wait_for_selector(f"#status .hv-error:has-text('{sentence}')")


def test_what_a_browser_may_send_is_checked():
    from headviz.base.errors import HeadvizError
    from headviz.heads.edits import Edit
    from headviz.page.ask import Ask

    good = Ask("tiny-lm", "a", Edit({})).as_dict()
    assert Ask.from_dict(good) == Ask("tiny-lm", "a", Edit({}))
    for wrong, sentence in (
        ({"tokens": 10**6}, "number of tokens"),
        ({"temperature": -1}, "temperature"),
        ({"heads": {"L0.H0": 99}}, "beyond the page's sliders"),
        ({"heads": {"L0": 1}}, "no head"),
        ({"where": "nowhere"}, "nowhere"),
        ({"prompt": "x" * 30_000}, "characters"),
    ):
        with pytest.raises(HeadvizError, match=sentence):
            Ask.from_dict({**good, **wrong})


def test_an_unknown_model_is_refused_and_the_old_name_comes_back(browser, tmp_path):
    session = Session(store=Store(tmp_path / "cache"))
    with serving(session) as (url, _), visiting(browser, url) as page:
        name = ask(page)["model"]
        choose_model(page, "no-such-model")
        page.wait_for_selector("#summary .hv-error:has-text('Unknown model')")
        page.wait_for_function(f"document.querySelector('#model input').value == {name!r}")
        page.locator("#model input").click()
        assert page.get_by_role("option", name="tiny-clip", exact=True).count()
        page.keyboard.press("Escape")
        assert ask(page)["model"] == name


def test_heads_are_found_by_a_word_that_they_write(page):
    change(page, "#search-word", "pink")
    page.locator("#search button").click()
    page.wait_for_selector("#found button:has-text('L0.H51')")
    page.locator("#found button").first.click()
    name = page.locator("#found button").first.inner_text()
    page.wait_for_selector(f"#head-title:has-text('{name}')")
    assert "pink" in page.locator(".hv-spectrum").inner_text()


def test_a_lesson_hides_what_comes_after_the_guess_and_is_remembered(page):
    page.get_by_role("tab", name="Lessons").click()
    assert page.locator(".hv-lesson").count() == 6
    lesson = page.locator(".hv-lesson").nth(3)
    lesson.locator("summary").click()
    assert not lesson.locator(".hv-after").is_visible()
    lesson.locator("[data-right=true]").click()
    assert lesson.locator(".hv-verdict").inner_text() == "Yes."
    lesson.locator("[data-open]").click()
    page.wait_for_selector("#banner:has-text('Lesson 4')")
    original, edited, control = settled(page)
    assert edited != original == control
    # Another tab of the same browser: a reload would cut off what is measured in the background.
    again = page.context.new_page()
    again.goto(page.url)
    again.get_by_role("tab", name="Lessons").click()
    again.wait_for_selector(".hv-done:has-text('done')")


def test_every_lesson_opens_and_says_what_is_so(server):
    from headviz.page import lessons

    shipped = load_shipped("tiny-lm")
    for number, lesson in enumerate(lessons.lessons()):
        arrival = lessons.arrival(server[1], number)
        assert arrival.scene.view.concept.name == lesson.concept
        assert {str(h): f for h, f in arrival.opening.ask.edit.factors.items()} == lesson.heads
        assert 0 <= lesson.answer < len(lesson.options)
    # What the lessons on turning and on chance claim.
    assert [c.text for c in shipped.answer("colors").trial.texts] == [" pink.", " black.", " pink."]
    months = next(h for h in shipped.ranking("months").heads if str(h.head) == "L2.H55")
    animals = next(h for h in shipped.ranking("animals").heads if str(h.head) == "L3.H54")
    assert months.over > 0.6 > 0.4 > animals.over


def test_every_factor_beside_its_control_and_a_click_sets_the_knob(page):
    edited = settled(page)[1]
    page.locator("#every").click()
    page.wait_for_selector(".hv-ribbon tbody tr")
    rows = page.locator(".hv-ribbon tbody tr")
    page.wait_for_function(
        "document.querySelector('.hv-ribbon [data-alpha=\"-1\"]')"
        ".closest('tr').cells[1].innerText.endsWith('.')"
    )
    assert rows.filter(has=page.locator("[data-alpha='-1']")).locator("td").first.inner_text() == (
        edited
    )
    page.locator(".hv-ribbon [data-alpha='8']").click()
    assert set(ask(page)["heads"].values()) == {8}
    settled(page)
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    page.wait_for_selector(".hv-ribbon", state="hidden")
    settled(page)
