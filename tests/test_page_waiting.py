"""What the page shows while something takes long: where it is, the time left, what ships."""

import threading
import time

import pytest
from paging import (
    ask,
    change,
    choose_model,
    choosing,
    pick,
    serving,
    settled,
    texts,
    visiting,
)

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.inputs.examples import named_pictures
from headviz.session import session as sessions
from headviz.session.session import Session
from headviz.session.shipped import load_shipped

if not {"tiny-lm", "tiny-vlm"} <= {*built_in_models()}:
    pytest.skip("the built-in models are not trained yet", allow_module_level=True)

SEES = "tiny-vlm"


def test_reading_tells_text_and_time_left_and_a_stop_that_it_is_stopping(browser, tmp_path):
    session = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm"])
    goes_on, is_wanted, is_held = (threading.Event() for _ in range(3))

    def slowly(*_) -> None:
        time.sleep(0.2)
        if is_wanted.is_set():
            is_held.set()
            assert goes_on.wait(120)

    with serving(session) as (url, _), visiting(browser, url) as page:
        layer = session.model("tiny-lm").layers[0].register_forward_pre_hook(slowly)
        choosing(page)
        change(page, "#words textarea", "one, two, six, ten")
        page.locator("#rank").click()
        page.wait_for_function(
            r"""/reading heads, text \d+ of 240 · \d+% · \d+ (s|min) left/.test(
                document.querySelector('#status').innerText)"""
        )
        bar = page.locator("#status progress")
        assert 0 < float(bar.get_attribute("value")) < 1 and bar.get_attribute("aria-label")
        is_wanted.set()
        assert is_held.wait(60)  # in the midst of texts: it cannot stop at once
        page.locator("#stop-rank").click()
        page.wait_for_selector("#status:has-text('stopping')")
        goes_on.set()
        page.wait_for_selector("#status:has-text('What was read is kept')")
        assert not page.locator("#status .hv-error").count(), "a stop is no error"
        layer.remove()


@pytest.fixture
def slow_disk(monkeypatch):
    """Weights come only once the event is set."""
    is_here, really = threading.Event(), sessions.open_model

    def open_model(*args):
        assert is_here.wait(120)
        return really(*args)

    monkeypatch.setattr(sessions, "open_model", open_model)
    yield is_here
    is_here.set()


def expected(concept: str) -> tuple[list[str], tuple[str, ...]]:
    """The three texts that ship for the concept, and hashes of the pictures they are about."""
    trial = load_shipped(SEES).answer(concept).trial
    pictures = named_pictures(SEES, trial.pictures)
    return [c.text.strip() for c in trial.texts], tuple(p.digest for p in pictures)


def test_a_model_that_sees_shows_a_finished_example_before_its_weights_are_read(
    browser, tmp_path, slow_disk
):
    session = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm", SEES])
    shown, pictures = expected("colors")
    with serving(session) as (url, _), visiting(browser, url) as page:
        choose_model(page, SEES)
        page.wait_for_selector(f"#headline:has-text('{SEES}')")
        assert settled(page) == shown
        assert ask(page)["pictures"] == [*pictures]
        page.locator("#pictures .caption-label").wait_for()
        assert not session.has_loaded(SEES), "its weights were read"
        page.wait_for_selector("#clearest:has-text('The clearest case')")
        # What somebody does meanwhile stays when the weights come.
        page.locator("#up").click()
        page.wait_for_function("Object.values(headviz.state.ask.heads)[0] === 3")
        assert not page.locator("#clearest").text_content(), "that was about another edit"
        slow_disk.set()
        page.wait_for_selector("#summary:has-text('256 heads')")
        after = settled(page)
        assert {*ask(page)["heads"].values()} == {3}
        assert after[0] == shown[0] and after[1] != shown[1]
        assert page.locator("#edits").inner_text() == "1 edit"


def test_opened_by_its_name_it_shows_the_same_and_other_concepts_theirs(
    browser, tmp_path, slow_disk
):
    session = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm", SEES])
    with serving(session) as (url, _), visiting(browser, f"{url}?model={SEES}") as page:
        page.wait_for_selector(f"#headline:has-text('{SEES}')")
        assert settled(page) == expected("colors")[0]
        own = ask(page)["pictures"]
        answers = load_shipped(SEES).answers("sizes")
        fitting = [a for a in answers if [*digests(a)] == own]
        assert fitting, "no answer about sizes is on the first picture"
        pick(page, "concept", "sizes")
        page.wait_for_selector("#headline:has-text('izes')")
        assert settled(page) == [c.text.strip() for c in fitting[0].trial.texts]
        assert ask(page)["pictures"] == own, "the picture is another one"
        assert not session.has_loaded(SEES)
        assert texts(page)


def digests(answer) -> list[str]:
    return [picture.digest for picture in named_pictures(SEES, answer.trial.pictures)]
