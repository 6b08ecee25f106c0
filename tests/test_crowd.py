"""Texts of many visitors in one batch: each is the one it gives alone, whoever comes and goes."""

import gc
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation import ending
from tiny_models import CONFIGS

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.editing import crowd as crowds
from headviz.editing.compare import CompareRequest, compare, last_of
from headviz.editing.crowd import Crowd
from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import surprise
from headviz.heads import slots
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.prompts import encode_prompt

pytest_plugins = ["loaded"]

PROMPTS = (
    "the cat is red",
    "the cat is red and the dog is blue and a horse was in the house of the fish",
    "what color has the house and the bird",
)
EDITS = (
    NO_EDIT,
    Edit({Head(0, 1): -1.0, Head(1, 3): 5.0}),
    Edit({Head(2, 0): 8.0}, "generated"),
    Edit({Head(1, 2): -3.0, Head(2, 1): 0.0}, "prompt"),
    Edit({Head(0, 0): 0.0, Head(2, 2): 4.0}),
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """A token is handed out as soon as it is made."""
    monkeypatch.setattr(crowds, "_OTHERS", 1000)


def last(streams):
    *_, final = streams
    return final


def visitor(model, number, tokens=9, into=None, turns=None):
    """One of several kinds of visitors: other prompts, edits, ways to choose, a knob that moves."""
    n = 1 + number % 3
    prompts = [PROMPTS[number % 3]] * n
    edits = [EDITS[(number + row) % 5] for row in range(n)]
    sampling = Sampling(tokens + number % 4, temperature=float(number % 2), seed=number)
    step = count()
    moves = {3: [EDITS[(number + row + 2) % 5] for row in range(n)]} if number % 3 == 1 else {}
    turn = turns or (lambda _: moves.get(next(step)))
    return generate(model, prompts, edits, sampling, turn=turn, crowd=into)


def assert_empty(model, crowd):
    assert len(crowd) == crowd.n_rows == 0
    hooks = [m for m in model.model.modules() if m._forward_pre_hooks or m._forward_hooks]
    assert not hooks


def shared_model(load, family="llama"):
    model = load(family)
    assert slots.can_share(model, encode_prompt(model, PROMPTS[1]))
    return model


@settings(max_examples=25)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=7), st.randoms(use_true_random=False))
def test_every_text_is_the_one_it_gives_alone_whoever_comes_and_goes(load, kinds, draw):
    model = shared_model(load)
    crowd, running, waiting, said = Crowd(model), {}, [*enumerate(kinds)], {}
    most = 0
    while running or waiting:
        if waiting and (not running or draw.random() < 0.3):
            name, kind = waiting.pop()
            running[name] = visitor(model, kind, into=crowd)
        name = draw.choice([*running])
        if draw.random() < 0.03:
            running.pop(name).close()  # goes in the middle
            continue
        try:
            said[name] = next(running[name])
        except StopIteration:
            del running[name]
            alone = last(visitor(model, kinds[name]))
            assert (said[name].ids, said[name].texts) == (alone.ids, alone.texts)
        most = max(most, crowd.n_rows)
    assert_empty(model, crowd)


def test_rows_of_all_visitors_share_one_pass(load, monkeypatch):
    model = shared_model(load)
    crowd = Crowd(model)
    writing = [visitor(model, number, 12, crowd) for number in (2, 5, 8)]  # three rows each
    for _ in range(2):
        for one in writing:
            next(one)
    widths = []
    forward = model.model.forward
    monkeypatch.setattr(
        model.model,
        "forward",
        lambda *a, **more: (widths.append(len(more["input_ids"])), forward(*a, **more))[1],
    )
    next(writing[0])
    next(writing[0])
    assert 9 in widths and {*widths} <= {9}
    for one in writing:
        one.close()
    assert_empty(model, crowd)


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_shares_right_or_not_at_all(load, family):
    model = load(family)
    heads = [Head(layer, 1) for layer in model.head_layers]
    edits = [NO_EDIT, Edit({heads[0]: -1.0}), Edit({heads[-1]: 5.0})]

    def texts(crowd):
        return [
            generate(model, [prompt] * 3, edits, Sampling(tokens), crowd=crowd)
            for prompt, tokens in zip(PROMPTS, (12, 4, 8), strict=True)
        ]

    crowd = Crowd(model)
    running, said = dict(enumerate(texts(crowd))), {}
    shared = 0
    while running:
        for number, one in [*running.items()]:
            try:
                said[number] = next(one)
            except StopIteration:
                del running[number]
            shared = max(shared, crowd.n_rows)
    for number, one in enumerate(texts(None)):
        assert said[number].ids == last(one).ids
    assert bool(shared) == (family not in APART), shared
    assert_empty(model, crowd)


