"""Kills, fills and damages while headviz writes, then starts it again and looks.

`scripts/faults` tries all of it and writes the table of docs/reliability.md; the tests try a few.
Each fault strikes at a random moment or byte, from a seed. Afterwards the same work is done again
in the same folder, as a person would, and three things are held:

- what comes out is what comes out undisturbed, bit for bit: nothing damaged was read;
- what was whole before is the same file afterwards: nothing finished was done again;
- what is said is nothing, or one sentence.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tiny_gguf import write_gguf
from tiny_models import make_model
from transformers.utils import logging

from headviz.base.errors import HeadvizError
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.bake import write_checkpoint
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.prompt_sets import make_prompt_set
from headviz.models.gguf import convert
from headviz.models.loaded import LoadedModel
from headviz.models.places import Folder as ModelFolder
from headviz.session.open_model import open_model
from headviz.session.session import Session
from headviz.studies import run_cells
from headviz.studies.finding import find
from headviz.studies.request import Request
from headviz.studies.study import lay_out, run
from headviz.studies.summary import rows_of
from headviz.studies.write import write_outcome

# A killed process would keep the lock that bars of one family of processes share.
logging.disable_progress_bar()

REPO = Path(__file__).resolve().parent.parent
DOC = REPO / "docs" / "reliability.md"
BEGIN, END = "<!-- scripts/faults writes from here -->", "<!-- to here -->"


@dataclass
class Seen:
    """What came of the faults of one row."""

    n: int = 0
    struck: int = 0
    """In the middle of the work: it had begun and not ended."""
    wrong: list[str] = field(default_factory=list)
    """What was promised and is not so."""
    sentences: list[str] = field(default_factory=list)

    def hold(self, promise: bool, what: str) -> None:
        if not promise:
            self.wrong.append(what)


# What is written. Each does its work in a folder, or what is left of it to do, and returns a digest
# of all that came out.


class Work:
    """What headviz writes to be read again."""

    name: str
    pattern: str
    """Of the files that are finished once they are there, in the folder."""
    beginning: str
    """Of the names of what is not finished."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root

    def do(self, folder: Path) -> str:
        raise NotImplementedError

    def finished(self, folder: Path) -> dict[str, int]:
        """File -> the inode, which changes when it is written anew."""
        found = {}
        for path in folder.glob(self.pattern):
            with suppress(OSError):
                found[str(path.relative_to(folder))] = path.stat().st_ino
        return found

    def left_over(self, folder: Path) -> list[str]:
        return [p.name for p in folder.rglob(f"{self.beginning}*")]


class Cache(Work):
    name, pattern, beginning = "the cache", "*.safetensors", ".writing-"
    sets = 5

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.model = str(make_model("llama", root / "llama"))
        self.texts = [
            make_prompt_set(f"set {n}", [f"the {w} is {n} and red" for w in ("cat", "dog", "fish")])
            for n in range(self.sets)
        ]
        self.loaded: LoadedModel = open_model(self.model, "cpu")

    def session(self, folder: Path) -> Session:
        session = Session(Store(folder), device="cpu")
        # The model is in memory already: what is tried is the writing.
        session._model_cache.find_or_open(self.model, lambda *_: self.loaded)
        return session

    def do(self, folder: Path) -> str:
        session, digest = self.session(folder), hashlib.sha256()
        for texts in self.texts:
            digest.update(session.activations(self.model, texts).z.numpy().tobytes())
        for n in range(6):  # of the size of real ones
            key, entry = f"large{n}", session.store.get(f"large{n}")
            if entry is None:
                z = torch.arange(400_000, dtype=torch.float32) + n
                with suppress_notice(session):
                    session.store.put(key, {"z": z}, {"n": n})
                entry = {"z": z}, {"n": n}
            digest.update(entry[0]["z"].numpy().tobytes() + json.dumps(entry[1]).encode())
        for notice in session.take_notices():
            say(notice)
        return digest.hexdigest()


@contextmanager
def suppress_notice(session: Session) -> Iterator[None]:
    """As the session itself does: what the disk does not take is a notice, and the work goes on."""
    try:
        yield
    except HeadvizError as error:
        if str(error) not in session.notices:
            session.notices.append(str(error))


