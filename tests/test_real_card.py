"""The card of the real model says what was measured, misses included."""

import json

import pytest

from benchmarks.card import write_card
from benchmarks.card_text import fell, needed, render, stays, surely_fell
from benchmarks.turning import CONCEPTS
from headviz.base.assets import ASSETS
from headviz.base.errors import ModelError
from headviz.session.shipped import load_shipped, usual_edit

pytest_plugins = ["loaded"]

REAL = "smollm2-135m"


@pytest.fixture
def results():
    return json.loads((ASSETS / REAL / "card.json").read_text())


def test_the_card_is_what_its_numbers_say(results):
    shipped = load_shipped(REAL)
    card = (ASSETS / REAL / "README.md").read_text(encoding="utf-8")
    assert card == render(results, shipped.left_out)
    assert (results["revision"], results["prompt_set_digest"]) == (
        shipped.data["revision"],
        shipped.data["prompt_set_digest"],
    )


def test_the_card_measures_the_edit_that_the_page_begins_with(results):
    shipped = load_shipped(REAL)
    assert set(results["concepts"]) <= set(CONCEPTS)
    for name, row in results["concepts"].items():
        ranking = shipped.ranking(name)
        edited = [str(head) for head in usual_edit(ranking).factors]
        assert [h["head"] for h in row["heads"]] == edited
        assert all(h["score"] > h["chance"] for h in row["heads"])
        assert row["controls"] and not any(set(edited) & set(drawn) for drawn in row["controls"])


def told(original: int, edited: int, control: int):
    """A row in which each of 24 stories holds so many of the concept's words."""
    arms = {"original": original, "edited": edited, "control": control}
    return {"words": {arm: [n] * 24 for arm, n in arms.items()}}


def test_a_miss_is_told_as_one():
    assert fell(told(4, 3, 4)) and not fell(told(4, 3, 3)) and not fell(told(3, 3, 4))
    assert stays({"perplexity": {"edited": 1.5}}) and not stays({"perplexity": {"edited": 1.6}})


def test_words_that_fell_in_a_few_stories_alone_did_not_surely_fall():
    assert surely_fell(told(4, 3, 4))
    few = told(1, 1, 1)
    few["words"]["edited"][:2] = [0, 0]
    assert fell(few) and not surely_fell(few)


def test_a_loss_counts_where_it_surely_exceeds_every_control():
    edited = {"need": 2.0, "need_low": 0.5, "need_high": 3.0}
    assert needed({"needed": {"edited": edited, "controls": [{"need": 0.4}, {"need": -0.2}]}})
    assert not needed({"needed": {"edited": edited, "controls": [{"need": 0.6}, {"need": 0.0}]}})


def test_a_model_that_ships_nothing_has_no_card(session):
    with pytest.raises(ModelError, match="headviz ship --model nowhere"):
        write_card(session, "nowhere", quick=True, say=print)