APART = {
    *("mistral", "mixtral", "gemma2", "gemma3_text", "phi3", "gpt_neo", "gpt_oss"),  # windows of 8
    *("qwen3_next", "lfm2", "jamba"),  # keep more than keys and values
}
"""Families that stay in batches of their own."""


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "phi3", "gpt_neo", "gpt_oss"])
def test_a_window_that_is_not_reached_is_no_window(load, family):
    model = load(family)
    short = ["the cat", "the", "red"]
    crowd = Crowd(model)
    together = [generate(model, [p] * 2, EDITS[:2], Sampling(3), crowd=crowd) for p in short]
    for one in together:
        next(one)
    assert crowd.n_rows > 2
    for prompt, one in zip(short, together, strict=True):
        alone = last(generate(model, [prompt] * 2, EDITS[:2], Sampling(3)))
        assert last(one).ids == alone.ids


def test_each_row_leaves_at_its_own_end(load):
    model = shared_model(load)
    free = last(visitor(model, 2))
    token = next(t for n, t in enumerate(free.ids[1]) if n > 1 and t not in free.ids[0])
    short = ending(model, token)
    crowd = Crowd(short)
    others = [visitor(short, number, 20, crowd) for number in (4, 2)]
    seen = set()
    for _ in range(12):
        for one in others:
            next(one, None)
        seen.add(crowd.n_rows)
    assert len(seen - {0}) >= 2
    for one in others:
        one.close()


def test_a_stop_text_ends_its_row_alone(load):
    model = shared_model(load)
    free = last(visitor(model, 2, 20))
    stop = model.tokenizer.decode(free.ids[0][3:5]).strip()
    crowd = Crowd(model)
    edits = [EDITS[2], EDITS[3], EDITS[4]]

    def stopped(into):
        return generate(model, [PROMPTS[2]] * 3, edits, Sampling(20, stop=stop), crowd=into)

    other = visitor(model, 5, 20, crowd)
    next(other)
    assert last(stopped(crowd)).texts == last(stopped(None)).texts
    assert stop not in last(stopped(None)).texts[0]
    assert last(other).ids == last(visitor(model, 5, 20)).ids


def test_a_knob_that_moves_among_others_moves_its_own_rows_alone(load):
    model = shared_model(load)
    crowd = Crowd(model)

    def knob():
        step = count()
        edits = [NO_EDIT, Edit({Head(0, 0): -6.0, Head(2, 2): 8.0}), NO_EDIT]
        return lambda _: edits if next(step) == 7 else None

    still, moved = visitor(model, 5, 14, crowd), visitor(model, 2, 14, crowd, knob())
    for _ in range(2):
        next(still), next(moved)
    assert crowd.n_rows == 6
    alone = last(visitor(model, 2, 14, None, knob()))
    assert alone.ids[1] != last(visitor(model, 2, 14)).ids[1]
    assert last(moved).ids == alone.ids
    assert last(still).ids == last(visitor(model, 5, 14)).ids


def test_a_comparison_in_a_crowd_is_the_one_alone(load):
    model = shared_model(load)
    asked = [
        CompareRequest(p, e, ("red",), sampling=Sampling(10))
        for p, e in zip(PROMPTS, EDITS[1:4], strict=True)
    ]
    crowd = Crowd(model)
    running = [compare(model, one, crowd=crowd) for one in asked]
    for _ in range(3):
        for one in running:
            next(one)
    assert crowd.n_rows == 9
    for one, request in zip(running, asked, strict=True):
        found, alone = last_of(one), last_of(compare(model, request))
        assert [c.ids for c in found.columns] == [c.ids for c in alone.columns]
        for a, b in zip(found.columns, alone.columns, strict=True):
            assert replace(a, perplexity=None) == replace(b, perplexity=None)
            assert a.perplexity == pytest.approx(b.perplexity, rel=1e-4)
    assert_empty(model, crowd)


