"""Where two answers part, and how likely each word is there under many edits."""

import pytest
import torch

from headviz.base.head import Head
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.editing.parting import parting, probabilities
from headviz.heads import stem
from headviz.heads.edits import NO_EDIT, WHERE, Edit, applied, factor_table, places
from headviz.heads.forward import batch_of, read_on
from headviz.heads.prompts import encode_prompt

pytest_plugins = ["loaded"]

PROMPT = "the cat is red and the dog is"
HEADS = (Head(1, 0), Head(2, 1))
ALPHAS = (-3.0, -1.0, 0.0, 1.0, 2.5)


def step_by_step(model, prompt, said, edit):
    """The next token's distribution where what was said is read a token at a time, as it was."""
    table, cache = factor_table(model, [edit]), None
    with torch.inference_mode():
        batch = batch_of(model, [prompt], left=True)
        for token in [*said, None]:
            with applied(model, table, places([edit], batch)):
                logits, cache = read_on(model, batch, cache)
            if token is not None:
                batch = batch.following(torch.tensor([token]))
    return logits.float().softmax(1)[0]


@pytest.mark.parametrize("where", [name for name in WHERE if name != "image"])
def test_each_row_gives_what_the_same_words_give_one_by_one_under_its_edit(model, where):
    prompt = encode_prompt(model, PROMPT)
    said = encode_prompt(model, "two green fish").ids
    edits = [Edit.of(HEADS, alpha, where) for alpha in ALPHAS]
    tokens = [3, 7, 11]
    found = probabilities(model, prompt, said, tokens, edits)
    for row, edit in zip(found, edits, strict=True):
        expected = step_by_step(model, prompt, said, edit)[tokens]
        torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-6)
    assert (found[0] - found[3]).abs().max() > 1e-6, "the edit does nothing here"


def test_at_factor_1_edit_and_control_are_the_unedited_model(model):
    prompt = encode_prompt(model, PROMPT)
    edit = Edit.of(HEADS, 1.0)
    rows = [NO_EDIT, edit, control_of(model, edit)]
    unedited, edited, control = probabilities(model, prompt, [5], [1, 2], rows)
    assert torch.equal(edited, unedited) and torch.equal(control, unedited)
    torch.testing.assert_close(unedited, step_by_step(model, prompt, [5], NO_EDIT)[[1, 2]])


def test_rows_that_need_several_passes_are_the_same_as_in_one(llama, monkeypatch):
    prompt = encode_prompt(llama, PROMPT)
    edits = [Edit.of(HEADS, alpha) for alpha in ALPHAS]
    once = probabilities(llama, prompt, [5, 6], [3], edits)
    monkeypatch.setattr("headviz.heads.pooling.CPU_BATCH_TOKENS", 25)
    turns = []

    class Turn:
        def __enter__(self):
            turns.append(None)

        def __exit__(self, *_):
            pass

    torch.testing.assert_close(probabilities(llama, prompt, [5, 6], [3], edits, Turn), once)
    assert len(turns) > len(ALPHAS) // 2, "all rows were run while the lock was held once"


def test_a_model_whose_passes_cannot_be_taken_up_again_gives_the_same(llama, monkeypatch):
    prompt = encode_prompt(llama, PROMPT)
    edits = [Edit.of(HEADS, alpha, "generated") for alpha in ALPHAS]
    taken_up = probabilities(llama, prompt, [5, 6], [3], edits)
    monkeypatch.setattr(stem, "_MOST_BYTES", 0)
    torch.testing.assert_close(probabilities(llama, prompt, [5, 6], [3], edits), taken_up)


def ids_of(model, text):
    """As a model says it after a prompt."""
    return tuple(model.tokenizer(" " + text, add_special_tokens=False)["input_ids"])


def parted(model, original, edited):
    """Where two texts part, and what both say before."""
    found = parting(model, ids_of(model, original), ids_of(model, edited))
    return found, model.tokenizer.decode(found.said).strip()


def test_answers_part_at_the_first_token_that_is_another_one(llama):
    found, said = parted(llama, "the dog is red.", "the dog was red.")
    assert said == "the dog"
    assert (found.original.text, found.edited.text) == ("is", "was")
    assert found.original.token != found.edited.token
    assert llama.tokenizer.decode([found.original.token]).strip() == "is"


def test_an_answer_that_goes_on_parts_where_the_other_has_ended(llama):
    found, said = parted(llama, "the dog", "the dog is red")
    assert (said, found.original, found.edited.text) == ("the dog", None, "is")
    assert parted(llama, "the dog is red", "the dog")[0].edited is None


def test_answers_that_are_the_same_are_looked_at_at_their_first_word(llama):
    found, said = parted(llama, "dog is red", "dog is red")
    assert (said, found.original.text, found.edited) == ("", "dog", None)
    nothing = parting(llama, [], [])
    assert nothing.original is nothing.edited is None


def test_a_word_of_several_tokens_is_told_whole_and_decided_by_what_differs(llama):
    found, said = parted(llama, "the umpteen dog", "the umptar dog")
    assert said != "the", "this tokenizer has the words whole"
    assert (found.original.text, found.edited.text) == ("umpteen", "umptar")


def test_marks_around_a_word_are_not_told_but_where_they_alone_differ(llama):
    found, _ = parted(llama, "dog.", "red.")
    assert (found.original.text, found.edited.text) == ("dog", "red")
    found, _ = parted(llama, "the dog: red", "the dog. red")
    assert (found.original.text, found.edited.text) == (":", ".")


def test_the_token_that_an_edit_makes_likeliest_is_what_the_edited_answer_says(model):
    edit = Edit.of(HEADS, -3.0)
    *_, last = generate(model, [PROMPT] * 2, [NO_EDIT, edit], Sampling(max_new_tokens=4))
    found = parting(model, *last.ids)
    words = [word for word in (found.original, found.edited) if word is not None]
    if not words:
        pytest.skip("this tiny model says nothing that can be read")
    prompt = encode_prompt(model, PROMPT)
    table = probabilities(model, prompt, found.said, [w.token for w in words], [NO_EDIT, edit])
    if found.original is not None and found.edited is not None:
        assert found.original.token != found.edited.token
        assert table[0, 0] >= table[0, 1] and table[1, 1] >= table[1, 0]
