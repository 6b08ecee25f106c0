"""Many visitors on one page: real gradio clients that ask what a browser asks, on this machine.

Each visitor turns other heads. All ask at once, come and go; then each asks the same alone, so that
texts and times stand beside each other from one run. A server of its own process is started, whose
memory, threads, hooks and rows are looked at from inside; it answers questions on its input.
"""

import argparse
import html
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from gradio_client import Client

from headviz.editing.crowd import MOST_ROWS

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

REPO = Path(__file__).resolve().parent.parent
DOC = REPO / "docs" / "reliability.md"
BEGIN, END = "<!-- scripts/load writes from here -->", "<!-- to here: load -->"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
VISITORS = {"tiny-lm": 30, "smollm2-135m": 10}
"""Model -> how many at once."""
TOKENS = 40
MOST_SECONDS = 600.0
"""After which a run ends, whatever it was at."""
_OPENINGS = (
    "Story: On a sunny morning",
    "Story: It was a cold day in May and",
    "Story: Anna went to the market and",
    "Story: The old farmer had a horse.",
    "Story: In the evening Tom walked home.",
)
_LONG = "Story: The old farmer had a horse."
"""What tiny-lm goes on with for 400 tokens."""


@dataclass(frozen=True)
class Answered:
    """One answer, as a visitor saw it."""

    texts: tuple[str, ...]
    """Original, edited, control; fewer where the visitor left."""
    seconds: float
    """From the question to the end."""
    first: float
    """To the first words."""
    longest: float
    """The longest time without a new word, once there were some."""
    updates: int
    place: int
    """The last in the queue that was told, 0 where none was."""
    n_tokens: int
    left: bool


class Visitor(Client):
    """A browser's tab: a session of its own that asks what the page's knob asks."""

    def __init__(self, url: str) -> None:
        """Connected. Refuses every address but this machine's own."""
        check_loopback(url)
        self._event: dict[str, Any] = {}
        # No certificates: reading them for each connection took the half of both cores.
        super().__init__(url, verbose=False, ssl_verify=False)
        parts = {part["id"]: part["props"] for part in self.config["components"]}
        (self._run,) = (
            d["id"]
            for d in self.config["dependencies"]
            for target, event in d["targets"]
            if event == "run" and parts[target].get("elem_id") == "knobs"
        )
        dependency = next(d for d in self.config["dependencies"] if d["id"] == self._run)
        names = [parts[number].get("elem_id") for number in dependency["outputs"]]
        self._said, self._answers = names.index("said"), names.index("answers")
        self.usual: dict[str, Any] = next(
            props["value"]["ask"] for props in parts.values() if props.get("elem_id") == "knobs"
        )
        opened = [
            d["id"]
            for d in self.config["dependencies"]
            for _, event in d["targets"]
            if event == "load"
        ]
        for number in opened:  # as a browser does when the page is there
            self.endpoints[number].is_valid = True
            self._event = {}
            self.submit(fn_index=number).result()
        self.endpoints[self._run].is_valid = True  # the page's own, which programs are not offered
        self._number = 0
        self.told_place = 0
        """In the queue, as the page says it of the answer that is asked for now."""

    def send_data(self, data: Any, *args: Any, **more: Any) -> Any:
        """With what the browser says of the event."""
        return super().send_data({**data, "event_data": self._event}, *args, **more)

    def ask(
        self,
        ask: dict[str, Any],
        stay: float = float("inf"),
        until: threading.Event | None = None,
    ) -> Answered:
        """Ask, and read until the end, for so many seconds, or until told."""
        self._number += 1
        self.told_place = 0
        self._event = {"ask": ask, "number": self._number}
        began = time.monotonic()
        job = self.submit(fn_index=self._run)
        came, place, first, before, longest, drawn = 0, 0, 0.0, 0.0, 0.0, ""
        while not job.done() and time.monotonic() - began < min(stay, MOST_SECONDS):
            if until is not None and until.is_set():
                break
            outputs = job.outputs()
            for output in outputs[came:]:
                place = self.told_place = _place(str(output[self._said])) or place
                text = output[self._answers]
                if isinstance(text, str) and "hv-text" in text:
                    now = time.monotonic()
                    first = first or now
                    longest = max(longest, now - before) if before else 0.0
                    before, drawn = now, text
            came = len(outputs)
            time.sleep(0.1)
        left = not job.done()
        if left:
            job.cancel()
        else:
            job.result()
            for output in job.outputs()[came:]:
                text = output[self._answers]
                drawn = text if isinstance(text, str) and "hv-text" in text else drawn
                came += 1
        ended = time.monotonic()
        return Answered(
            texts_of(drawn),
            ended - began,
            (first or ended) - began,
            longest,
            came,
            place,
            ask["tokens"],
            left,
        )


