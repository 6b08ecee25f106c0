"""How likely the word that matters is at every factor: drawn above the knob once all is quiet."""

import threading
import time

import pytest
from paging import DRAWN, ask, change, drawn, sampling, serving, settled, visiting

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.editing.parting import probabilities
from headviz.heads.edits import NO_EDIT
from headviz.heads.prompts import encode_prompt
from headviz.page.ask import Ask
from headviz.page.curve import answered, curve
from headviz.page.ribbon import ALPHAS
from headviz.page.shared import Result
from headviz.session.session import Session

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

TOMATO = "Question: What is the usual color of a tomato? Answer:"


def test_the_curve_is_that_of_the_library_and_is_told_in_a_sentence(page, server):
    session = server[1]
    change(page, "#prompt", TOMATO)
    original, edited, _ = settled(page)
    found = drawn(page)
    assert found["words"] == [original.strip("."), edited.strip(".")]
    asked = Ask.from_dict(ask(page))
    fresh = curve(session, asked, None, lambda *_: None)
    for part in ("edited", "control", "now"):
        for row, other in zip(found[part], fresh[part], strict=True):
            assert row == pytest.approx(other, abs=2e-3)
    # At factor 1 nothing is edited.
    model, as_is = session.model("tiny-lm"), ALPHAS.index(1.0)
    word = model.tokenizer(" " + original.strip("."), add_special_tokens=False)["input_ids"][0]
    prompt = encode_prompt(model, TOMATO)
    ((plain,),) = probabilities(model, prompt, [], [word], [NO_EDIT]).tolist()
    assert found["edited"][as_is][0] == pytest.approx(plain, abs=2e-3)
    assert found["control"][as_is][0] == pytest.approx(plain, abs=2e-3)
    # At the ask's factor it is the point of that factor.
    assert found["now"][0] == pytest.approx(found["edited"][ALPHAS.index(-1.0)], abs=2e-3)
    told = page.locator("#curve-told").inner_text()
    assert f"“{found['words'][0]}”" in told and "at α = −1" in told
    assert f"{round(plain * 100)}% as the model is" in told
    picture = page.locator(".hv-slide svg[role=img]")
    assert picture.get_attribute("aria-label") == told
    assert picture.locator("polyline").count() == 2
    assert page.locator("#alpha").get_attribute("aria-describedby") == "curve-told"


def test_its_axis_is_that_of_the_knob(page):
    change(page, "#prompt", TOMATO)
    settled(page)
    drawn(page)
    alphas = (-3, 1, 8)
    # In one go: an answer that comes in between has a curve of its own.
    seen = page.evaluate(
        """alphas => alphas.map(alpha => {
            const knob = document.querySelector('#alpha');
            knob.value = alpha;
            knob.dispatchEvent(new Event('input', {bubbles: true}));
            return ['.hv-likely .knob', '#alpha'].map(one =>
                document.querySelector(one).getBoundingClientRect().toJSON()).concat(
                document.querySelector('#curve-told').textContent);
        })""",
        alphas,
    )
    for alpha, (line, track, told) in zip(alphas, seen, strict=True):
        edge = 8  # half a knob
        wide = track["width"] - 2 * edge
        expected = track["x"] + edge + (alpha + 3) / 11 * wide
        assert line["x"] + line["width"] / 2 == pytest.approx(expected, abs=1.5)
        assert f"at α = {alpha}".replace("-", "−") in told
    settled(page)


def test_for_the_curve_alone_no_weights_are_read(browser, tmp_path, monkeypatch):
    heard, opened = threading.Event(), []

    class Noted(Ask):
        @classmethod
        def from_dict(cls, data):
            heard.set()
            return Ask.from_dict(data)

    session = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm"])
    with serving(session) as (url, _), visiting(browser, url) as page:
        settled(page)
        monkeypatch.setattr("headviz.page.curve.Ask", Noted)
        monkeypatch.setattr(session, "model", lambda name, *_: opened.append(name))
        page.evaluate("headviz.askCurve()")  # what the page does not do by itself here
        assert heard.wait(60)
        page.wait_for_timeout(1000)
        assert not opened
        assert not page.locator(DRAWN).count()


def test_a_curve_goes_with_its_question_and_comes_back_with_it(page):
    change(page, "#prompt", TOMATO)
    settled(page)
    before = drawn(page)
    change(page, "#prompt", "Question: What color is a lemon? Answer:")
    assert not page.locator(DRAWN).count(), "the curve of another question is still there"
    settled(page)
    drawn(page)
    page.locator("#alpha").focus()
    page.keyboard.press("Control+z")
    settled(page)
    assert drawn(page) == before


def test_an_answer_asked_for_while_a_curve_is_made_comes_and_the_curve_follows_it(page, server):
    model = server[1].model("tiny-lm").model
    passes = []

    def note(module, args, kwargs) -> None:
        time.sleep(0.05)
        passes.append(len(kwargs["input_ids"]))

    sampling(page, tokens=6)
    change(page, "#prompt", TOMATO)
    settled(page)
    drawn(page)
    slowly = model.register_forward_pre_hook(note, with_kwargs=True)
    page.evaluate("headviz.setAll(-2, 'alpha', 0)")
    settled(page)
    page.evaluate("headviz.askCurve(); headviz.setAll(5, 'down', 0)")
    settled(page)
    slowly.remove()
    assert {*drawn(page)["ask"]["heads"].values()} == {5}
    assert passes


def test_an_answer_that_is_not_at_hand_is_written_anew_for_the_curve(server):
    session = server[1]
    asked = Ask.from_dict({**Ask("tiny-lm", TOMATO, NO_EDIT).as_dict(), "heads": {"L0.H51": -1}})
    assert answered(None, asked) is None
    other = Result(Ask("tiny-lm", "else", NO_EDIT), (object(),))
    assert answered(other, asked) is None
    assert curve(session, asked, None, lambda *_: None)["words"]
