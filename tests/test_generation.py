"""Streams of one batch: what is sampled, when they end, what they refuse. Exactness: test_laws."""

import copy
import threading
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny_models import CONTEXT

from headviz.base.errors import OptionError, PromptError
from headviz.base.head import Head
from headviz.editing.compare import CompareRequest, Stretch, compare, last_of
from headviz.editing.control import control_of
from headviz.editing.generate import MAX_NEW_TOKENS, Sampling, _choose, generate
from headviz.editing.measures import surprise
from headviz.heads import rows
from headviz.heads.capture import encode_prompt
from headviz.heads.edits import NO_EDIT, Edit

pytest_plugins = ["loaded"]

PROMPT = "the cat is red and the dog is"
EDIT = Edit({Head(0, 1): -1.0, Head(1, 3): 5.0})
SAMPLED = Sampling(max_new_tokens=12, temperature=1.0, seed=3)


def last(streams):
    *_, final = streams
    return final


# Sampling.


def test_rows_with_the_same_edit_sample_the_same_words(llama):
    end = last(generate(llama, [PROMPT] * 3, [EDIT, NO_EDIT, EDIT], SAMPLED))
    assert end.ids[0] == end.ids[2] != end.ids[1]


def test_a_seed_says_the_same_again_and_another_says_something_else(llama):
    said = [
        last(generate(llama, [PROMPT], [NO_EDIT], replace(SAMPLED, seed=seed))).ids
        for seed in (1, 1, 2)
    ]
    assert said[0] == said[1] != said[2]


def test_an_edit_that_changes_nothing_samples_what_the_original_samples(llama):
    ones = Edit({Head(0, 0): 1.0})
    end = last(generate(llama, [PROMPT] * 2, [NO_EDIT, ones], SAMPLED))
    assert end.ids[0] == end.ids[1]