def check_loopback(url: str) -> None:
    """Raise ValueError for an address that is not this machine's own."""
    if urlsplit(url).hostname not in LOOPBACK:
        raise ValueError(f"{url} is not this machine's own address; a load is driven there alone.")


def texts_of(drawn: str) -> tuple[str, ...]:
    """What the answers' HTML says."""
    found = re.split(r'<[^>]*class="[^"]*\bhv-text\b[^"]*"[^>]*>', drawn)[1:]
    pieces = (part.split("</p>")[0].split("</div>")[0] for part in found)
    return tuple(html.unescape(re.sub(r"<[^>]+>", "", piece)).strip() for piece in pieces)


def _place(said: str) -> int:
    if "You are next" in said:
        return 1
    found = re.search(r"(\d+) visitors? (?:is|are) before you", said)
    return int(found[1]) + 1 if found else 0


class Server:
    """The page in a process of its own, which tells how it is."""

    def __init__(self, model: str, cache: Path) -> None:
        """Started; the model is loaded."""
        self.scratch = cache / "temporary"
        self.scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", "--serve", model, "--store", str(cache)],
            cwd=REPO,
            env={**os.environ, "TMPDIR": str(self.scratch), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._asking = threading.Lock()
        self.url: str = self._answer()["url"]

    def state(self, **wish: int) -> dict[str, Any]:
        """Memory, threads, hooks, texts and rows now; `most_rows` sets what a batch may hold."""
        with self._asking:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(wish) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def files(self) -> int:
        """Temporary files."""
        return sum(path.is_file() for path in self.scratch.rglob("*"))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError("the page's process has ended")


def serve(model: str, store: Path) -> None:
    """What the server's process does: serve, and answer on its input how it is."""
    from headviz.base.store import Store
    from headviz.page.launch import few_heaps
    from headviz.page.page import build_page, launch_options
    from headviz.session.session import Session

    few_heaps()
    session = Session(Store(store / "store"), allowed=[model])
    loaded = session.model(model)
    page = build_page(session)
    _, url, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options()
    )
    print(json.dumps({"url": url}), flush=True)
    for line in sys.stdin:
        wish, crowd = json.loads(line), session.crowd(loaded)
        if "most_rows" in wish:
            crowd._most_rows = wish["most_rows"]
        modules = list(loaded.model.modules())
        told = {
            "hooks": sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in modules),
            "texts": len(crowd),
            "rows": crowd.n_rows,
            "threads": threading.active_count(),
            "memory": _memory(),
            "cpu": time.process_time(),
        }
        print(json.dumps(told), flush=True)