class Studies(Cache):
    name, pattern = "a study", "out/cells/*.jsonl"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        colors = ("red", "blue", "cat", "dog")
        lines = [f"what color has the house {i} in\t['{colors[i % 4]}']\n" for i in range(60)]
        (root / "questions.tsv").write_text("".join(lines))
        self.request = Request(
            "qa",
            self.model,
            data=str(root / "questions.tsv"),
            concept="colors",
            ks=("1", "25%"),
            draws=2,
            selection=10,
            limit=8,
            prompt="{question}",
            max_new_tokens=2,
        )
        run_cells.row_tokens = lambda model: 100  # many small batches

    def do(self, folder: Path) -> str:
        session = self.session(folder / "store")
        finished = run(session, lay_out(session, self.request, folder / "out"))
        rows = rows_of(finished)
        write_outcome(finished, rows, find(finished))
        for notice in session.take_notices():
            say(notice)
        return hashlib.sha256((folder / "out" / "summary.csv").read_bytes()).hexdigest()


class Bakes(Work):
    name, pattern, beginning = "a baked checkpoint", "baked*/SHA256SUMS", ".baked"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.loaded = open_model(str(make_model("llama", root / "llama")), "cpu")

    def do(self, folder: Path) -> str:
        digest = hashlib.sha256()
        for n in range(4):
            out = folder / f"baked{n}"
            if not out.exists():
                edit = Edit({Head(0, n): -1.0})
                write_checkpoint(self.loaded, Recipe(self.loaded.name, "", edit), out)
            ModelFolder(out).bring(None)  # type: ignore[arg-type]
            digest.update((out / "model.safetensors").read_bytes())
        return digest.hexdigest()


class Conversions(Work):
    name, pattern, beginning = "a converted model", "models/gguf-*/SHA256SUMS", ".gguf-"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.file = write_gguf(root / "tiny.Q8_0.gguf", "Q8_0")

    def do(self, folder: Path) -> str:
        before = os.environ.get("HEADVIZ_CACHE")
        os.environ["HEADVIZ_CACHE"] = str(folder)
        try:
            made, _ = convert([self.file])
        finally:
            os.environ.pop("HEADVIZ_CACHE")
            if before is not None:
                os.environ["HEADVIZ_CACHE"] = before
        return hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()


WORKS = (Cache, Studies, Bakes, Conversions)


# A start of headviz: a process of its own, forked, so that two hundred do not take an hour.

_SAID: list[str] = []


def say(sentence: str) -> None:
    _SAID.append(sentence)


@dataclass
class Start:
    """A running process, and where it tells how it ended."""

    pid: int
    told: int

    def end(self) -> dict[str, Any]:
        """What it told, once it has ended: digest, sentences; empty where it was killed."""
        text = b""
        while chunk := os.read(self.told, 2**16):
            text += chunk
        os.close(self.told)
        os.waitpid(self.pid, 0)
        return json.loads(text) if text else {}

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def start(work: Work, folder: Path, limit: Callable[[], None] = lambda: None) -> Start:
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return Start(pid, told)
    os.close(told)
    answer: dict[str, Any] = {"digest": "", "sentences": []}
    try:
        torch.set_num_threads(1)
        _SAID.clear()
        limit()
        answer["digest"] = work.do(folder)
    except HeadvizError as error:
        say(str(error))
    except BaseException as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    answer["sentences"] = _SAID
    os.write(tell, json.dumps(answer).encode())
    os._exit(0)


def undisturbed(work: Work, folder: Path) -> tuple[str, float]:
    """What comes out, and how long that takes."""
    began = time.monotonic()
    answer = start(work, folder).end()
    assert "error" not in answer and not answer["sentences"], answer
    return answer["digest"], time.monotonic() - began


def go_on(work: Work, folder: Path, truth: str, seen: Seen, damaged: str = "") -> None:
    """The next start, and what is held of it. What is `damaged` may be done again, nothing else."""
    before = work.finished(folder)
    for path in folder.rglob(f"{work.beginning}*"):  # an hour has passed
        for inside in (path, *path.rglob("*")):
            with suppress(OSError):
                os.utime(inside, (time.time() - 7200,) * 2)
    answer = start(work, folder).end()
    seen.hold("error" not in answer, f"{answer.get('error')}")
    said = answer.get("sentences", [])
    seen.sentences += said
    seen.hold(len(said) <= 1 and all("\n" not in one for one in said), f"it says {said}")
    seen.hold(answer.get("digest") == truth or bool(said), "what comes out is something else")
    after = work.finished(folder)
    for name, inode in before.items():
        if name != damaged and not (damaged and name.split("/")[0] == damaged.split("/")[0]):
            seen.hold(after.get(name) == inode, f"{name} was whole and was written again")
    if answer.get("digest") == truth and after != before:  # the next to write tidies up
        seen.hold(not work.left_over(folder), f"left over: {work.left_over(folder)}")


# The faults.


