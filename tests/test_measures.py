"""Counting words, the first difference, repetition, and what a text costs the unedited model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headviz.editing.measures import (
    concept_spans,
    first_difference,
    repetition,
    surprise,
    surprises,
)
from headviz.heads.capture import encode_prompt

pytest_plugins = ["loaded"]


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("Red, red and reddish", ["red"], ["Red", "red"]),
        ("dark blue and blue", ["blue", "dark blue"], ["dark blue", "blue"]),
        ("the C++ of C", ["C", "C++"], ["C++", "C"]),
        ("a.b", ["a", "."], ["a"]),
        ("fünf, ÜBER", ["fünf", "über", "f"], ["fünf", "ÜBER"]),
        ("red", [], []),
        ("red", ["", " "], []),
        ("", ["red"], []),
    ],
)
def test_a_concepts_words_are_found_whole_in_either_case_the_longest_first(text, words, found):
    assert [text[span.start : span.stop] for span in concept_spans(text, words)] == found


words = st.lists(st.sampled_from("abc"), max_size=6)


@given(words, words)
def test_the_first_difference_is_the_first_word_that_is_not_the_same(one, other):
    number = first_difference(" ".join(one), " \n".join(other))
    if number is None:
        assert one == other
    else:
        assert one[: number - 1] == other[: number - 1]
        assert one[number - 1 : number] != other[number - 1 : number]


def test_repetition_is_0_without_and_near_1_in_a_loop():
    assert repetition("a b c d e f") == 0
    assert repetition("too short") == 0
    assert repetition("go on " * 50) > 0.9
    assert repetition("a b c a B c") == pytest.approx(1 / 4)


def test_surprise_is_the_models_own_perplexity_of_the_continuation(model):
    prompt = encode_prompt(model, "the cat is red")
    continuations = [(20, 30, 40, 50), (), (7,), (20, 30, 40, 50)]
    values = surprise(model, prompt, continuations)
    assert values[1] is None
    for ids, value in zip(continuations, values, strict=True):
        if ids:
            row = torch.tensor([[*prompt.ids, *ids]])
            labels = row.clone()
            labels[:, : len(prompt.ids)] = -100
            with torch.no_grad():
                expected = model.model(input_ids=row, labels=labels).loss.exp().item()
            assert value == pytest.approx(expected, rel=1e-4)


def test_several_prompts_read_together_are_as_surprising_as_each_alone(model):
    asked = [
        (encode_prompt(model, "the cat is red"), [(20, 30, 40, 50), (), (7,)]),
        (encode_prompt(model, "what color has the house and the bird"), [(7, 9)]),
        (encode_prompt(model, "the cat is red"), [(20, 30, 40, 50), (8, 8, 8)]),
    ]
    together = surprises(model, asked)
    for (prompt, continuations), values in zip(asked, together, strict=True):
        alone = surprise(model, prompt, continuations)
        assert [v is None for v in values] == [v is None for v in alone]
        pairs = [(a, b) for a, b in zip(values, alone, strict=True) if b is not None]
        assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=1e-4)
