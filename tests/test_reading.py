"""Heads are read part by part: soon, then better, at the end as if all had been read at once."""

import copy
import multiprocessing
import os
import random
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import WORDS

from headviz.base.errors import Cancelled, ConceptError, PromptError
from headviz.base.store import Store
from headviz.heads import pooling as poolings
from headviz.heads.capture import PromptReader, Reading, capture, parts_of
from headviz.heads.forward import likeliest
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import make_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.session.session import Session

pytest_plugins = ["loaded"]

COLORS = make_concept("colors", WORDS["colors"])
SIZES = [16, 32, 64, 100]
"""Samples of each of the activations that a reading of 100 gives."""
TEMPLATE = (
    "{{ bos_token }}the house of a bird was seven {% for m in messages %}"
    "[{{ m['role'] }}] {{ m['content'] | trim }} [end]"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def some_texts(n=100):
    """Texts of 1 to 12 words."""
    draw = random.Random(1)
    words = [word for group in WORDS.values() for word in group if " " not in word]
    texts = (" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(n))
    return PromptSet("many", tuple(f"{text} {number}" for number, text in enumerate(texts)))


MANY = some_texts()


@pytest.fixture
def chatty(llama):
    """The tiny Llama with a chat template that begins alike for every prompt."""
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return replace(llama, tokenizer=tokenizer)


def reading_of(model, pooling="prompt", **kept):
    return Reading(model, MANY, pooling, PromptReader(model, MANY, pooling), **kept)


@pytest.fixture
def read_parts(monkeypatch):
    """The numbers of texts of the parts that were really read."""
    sizes = []

    def counting(model, prompts, *more):
        sizes.append(len(prompts))
        return poolings.pool(model, prompts, *more)

    monkeypatch.setattr("headviz.heads.capture.pool", counting)
    return sizes


@pytest.mark.parametrize("n", [1, 16, 17, 100, 5000])
def test_the_parts_are_every_sample_once_in_a_drawn_order_that_is_always_the_same(n):
    parts = parts_of(n)
    order = [sample for part in parts for sample in part]
    assert sorted(order) == list(range(n))
    assert parts == parts_of(n)
    assert len(parts[0]) == min(n, 16)
    if n == 5000:  # a set is grouped by concept: no group may be missing at the beginning
        thirds = [sample * 3 // n for sample in parts[0]]
        assert {*thirds} == {0, 1, 2}


@pytest.mark.parametrize("pooling", ["prompt", "last", "generated"])
def test_what_comes_soon_is_the_same_bit_for_bit_as_when_all_are_read_at_once(chatty, pooling):
    whole = capture(chatty, MANY, pooling)
    found = list(reading_of(chatty, pooling).follow())
    assert [activations.n_samples for activations in found] == SIZES
    for activations in found:
        at = [MANY.texts.index(text) for text in activations.texts]
        assert at == sorted(at)
        assert activations.z.equal(whole.z[:, :, at])
    assert found[-1].n_positions == whole.n_positions
    assert found[0].n_positions < whole.n_positions


def test_what_was_kept_is_given_at_once_and_not_read_again(llama, read_parts):
    kept = {}
    whole = list(reading_of(llama, keep=kept.__setitem__).follow())[-1]
    assert read_parts == [16, 16, 32, 36]
    read_parts.clear()
    del kept[1]
    found = list(reading_of(llama, find=kept.get).follow())
    assert [activations.n_samples for activations in found] == [84, 100]
    assert read_parts == [16]
    assert found[-1].z.equal(whole.z)


def test_a_beginning_that_all_prompts_share_is_read_once(chatty, monkeypatch):
    shared = encode_prompt(chatty, MANY.texts[0]).own.index(True)
    assert shared > 8
    widths = []
    forward = chatty.model.base_model.forward

    def watched(*args, **more):
        widths.append(more["input_ids"].shape[1])
        return forward(*args, **more)

    monkeypatch.setattr(chatty.model.base_model, "forward", watched)
    capture(chatty, MANY)
    longest = max(sum(encode_prompt(chatty, text).own) for text in MANY.texts)
    assert widths[0] == shared
    assert max(widths[1:]) == longest, "nothing behind the prompt's own words is read"


def test_what_the_model_says_is_written_in_batches_as_each_prompt_alone(chatty, monkeypatch):
    prompts = [encode_prompt(chatty, text) for text in MANY.texts[:20]]
    alone = [likeliest(chatty, [prompt], 12)[0] for prompt in prompts]
    # Answers of different lengths: what many of them say is made an end of text.
    ends = {alone[0][3], alone[1][0]}
    monkeypatch.setattr("headviz.heads.forward.end_ids", lambda model: ends)
    alone = [likeliest(chatty, [prompt], 12)[0] for prompt in prompts]
    assert len({*map(len, alone)}) > 2
    assert likeliest(chatty, prompts, 12) == alone
    passes = []

    def opened(batch, rows):
        passes.append((len(batch.ids), len(rows)))
        return contextmanager(lambda: iter([None]))()

    likeliest(chatty, prompts, 12, opened=opened)
    assert passes[0] == (20, 20) and passes[-1][0] < 20, "rows at their end leave"


def test_the_lock_is_held_for_a_forward_pass_at_a_time(llama, monkeypatch):
    monkeypatch.setattr(poolings, "CPU_BATCH_TOKENS", 64)
    lock = threading.Lock()
    held, taken = [], []
    embeddings = llama.model.get_input_embeddings()
    embed = embeddings.forward

    def watched(ids):
        held.append(lock.locked())
        return embed(ids)

    @contextmanager
    def once():
        with lock:
            taken.append(True)
            yield

    monkeypatch.setattr(embeddings, "forward", watched)
    for _ in reading_of(llama).follow(lock=once):
        assert not lock.locked()
    assert len(held) > 8 and all(held)
    assert len(taken) == len(held)


# In a session.


def stop_at(share):
    def progress(done, what):
        if done >= share:
            raise Cancelled("stopped")

    return progress


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_reading_that_was_stopped_goes_on_from_there(session, llama, read_parts, share):
    whole = capture(llama, MANY)
    read_parts.clear()
    with pytest.raises(Cancelled):
        session.activations(llama.name, MANY, progress=stop_at(share))
    again = Session(session.store, device="cpu").activations(llama.name, MANY)
    assert sum(read_parts) <= 100 + 36, "no more than a part was lost"
    assert again.z.equal(whole.z) and again.n_positions == whole.n_positions
    assert session.activations(llama.name, MANY).z.equal(whole.z)


def read_and_die(folder: Path, name: str, threads: int) -> None:
    """Reads, and is killed in the middle of the third part."""
    torch.set_num_threads(threads)  # another number of threads rounds otherwise

    def progress(done, what):
        if done > 0.4:
            os.kill(os.getpid(), signal.SIGKILL)

    Session(Store(folder), device="cpu").activations(name, MANY, progress=progress)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing is killed like that here")
def test_after_a_kill_only_what_was_not_kept_is_read(tmp_path, llama, read_parts):
    process = multiprocessing.get_context("spawn").Process(
        target=read_and_die, args=(tmp_path, llama.name, torch.get_num_threads())
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    found = Session(Store(tmp_path), device="cpu").activations(llama.name, MANY)
    assert read_parts == [32, 36]
    assert found.z.equal(capture(llama, MANY).z)


def test_two_visitors_who_ask_for_the_same_read_it_once(session, llama, read_parts):
    found = {}

    def visit(number):
        found[number] = list(session.activations_stream(llama.name, MANY))[-1]

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(read_parts) == [16, 16, 32, 36]
    assert all(activations is found[0] for activations in found.values())


def test_who_waits_for_another_visitor_can_stop(session, llama):
    reading, go_on = threading.Event(), threading.Event()

    def hold(done, what):
        reading.set()
        assert go_on.wait(60)

    first = threading.Thread(
        target=lambda: session.activations(llama.name, MANY, progress=hold), daemon=True
    )
    first.start()
    assert reading.wait(60)
    said = []

    def stop(done, what):
        said.append(what)
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        session.activations(llama.name, MANY, progress=stop)
    go_on.set()
    first.join(60)
    assert said == ["somebody else has the same read"]
    assert session.activations(llama.name, MANY).n_samples == 100


def test_a_ranking_comes_soon_and_ends_as_the_ranking(session, llama):
    found = list(session.rank_stream(llama.name, COLORS, MANY))
    assert [ranking.n_samples for ranking in found] == SIZES
    widths = [float((r.spread.high - r.spread.low).nanmean()) for r in found]
    assert widths[-1] < widths[0], "intervals shrink"
    assert session.rank(llama.name, COLORS, MANY) is found[-1]
    assert next(session.rank_stream(llama.name, COLORS, MANY)) is found[-1]
    fresh = Session(session.store, device="cpu").rank(llama.name, COLORS, MANY)
    assert fresh.scores.equal(found[-1].scores) and fresh.chance.equal(found[-1].chance)


def test_a_ranking_nobody_waits_for_leaves_its_parts(session, llama, read_parts):
    stream = session.rank_stream(llama.name, COLORS, MANY)
    assert next(stream).n_samples == 16
    stream.close()
    assert read_parts == [16]
    again = Session(session.store, device="cpu").rank_stream(llama.name, COLORS, MANY)
    assert next(again).n_samples == 16
    assert read_parts == [16]


def test_what_is_wrong_is_said_before_any_text_is_read(session, llama, read_parts):
    with pytest.raises(ConceptError):
        next(session.rank_stream(llama.name, make_concept("none", ["umpteen"]), MANY))
    with pytest.raises(PromptError, match="Shorten it"):
        session.activations(llama.name, PromptSet("long", ("one", " red" * 5000)))
    assert read_parts == []


def test_it_is_told_at_which_text_the_reading_is(session, llama):
    said = []
    session.activations(llama.name, MANY, progress=lambda share, what: said.append(what))
    total = len(MANY)
    told = [what for what in said if what.startswith("reading heads, text ")]
    at = [int(what.split()[3]) for what in told]
    assert all(what.endswith(f" of {total}") for what in told)
    assert at[0] == 1 and at == sorted(at) and total - 16 <= at[-1] <= total
    assert len({*at}) > 3