def killed(work: Work, n: int, seed: int) -> Seen:
    """kill -9 at a random moment of the work."""
    seen, draw = Seen(), random.Random(seed)
    with places(work) as place:
        truth, seconds = undisturbed(work, place())
        for _ in range(n):
            folder = place()
            running = start(work, folder)
            time.sleep(draw.uniform(0, seconds))
            running.kill()
            seen.struck += not running.end()
            seen.n += 1
            settle(work, folder)
            go_on(work, folder, truth, seen)
    return seen


def settle(work: Work, folder: Path) -> None:
    """Wait for what a killed process had started itself: it ends with the pipe to it."""
    if not isinstance(work, Conversions):
        return
    before: list[str] | None = None
    for _ in range(100):
        now = sorted(f"{p}:{p.stat().st_size}" for p in folder.rglob("*") if p.is_file())
        if now == before:
            return
        before = now
        time.sleep(0.3)


def together(work: Work, n: int, seed: int) -> Seen:
    """Two processes do the same work in one folder; in every other try one of them is killed."""
    seen, draw = Seen(), random.Random(seed)
    with places(work) as place:
        truth, seconds = undisturbed(work, place())
        for turn in range(n):
            folder = place()
            pair = [start(work, folder) for _ in range(2)]
            if turn % 2:
                time.sleep(draw.uniform(0, seconds))
                pair[0].kill()
            first, second = (one.end() for one in pair)
            seen.n += 1
            seen.struck += not first or not turn % 2
            for answer in filter(None, (first, second)):
                seen.hold("error" not in answer, f"{answer.get('error')}")
                told = answer.get("sentences", [])
                # Of two that write one new checkpoint, one is told that it is there.
                fits = answer.get("digest") == truth or (isinstance(work, Bakes) and told)
                seen.hold(bool(fits) and len(told) <= 1, f"of two: {told or 'something else'}")
            go_on(work, folder, truth, seen)
    return seen


def full(work: Work, n: int, seed: int) -> Seen:
    """The disk takes no more, from a random byte on: as a limit of a file's size."""
    seen, draw = Seen(), random.Random(seed)
    with places(work) as place:
        whole = place()
        truth, _ = undisturbed(work, whole)
        largest = max(p.stat().st_size for p in whole.rglob("*") if p.is_file())
        for _ in range(n):
            folder, most = place(), int(largest ** draw.uniform(0.3, 1))
            answer = start(work, folder, lambda most=most: no_more_than(most)).end()
            of_full(answer, truth, seen)
            go_on(work, folder, truth, seen)
    return seen


def of_full(answer: dict[str, Any], truth: str, seen: Seen) -> None:
    seen.n += 1
    said = answer.get("sentences", [])
    seen.struck += bool(said)
    seen.hold("error" not in answer, f"{answer.get('error')}")
    seen.hold(len(said) <= 1, f"it says {said}")
    seen.hold(answer.get("digest") in ("", truth), "what comes out is something else")
    seen.hold(bool(said) or answer.get("digest") == truth, "nothing comes out and nothing is said")
    seen.sentences += said


