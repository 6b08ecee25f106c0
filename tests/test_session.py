"""One place for models and results: made once, kept apart, and safe for two visitors at a time."""

import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_models import WORDS

from headviz.base.errors import Cancelled, ConceptError, ModelError
from headviz.base.head import Head
from headviz.base.lru import LRU
from headviz.base.turns import Turns
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.pursuit.options import Options
from headviz.session import session as sessions
from headviz.session.session import Session

pytest_plugins = ["loaded"]

COLORS = make_concept("colors", WORDS["colors"])
EDITS = [Edit({Head(0, 1): -1.0}), Edit({Head(1, 0): 5.0}), Edit({Head(2, 2): 0.0})]
SHORT = Sampling(max_new_tokens=10)
PROMPT = "the cat is red and the dog is"


@pytest.fixture
def counted(monkeypatch):
    """How often each slow step has run."""
    counts = Counter()

    def counting(name, run):
        def step(*inputs, **more):
            counts[name] += 1
            return run(*inputs, **more)

        return step

    for name in ("open_model", "reader_of", "rank_heads", "head_spectrum"):
        monkeypatch.setattr(sessions, name, counting(name, getattr(sessions, name)))
    return counts


def test_every_step_is_made_once(session, tiny_model_folder, texts, counted):
    name = str(tiny_model_folder("llama"))
    for _ in range(2):
        ranking = session.rank(name, COLORS, texts)
        spectrum = session.spectrum(name, Head(0, 1), texts)
    assert counted == {"open_model": 1, "reader_of": 1, "rank_heads": 1, "head_spectrum": 1}
    assert session.rank(name, COLORS, texts) is ranking
    assert session.spectrum(name, Head(0, 1), texts) is spectrum


@pytest.mark.parametrize(
    "changed",
    [
        {"concept": make_concept("colors", ["red", "blue"])},
        {"prompt_set": PromptSet("other", ("one", "two dog"))},
        {"criterion": "logit-lens"},
        {"options": Options(centre=False)},
        {"options": Options(pooling="last")},
    ],
    ids=["words", "prompt_set", "criterion", "centre", "pooling"],
)
def test_whatever_a_ranking_depends_on_makes_another(session, llama, texts, changed):
    asked = {"concept": COLORS, "prompt_set": texts}
    plain = session.rank(llama.name, **asked)
    other = session.rank(llama.name, **{**asked, **changed})
    assert not other.scores.allclose(plain.scores)
    assert session.rank(llama.name, **asked) is plain


def test_a_result_names_the_model_it_was_asked_for(session, tiny_model_folder, tmp_path, texts):
    """The same weights under two names are not taken for each other."""
    names = [str(tiny_model_folder("llama")), str(tmp_path / "link")]
    (tmp_path / "link").symlink_to(names[0])
    assert [session.rank(name, COLORS, texts).model for name in names] == names
    assert [session.activations(name, texts).model for name in names] == names
    assert [session.spectrum(name, Head(0, 0), texts).model for name in names] == names


def test_models_without_a_known_revision_are_not_taken_for_each_other(
    session, load, texts, monkeypatch
):
    unknown = {
        name: replace(load(name), name=name, revision="unknown") for name in ("llama", "gpt2")
    }
    monkeypatch.setattr("headviz.session.session.open_model", lambda name, *_: unknown[name])
    for name in unknown:
        assert session.activations(name, texts).z.shape[-1] == unknown[name].d_head


def test_the_model_used_longest_ago_is_let_go(tiny_model_folder, counted):
    session = Session(keep_models=1, device="cpu")
    names = [str(tiny_model_folder(family)) for family in ("llama", "gpt2")]
    for name in (*names, names[1], names[0]):
        assert session.model(name).name == name
    assert counted["open_model"] == 3


def test_only_the_models_that_are_offered_are_loaded(tiny_model_folder):
    session = Session(allowed=["tiny-lm"], device="cpu")
    assert session.model_names() == ("tiny-lm",)
    with pytest.raises(ModelError, match=r"is not offered here\. Offered: tiny-lm\."):
        session.model(str(tiny_model_folder("llama")))


def test_bad_words_are_refused_before_any_text_is_read(session, llama, texts, counted):
    with pytest.raises(ConceptError):
        session.rank(llama.name, make_concept("none", ["umpteen"]), texts)
    assert "reader_of" not in counted


