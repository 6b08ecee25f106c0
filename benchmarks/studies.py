"""`python -m benchmarks studies`: how long a study takes, against the plain way of the same run.

The plain way asks transformers' own `generate` for one prompt at a time, the edit applied by the
same hooks; for ablation, one whole pass a head. Both do the same work on as much as can be waited
for, and what they say is compared.
"""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import torch

from headviz.base.head import Head
from headviz.heads.edits import applied, factor_table
from headviz.heads.prompts import encode_prompt
from headviz.models.loaded import LoadedModel
from headviz.session.session import Session
from headviz.studies.arms import CAUSAL_SAMPLES
from headviz.studies.built_in import TEXT_MODEL
from headviz.studies.causal import ablation
from headviz.studies.cells import Cell, grid, settings_of, shards_of
from headviz.studies.qa import plan
from headviz.studies.request import Plan, Request
from headviz.studies.run_cells import Task, batched, run_batch
from headviz.studies.samples import cut_at
from headviz.studies.teacher_forcing import Forced, force, log_probability, read

SAMPLES, KS, ALPHAS, DRAWS = 200, (1, 3, 8), (-1.0, 0.0), 10
"""The study that is meant: its evaluation samples, numbers of heads, factors, random draws."""
SHARD = 25
TARGETS = {"study": 600.0, "ratio": 5.0, "ablation": 60.0}
"""Seconds on two cores, and how many times quicker than the plain way."""


@dataclass(frozen=True)
class Measured:
    """One job, by the studies' way and by the plain way, in seconds."""

    job: str
    on: str
    """What was run of it."""
    seconds: float
    plain: float
    same: str
    """How far both said the same."""
    whole: float
    """The whole job by the studies' way, scaled from what was run."""
    target: float

    @property
    def ratio(self) -> float:
        """How many times quicker than the plain way."""
        return self.plain / self.seconds


def bench_studies(
    session: Session, quick: bool = False, say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], str]:
    """Measure a study's cells and exhaustive ablation: plain data, and the text for people."""
    model = session.model(TEXT_MODEL)
    made = plan(Request("qa", TEXT_MODEL, limit=SHARD if quick else 4 * SHARD), model)
    forced = [force(model, sample) for sample in made.causal[:CAUSAL_SAMPLES]]
    threads = torch.get_num_threads()
    lines = [f"{platform.machine()}, {threads} threads, torch {torch.__version__}, {model.name}"]
    rows = []
    for measured in (
        bench_cells(model, made, 2 if quick else 12),
        bench_ablation(model, forced[:: len(forced) // (1 if quick else 10)], 4 if quick else 32),
    ):
        rows.append(measured)
        lines.append(_line(measured))
        say(lines[-1])
    data = {
        "date": date.today().isoformat(),
        "threads": threads,
        "torch": torch.__version__,
        "quick": quick,
        "table": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }
    return data, "\n".join(lines)


def bench_cells(model: LoadedModel, made: Plan, n_settings: int) -> Measured:
    """Cells of one shard of middling length, in shared batches and prompt by prompt."""
    orders = {"pursuit": [Head(0, index) for index in range(model.n_heads)], "random": ()}
    settings = settings_of(orders, KS, ALPHAS, DRAWS, (model.head_layers, model.n_heads))
    n_whole = 1 + len(KS) * len(ALPHAS) * (4 + DRAWS)  # four arms that score heads
    shards = [s for s in shards_of(made.material, SHARD) if s.task == "answers"]
    some = dict(list(settings.items())[:n_settings])
    cells = grid(some, [shards[len(shards) // 2]], {})
    task = Task(made.score, made.max_new_tokens, made.material.stops)
    start = time.perf_counter()
    said = [
        result["texts"]
        for batch in batched(cells, model, made.max_new_tokens)
        for _, result in run_batch(model, batch, task)
    ]
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    plain = [_one_by_one(model, cell, made) for cell in cells]
    pairs = [
        pair
        for ours, theirs in zip(said, plain, strict=True)
        for pair in zip(ours, theirs, strict=True)
    ]
    n_rows = len(pairs)
    return Measured(
        job=f"the answers of a study: {SAMPLES} samples, {n_whole} edits",
        on=f"{n_rows} answers",
        seconds=seconds,
        plain=time.perf_counter() - start,
        same=f"{sum(ours == theirs for ours, theirs in pairs)} of {n_rows} answers",
        whole=seconds / n_rows * SAMPLES * n_whole,
        target=TARGETS["study"],
    )


@torch.inference_mode()
def _one_by_one(model: LoadedModel, cell: Cell, made: Plan) -> list[str]:
    """What transformers' `generate` answers, a prompt at a time."""
    cut, table = cut_at(made.material.stops), factor_table(model, [cell.edit])
    texts = []
    for sample in cell.shard.samples:
        ids = torch.tensor([encode_prompt(model, sample.prompt).ids], device=model.device)
        with applied(model, table):
            found = model.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=made.max_new_tokens,
                do_sample=False,
            )
        own = found[0, ids.shape[1] :]
        texts.append(cut(model.tokenizer.decode(own, skip_special_tokens=True)))
    return texts


def bench_ablation(model: LoadedModel, forced: Sequence[Forced], n_heads: int) -> Measured:
    """All heads on some prompts, and some of the heads on the first of them by whole passes."""
    start = time.perf_counter()
    ablation(model, forced)
    seconds = time.perf_counter() - start
    alone = ablation(model, forced[:1])
    step = model.total_heads // n_heads
    heads = [Head(n // model.n_heads, n % model.n_heads) for n in range(0, model.total_heads, step)]
    start = time.perf_counter()
    plain = [_without(model, forced[0], head) for head in heads]
    each = (time.perf_counter() - start) / len(heads)
    base = _without(model, forced[0], None)
    off = max(
        abs(base - value - alone[head.layer, head.index].item())
        for head, value in zip(heads, plain, strict=True)
    )
    return Measured(
        job=f"exhaustive ablation: {model.total_heads} heads, {CAUSAL_SAMPLES} prompts",
        on=f"{len(forced)} prompts",
        seconds=seconds,
        plain=each * model.total_heads * len(forced),
        same=f"{len(heads)} heads of a prompt within {off:.0e} nats",
        whole=seconds / len(forced) * CAUSAL_SAMPLES,
        target=TARGETS["ablation"],
    )


@torch.inference_mode()
def _without(model: LoadedModel, forced: Forced, head: Head | None) -> float:
    ones = torch.ones(1, model.n_layers, model.n_heads, dtype=model.dtype, device=model.device)
    if head is not None:
        ones[0, head.layer, head.index] = 0
    return log_probability(model, *read(model, [forced]), ones).item()


def _line(row: Measured) -> str:
    return (
        f"{row.job}: {row.whole:.0f} s (target {row.target:.0f}), scaled from {row.seconds:.1f} s "
        f"for {row.on}; the plain way {row.plain:.1f} s, ratio {row.ratio:.1f} "
        f"(target {TARGETS['ratio']:g}); same: {row.same}"
    )
