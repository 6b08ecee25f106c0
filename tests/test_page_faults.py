"""Faults that a newcomer met on the page: each is held by a test in a real browser, here or elsewhere.

| fault | held by |
|---|---|
| 1 the menu of examples takes the prompt, stays open, loses the focus | test_page `test_the_menu_of_questions_never_takes_the_prompt` |
| 2 old answers, bars and links stay as if of now | here `test_a_link_and_answers_are_of_what_is_asked`, `test_the_bars_of_a_clip_model_go_with_it`, `test_a_late_word_of_a_run_that_was_ended_does_not_stay`; test_page `test_whatever_is_changed_the_answers_follow_and_until_then_are_dimmed`, `test_another_model_takes_answers_question_and_link_of_the_old_one_away` |
| 3 an example, then another model: gradio's own error; braces in examples | test_page `test_another_model_takes_…`, `test_the_menu_of_questions_…` |
| 4 a link opens as the front page, a recipe lacks the prompt | test_page_sharing `test_a_link_opens_on_its_answer_before_the_model_is_here`, `test_a_recipe_holds_all_of_it_and_comes_back` |
| 5 three narrow columns on a phone, heads cut off, answers far down | here `test_on_a_phone_answers_and_options_have_the_width`; test_page `test_the_first_screen_has_a_true_finished_answer_before_any_weight_is_read`, `test_the_map_has_cells_to_hit_axes_and_one_scale_for_all_concepts` |
| 6 keys change a value and not the answer; no ring; Home and End | test_page `test_whatever_is_changed_…`, `test_the_map_is_moved_in_by_keys`; test_page_looks `test_by_keys_alone_…` |
| 7 reading says nothing, Stop is late and red, a second click is lost | here `test_reading_says_how_far_it_is_and_stops_calmly` |
| 8 the headline number hides the effect | here `test_what_changed_is_said_in_words_and_the_question_stands_apart` |
| 9 prompt and answer run together, the template is nowhere, no example fits a model from outside | the same; here `test_a_model_from_outside_is_asked_what_fits_it`; test_page_chat |
| 10 a result opens off the screen; opened and edited look alike; no axis, tiny cells, a scale that differs | here `test_what_is_opened_is_in_sight`; test_page `test_a_click_opens_a_head_beside_the_map_and_marks_it`, `test_the_map_has_cells_…` |
| 11 factors that are not as they are told | test_page `test_factors_are_told_as_they_are` |
| 12 toasts, names of options, carets, wrong names, thin concepts | here `test_sentences_for_people_have_no_names_of_the_code`; test_page `test_bad_input_is_one_sentence_where_it_belongs`, `test_a_run_can_be_stopped_and_leaves_nothing_behind`, `test_an_unknown_model_is_refused_and_the_old_name_comes_back`, `test_ranking_on_the_page_is_the_ranking_of_the_library`, `test_one_word_ranks_with_a_warning` |
| 13 a picture is added to the sample; drawings alone; picture positions | test_page `test_another_model_takes_…`; test_page_pictures `test_a_picture_of_one_s_own_takes_the_sample_s_place`, `test_captions_stream_and_a_slider_never_encodes_a_picture_again` |
| 14 studies take built-in models only, and warn too late | here `test_a_study_takes_any_model_and_any_data`; test_page_studies `test_a_study_runs_on_the_page_and_says_what_it_found` |
| 15 what axe finds | test_page_axe |
"""  # noqa: E501

import gc
import json
import threading
import time
from contextlib import suppress

import pytest
from gradio.queueing import Queue
from paging import (
    ask,
    change,
    choose_model,
    choosing,
    pick,
    sampling,
    serving,
    settled,
    texts,
    visiting,
)
from test_studies import write_questions

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.page import bench, html
from headviz.page.work import Status, Work
from headviz.session.session import Session

TooLate = pytest.importorskip("playwright.sync_api").TimeoutError

