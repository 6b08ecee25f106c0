"""A real model beside plain transformers: the page's start, reading, ranking, answers, cause.

Short times are medians, of runs in turn with what they are held against, so that a busy machine
slows both alike: the ratio says more than the seconds. Wants a model with a chat template, by name.
"""

import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from headviz.base.errors import OptionError
from headviz.base.store import Store
from headviz.editing.compare import CompareRequest
from headviz.editing.find import Found, Search, Step
from headviz.editing.generate import Sampling
from headviz.heads.capture import capture
from headviz.heads.edits import Edit
from headviz.heads.forward import batch_of
from headviz.heads.pooling import CPU_BATCH_TOKENS
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import Concept, find_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.session.causal import JUDGE, Causes
from headviz.session.session import Session
from headviz.session.shipped import load_shipped

ROOT = Path(__file__).resolve().parent.parent
Row = tuple[str, float, float | None, str]
"""What was done, its seconds, those of what it is held against, and what that is."""
Say = Callable[[str], None]
_PROMPT = (
    "Write a short story about a harvest in autumn, in which an old farmer and his two children "
    "bring in the apples before the first frost comes."
)


@dataclass(frozen=True)
class Bench:
    """What every part of the benchmark works on."""

    session: Session
    name: str
    model: LoadedModel
    texts: PromptSet
    n_tokens: int
    times: int


