"""A long step tells how long it will take, and that it is stopping."""

import subprocess
import sys
import threading

import gradio as gr
import pytest

from headviz.base.errors import Cancelled
from headviz.page import work
from headviz.page.html import progress
from headviz.page.work import Status, Work

VISITOR = gr.Request(session_hash="somebody")


@pytest.fixture
def clock(monkeypatch):
    """The time as the step's clock reads it; the test moves it."""
    now = [100.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])
    return now


def told(clock, steps):
    """What is told of a step that reports these shares, each so many seconds after the last."""
    found, made = [], work._Clock()
    for seconds, share, what in steps:
        clock[0] += seconds
        found.append(made.status(share, what))
    return found


def test_the_time_left_is_told_while_the_number_of_the_text_rises(clock):
    steps = [(2, n / 10, f"reading heads, text {n + 1} of 10") for n in range(8)]
    *_, last = told(clock, steps)
    assert last.seconds_left == pytest.approx(6)
    assert "text 8 of 10 · 70% · 6 s left" in progress(last)


def test_another_step_is_timed_by_itself(clock):
    steps = [(2, 0.5, "reading heads, text 5 of 10"), (2, 0.1, "scoring"), (2, 0.2, "scoring")]
    *_, first, last = told(clock, steps)
    assert first.seconds_left is None
    assert last.seconds_left == pytest.approx(16)


def test_who_asked_to_stop_is_told_so_until_the_step_notices():
    works, goes_on, seen = Work(), threading.Event(), []

    def step(report):
        report(0.1, "reading heads, text 2 of 20")
        assert goes_on.wait(60)
        report(0.2, "reading heads, text 3 of 20")

    with pytest.raises(Cancelled, match="It was stopped"):
        for status in works.watched(VISITOR, "reading", step, "It was stopped."):
            seen.append(status)
            if not status.stopping and status.what:
                works.stopper("reading")(VISITOR)
            elif status.stopping:
                goes_on.set()
    assert [status.stopping for status in seen if status.what][:2] == [False, True]
    assert "stopping …" in progress(Status("", 0.0, stopping=True))


WATCHED = """
def step(report):
    while True:
        report(0.5, "reading")
        compute()

watched = Work().watched(gr.Request(session_hash="x"), "kind", step, "stopped")
next(watched)
"""
WRITTEN = """
def words():
    while True:
        compute()
        yield "word"

def write():
    work, request = Work(), gr.Request(session_hash="x")
    for word in work.until_next(request, "kind", work.begin(request, "kind"), words()):
        pass

threading.Thread(target=write, daemon=True).start()
"""


@pytest.mark.parametrize("step", [WATCHED, WRITTEN], ids=["watched", "written"])
def test_a_program_that_ends_in_the_middle_of_a_step_ends_in_order(step):
    """A thread that is cut off inside torch would abort it, with a line that nobody understands."""
    script = f"""
import threading
import gradio as gr, torch
from headviz.page.work import Work

began, big = threading.Event(), torch.ones(64, 64)

def compute():
    for _ in range(100):
        torch.nn.functional.linear(big, big)
    began.set()

{step}
assert began.wait(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