def test_an_error_is_its_own_visitors(load):
    model = shared_model(load)
    crowd, step = Crowd(model), count()

    def bad(_):
        return [Edit({Head(9, 9): 0.0})] if next(step) == 4 else None

    good = visitor(model, 2, 12, crowd)
    wrong = visitor(model, 5, 12, crowd, bad)
    next(good), next(wrong)
    for _ in range(5):
        next(good)  # it is in its turn that the other one's goes wrong
    with pytest.raises(OptionError, match=r"There is no head L9\.H9"):
        last(wrong)
    assert last(good).ids == last(visitor(model, 2, 12)).ids
    assert_empty(model, crowd)


def test_a_pass_that_fails_is_told_to_all_that_it_was_for_and_nothing_is_left(load, monkeypatch):
    model = shared_model(load)
    crowd = Crowd(model)
    writing = [visitor(model, number, 12, crowd) for number in (2, 5)]
    for _ in range(2):
        for one in writing:
            next(one)
    with monkeypatch.context() as patch:

        def broken(*_, **__):
            raise RuntimeError("out of memory")

        patch.setattr(model.model, "forward", broken)
        for one in writing:
            with pytest.raises(RuntimeError, match="out of memory"):
                for _ in range(3):
                    next(one)
    assert_empty(model, crowd)
    assert last(visitor(model, 3, into=crowd)).ids == last(visitor(model, 3)).ids


@contextmanager
def waiting(crowd, held, works):
    """These run in threads of their own and wait until this ends; then all come to their end."""
    threads = [threading.Thread(target=work) for work in works]
    with held:
        for thread in threads:
            thread.start()
        yield
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def passes(load, monkeypatch):
    """(rows, positions) of every forward pass from now on."""
    model, seen = shared_model(load), []
    forward = model.model.forward

    def noted(*args, **more):
        seen.append(tuple(more["input_ids"].shape))
        return forward(*args, **more)

    monkeypatch.setattr(model.model, "forward", noted)
    return seen


def together(model, numbers, turns=None):
    """What visitors are told who came while another one's token was made; and the empty crowd."""
    held, said = threading.RLock(), {}
    crowd = Crowd(model, lambda: held)
    first = visitor(model, 2, 30, crowd)
    next(first)

    def write(number):
        try:
            said[number] = last(visitor(model, number, into=crowd, turns=turns and turns(number)))
        except OptionError as error:
            said[number] = str(error)

    with waiting(crowd, held, [partial(write, number) for number in numbers]):
        until(lambda: len(crowd) == 1 + len(numbers))
    first.close()
    assert_empty(model, crowd)
    return said


def test_those_who_come_together_are_read_in_one_pass(load, passes):
    model = load("llama")
    said = together(model, (3, 4, 5, 6, 8))
    rows = sum(1 + number % 3 for number in said)
    longest = max(len(encode_prompt(model, prompt).ids) for prompt in PROMPTS)
    assert passes.count((rows, longest)) == 1
    read = [shape for shape in passes if shape[1] > 2]
    assert len(read) == 2, "the first one's prompt, and all others'"
    for number, found in said.items():
        assert found.ids == last(visitor(model, number)).ids


def test_who_comes_with_a_wrong_head_hears_it_alone(load):
    model = shared_model(load)
    said = together(
        model, (3, 4, 5), lambda n: (lambda _: [Edit({Head(9, 9): 0.0})]) if n == 3 else None
    )
    assert "There is no head L9.H9" in said.pop(3)
    for number, found in said.items():
        assert found.ids == last(visitor(model, number)).ids