def test_samples_follow_the_models_own_probabilities():
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(0))
    expected = (logits[0] / 0.7).softmax(0)
    noise, sampling, n = torch.Generator().manual_seed(0), Sampling(temperature=0.7), 5000
    drawn = torch.stack([_choose(logits, sampling, noise)[0] for _ in range(n)])
    shares = drawn.bincount(minlength=30) / n
    assert ((shares - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt() + 1 / n).all()


def test_a_low_temperature_says_the_most_likely(llama):
    greedy = last(generate(llama, [PROMPT], [EDIT], Sampling(max_new_tokens=8)))
    cold = last(generate(llama, [PROMPT], [EDIT], Sampling(8, temperature=1e-4)))
    assert cold.ids == greedy.ids


# The end.


def ending(model, token):
    """The model, for which `token` means the end of text."""
    changed = replace(model, model=copy.deepcopy(model.model))
    changed.model.generation_config.eos_token_id = [token, 1]
    return changed


def test_each_row_ends_at_its_own_end_of_text(llama):
    sampling = Sampling(max_new_tokens=10)
    free = last(generate(llama, [PROMPT] * 2, [NO_EDIT, EDIT], sampling)).ids
    token = next(t for t in free[0][2:] if t not in free[1] and t not in free[0][:2])
    streams = list(generate(ending(llama, token), [PROMPT] * 2, [NO_EDIT, EDIT], sampling))
    end = streams[-1]
    assert end.ids[0] == free[0][: free[0].index(token)]
    assert end.ids[1] == free[1]
    assert streams[free[0].index(token)].done == (True, False)
    assert end.done == (True, True)


def test_a_run_stops_once_every_row_has_ended(llama):
    first = last(generate(llama, [PROMPT], [NO_EDIT], Sampling(max_new_tokens=1))).ids[0][0]
    streams = list(generate(ending(llama, first), [PROMPT], [NO_EDIT], Sampling(50)))
    assert len(streams) == 1
    assert (streams[0].texts, streams[0].ids, streams[0].done) == (("",), ((),), (True,))


def test_one_token_a_turn_up_to_the_length_asked_for(llama):
    streams = list(generate(llama, [PROMPT], [EDIT], Sampling(max_new_tokens=7)))
    assert [len(s.ids[0]) for s in streams] == list(range(1, 8))
    assert [s.done for s in streams] == [(False,)] * 6 + [(True,)]
    for before, after in pairwise(streams):
        assert after.ids[0][:-1] == before.ids[0]
    assert streams[-1].texts[0] == llama.tokenizer.decode(streams[-1].ids[0])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_prompt_and_answer_may_fill_the_context_and_not_a_token_more(load, family):
    model = load(family)
    n_prompt = len(encode_prompt(model, PROMPT).ids)
    fits = Sampling(max_new_tokens=CONTEXT - n_prompt)
    assert last(generate(model, [PROMPT], [EDIT], fits)).done == (True,)
    with pytest.raises(PromptError, match=rf"reads at most {CONTEXT}\. Shorten it"):
        generate(model, [PROMPT], [EDIT], replace(fits, max_new_tokens=fits.max_new_tokens + 1))


# The lock.


@contextmanager
def counted(held):
    held.append(True)
    yield
    held.pop()


def test_the_lock_is_held_for_a_token_and_never_while_the_consumer_thinks(llama, monkeypatch):
    held, seen = [], []
    forward = llama.model.forward
    monkeypatch.setattr(
        llama.model, "forward", lambda **inputs: (seen.append(len(held)), forward(**inputs))[1]
    )
    stream = generate(llama, [PROMPT], [EDIT], Sampling(5), lock=lambda: counted(held))
    for _ in stream:
        assert held == []
    assert seen == [1] * 5


def test_a_closed_stream_leaves_the_lock_free_for_another_thread(session, llama):
    stream = session.compare(llama.name, CompareRequest(PROMPT, EDIT))
    next(stream)
    stream.close()
    taken = []
    other = threading.Thread(target=lambda: taken.append(session.lock.acquire(timeout=5)))
    other.start()
    other.join()
    assert taken == [True]


def test_a_broken_forward_pass_leaves_the_lock_free(llama, monkeypatch):
    lock = threading.Lock()

    def broken(**_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(llama.model, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(generate(llama, [PROMPT], [EDIT], Sampling(5), lock=lambda: lock))
    assert lock.acquire(blocking=False)


# What is refused before the first token.


@pytest.mark.parametrize(
    ("prompt", "edit", "error", "message"),
    [
        ("", EDIT, PromptError, "The prompt is empty"),
        (" \n", EDIT, PromptError, "The prompt is empty"),
        (" red" * 500, EDIT, PromptError, "Shorten it"),
        (PROMPT, Edit({Head(9, 0): 0.0}), OptionError, "There is no head L9.H0"),
        (PROMPT, Edit({Head(0, 4): 0.0}), OptionError, "There is no head L0.H4"),
    ],
)
def test_bad_input_is_refused_before_the_first_token(llama, prompt, edit, error, message):
    with pytest.raises(error, match=message):
        generate(llama, [prompt], [edit])
    with pytest.raises(error, match=message):
        compare(llama, CompareRequest(prompt, edit))


def test_a_control_that_cannot_be_drawn_is_refused_before_the_first_token(llama):
    most = Edit.of([Head(n // 4, n % 4) for n in range(7)], 0.0)  # of 12
    with pytest.raises(OptionError, match="too few are left for a random control"):
        compare(llama, CompareRequest(PROMPT, most))
    assert last_of(compare(llama, CompareRequest(PROMPT, most, control=False))).done


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"max_new_tokens": 0}, f"max_new_tokens is 0; choose 1 to {MAX_NEW_TOKENS}"),
        ({"max_new_tokens": MAX_NEW_TOKENS + 1}, f"choose 1 to {MAX_NEW_TOKENS}"),
        ({"temperature": -0.1}, "temperature is -0.1; choose 0 to 10"),
        ({"temperature": float("nan")}, "temperature is nan; choose 0 to 10"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers, message):
    with pytest.raises(OptionError, match=message):
        Sampling(**numbers)


# Original, edited and control.


def test_the_columns_are_the_original_the_edit_and_its_control_each_as_alone(llama):
    sampling = Sampling(max_new_tokens=8)
    control = control_of(llama, EDIT, seed=4)
    asked = CompareRequest(PROMPT, EDIT, ("red",), sampling=sampling, control_seed=4)
    result = last_of(compare(llama, asked))
    assert [c.name for c in result.columns] == ["original", "edited", "control"]
    assert [c.edit for c in result.columns] == ["", str(EDIT), str(control)]
    for column, edit in zip(result.columns, (NO_EDIT, EDIT, control), strict=True):
        assert column.ids == last(generate(llama, [PROMPT], [edit], sampling)).ids[0]
    original = result.columns[0]
    assert original.differs_at is None
    expected = surprise(llama, encode_prompt(llama, PROMPT), [c.ids for c in result.columns])
    assert [c.perplexity for c in result.columns] == expected
    assert original.perplexity == min(expected)


def test_columns_grow_together_and_only_the_last_is_done(llama):
    *steps, end = compare(llama, CompareRequest(PROMPT, EDIT, sampling=Sampling(5)))
    assert [s.done for s in steps] == [False] * 5
    assert end.done
    assert [[len(c.ids) for c in s.columns] for s in steps] == [[n] * 3 for n in range(1, 6)]
    assert all(c.perplexity is None for s in steps for c in s.columns)
    assert [c.text for c in end.columns] == [c.text for c in steps[-1].columns]


def test_a_control_has_the_edits_factors_layer_by_layer(llama):
    edit = Edit({Head(2, 0): 5.0, Head(0, 1): -1.0, Head(0, 2): -1.0, Head(1, 1): 1.0})
    control = control_of(llama, edit).factors
    by_layer = sorted((head.layer, factor) for head, factor in control.items())
    assert by_layer == [(0, -1.0), (0, -1.0), (2, 5.0)]
    assert not set(control) & {Head(2, 0), Head(0, 1), Head(0, 2)}


def test_rows_that_only_save_time_change_no_text_and_are_not_shown(llama, monkeypatch):
    edits = [NO_EDIT, Edit({Head(1, 0): 5.0}), Edit({Head(2, 2): -3.0})]
    widths = []
    forward = llama.model.forward

    def watched(*args, **more):
        widths.append(len(more["input_ids"]))
        return forward(*args, **more)

    monkeypatch.setattr(llama.model, "forward", watched)
    monkeypatch.setattr(rows, "_found", {})
    monkeypatch.setattr(rows, "_seconds", lambda _, n_rows: {3: 2.0, 4: 1.0}[n_rows])
    *_, found = generate(llama, [PROMPT] * 3, edits, Sampling(8))
    *read, first = widths[: len(widths) - 6]  # the prompt, and what tries whether it can be kept
    assert max(read, default=1) <= 2 and first == 4 and {*widths[-6:]} == {4}
    *_, four = generate(llama, [PROMPT] * 4, [*edits, NO_EDIT], Sampling(8))
    assert found.ids == four.ids[:3] and found.texts == four.texts[:3]
    for edit, ids in zip(edits, found.ids, strict=True):
        assert last(generate(llama, [PROMPT], [edit], Sampling(8))).ids == (ids,)


# A knob that is turned while the text is written.

LATER = Edit({Head(0, 1): 8.0, Head(1, 3): -3.0})


def turned(model, at, edit=LATER, **changes):
    """A comparison whose knob is turned before token number `at`, from 0."""
    token = iter(range(99))
    asked = CompareRequest(PROMPT, EDIT, sampling=Sampling(10), **changes)
    return [*compare(model, asked, knob=lambda: edit if next(token) == at else None)]


def test_a_turned_knob_changes_the_text_from_the_next_token_on_and_only_the_edited_columns(llama):
    plain = last_of(compare(llama, CompareRequest(PROMPT, EDIT, sampling=Sampling(10))))
    *_, end = turned(llama, 4)
    assert end.columns[0].ids == plain.columns[0].ids
    for column, before in zip(end.columns[1:], plain.columns[1:], strict=True):
        assert column.ids[:4] == before.ids[:4]
    assert end.columns[1].ids != plain.columns[1].ids
    # The fifth token is that of the new factors over what the old ones have read.
    turns = iter([None] * 4 + [[LATER]] * 6)
    *_, other = generate(llama, [PROMPT], [EDIT], Sampling(10), turn=lambda _: next(turns))
    assert other.ids[0] == end.columns[1].ids


def test_a_turned_text_is_told_as_such_and_written_again_by_what_is_told(llama):
    *_, end = turned(llama, 4)
    assert (end.edit, end.earlier) == (LATER, (Stretch(4, EDIT),))
    edited = end.columns[1]
    assert edited.edit == f"{EDIT}; from token 5: {LATER}"
    assert edited.text[: edited.turned_at[0]] == llama.tokenizer.decode(edited.ids[:4])
    asked = CompareRequest(PROMPT, LATER, sampling=Sampling(10), earlier=end.earlier)
    assert last_of(compare(llama, asked)) == end


def test_a_knob_turned_before_the_first_token_is_the_edit(llama):
    plain = last_of(compare(llama, CompareRequest(PROMPT, LATER, sampling=Sampling(10))))
    assert turned(llama, 0)[-1] == plain


def test_a_knob_turned_after_the_edited_text_has_ended_changes_nothing(llama):
    plain = last_of(compare(llama, CompareRequest(PROMPT, EDIT, sampling=Sampling(10))))
    ids = plain.columns[1].ids
    token = next(t for n, t in enumerate(ids) if n and t not in plain.columns[0].ids)
    short = ending(llama, token)
    at = ids.index(token) + 1
    assert at < 10
    *_, end = turned(short, at)
    assert end.earlier == () and end.columns[1].ids == ids[: at - 1]


def test_a_hand_on_the_knob_takes_the_place_of_what_was_planned(llama):
    plan = (Stretch(2, NO_EDIT), Stretch(6, Edit({Head(0, 1): 2.0})))
    *_, end = turned(llama, 4, Edit({Head(2, 0): 5.0}), earlier=plan)
    assert end.edit == Edit({Head(2, 0): 5.0})
    assert end.earlier == (Stretch(2, NO_EDIT), Stretch(2, plan[1].edit))


@pytest.mark.parametrize(("full", "added"), [(0.5, 1), (0.95, 0), (2.0, 0)])
def test_a_row_is_added_only_where_that_saves_time(llama, monkeypatch, full, added):
    monkeypatch.setattr(rows, "_found", {})
    monkeypatch.setattr(rows, "_seconds", lambda _, n_rows: full if n_rows == 4 else 1.0)
    assert [rows.filler_rows(llama, n) for n in (1, 3, 4, 5)] == [0, added, 0, 0]
