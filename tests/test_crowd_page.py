"""Many visitors on the running page, each a real gradio client; tabs closed in the middle."""

import json
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest
from paging import serving, slowly

from benchmarks.load import (
    HEADER,
    SOAK_HEADER,
    Answered,
    Measured,
    Visitor,
    asks,
    check_loopback,
    row,
)
from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.session.session import Session

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

LONG = {"prompt": "Story: The old farmer had a horse.", "heads": {}, "tokens": 400}
WAIT = 120  # seconds; a busy machine of two cores


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page on a free port of this process: its URL, its session and its model's crowd."""
    session = Session(Store(tmp_path_factory.mktemp("cache")), allowed=["tiny-lm"])
    with serving(session) as (url, _):
        yield url, session, session.crowd(session.model("tiny-lm"))


def until(holds):
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def tab(*command, told=""):
    """A visitor in a process of its own, killed as a tab that crashes."""
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process.stdin:
        process.stdin.write(told + "\n")
    yield
    process.kill()
    process.wait()


def test_visitors_at_once_read_what_each_reads_alone(server):
    url, session, crowd = server
    visitors = [Visitor(url) for _ in range(6)]
    wanted = asks(visitors[0].usual, 6, "tiny-lm", 20)
    got = {}
    most = 0

    def visit(number):
        got[number] = visitors[number].ask(wanted[number])

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(6)]
    with slowly(session, 0.02):
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, crowd.n_rows)
            time.sleep(0.005)
    assert most > 3, "they shared no batch"
    for number, visitor in enumerate(visitors):
        assert len(got[number].texts) == 3 and all(got[number].texts)
        assert got[number].texts == visitor.ask(wanted[number]).texts
        visitor.close()
    until(lambda: len(crowd) == crowd.n_rows == 0)


def test_who_waits_is_told_the_place(server):
    url, session, crowd = server
    crowd._most_rows = 3
    visitors = [Visitor(url) for _ in range(3)]
    usual = visitors[0].usual
    got, enough = {}, threading.Event()

    def visit(number, tokens, until=None):
        ask = {**usual, **LONG, "tokens": tokens, "seed": number}
        got[number] = visitors[number].ask(ask, until=until)

    with slowly(session, 0.02):
        threads = [threading.Thread(target=visit, args=(0, 400, enough))]
        threads[0].start()
        until(lambda: len(crowd) == 1)
        for number in (1, 2):
            threads.append(threading.Thread(target=visit, args=(number, 4)))
            threads[-1].start()
            until(lambda n=number: len(crowd) == n + 1)
        until(lambda: all(visitors[number].told_place for number in (1, 2)))
        enough.set()
        for thread in threads:
            thread.join(WAIT)
    crowd._most_rows = 96
    assert got[0].left and got[0].place == 0
    assert got[1].place == 1 and got[2].place in (1, 2)
    assert len(got[1].texts) == len(got[2].texts) == 3
    for visitor in visitors:
        visitor.close()


@pytest.mark.parametrize("waiting", [False, True], ids=["writing", "waiting"])
def test_a_closed_tab_ends_its_work(server, waiting):
    url, session, crowd = server
    with closing(Visitor(url)) as holder, slowly(session, 0.02) as passes:
        ask = {**holder.usual, **LONG}
        held, enough = None, threading.Event()
        if waiting:
            crowd._most_rows = 3
            held = threading.Thread(target=holder.ask, args=(ask,), kwargs={"until": enough})
            held.start()
            until(lambda: len(crowd) == 1)
        others = int(waiting)
        with tab("-m", "benchmarks.load", "--visit", url, told=json.dumps({**ask, "seed": 7})):
            until(lambda: len(crowd) == others + 1)
            begun = len(passes)
            until(lambda: len(passes) > begun + 2)
        until(lambda: len(crowd) == others)
        assert len(passes) < 390, "it was written to the end"
        enough.set()
        if held:
            held.join(WAIT)
    crowd._most_rows = 96
    until(lambda: len(crowd) == crowd.n_rows == 0)


def test_a_program_that_has_gone_ends_its_work(server):
    url, session, crowd = server
    program = (
        "import sys; from gradio_client import Client; "
        f"Client({url!r}, verbose=False).predict(prompt={LONG['prompt']!r}, edit='L3.H54=-1', "
        "max_new_tokens=400, api_name='/generate')"
    )
    with slowly(session, 0.02) as passes:
        with tab("-c", program):
            until(lambda: len(passes) > 3)
        until(lambda: len(crowd) == 0)
        assert len(passes) < 390, "it was written to the end"


@pytest.mark.parametrize(
    "url", ["http://example.org:7860", "http://10.0.0.1", "http://127.0.0.1.example.org", "nothing"]
)
def test_a_load_is_driven_on_this_machine_alone(url):
    with pytest.raises(ValueError, match="not this machine's own address"):
        check_loopback(url)
    with pytest.raises(ValueError, match="not this machine's own address"):
        Visitor(url)


def test_the_table_says_what_was_measured():
    def answered(seconds, text):
        return Answered((text,) * 3, seconds, 1.0, 0.5, 5, 0, 40, False)

    together = [answered(2.0, "a"), answered(2.0, "b"), answered(4.0, "c")]
    alone = [answered(5.0, "a"), answered(5.0, "b"), answered(6.0, "other")]
    state = {"memory": 100.0, "hooks": 0, "rows": 0, "threads": 3}
    found = Measured("m", together, 4.0, alone, 16.0, [0.1], state, state, (0, 0))
    cells = dict(zip(HEADER, row(found), strict=True))
    assert cells["40 tokens, median"] == "2.0 s" and cells["p95"] == "4.0 s"
    assert cells["longest / median"] == "2.0"
    assert cells["one after another / together"].endswith("= 4.0")
    assert cells["texts as alone"] == "2 of 3"
    assert len({*HEADER, *SOAK_HEADER}) > len(HEADER)
