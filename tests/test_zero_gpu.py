"""ZeroGPU imitated: work runs in a forked process, and all that goes in and out is pickled."""

import multiprocessing
import pickle
import time

import gradio as gr
import pytest
import torch
from paging import ask, serving, settled, texts, visiting

from headviz.base.assets import built_in_models
from headviz.base.errors import Cancelled, HeadvizError, OptionError, UnknownName
from headviz.base.head import Head
from headviz.base.progress import no_progress
from headviz.base.store import Store
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import make_prompt_set
from headviz.page import launch, zero_gpu
from headviz.page.head import maps_of
from headviz.page.view import first_view
from headviz.page.zero_gpu import Failed, ZeroGpuSession, seconds_for
from headviz.session.session import Session

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

FORK = multiprocessing.get_context("fork")
END = "end"
EDIT = Edit({Head(0, 51): -1.0, Head(0, 56): -1.0})
TEXTS = make_prompt_set(
    "some", [f"The {c} ball is here." for c in ["red", "blue", "green", "pink"]]
)
asked_for = []
"""Seconds that were asked for, one for each fork."""


def lend(function):
    """As `spaces.GPU` does (spaces 0.51, zero/wrappers.py): one fork, queues, a wish to stop."""

    def run(*args):
        asked_for.append(seconds_for(*args))
        into, out, stop = FORK.SimpleQueue(), FORK.SimpleQueue(), FORK.Event()
        worker = FORK.Process(target=_serve, args=(function, into, out, stop), daemon=True)
        worker.start()
        into.put(pickle.dumps(args))
        try:
            while (item := pickle.loads(out.get())) != END:
                if isinstance(item, RuntimeError):
                    raise gr.Error(f"{item}", title="ZeroGPU worker error")
                yield item
        except GeneratorExit:
            stop.set()
            raise
        finally:
            worker.join(10)
            assert not worker.is_alive(), "the work goes on though nobody waits"

    return run


def _serve(function, into, out, stop):
    try:
        for item in function(*pickle.loads(into.get())):
            if stop.is_set():
                break
            out.put(pickle.dumps(item))
    except BaseException as error:
        out.put(pickle.dumps(RuntimeError(type(error).__name__)))
    out.put(pickle.dumps(END))


@pytest.fixture
def lent(tmp_path, monkeypatch):
    def no_cuda():
        raise AssertionError("CUDA was touched in the process that has none")

    monkeypatch.setattr(torch.cuda, "_lazy_init", no_cuda)
    asked_for.clear()
    session = ZeroGpuSession(lend, store=Store(tmp_path / "cache"), allowed=["tiny-lm"])
    yield session
    zero_gpu._sessions.clear()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return Session(Store(tmp_path_factory.mktemp("here")), allowed=["tiny-lm"], device="cpu")


def test_answers_stream_out_of_the_worker_as_they_are_here(lent, here):
    request = CompareRequest("What color", EDIT, ("red",), sampling=Sampling(8))
    steps = list(lent.compare("tiny-lm", request))
    assert len(steps) > 4, "they came all at once"
    assert steps[-1] == last_of(here.compare("tiny-lm", request))
    assert asked_for == [11]


def test_a_knob_that_is_turned_meanwhile_gives_what_it_gives_here(lent, here):
    request = CompareRequest("What color", EDIT, ("red",), sampling=Sampling(10))
    other = Edit({Head(0, 51): 5.0, Head(0, 56): 5.0})

    def turning(after):
        calls = iter(range(100))
        return lambda: other if next(calls) >= after else None

    *steps, last = lent.compare("tiny-lm", request, turning(3))
    plain = last_of(here.compare("tiny-lm", request, turning(4)))
    assert last == plain and last.earlier
    lengths = [len(step.columns[1].ids) for step in steps]
    assert lengths == sorted(set(lengths)), "the text went back"


def test_a_ranking_and_a_spectrum_come_back_and_are_remembered(lent, here):
    colors, told = find_concept("colors"), []
    ranking = lent.rank("tiny-lm", colors, TEXTS, progress=lambda *how: told.append(how))
    plain = here.rank("tiny-lm", colors, TEXTS)
    assert torch.allclose(ranking.scores, plain.scores, atol=1e-5)
    assert [h.head for h in ranking.heads[:3]] == [h.head for h in plain.heads[:3]]
    assert told[0] == (0.0, "waiting for a GPU") and len({what for _, what in told}) > 1
    top = ranking.heads[0].head
    spectrum = lent.spectrum("tiny-lm", top, TEXTS, 4)
    assert spectrum.atoms[0].token == here.spectrum("tiny-lm", top, TEXTS, 4).atoms[0].token
    n_forks = len(asked_for)
    assert lent.rank("tiny-lm", colors, TEXTS) is ranking
    assert lent.spectrum("tiny-lm", top, TEXTS, 4) is spectrum
    assert len(asked_for) == n_forks


def test_a_wish_to_stop_is_seen_within_a_second(lent):
    def stop(share, what):
        if what.startswith("sleeping"):
            raise Cancelled("enough")

    began = time.monotonic()
    with pytest.raises(Cancelled, match="enough"):
        list(lent.there(_sleep, 30, progress=stop))
    assert time.monotonic() - began < 10


def _sleep(session, progress, seconds):
    for n in range(int(seconds * 10)):
        progress(n / 300, "sleeping")
        time.sleep(0.1)
    yield "awake"


def test_errors_keep_their_sentence_and_their_kind(lent):
    request = CompareRequest("What color", Edit({Head(40, 0): 0.0}))
    with pytest.raises(OptionError, match="There is no head"):
        last_of(lent.compare("tiny-lm", request))
    failed = pickle.loads(pickle.dumps(Failed(UnknownName, "Unknown thing 'a'.")))
    assert isinstance(failed.error(), UnknownName) and str(failed.error()) == "Unknown thing 'a'."


def test_what_spaces_refuses_is_one_sentence(tmp_path):
    def refuse(function):
        def run(*args):
            raise gr.Error('You have exceeded your quota. <a href="x">Sign up</a>')
            yield

        return run

    session = ZeroGpuSession(refuse, store=Store(tmp_path), allowed=["tiny-lm"])
    with pytest.raises(HeadvizError, match="lends no GPU just now: You have exceeded"):
        list(session.there(_sleep, 1))
    zero_gpu._sessions.clear()


def test_as_long_as_the_work_is_asked_for_within_what_a_visitor_has():
    assert [seconds_for(n, _sleep, ()) for n in (1.0, 42.4, 1000.0)] == [10, 42, 120]


def test_where_a_head_writes_comes_out_of_the_worker(lent, here):
    view, head = first_view("tiny-lm", "colors"), Head(0, 51)
    lent.model("tiny-lm")
    *_, found = lent.there(maps_of, view, head)
    *_, plain = maps_of(here, no_progress, view, head)
    assert [one.pieces for one in found] == [one.pieces for one in plain]
    assert torch.allclose(found[0].strength, plain[0].strength, atol=1e-4)


def test_outside_of_spaces_nothing_changes(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert type(launch.make_session(["tiny-lm"])) is Session


def test_the_page_answers_through_the_worker(lent, browser):
    with serving(lent) as (url, _), visiting(browser, url) as page:
        first = texts(page)
        page.locator("#up").click()
        assert settled(page)[1] != first[1]
        assert set(ask(page)["heads"].values()) == {3}
        page.locator("#every").click()
        page.wait_for_selector("#ribbon tbody tr:nth-child(10)")
        assert not page.locator(".hv-error").count()
