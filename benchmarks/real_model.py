"""A real model beside plain transformers, in one run: loading, reading heads, ranking, answering.

Every time is a median, of runs in turn with what it is held against, so that a busy machine slows
both alike: the ratio says more than the seconds. Wants a model with a chat template, by name.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from headviz.base.store import Store
from headviz.editing.compare import CompareRequest
from headviz.editing.generate import Sampling
from headviz.heads.capture import capture
from headviz.heads.edits import Edit
from headviz.heads.forward import batch_of
from headviz.heads.pooling import CPU_BATCH_TOKENS
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.session.session import Session

Row = tuple[str, float, float | None, str]
"""What was done, its seconds, those of what it is held against, and what that is."""
Say = Callable[[str], None]
_PROMPT = (
    "Write a short story about a harvest in autumn, in which an old farmer and his two children "
    "bring in the apples before the first frost comes."
)


def bench_real_model(
    session: Session, name: str, quick: bool, say: Say
) -> tuple[dict[str, Any], str]:
    """All times as plain data, and as a table. The session's own cache is not used."""
    times, n_tokens, n_texts = (1, 8, 48) if quick else (5, 60, 192)
    with TemporaryDirectory() as folder:
        session.store = Store(Path(folder))
        start = time.perf_counter()
        model = session.model(name)
        rows: list[Row] = [("load", time.perf_counter() - start, None, "")]
        say("loaded")
        texts = PromptSet("part", session.prompt_set(name).texts[:n_texts])
        rows += _reading(model, texts, times)
        say("heads read")
        rows += _ranking(session, name, texts)
        say("ranked")
        rows += _answering(session, name, model, n_tokens, times)
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


def _reading(model: LoadedModel, texts: PromptSet, times: int) -> list[Row]:
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


def _ranking(session: Session, name: str, texts: PromptSet) -> list[Row]:
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


def _answering(
    session: Session, name: str, model: LoadedModel, n_tokens: int, times: int
) -> list[Row]:
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


def _table(rows: list[Row]) -> str:
    lines = [f"{'what':<44} {'seconds':>8} {'beside':>8} {'ratio':>6}"]
    for what, seconds, beside, which in rows:
        held = f"{beside:>8.2f} {seconds / beside:>6.2f}  {which}" if beside else ""
        lines.append(f"{what:<44} {seconds:>8.2f} {held}".rstrip())
    return "\n".join(lines)