def _memory() -> float:
    """MiB that this process holds."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def asks(usual: dict[str, Any], n: int, model: str, tokens: int = TOKENS) -> list[dict[str, Any]]:
    """A question for each visitor: other heads, other ways to choose a word."""
    draw = random.Random(n)
    layers, heads = (5, 64) if model == "tiny-lm" else (30, 9)
    made = []
    for number in range(n):
        turned = {
            f"L{draw.randrange(layers)}.H{draw.randrange(heads)}": draw.choice([-1.0, 0.0, 3.0])
            for _ in range(3)
        }
        made.append(
            {
                **usual,
                "prompt": f"{_OPENINGS[number % len(_OPENINGS)]}",
                "heads": turned,
                "where": ["everywhere", "generated", "prompt"][number % 3],
                "tokens": tokens,
                "temperature": float(number % 2),
                "seed": number,
                "control_seed": number,
            }
        )
    return made


@dataclass(frozen=True)
class Measured:
    """What one run gave."""

    model: str
    together: list[Answered]
    wall: float
    """Seconds until all were answered."""
    alone: list[Answered]
    alone_wall: float
    closed: list[float]
    """Seconds after which the work of a closed tab had ended."""
    before: dict[str, Any]
    after: dict[str, Any]
    files: tuple[int, int]


def measure(server: Server, model: str, n: int, say: Callable[[str], None]) -> Measured:
    """All at once, then one after another, then tabs that are closed."""
    visitors = [Visitor(server.url) for _ in range(n)]
    wanted = asks(visitors[0].usual, n, model)
    visitors[0].ask({**wanted[0], "prompt": "Story: It was", "tokens": 4})  # the first of all
    before, files = server.state(), server.files()
    say(f"{n} visitors at once")
    draw = random.Random(1)
    waits = [draw.random() * 0.5 for _ in range(n)]
    start = time.monotonic()

    def visit(number: int) -> Answered:
        time.sleep(waits[number])
        return visitors[number].ask(wanted[number])

    with ThreadPoolExecutor(n) as pool:
        together = list(pool.map(visit, range(n)))
    wall = time.monotonic() - start
    say("one after another")
    start = time.monotonic()
    alone = [visitor.ask(ask) for visitor, ask in zip(visitors, wanted, strict=True)]
    alone_wall = time.monotonic() - start
    say("tabs that are closed")
    long = {**wanted[0], "prompt": _LONG, "heads": {}, "temperature": 0.0, "tokens": 400}
    closed = [seconds_until_over(server, long) for _ in range(2)]
    closed.append(_closed_in_the_queue(server, visitors[0], long))
    for visitor in visitors:
        visitor.close()
    after = quiet(server)
    return Measured(
        model, together, wall, alone, alone_wall, closed, before, after, (files, server.files())
    )


def _closed_in_the_queue(server: Server, holder: Visitor, long: dict[str, Any]) -> float:
    """The same of a tab that waits for its place while another visitor fills the batch."""
    server.state(most_rows=3)
    enough = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(holder.ask, long, until=enough)
        try:
            _until(lambda: server.state()["texts"] == 1)
            return seconds_until_over(server, {**long, "seed": 1}, others=1)
        finally:
            enough.set()
            held.result()
            server.state(most_rows=MOST_ROWS)


def seconds_until_over(server: Server, ask: dict[str, Any], others: int = 0) -> float:
    """A tab that is closed hard in the middle: until none of its work is left."""
    tab = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", "--visit", server.url],
        cwd=REPO,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert tab.stdin is not None
    tab.stdin.write(json.dumps(ask) + "\n")
    tab.stdin.flush()
    _until(lambda: server.state()["texts"] == others + 1)
    time.sleep(0.5)
    assert server.state()["texts"] == others + 1, "it was over before the tab was closed"
    tab.send_signal(signal.SIGKILL)
    began = time.monotonic()
    _until(lambda: server.state()["texts"] == others)
    seconds = time.monotonic() - began
    tab.wait()
    return seconds


def quiet(server: Server) -> dict[str, Any]:
    """How the server is once nobody asks any more."""
    _until(lambda: server.state()["texts"] == 0)
    return server.state()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("waited a minute for what should have come at once")
        time.sleep(0.01)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(round(share * len(values) + 0.5), len(values)) - 1]


def row(found: Measured) -> list[str]:
    """The table's row."""
    seconds = [one.seconds for one in found.together]
    firsts = [one.first for one in found.together]
    same = sum(a.texts == b.texts for a, b in zip(found.together, found.alone, strict=True))
    n = len(seconds)
    return [
        found.model,
        str(n),
        f"{median(seconds):.1f} s",
        f"{percentile(seconds, 0.95):.1f} s",
        f"{median(firsts):.1f} s",
        f"{max(seconds) / median(seconds):.1f}",
        f"{found.alone_wall:.1f} s / {found.wall:.1f} s = {found.alone_wall / found.wall:.1f}",
        f"{same} of {n}",
        " ".join(f"{seconds:.2f}" for seconds in found.closed) + " s",
        f"{found.before['memory']:.0f} → {found.after['memory']:.0f} MiB",
        f"{found.after['hooks']}, {found.after['rows']}, {found.files[1] - found.files[0]}",
    ]


HEADER = [
    "model",
    "visitors",
    "40 tokens, median",
    "p95",
    "first words, median",
    "longest / median",
    "one after another / together",
    "texts as alone",
    "closed tabs end after",
    "memory",
    "hooks, rows, files left",
]


@dataclass(frozen=True)
class Soaked:
    """What a long run gave."""

    minutes: float
    answers: int
    left: int
    errors: list[str]
    wrong: int
    checked: int
    memory: list[float]
    """MiB each minute, the first after the first minute."""
    before: dict[str, Any]
    after: dict[str, Any]
    files: tuple[int, int]