def bench_real_model(
    session: Session, name: str, quick: bool, parts: Sequence[str], say: Say
) -> tuple[dict[str, Any], str]:
    """All times of these parts as plain data, and as a table. The session's own cache is not used.

    Raises OptionError for an unknown part.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise OptionError(f"Unknown part {unknown[0]!r}. Known: {', '.join(PARTS)}.")
    times, n_tokens, n_texts = (1, 8, 48) if quick else (5, 60, 192)
    with TemporaryDirectory() as folder:
        session.store = Store(Path(folder))
        start = time.perf_counter()
        model = session.model(name)
        rows: list[Row] = [("load", time.perf_counter() - start, None, "")]
        say("loaded")
        texts = PromptSet("part", session.prompt_set(name).texts[:n_texts])
        bench = Bench(session, name, model, texts, n_tokens, times)
        for part in parts or PARTS:
            rows += PARTS[part](bench)
            say(f"{part} done")
    return {"model": name, "threads": torch.get_num_threads(), "times": rows}, _table(rows)


def _in_turn(runs: Mapping[str, Callable[[], Any]], times: int) -> dict[str, float]:
    """Median seconds of each, run in turn after one run of each that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(times + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _starting(bench: Bench) -> list[Row]:
    """The server in a process of its own, and what it shows first, read in this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port)]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as server:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60):
                    break
            except OSError:
                time.sleep(0.02)
        answers = time.perf_counter() - start
        server.terminate()
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio, torch"], check=True)
    imports = time.perf_counter() - start
    shown = _in_turn({"shipped": lambda: load_shipped(bench.name)}, bench.times)
    return [
        ("the page answers after python app.py", answers, imports, "import gradio, torch"),
        ("what ships is read", shown["shipped"], None, ""),
    ]


def _reading(bench: Bench) -> list[Row]:
    model, texts, times = bench.model, bench.texts, bench.times
    prompts = sorted((encode_prompt(model, t) for t in texts.texts), key=lambda p: len(p.ids))
    size = max(1, CPU_BATCH_TOKENS // len(prompts[-1].ids))
    batches = [
        batch_of(model, prompts[at : at + size], left=False) for at in range(0, len(prompts), size)
    ]

    @torch.inference_mode()
    def plain() -> None:
        for batch in batches:
            model.model.base_model(**batch.inputs(), use_cache=False)

    found = _in_turn(
        {
            "plain": plain,
            "last": lambda: capture(model, texts, "last"),
            "prompt": lambda: capture(model, texts),
        },
        times,
    )
    against = f"plain forward passes over {len(texts)} whole texts"
    return [
        ("heads read at the last token", found["last"], found["plain"], against),
        ("heads read at the prompt's words", found["prompt"], found["plain"], against),
    ]


def _ranking(bench: Bench) -> list[Row]:
    session, name, texts = bench.session, bench.name, bench.texts
    start = time.perf_counter()
    stream = session.rank_stream(name, find_concept("colors", None), texts)
    next(stream)
    first = time.perf_counter() - start
    for _ in stream:
        pass
    seconds = []
    for concept in ("countries", "months", "animals"):
        start = time.perf_counter()
        session.rank(name, find_concept(concept, None), texts)
        seconds.append(time.perf_counter() - start)
    return [
        ("first ranking, from 16 texts", first, None, ""),
        ("a further concept", statistics.median(seconds), None, ""),
    ]


def _answering(bench: Bench) -> list[Row]:
    session, name, model = bench.session, bench.name, bench.model
    n_tokens, times = bench.n_tokens, bench.times
    ids = torch.tensor([encode_prompt(model, _PROMPT).ids], device=model.device)
    last = model.head_layers[-1]
    edit = Edit.parse(f"L{last}.H0=-1,L{last - 1}.H1=-1,L{last - 2}.H2=-1")

    def plain() -> None:
        model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_tokens,
            min_new_tokens=n_tokens,
            do_sample=False,
            pad_token_id=model.tokenizer.pad_token_id,
        )

    def columns(n: int) -> None:
        for _ in session.compare(name, CompareRequest(_PROMPT, edit, sampling=Sampling(n))):
            pass

    def first_word() -> None:
        next(session.compare(name, CompareRequest(_PROMPT, edit, sampling=Sampling(n_tokens))))

    found = _in_turn(
        {"plain": plain, "three": lambda: columns(n_tokens), "first": first_word}, times
    )
    return [
        (f"three columns of {n_tokens} tokens", found["three"], found["plain"], "plain generate"),
        (f"first word after a prompt of {ids.shape[1]} tokens", found["first"], None, ""),
    ]


def _finding(bench: Bench) -> list[Row]:
    causes, concept = Causes(bench.session), find_concept("colors", None)
    start, first, found = time.perf_counter(), 0.0, None
    for found in causes.find(bench.name, concept, Search()):
        if not first and isinstance(found, Step) and len(found.edit.factors) == Search().heads:
            first = time.perf_counter() - start
    whole = time.perf_counter() - start
    assert isinstance(found, Found)
    effect = found.found.effect
    told = f"finds {effect.need:.1f} nats at {effect.side:.2f} elsewhere, unseen texts"
    plain = _plain_passes(bench, causes, concept)
    return [
        ("first edit of a search, of 8 heads", first, None, ""),
        ("a search, judged beside 30 random sets", whole, plain, f"plain passes; {told}"),
    ]


def _turning(bench: Bench) -> list[Row]:
    causes, concept = Causes(bench.session), find_concept("colors", None)
    start = time.perf_counter()
    heads = causes.ranking(bench.name, concept).top(20)
    texts = causes.prompt_set(bench.name)
    causes.estimate(bench.name, concept, texts)
    for _ in causes.effects(bench.name, concept, texts, heads):
        pass
    seconds = time.perf_counter() - start
    plain = _plain_passes(bench, causes, concept)
    return [("the effect of twenty heads", seconds, 20 * plain, "20 plain passes")]


def _plain_passes(bench: Bench, causes: Causes, concept: Concept) -> float:
    """Seconds of plain forward passes over the texts on which edits are judged."""
    reader = causes.reader(bench.name, concept, causes.prompt_set(bench.name), JUDGE)
    start = time.perf_counter()
    for part in reader.parts:
        with torch.inference_mode():
            bench.model.model.base_model(**part.replay.batch.inputs(), use_cache=False)
    return time.perf_counter() - start


PARTS: Mapping[str, Callable[[Bench], list[Row]]] = {
    "start": _starting,
    "read": _reading,
    "rank": _ranking,
    "answer": _answering,
    "effect": _turning,
    "find": _finding,
}
"""Name -> what measures it, in the order in which they run."""


def _table(rows: list[Row]) -> str:
    lines = [f"{'what':<44} {'seconds':>8} {'beside':>8} {'ratio':>6}"]
    for what, seconds, beside, which in rows:
        held = f"{beside:>8.2f} {seconds / beside:>6.2f}  {which}" if beside else ""
        lines.append(f"{what:<44} {seconds:>8.2f} {held}".rstrip())
    return "\n".join(lines)