pytest_plugins = ["loaded", "paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page on which any model may be loaded."""
    with serving(Session(store=Store(tmp_path_factory.mktemp("cache")))) as served:
        yield served


def test_a_link_and_answers_are_of_what_is_asked(page):
    settled(page)
    changes = {
        "factors": lambda: page.locator("#up").click(),
        "place": lambda: page.locator("#where").select_option("generated"),
        "example": lambda: page.locator("#examples-menu").select_option(index=4),
        "prompt": lambda: change(page, "#prompt", "Question: What color is coal? Answer:"),
        "sampling": lambda: sampling(page, tokens=7),
        "control": lambda: sampling(page, control_seed=5),
    }
    for name, do in changes.items():
        page.locator("#export-edit button[data-kind=link]").click()
        page.wait_for_function("document.querySelector('#link').value.includes('recipe=')")
        # What is seen before the new answer comes is remembered: it may come at once.
        page.evaluate(
            """() => { const before = headviz.state.shown; window.dimmed = false;
            const look = () => {
                window.dimmed ||= headviz.state.shown === before
                    && Boolean(document.querySelector('#answers .hv-stale')); };
            new MutationObserver(look).observe(document.querySelector('#answers'),
                { attributes: true, subtree: true }); }"""
        )
        do()
        page.wait_for_function("!document.querySelector('#link').value")
        assert not page.locator("#link").is_visible(), name
        settled(page)
        assert page.evaluate("window.dimmed"), f"{name}: the old answers were not dimmed"
        assert json.loads(page.locator(".hv-answers").get_attribute("data-ask")) == ask(page)
    page.locator("#export-edit button[data-kind=link]").click()
    page.wait_for_function("document.querySelector('#link').value.includes('recipe=')")
    pick(page, "concept", "numbers")
    page.wait_for_selector("#headline:has-text('umbers')")
    page.wait_for_function("!document.querySelector('#link').value")
    assert ask(page)["concept"]["name"] == "numbers"
    settled(page)


def test_an_answer_that_was_lost_on_the_way_is_asked_for_again(page, monkeypatch):
    settled(page)
    real, asked = bench._run, []

    def lost(*args):
        asked.append(args)
        return real(*args) if len(asked) > 1 else iter(())

    monkeypatch.setattr(bench, "_run", lost)
    change(page, "#prompt", "Question: What color is coal, which is dug? Answer:")
    settled(page)
    assert len(asked) == 2
    assert json.loads(page.locator(".hv-answers").get_attribute("data-ask")) == ask(page)


def test_an_answer_that_takes_long_in_silence_is_not_begun_anew(page, monkeypatch):
    settled(page)
    real, asked = bench._run, []

    def slow(*args):
        asked.append(args)
        time.sleep(10)
        yield from real(*args)

    monkeypatch.setattr(bench, "_run", slow)
    heard = []
    page.on("request", lambda request: heard.append(request.post_data or ""))
    change(page, "#prompt", "Question: What color is coal, which is black? Answer:")
    settled(page)
    assert len(asked) == 1
    # A run, and the question what became of it.
    numbers = {json.loads(sent)["fn_index"] for sent in heard if '"ask"' in sent and "coal" in sent}
    assert len(numbers) == 2


class Forgetful(set):
    """Events of a tab that are under way; once for each time it is told to, it holds none."""

    lies = 0

    def __len__(self):
        if self.lies:
            self.lies -= 1
            return 0
        return super().__len__()


def test_a_ranking_that_was_begun_as_the_stream_of_messages_ended_arrives(page, monkeypatch):
    settled(page)
    real, begun, goes_on = Session.rank, threading.Event(), threading.Event()
    tabs, pulses = [], []

    def rank(*args, **options):
        for queue in [one for one in gc.get_objects() if type(one) is Queue]:
            for tab, pending in list(queue.pending_event_ids_session.items()):
                tabs.append(Forgetful(pending))
                queue.pending_event_ids_session[tab] = tabs[-1]
        begun.set()
        goes_on.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(Session, "rank", rank)
    page.on("request", lambda r: pulses.append(r) if '"pulse"' in (r.post_data or "") else None)
    choosing(page)
    change(page, "#words textarea", "red, pink, black, gray")
    page.locator("#rank").click()
    assert begun.wait(60)
    for words in ("red", "red, pink", "red, pink, gray", "red, gray"):
        for tab in tabs:
            tab.lies = 1
        change(page, "#words textarea", words)  # told of, and the stream ends
        page.wait_for_timeout(2000)
        if pulses:
            break
    assert pulses
    goes_on.set()
    page.wait_for_selector("#headline:has-text('my words')", timeout=20_000)


def test_a_late_word_of_a_run_that_was_ended_does_not_stay(page):
    said = settled(page)
    page.evaluate(
        """() => { const { state, key, arrived } = headviz;
            const [, late] = [...state.known].find(([known]) => known !== key(state.ask));
            const whole = new DOMParser().parseFromString(late, 'text/html');
            arrived(whole.querySelector('.hv-answers'), late); }"""
    )
    page.wait_for_function("headviz.state.shown === headviz.key(headviz.state.ask)", timeout=10_000)
    assert settled(page) == said


@pytest.mark.parametrize(
    "late", ["", html.progress(Status("reading", 0.5))], ids=["nothing", "progress"]
)
def test_an_error_outlasts_the_last_word_of_a_run_that_it_took_the_place_of(
    page, monkeypatch, late
):
    went, refused, until_next = threading.Event(), threading.Event(), Work.until_next
    said = page.locator("#said")

    def slow(work, request, kind, is_last, results):
        if went.is_set():
            try:
                yield from until_next(work, request, kind, is_last, results)
            finally:
                refused.set()
            return
        went.set()
        said_of = next(results)
        refused.wait(30)
        time.sleep(1)
        yield {place: late for place in said_of if place.elem_id == "said"}

    monkeypatch.setattr(Work, "until_next", slow)
    change(page, "#prompt", "what color is the sun")
    assert went.wait(20)
    change(page, "#prompt", "too long " * 1000)
    said.locator(".hv-error").wait_for()
    text = said.inner_text()
    page.wait_for_timeout(3000)
    assert said.inner_text() == text
    change(page, "#prompt", "what color is the sky")
    settled(page)
    assert not said.inner_text().strip()


def test_the_bars_of_a_clip_model_go_with_it(page, tiny_model_folder):
    choose_model(page, "tiny-clip")
    page.wait_for_selector("#headline:has-text('tiny-clip')")
    page.wait_for_selector(".hv-classes")
    settled(page)
    change(page, "#prompt", "a red ball, a blue house")
    settled(page)
    names = page.locator(".original .hv-classes li > span").all_inner_texts()
    assert {*names} == {"a red ball", "a blue house"}
    # One whose answer does not ship, which would take the bars' place.
    choose_model(page, str(tiny_model_folder("llama")))
    page.wait_for_selector("#headline:has-text('llama')")
    assert not page.locator(".hv-classes").count()


def test_on_a_phone_answers_and_options_have_the_width(server, browser):
    with visiting(browser, server[0], 390, 844) as page:
        boxes = [
            page.locator(f".hv-column.{name}").bounding_box()
            for name in ("original", "edited", "control")
        ]
        assert all(box["width"] > 300 for box in boxes)
        assert boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"] < 844
        choosing(page)
        page.locator("#choose button:has-text('Options')").first.click()
        for label in page.locator("#choose label:has(input[type=checkbox])").all():
            label.scroll_into_view_if_needed()
            box = label.bounding_box()
            assert box["x"] + box["width"] <= 390 and box["width"] > 100, label.inner_text()
            assert label.evaluate("one => one.scrollWidth <= one.clientWidth + 1")


@pytest.fixture
def alone(browser, tmp_path):
    """A page of tiny-lm alone and its session: no other visitor's model takes its place."""
    with (
        serving(Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm"])) as (url, session),
        visiting(browser, url) as visitor,
    ):
        yield visitor, session


def test_reading_says_how_far_it_is_and_stops_calmly(alone):
    page, session = alone
    first = session.model("tiny-lm").projections[0]
    reads, waiting = threading.Semaphore(0), threading.Semaphore(0)
    begun = "document.querySelector('#status .hv-progress progress')?.value > 0"

    def hold(*_) -> None:
        waiting.release()
        reads.acquire(timeout=120)

    held = first.register_forward_pre_hook(hold)

    def a_batch_is_held() -> None:
        assert waiting.acquire(timeout=60), "all was read before the page had told of it"

    def read_until(condition: str) -> None:
        """Let one batch after the other be read; the next one only where that was not enough."""
        while not page.evaluate(condition):
            a_batch_is_held()
            reads.release()
            with suppress(TooLate):
                page.wait_for_function(condition, timeout=5_000)

    try:
        choosing(page)
        change(page, "#words textarea", "one, two, six, ten")
        page.locator("#choose button:has-text('Options')").first.click()
        page.locator("#pooling input").click()
        page.locator("[role=option]:has-text('last token')").click()
        page.locator("#rank").click()
        read_until(begun)
        a_batch_is_held()
        page.locator("#stop-rank").click()
        page.wait_for_selector("#status .hv-progress:has-text('stopping')")
        reads.release(1000)
        page.wait_for_selector("#status .hv-note:has-text('What was read is kept')")
        assert not page.locator("#status .hv-error").count(), (
            "who stops something did nothing wrong"
        )
        page.locator("#rank").click()
        page.locator("#rank").click()
        page.wait_for_selector("#status:has-text('computed here')")
    finally:
        reads.release(1000)
        held.remove()
    settled(page)


def test_what_changed_is_said_in_words_and_the_question_stands_apart(page):
    original, edited, control = settled(page)
    told = page.locator(".hv-column.edited .hv-change").inner_text()
    assert told.startswith(f"{original.strip('.')} → {edited.strip('.')}")
    assert original == control != edited
    assert page.locator(".hv-column.control .hv-change").inner_text() == "the same as the original"
    prompt = page.locator("#prompt").input_value()
    assert prompt == ask(page)["prompt"] and prompt.endswith("Answer:")
    assert not any("Answer:" in text for text in texts(page))


def test_a_model_from_outside_is_asked_what_fits_it(page, tiny_model_folder):
    choose_model(page, str(tiny_model_folder("llama")))
    page.wait_for_selector("#headline:has-text('llama')")
    page.locator("#rank").click()
    page.wait_for_selector("#status:has-text('computed here')")
    offered = page.locator("#examples-menu option").all_inner_texts()[1:]
    assert offered and all(one.startswith("colors: ") and "{" not in one for one in offered)
    assert any(ask(page)["prompt"][-60:] in one for one in offered)
    settled(page)


def test_what_is_opened_is_in_sight(page, server, browser):
    in_sight = """() => { const box = document.querySelector('#head-title').getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight; }"""
    page.locator(".hv-ranked .hv-open").nth(5).click()
    name = page.locator(".hv-ranked .hv-open").nth(5).inner_text()
    page.wait_for_selector(f"#head-title[data-head='{name}']")
    assert page.evaluate("scrollY") > 0
    assert page.evaluate(in_sight)
    with visiting(browser, server[0], 390, 844) as phone:
        phone.locator('.hv-map .hv-cell[data-layer="1"][data-head="5"]').click()
        phone.wait_for_selector("#head-title[data-head='L1.H5']")
        phone.wait_for_function(in_sight)


def test_sentences_for_people_have_no_names_of_the_code(page):
    def told(selector: str) -> str:
        page.wait_for_selector(selector)
        return page.locator(selector).first.inner_text()

    sampling(page, tokens=500)
    change(page, "#prompt", "word " * 100)
    said = [told("#said .hv-error")]
    sampling(page, tokens=5)
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    settled(page)
    choosing(page)
    page.locator("#choose button:has-text('Options')").first.click()
    page.get_by_label("Atoms at most").fill("0")
    page.wait_for_timeout(300)  # a hand takes longer from a field to a button
    page.locator("#rank").click()
    said.append(told("#status .hv-error"))
    page.get_by_label("Atoms at most").fill("50")
    choose_model(page, "no-such-model")
    said.append(told("#summary .hv-error"))
    assert not [one for one in said if "_" in one or "--" in one or "Error" in one], said
    assert not page.locator(".toast-body").count()


def test_a_study_takes_any_model_and_any_data(page, tiny_model_folder, tmp_path):
    data = write_questions(tmp_path / "questions.tsv")
    page.get_by_role("tab", name="Studies").click()
    page.locator("#study-model input").fill(str(tiny_model_folder("llama")))
    page.locator("#study-model input").press("Enter")
    page.locator("#study-concept textarea").fill("colors")
    page.locator("#study-ks textarea").fill("1")
    page.locator("#study-limit input").fill("4")
    page.locator("#study-estimate").click()
    said = page.locator("#study-said .hv-error")
    said.wait_for()
    assert said.inner_text().startswith("Name the data: only tiny-lm has built-in data")
    page.locator("#study-data textarea").fill(str(data))
    page.locator("#study-limit input").fill("500")
    page.locator("#study-estimate").click()
    page.wait_for_selector("#study-said .hv-error:has-text('or a smaller “Samples”')")
    assert "--" not in page.locator("#study-said").inner_text()
    page.locator("#study-limit input").fill("4")
    page.locator("#study-estimate").click()
    page.wait_for_selector("#study-said:has-text('of them left: about')")


def test_where_others_visit_a_study_reads_no_file_of_the_server(browser, tmp_path):
    session = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm"])
    with serving(session) as (url, _), visiting(browser, url) as page:
        page.get_by_role("tab", name="Studies").click()
        page.locator("#study-run").wait_for()
        assert not page.locator("#study-data").count()