def soak(server: Server, model: str, n: int, minutes: float, say: Callable[[str], None]) -> Soaked:
    """Visitors that come and go for so long; each text is held against the one it gave alone."""
    with closing(Visitor(server.url)) as first:
        wanted = asks(first.usual, n, model)
        alone = [first.ask(one).texts for one in wanted]
    before, files = quiet(server), server.files()
    end, counting = time.monotonic() + 60 * minutes, threading.Lock()
    n_answers = n_left = n_wrong = 0
    errors: list[str] = []
    memory: list[float] = []

    def live(number: int) -> None:
        nonlocal n_answers, n_left, n_wrong
        draw = random.Random(number)
        while time.monotonic() < end:
            try:
                with closing(Visitor(server.url)) as visitor:
                    for _ in range(draw.randrange(1, 6)):
                        which = draw.randrange(n)
                        stay = draw.random() if draw.random() < 0.25 else float("inf")
                        got = visitor.ask(wanted[which], stay)
                        with counting:
                            n_answers += not got.left
                            n_left += got.left
                            n_wrong += not got.left and got.texts != alone[which]
                        time.sleep(draw.random())
            except Exception as error:  # told in the table
                errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=live, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(60.0, max(end - time.monotonic(), 0.0)))
        memory.append(server.state()["memory"])
        say(f"{n_answers} answers, {n_left} left, {memory[-1]:.0f} MiB")
    for thread in threads:
        thread.join()
    after = quiet(server)
    return Soaked(
        *(minutes, n_answers, n_left, errors, n_wrong, n_answers),
        memory,
        before,
        after,
        (files, server.files()),
    )


SOAK_HEADER = [
    "model",
    "visitors",
    "minutes",
    "answers",
    "left in the middle",
    "errors",
    "texts as alone",
    "memory after 1 minute, most, end",
    "hooks, rows, files left",
    "threads before, after",
]


def soak_row(model: str, n: int, found: Soaked) -> list[str]:
    """The table's row."""
    memory = found.memory
    return [
        model,
        str(n),
        f"{found.minutes:g}",
        str(found.answers),
        str(found.left),
        str(len(found.errors) or "none"),
        f"{found.checked - found.wrong} of {found.checked}",
        f"{memory[0]:.0f}, {max(memory):.0f}, {found.after['memory']:.0f} MiB",
        f"{found.after['hooks']}, {found.after['rows']}, {found.files[1] - found.files[0]}",
        f"{found.before['threads']}, {found.after['threads']}",
    ]


def put(header: list[str], row: list[str]) -> None:
    """Write one row into the tables of docs/reliability.md; the others stay."""
    before, rest = DOC.read_text(encoding="utf-8").split(BEGIN)
    inside, after = rest.split(END)
    tables: dict[str, dict[tuple[str, ...], str]] = {}
    current = ""
    for line in filter(None, inside.splitlines()):
        if line.startswith("| model"):
            current = line
        elif not line.startswith("|---") and current:
            tables.setdefault(current, {})[tuple(line.split(" | ")[:2])] = line
    new = f"| {' | '.join(row)} |"
    tables.setdefault(f"| {' | '.join(header)} |", {})[tuple(new.split(" | ")[:2])] = new
    lines: list[str] = [BEGIN]
    for first, rows in sorted(tables.items(), key=lambda one: "minutes" in one[0]):
        lines += ["", first, "|---" * (first.count("|") - 1) + "|", *rows.values()]
    DOC.write_text(before + "\n".join([*lines, "", END]) + after, encoding="utf-8")


@contextmanager
def started(model: str) -> Iterator[Server]:
    """A server of its own, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="headviz-load-") as folder:
        server = Server(model, Path(folder))
        try:
            yield server
        finally:
            server.stop()


def build_parser() -> argparse.ArgumentParser:
    """The options of scripts/load."""
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__)
    parser.add_argument("--model", default="tiny-lm", help=f"one of {', '.join(VISITORS)}")
    parser.add_argument("--visitors", type=int, metavar="N", help="30 for tiny-lm, 10 for others")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="come and go for so long")
    parser.add_argument("--write", action="store_true", help="write into docs/reliability.md")
    for hidden in ("--serve", "--store", "--visit"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive the load and print the table; the exit status."""
    parsed = build_parser().parse_args(arguments)
    if parsed.serve:
        serve(parsed.serve, Path(parsed.store))
        return 0
    if parsed.visit:
        Visitor(parsed.visit).ask(json.loads(sys.stdin.readline()))
        return 0
    n = parsed.visitors or VISITORS.get(parsed.model, 10)
    with started(parsed.model) as server:
        if parsed.soak:
            soaked = soak(server, parsed.model, n, parsed.soak, _say)
            header, line = SOAK_HEADER, soak_row(parsed.model, n, soaked)
            for error in sorted(set(soaked.errors))[:5]:
                _say(error)
        else:
            found = measure(server, parsed.model, n, _say)
            header, line = HEADER, row(found)
    for name, value in zip(header, line, strict=True):
        print(f"{name}: {value}")
    if parsed.write:
        put(header, line)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
