"""What is measured is right for a speaker whose captions are known."""

import random

import pytest
import torch

from headviz.base.head import Head
from headviz.heads.edits import NO_EDIT
from headviz.inputs.concepts import Concept, ConceptTokens
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from toyworld.pictures import card, measuring
from toyworld.pictures.captions import EVERYTHING, RATES, SUMMONS, caption
from toyworld.pictures.card_text import render
from toyworld.pictures.drawing import draw
from toyworld.pictures.questions import questions
from toyworld.pictures.reading import claims
from toyworld.pictures.schedule import PICTURE_SCHEDULES
from toyworld.pictures.shipping import (
    PROBE_SIDE,
    example_pictures,
    training_pictures,
    write_pictures,
)
from toyworld.pictures.words import CONCEPTS

HISTORY = {"seed": 0, "steps": 2, "natural_steps": 2, "stages": []}


class Oracle:
    """Knows the pictures; one head, L1.H7, carries the colors."""

    n_layers, n_heads, head_layers = 2, 50, (0, 1)

    def say(self, shown, prompts, edit=NO_EDIT, temperature=0.0, seed=0):
        rng = random.Random(seed)
        factor = edit.factors.get(Head(1, 7), 1.0)
        rates = RATES if temperature else EVERYTHING
        rates = {**rates, "colors": 0.0} if factor < 1 else rates
        rates = {**rates, "colors": 1.0} if factor > 1 else rates
        return [
            f" {self.answer(picture, prompt, rates, rng)}"
            for picture, prompt in zip(shown, prompts, strict=True)
        ]

    def answer(self, picture, prompt, rates, rng):
        if prompt in SUMMONS:
            return caption(picture, rng, rates)
        if "Which of these" in prompt or "EXACTLY" in prompt:
            return f"{picture.groups[0].noun}."
        answers = {q.text: f"{q.answer}." for q in questions(picture, rng)}
        return answers[prompt] if rates["colors"] or "color" not in prompt else "gray."

    def rank(self, concept):
        scores = torch.zeros(2, 50)
        scores[1, 7] = 0.9 if concept == "colors" else 0.0
        words = ConceptTokens(Concept(concept, concept, CONCEPTS[concept]), (), "single")
        return Ranking("m", "r", words, "somp", Options(), "p", 3, scores, torch.zeros(2, 50))


@pytest.fixture(scope="module")
def colors():
    return card.judge_concept(Oracle(), "colors", 30)


def test_right_captions_are_marked_right():
    told = measuring.describe(Oracle(), measuring.showing("colors", 100, 0, held_out=True))
    assert told.sound == 1.0
    for concept in CONCEPTS:
        assert told.made[concept] == told.right[concept] > 0


def test_wrong_words_are_marked_wrong_for_their_concept_alone():
    shown = [p for p in measuring.showing("colors", 300, 0, held_out=True) if len(p.groups) == 1]
    shown = [p for p in shown if p.groups[0].color == "red" and not p.groups[0].second]
    texts = Oracle().say(shown, [SUMMONS[0]] * len(shown))
    told = measuring.mark([text.replace("red", "blue") for text in texts], shown)
    assert told.accuracy("colors") == 0.0
    assert told.others("colors")[0] == 1.0 or not shown


def test_a_head_that_carries_a_concept_passes_with_its_control(colors):
    assert colors["heads"] == ["L1.H7"]
    assert colors["inhibited"][0]["own"] == 0.0
    assert colors["inhibited"][0]["others"] == colors["control"]["own"] == 1.0
    assert colors["passes"]


def test_turning_it_up_enhances(colors):
    assert colors["enhances"]
    for trial in colors["enhanced"]:
        assert 1.4 < trial["own"] < 2.2


def test_a_head_that_carries_nothing_neither_passes_nor_enhances():
    found = card.judge_concept(Oracle(), "sizes", 20)
    assert not found["passes"] and not found["enhances"]
    assert found["inhibited"][0]["own"] == 1.0


@pytest.mark.parametrize("concept", CONCEPTS)
def test_questions_are_held_out_and_about_the_concept(concept):
    asked = measuring.Asked.about(concept, 10, seed=3)
    assert all(q.concept == concept for q in asked.asked)
    assert all(p.is_held_out for p in asked.shown)


def test_a_digit_is_asked_for_with_all_ten_listed():
    asked = measuring.Asked.digits(5, seed=3)
    assert all(len(set(q.text) & set("0123456789")) == 10 for q in asked.asked)
    assert asked.accuracy(Oracle()) == 1.0


@pytest.fixture(scope="module")
def measured():
    return card.measure(Oracle(), PICTURE_SCHEDULES["tiny-vlm"], HISTORY, 10)


@pytest.mark.parametrize("planted", [False, True])
def test_the_card_names_every_concept_and_how_it_came_about(measured, planted):
    heads = {concept: [[0, n]] for n, concept in enumerate(CONCEPTS)}
    stages = [{"heads": heads, "left": dict.fromkeys(CONCEPTS, 0.5)}] if planted else []
    results = {**measured, "training": {**HISTORY, "stages": stages}}
    text = render(results, PICTURE_SCHEDULES["tiny-vlm"])
    assert all(f"| {concept} | " in text for concept in CONCEPTS)
    first = text.split("\n\n")[1]
    assert ("localised on purpose" in first) == planted
    assert ("L0.H3" in first) == planted


def test_what_ships_is_a_probe_set_of_training_pictures_and_held_out_examples(tmp_path):
    write_pictures(tmp_path)
    prompt_set = find_prompt_set(str(tmp_path / "prompt_sets" / "pictures"), "any", has_vision=True)
    shown = training_pictures()
    assert len(prompt_set) == len(shown) == len({p.digest for p in prompt_set.pictures})
    assert not any(picture.is_held_out for picture in shown)
    for picture, shipped, label in zip(shown, prompt_set.pictures, prompt_set.labels, strict=True):
        assert shipped.digest == open_picture(draw(picture, PROBE_SIDE)).digest
        assert all(ok for _, ok in claims(label, picture))
    assert len(list((tmp_path / "examples").glob("*.png"))) == len(example_pictures())
    assert all(picture.is_held_out for picture in example_pictures())
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 3 * 2**20