def no_more_than(n_bytes: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def small_disk(work: Work, n: int, seed: int) -> Seen | None:
    """A small disk of its own that fills; then it grows. None where none may be mounted."""
    seen, draw = Seen(), random.Random(seed)
    with places(work) as place:
        whole = place()
        truth, _ = undisturbed(work, whole)
        needed = sum(p.stat().st_size for p in whole.rglob("*") if p.is_file())
        for _ in range(n):
            folder = place()
            if not mount(folder, int(needed * draw.uniform(0.05, 0.95))):
                return None
            try:
                of_full(start(work, folder).end(), truth, seen)
                mount(folder, 20 * needed + 2**24, "remount,")
                go_on(work, folder, truth, seen)
            finally:
                subprocess.run(["umount", str(folder)], check=True)
    return seen


def mount(folder: Path, n_bytes: int, how: str = "") -> bool:
    options = f"{how}size={max(n_bytes, 8192)}"
    command = ["mount", "-t", "tmpfs", "-o", options, "headviz-faults", str(folder)]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def damaged(work: Work, n: int, seed: int) -> Seen:
    """A random file of those that are kept is cut, or one random bit of it is turned."""
    seen, draw = Seen(), random.Random(seed)
    with places(work) as place:
        whole = place()
        truth, _ = undisturbed(work, whole)
        files = [p for p in sorted(whole.rglob("*")) if p.is_file() and p.stat().st_size]
        files = [p for p in files if is_kept(p.relative_to(whole))]
        for turn in range(n):
            folder = place()
            shutil.copytree(whole, folder, dirs_exist_ok=True)
            victim = folder / draw.choice(files).relative_to(whole)
            content = bytearray(victim.read_bytes())
            at = draw.randrange(len(content))
            if turn % 2:
                del content[at:]
            else:
                content[at] ^= 1 << draw.randrange(8)
            victim.write_bytes(content)
            seen.n += 1
            seen.struck += 1
            go_on(work, folder, truth, seen, damaged=str(victim.relative_to(folder)))
    return seen


def is_kept(path: Path) -> bool:
    """Whether headviz reads the file again: a study's tables and figures are only for people."""
    kept = "cells" in path.parts or path.name == "config.json"
    only_for_people = path.parts[0] == "out" and not kept
    return not only_for_people and path.suffix not in (".lock", ".md")


@contextmanager
def places(work: Work) -> Iterator[Callable[[], Path]]:
    """New empty folders, all gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir=work.root) as root:
        yield lambda: Path(tempfile.mkdtemp(dir=root))


FAULTS: dict[str, Callable[[Work, int, int], Seen | None]] = {
    "kill -9 at a random moment": killed,
    "two processes at once, one of them killed in every other try": together,
    "the disk takes no more from a random byte on": full,
    "a small disk fills, and grows": small_disk,
    "a file is cut, or one bit of it is turned": damaged,
}
TIMES: dict[str, tuple[int, int, int, int]] = {
    "kill -9 at a random moment": (116, 20, 60, 4),
    "two processes at once, one of them killed in every other try": (20, 2, 20, 2),
    "the disk takes no more from a random byte on": (20, 4, 20, 2),
    "a small disk fills, and grows": (10, 2, 10, 1),
    "a file is cut, or one bit of it is turned": (60, 8, 60, 2),
}
"""Fault -> how often scripts/faults tries it on each of WORKS: 200 kills in all."""
FEW: dict[str, tuple[int, int, int, int]] = {
    "kill -9 at a random moment": (4, 1, 3, 0),
    "two processes at once, one of them killed in every other try": (2, 0, 2, 0),
    "the disk takes no more from a random byte on": (2, 1, 2, 0),
    "a file is cut, or one bit of it is turned": (4, 1, 3, 0),
}
"""The same for `--few`, which the tests run: it writes no table."""


def row(fault: str, work: Work, seen: Seen | None) -> str:
    if seen is None:
        return f"| {fault} | {work.name} | – | – | not tried: only root may mount a disk | – |"
    n_wrong, said = len(seen.wrong), len(seen.sentences)
    cells = (fault, work.name, seen.n, seen.struck, n_wrong or "none", said or "none")
    return f"| {' | '.join(map(str, cells))} |"


HEADER = (
    "| fault | of | times | in the middle | promises broken | sentences said |",
    "|---|---|---|---|---|---|",
)


def main() -> int:
    """Try all of it, or the kinds of work that are named; returns 1 where a promise was broken."""
    few = "--few" in sys.argv
    only, broken = [name for name in sys.argv[1:] if name != "--few"], 0
    times = FEW if few else TIMES
    with tempfile.TemporaryDirectory(prefix="headviz-faults-") as root:
        for number, make in enumerate(WORKS):
            if only and make.__name__ not in only:
                continue
            if not any(times[fault][number] for fault in times):
                continue
            work = make(Path(root) / make.__name__)
            for fault, strike in FAULTS.items():
                n, began = times.get(fault, (0,) * len(WORKS))[number], time.monotonic()
                if not n:
                    continue
                seen = strike(work, n, seed=number)
                if not few:
                    put(fault, work, seen)
                print(row(fault, work, seen), f"{time.monotonic() - began:.0f} s", flush=True)
                for wrong in sorted(set(seen.wrong)) if seen else ():
                    broken += 1
                    print(f"    {wrong}", flush=True)
                for said in sorted(set(seen.sentences))[:3] if seen else ():
                    print(f"    says: {said}", flush=True)
    return int(broken > 0)


def put(fault: str, work: Work, seen: Seen | None) -> None:
    """Write one row into the table, which keeps its order and all others."""
    before, rest = DOC.read_text(encoding="utf-8").split(BEGIN)
    inside, after = rest.split(END)
    rows = {tuple(line.split(" | ")[:2]): line for line in inside.splitlines() if " | " in line}
    new = row(fault, work, seen)
    rows[tuple(new.split(" | ")[:2])] = new
    order = [(f"| {fault}", kind.name) for kind in WORKS for fault in FAULTS]
    table = [*HEADER, *(rows[key] for key in order if key in rows)]
    DOC.write_text(before + "\n".join((BEGIN, "", *table, "", END)) + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
