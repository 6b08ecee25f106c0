"""What changed is said in words: the first word that is another one, and what differs marked."""

import pytest

from headviz.page.answers import Change, first_change, words_marked


@pytest.mark.parametrize(
    ("text", "original", "expected"),
    [
        ("The ball is black.", "The ball is red.", Change("red", "black", 4)),
        ("a rich, deep red", "a rich deep blue", Change("blue", "red", 4)),
        ("yes.", "yes", Change("yes", "yes.", 1)),
        ("one two three", "one two", Change("", "three", 3)),
        ("one", "one two", Change("two", "", 2)),
        ("the same", "the same", None),
    ],
)
def test_the_first_word_that_is_another_one_is_named(text, original, expected):
    assert first_change(text, original) == expected


def test_what_differs_is_marked_and_whatever_a_model_says_is_escaped():
    marked = words_marked("it is <b>red</b> now", "it is blue now", ["red"])
    assert marked.count("<mark") == 1
    assert "<b>" not in marked and "&lt;b&gt;red" in marked
    assert words_marked("a, b", "a b", []) == "a, b"