def test_a_cancelled_reading_leaves_nothing_half_done(session, llama, texts):
    def stop(share, what):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        session.activations(llama.name, texts, progress=stop)
    assert not session.store.folder.exists()
    assert session.lock.acquire(blocking=False)
    session.lock.release()
    assert session.activations(llama.name, texts).n_samples == len(texts)


def test_notices_are_taken_once(session):
    session.notices.append("the disk is full")
    assert session.take_notices() == ["the disk is full"]
    assert session.take_notices() == []


def test_visitors_at_the_same_time_get_what_each_gets_alone(session, llama, texts):
    """Three threads generate, each under its own edit, while a fourth reads heads."""

    def compare(edit):
        return last_of(session.compare(llama.name, CompareRequest(PROMPT, edit, sampling=SHORT)))

    expected = [compare(edit) for edit in EDITS]
    reading = Session(session.store, device="cpu").activations(llama.name, texts).z
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: compare(EDITS[n])}))
        for n in range(len(EDITS))
    ]
    threads.append(
        threading.Thread(target=lambda: found.update(z=session.activations(llama.name, texts).z))
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, alone in enumerate(expected):
        # A thread of its own may share a product out to more cores, and round otherwise.
        assert said(found[number]) == said(alone)
        perplexities = [[c.perplexity for c in one.columns] for one in (found[number], alone)]
        assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-4)
    torch.testing.assert_close(found["z"], reading, rtol=1e-4, atol=1e-5)


def said(comparison):
    """The comparison without what is a measure of its texts alone."""
    return replace(
        comparison, columns=tuple(replace(c, perplexity=None) for c in comparison.columns)
    )


# Whose turn it is.


def test_work_in_the_background_waits_for_the_turns_of_those_in_front():
    turns, order = Turns(), []
    begun = threading.Event()

    def behind():
        begun.set()
        with turns.after_others():
            order.append("behind")

    other = threading.Thread(target=behind)
    with turns:
        other.start()
        begun.wait()
    for number in range(3):  # as the tokens of an answer come
        with turns:
            order.append(number)
    other.join(5)
    assert order == [0, 1, 2, "behind"]


def test_who_came_first_is_first():
    turns, order = Turns(), []
    threads = []

    def take(number):
        with turns:
            order.append(number)

    with turns:
        for number in range(3):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            while len(turns._line) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2]


def test_who_has_the_turn_needs_not_wait_for_itself():
    turns = Turns()
    with turns, turns, turns.after_others():
        pass
    assert turns.acquire(blocking=False)
    turns.release()


def test_a_thread_that_takes_the_turn_again_and_again_keeps_nobody_out():
    turns, taken, is_waiting = Turns(), [], threading.Event()

    def writes():
        """Token after token, as an answer comes."""
        for number in range(200):
            with turns:
                taken.append(number)
                if number == 0:
                    is_waiting.wait(10)
                    # The other stands in line from a moment on that it cannot tell itself.
                    while not turns.is_awaited:
                        pass

    thread = threading.Thread(target=writes)
    thread.start()
    while not taken:
        pass
    is_waiting.set()
    with turns:
        between = len(taken)
    thread.join(60)
    assert between == 1


def test_what_is_kept_is_found_while_something_else_is_made():
    kept, go_on = LRU(2), threading.Event()
    kept.find_or_make("old", lambda: 1)
    thread = threading.Thread(target=lambda: kept.find_or_make("new", lambda: go_on.wait(60)))
    thread.start()
    assert kept.find("old") == 1
    assert kept.find("new") is None
    go_on.set()
    thread.join(60)
    kept.find_or_make("newest", lambda: 2)
    assert list(kept) == ["new", "newest"]


def test_a_spectrum_that_is_kept_is_found_while_another_s_texts_are_read(session, llama, texts):
    head, other = Head(0, 1), PromptSet("other", ("the cat is red and the dog", "one"))
    kept = session.spectrum(llama.name, head, texts)
    is_reading, go_on = threading.Event(), threading.Event()

    def held(share, what):
        is_reading.set()
        assert go_on.wait(60)

    thread = threading.Thread(
        target=lambda: session.spectrum(llama.name, head, other, progress=held)
    )
    thread.start()
    assert is_reading.wait(60)
    found = []
    asking = threading.Thread(
        target=lambda: found.append(session.spectrum(llama.name, head, texts))
    )
    asking.start()
    asking.join(10)
    at_once = list(found)
    go_on.set()
    thread.join(60)
    assert at_once == [kept]
