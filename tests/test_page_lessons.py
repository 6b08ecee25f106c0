"""The lessons as a pupil goes through them, in a real browser: look, guess, turn, explanation."""

import re

import pytest
from paging import ask, sampling, settled, slide

from headviz.base.assets import built_in_models
from headviz.page.lessons import lessons
from headviz.session.shipped import load_shipped

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


def its_samples_name_colors(page, said):
    samples = page.locator("#samples").inner_text()
    assert "pink ring" in samples and "pink cat" in samples


def its_spectrum_begins_with_months_alone(page, said):
    tokens = page.locator(".hv-spectrum code").all_inner_texts()
    months = ["November", "August", "September", "December", "February"]
    assert tokens[:5] == months and not {*tokens[5:]} & {"January", "March", "April", "October"}


def score_and_chance_are_those_of_the_question(page, said):
    facts = page.locator("#head .hv-facts-list").inner_text()
    assert re.search(r"score\s*63%\s*chance\s*29%\s*over chance\s*34%", facts)
    months = load_shipped("tiny-lm").ranking("months").heads
    (other,) = (one for one in months if str(one.head) == "L2.H55")
    assert (f"{other.score:.0%}", f"{other.chance:.0%}") == ("79%", "9%")


def the_knob_takes_the_color_away_and_brings_it_back(page, said):
    assert said == ["pink.", "black.", "pink."]
    slide(page, "#alpha", 1)
    assert settled(page) == ["pink.", "pink.", "pink."]
    slide(page, "#alpha", -1)
    assert settled(page) == said


def other_random_heads_leave_the_answer(page, said):
    assert said == ["Poland.", "Portugal.", "Poland."]
    for seed in (1, 2):
        sampling(page, control_seed=seed)
        assert settled(page) == said
        assert ask(page)["control_seed"] == seed


def one_head_follows_the_color_and_the_other_decides_it(page, said):
    assert said == ["pink.", "pink.", "pink."]
    page.locator("[data-remove='L4.H42']").click()
    page.locator('.hv-map .hv-cell[data-layer="0"][data-head="56"]').click()
    page.wait_for_selector("#head-title[data-head='L0.H56']")
    page.get_by_role("button", name="turn this head").click()
    assert settled(page) == ["pink.", "black.", "pink."]
    assert ask(page)["heads"] == {"L0.H56": -1}


CLAIMS = [
    its_samples_name_colors,
    its_spectrum_begins_with_months_alone,
    score_and_chance_are_those_of_the_question,
    the_knob_takes_the_color_away_and_brings_it_back,
    other_random_heads_leave_the_answer,
    one_head_follows_the_color_and_the_other_decides_it,
]
"""What is to be seen on the page in each lesson, in their order."""


def test_a_pupil_goes_from_the_first_lesson_to_the_last_and_each_shows_what_it_says(page):
    page.get_by_role("tab", name="Lessons").click()
    page.locator(".hv-lesson summary").first.click()
    for number, (lesson, claim) in enumerate(zip(lessons(), CLAIMS, strict=True)):
        card = page.locator(f".hv-lesson[data-lesson='{number}']")
        assert page.locator(".hv-lesson[open]").count() == 1
        assert card.get_by_text(lesson.look).is_visible()
        explained = card.get_by_text(lesson.explain)
        assert not explained.is_visible(), "it is explained before anybody has guessed"
        card.locator("[data-right=false]").first.click()
        assert card.locator(".hv-verdict").inner_text().startswith("No.")
        card.locator("[data-right=true]").click()
        assert card.locator(".hv-verdict").inner_text() == "Yes."
        assert explained.is_visible()
        card.locator("[data-open]").click()
        page.wait_for_selector(f"#banner:has-text('Lesson {number + 1}: {lesson.title}')")
        page.wait_for_selector(f"#head-title[data-head='{lesson.head}']")
        assert lesson.turn in page.locator("#banner").inner_text()
        said = settled(page)
        assert ask(page)["heads"] == lesson.heads
        claim(page, said)
        page.locator("#banner summary").click()
        assert page.locator("#banner").get_by_text(lesson.explain).is_visible()
        page.locator("#banner [data-next]").click()
        page.locator("#lessons").wait_for()
    assert page.locator(".hv-done").all_inner_texts() == ["✓ done"] * len(lessons())
