"""The texts for any language model are true to their card, and the toy world's stay at home."""

import json
from collections import Counter
from pathlib import Path

import pytest

from headviz.base import assets
from headviz.base.errors import UnknownName
from headviz.inputs.concepts import known_concepts
from headviz.inputs.prompt_sets import (
    GENERAL,
    default_prompt_sets,
    find_prompt_set,
    general_prompt_sets,
    known_prompt_sets,
)

FOLDER = assets.ASSETS / "prompt_sets"
KEYS = {
    "questions": ["prompt", "answer", "concept"],
    "descriptions": ["prompt", "concept"],
    "tasks": ["prompt"],
}
ROWS = {
    name: [
        json.loads(line)
        for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for name in GENERAL
}
PRESETS = {c.name: {w.lower() for w in c.words} for c in known_concepts().values()}
ASKED = dict.fromkeys(row["concept"] for row in ROWS["questions"] if row["concept"] != "other")
# A preset that somebody adds needs no questions of its own.
WORDS = {concept: words for concept, words in PRESETS.items() if concept in ASKED}
QUESTIONS = {
    concept: [row for row in ROWS["questions"] if row["concept"] == concept]
    for concept in (*WORDS, "other")
}
ELSEWHERE = ["some/model", "gpt2", "tiny", "/no/such/folder"]


@pytest.mark.parametrize("name", GENERAL)
def test_every_line_is_read_as_it_is_written(name):
    rows = ROWS[name]
    assert find_prompt_set(name, "some/model").texts == tuple(row["prompt"] for row in rows)
    for row in rows:
        assert list(row) == KEYS[name], row
        assert all(value == value.strip() for value in row.values()), row
        assert row["prompt"].isprintable() and "  " not in row["prompt"], row


def test_no_text_stands_twice():
    counts = Counter(row["prompt"].lower() for rows in ROWS.values() for row in rows)
    assert [text for text, times in counts.items() if times > 1] == []


def test_the_card_counts_the_lines():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, least in (("questions", 420), ("descriptions", 210), ("tasks", 110)):
        assert len(ROWS[name]) >= least
        assert f"| `{name}.jsonl` | {len(ROWS[name])} |" in card
    of_presets = len(ROWS["questions"]) - len(QUESTIONS["other"])
    listed = sum(row["answer"].lower() in WORDS[c] for c in WORDS for row in QUESTIONS[c])
    assert f"({listed} of {of_presets} as they stand there" in card
    assert f"{len(QUESTIONS['other'])} questions have answers that belong to no preset" in card


def test_what_is_asked_about_are_presets():
    assert len(ASKED) >= 22
    assert set(ASKED) <= set(PRESETS)


@pytest.mark.parametrize("concept", WORDS)
def test_every_preset_is_asked_about_and_its_words_are_the_answers(concept):
    questions = QUESTIONS[concept]
    assert len(questions) >= 20
    answers = [row["answer"].lower() for row in questions]
    assert all(1 <= len(answer.split()) <= 3 for answer in answers)
    assert sum(answer in WORDS[concept] for answer in answers) >= 0.6 * len(answers)
    # One answer for all would show a head for that word, not for the concept.
    assert max(Counter(answers).values()) <= len(answers) / 4
    assert sum(row["concept"] == concept for row in ROWS["descriptions"]) >= 8


def test_the_other_questions_have_no_presets_word_as_their_answer():
    assert len(QUESTIONS["other"]) >= 40
    every = set().union(*WORDS.values())
    assert [row for row in QUESTIONS["other"] if row["answer"].lower() in every] == []


@pytest.mark.parametrize(("name", "of_none"), [("questions", "other"), ("descriptions", "")])
def test_every_line_names_a_preset_or_none_and_the_first_lines_touch_every_one(name, of_none):
    concepts = [row["concept"] for row in ROWS[name]]
    assert set(concepts) == {*WORDS, of_none}
    assert set(concepts[: len(WORDS) + 1]) == {*WORDS, of_none}
    for concept in WORDS:
        half = concepts[: len(concepts) // 2].count(concept)
        assert abs(half - concepts.count(concept) / 2) <= 1, concept


def test_a_question_ends_as_one_and_an_opening_is_left_open():
    for row in ROWS["descriptions"]:
        assert 5 <= len(row["prompt"].split()) <= 15, row
        assert row["prompt"][-1] not in ".?!\"'", row
    asked = [row["prompt"] for row in ROWS["questions"]]
    assert sum(prompt.endswith("?") for prompt in asked) >= 0.9 * len(asked)
    assert all(prompt[-1] in "?." for prompt in asked)
    openings = Counter(" ".join(prompt.split()[:3]).lower() for prompt in asked)
    assert max(openings.values()) <= len(asked) / 20  # not one template with slots


@pytest.mark.parametrize("model", ELSEWHERE)
def test_a_language_model_of_others_is_offered_the_general_texts_and_no_toy_ones(model):
    offered = default_prompt_sets(model)
    assert list(offered) == list(GENERAL)
    assert {path.parent for path in offered.values()} == {FOLDER}
    assert known_prompt_sets(model) == offered
    assert find_prompt_set(None, model) == find_prompt_set("questions", model)
    with pytest.raises(UnknownName, match=r"Known: questions, descriptions, tasks\. Or name"):
        find_prompt_set("stories", model)


def test_tiny_lm_keeps_its_own_and_gets_a_general_one_only_by_its_name():
    own = assets.ASSETS / "tiny-lm" / "prompt_sets"
    offered = default_prompt_sets("tiny-lm")
    assert {path.parent for path in offered.values()} == {own}
    assert find_prompt_set(None, "tiny-lm").texts[0].startswith(("Story:", "Question:"))
    assert find_prompt_set("questions", "tiny-lm") == find_prompt_set(None, "tiny-lm")
    assert find_prompt_set("tasks", "tiny-lm") == find_prompt_set("tasks", "some/model")
    assert list(known_prompt_sets("tiny-lm")) == [*offered, "descriptions", "tasks"]


@pytest.mark.parametrize("model", ["tiny-vlm", "some/seeing-model"])
def test_a_model_that_sees_is_offered_pictures_alone(model):
    known = known_prompt_sets(model, has_vision=True)
    assert known and known == default_prompt_sets(model, has_vision=True)
    assert not {*known.values()} & {*general_prompt_sets().values()}
    assert all(Path(path).suffix != ".jsonl" for path in known.values())