def test_prompts_that_cannot_be_read_together_are_read_one_by_one(load, monkeypatch):
    model = shared_model(load)
    forward, refused = model.model.forward, []

    def narrow(*args, **more):
        if more["input_ids"].shape[1] > 2 and len(more["input_ids"]) > 3:
            refused.append(1)
            raise RuntimeError("out of memory")
        return forward(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(model.model, "forward", narrow)
        said = together(model, (3, 4, 5, 6))
    assert refused
    for number, found in said.items():
        assert found.ids == last(visitor(model, number)).ids


def test_texts_that_end_together_are_measured_in_one_pass(load, passes):
    model, held = load("llama"), threading.RLock()
    crowd = Crowd(model, lambda: held)
    asked = [
        (encode_prompt(model, p), [(20, 30, 40)[:n], (), (7,)]) for n, p in enumerate(PROMPTS, 1)
    ]
    found = {}

    def ask(number):
        found[number] = crowd.surprise(*asked[number])

    passes.clear()
    with waiting(crowd, held, [partial(ask, number) for number in range(3)]):
        until(lambda: len(crowd._to_measure) == 3)
    assert len(passes) == 1
    for number, values in found.items():
        alone = surprise(model, *asked[number])
        assert values[1] is None is alone[1]
        assert values[::2] == pytest.approx(alone[::2], rel=1e-4)


def test_who_finds_no_room_waits_in_turn_and_is_told_the_place(load, monkeypatch):
    monkeypatch.setattr(crowds, "BEAT", 0.01)
    model = shared_model(load)
    crowd = Crowd(model, most_rows=6)
    # Not read, they stay in: they are written no more than LEAD words ahead.
    inside = [visitor(model, number, 2 * crowds.LEAD, crowd) for number in (2, 5)]
    for one in inside:
        next(one)
    outside = [visitor(model, 8, 12, crowd), visitor(model, 11, 12, crowd)]
    streams = [next(one) for one in outside]
    assert [s.place for s in streams] == [1, 2]
    assert all(s.texts == ("",) * 3 and not any(s.done) for s in streams)
    outside[0].close()
    assert next(outside[1]).place == 1
    inside[0].close()
    said = [s for s in outside[1] if not s.place]
    assert said[-1].ids == last(visitor(model, 11, 12)).ids
    assert last(inside[1]).ids == last(visitor(model, 5, 2 * crowds.LEAD)).ids
    assert_empty(model, crowd)


def test_keys_and_values_of_a_crowd_are_bounded(load):
    model = shared_model(load)
    crowd = Crowd(model)
    first = visitor(model, 2, 40, crowd)
    next(first)
    n_tokens = len(encode_prompt(model, PROMPTS[2]).ids) + 40 + 2
    bytes_of_one = 3 * n_tokens * crowd._bytes_of_position
    first.close()
    crowd = Crowd(model, most_bytes=10 * bytes_of_one)
    inside = [visitor(model, 2, 40, crowd) for _ in range(12)]
    streams = [next(text) for text in inside]
    assert len(crowd._members) == 10
    assert [stream.place for stream in streams[10:]] == [1, 2]
    for text in inside:
        text.close()
    assert_empty(model, crowd)


def test_who_does_not_read_is_waited_for_by_nobody_and_left_out_at_last(load):
    model = shared_model(load)
    crowd = Crowd(model)
    slow, fast = visitor(model, 2, 90, crowd), visitor(model, 5, 90, crowd)
    next(slow)
    assert max(map(len, last(fast).ids)) > 2 * crowds.LEAD
    got = next(slow)
    assert 2 <= len(got.ids[0]) <= crowds.LEAD + 1
    assert last(slow).ids == last(visitor(model, 2, 90)).ids


def test_a_lone_visitor_has_nothing_done_that_was_not_asked_for(load, monkeypatch):
    model = shared_model(load)
    passes = []
    forward = model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda *a, **m: (passes.append(1), forward(*a, **m))[1]
    )
    monkeypatch.setattr(slots, "_fits", {})  # whether it can be shared was not tried yet
    crowd = Crowd(model)
    for _ in range(2):
        one = generate(model, [PROMPTS[0]], [NO_EDIT], Sampling(20), crowd=crowd)
        passes.clear()
        for n in range(1, 5):
            assert len(next(one).ids[0]) == len(passes) == n
        one.close()


def test_thirty_threads_write_what_each_writes_alone_under_one_lock(session, load):
    model = shared_model(load)
    crowd = Crowd(model, lambda: session.lock)
    said, before = {}, threading.active_count()

    def write(number):
        said[number] = last(visitor(model, number, 12 + number % 7, crowd))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(said) == [*range(30)]
    for number, found in said.items():
        assert found.ids == last(visitor(model, number, 12 + number % 7)).ids
    assert threading.active_count() == before
    assert_empty(model, crowd)
    assert session.lock.acquire(blocking=False)
    session.lock.release()


def test_a_crowd_that_is_gone_keeps_no_keys_and_values(load):
    model = shared_model(load)
    crowd = Crowd(model)
    writing = [visitor(model, number, 12, crowd) for number in (2, 5)]
    for _ in range(3):
        for one in writing:
            next(one)
    size = crowd._slots._cache.layers[0].keys.shape
    assert size[0] >= 6
    for one in writing:
        one.close()
    gc.collect()
    alive = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.shape == size]
    assert not alive
