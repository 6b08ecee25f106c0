"""One study from the request to its finished cells: plan, rankings, grid, run, resume.

Everything that takes time is written as it ends. Reports are made of what is returned here.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor
from headviz.base.store import key_of
from headviz.heads.capture import Progress, no_progress
from headviz.heads.edits import Edit
from headviz.models.loaded import LoadedModel
from headviz.session.session import Session
from headviz.studies.arms import ARMS, CAUSAL_SAMPLES, Selecting, in_order
from headviz.studies.cells import Cell, Setting, grid, head_counts, settings_of, shards_of
from headviz.studies.folder import StudyFolder
from headviz.studies.registry import find_experiment
from headviz.studies.request import Plan, Request
from headviz.studies.run_cells import Task, batched, run_batch

SHARD = 25
"""Samples that are run together."""


@dataclass(frozen=True, eq=False)
class Study:
    """A study that is laid out: what is to run, and what of it is done."""

    request: Request
    plan: Plan
    model: LoadedModel
    scores: Mapping[str, Float[Tensor, "layer head"]]
    """Arm -> its score of every head; random heads have none."""
    ks: tuple[int, ...]
    cells: tuple[Cell, ...]
    folder: StudyFolder

    @property
    def pending(self) -> list[Cell]:
        """Cells that are not in the folder, each content once."""
        found: dict[str, Cell] = {}
        for cell in self.cells:
            if cell.key not in found and self.folder.read(cell.key) is None:
                found[cell.key] = cell
        return list(found.values())

    @property
    def task(self) -> Task:
        """How its cells are run."""
        return Task(self.plan.score, self.plan.max_new_tokens, self.plan.material.stops)


@dataclass(frozen=True, eq=False)
class Finished:
    """A study whose cells are all there."""

    study: Study
    results: Mapping[Setting, Mapping[str, tuple[float, ...]]]
    """Setting -> measure -> a number a sample, in the order of `samples`."""
    samples: Mapping[str, tuple[Any, ...]]
    """Task -> its samples in that order."""
    seconds: float
    """That this run took; less than the study's where it went on from an earlier one."""


def lay_out(
    session: Session, request: Request, out: Path, progress: Progress = no_progress
) -> Study:
    """Read the data, rank the heads for every arm (or read the kept rankings), make the grid.

    Raises HeadvizError, in one sentence, for anything in the request that does not fit.
    """
    experiment = find_experiment(request.study)
    model = session.model(request.model, progress)
    ks = head_counts(request.ks, model.total_heads)
    plan = experiment.plan(request, model, progress)
    # Gradient and ablation read as many samples as are judged, at most CAUSAL_SAMPLES.
    few = min(CAUSAL_SAMPLES, len(plan.material.evaluation))
    plan = replace(plan, causal=plan.causal[:few])
    config = {**request.as_dict(), "revision": model.revision, "dtype": str(model.dtype)}
    folder = StudyFolder.open(out, config)
    selecting = Selecting(
        session,
        model,
        request.model,
        plan.concept,
        plan.material.selection,
        plan.causal,
        progress,
    )
    scores = {arm: scored(arm, selecting, folder) for arm in request.arms if ARMS[arm] is not None}
    orders = {arm: in_order(scores[arm]) if arm in scores else () for arm in request.arms}
    size = (model.head_layers, model.n_heads)
    settings = settings_of(orders, ks, request.alphas, request.draws, size)
    cells = grid(settings, shards_of(plan.material, SHARD), _depends_on(request, plan, model))
    return Study(request, plan, model, scores, ks, tuple(cells), folder)


def with_settings(study: Study, settings: Mapping[Setting, Edit]) -> Study:
    """The study with the cells of further settings beside its own."""
    depends_on = _depends_on(study.request, study.plan, study.model)
    more = grid(settings, shards_of(study.plan.material, SHARD), depends_on)
    own = {cell.setting for cell in study.cells}
    return replace(study, cells=(*study.cells, *(c for c in more if c.setting not in own)))


def _depends_on(request: Request, plan: Plan, model: LoadedModel) -> dict[str, Any]:
    return {
        "study": request.study,
        "model": model.name,
        "revision": model.revision,
        "dtype": str(model.dtype),
        "tokens": plan.max_new_tokens,
        "stops": list(plan.material.stops),
        **plan.depends_on,
    }


def scored(arm: str, selecting: Selecting, folder: StudyFolder) -> Float[Tensor, "layer head"]:
    """The arm's scores of all heads, kept in the folder: exhaustive ablation takes a while."""
    key = key_of(
        kind="scores",
        arm=arm,
        revision=selecting.model.revision,
        words=list(selecting.concept.words),
        samples=[s.key for s in selecting.samples],
        causal=[[s.key, *s.answers] for s in selecting.causal],
    )
    kept = folder.read(key)
    if kept is not None:
        return torch.tensor(kept["scores"])
    function = ARMS[arm]
    assert function is not None, "random heads have no scores"
    scores = function(selecting).float().cpu()
    folder.write(key, {"arm": arm, "scores": scores.tolist()})
    return scores


def run(session: Session, study: Study, progress: Progress = no_progress) -> Finished:
    """Run what is not done yet. `progress` may raise Cancelled: finished cells stay.

    Raises StudyError where the disk is full; what was written before stays as well.
    """
    start = time.monotonic()
    pending = study.pending
    batches = batched(pending, study.model, study.plan.max_new_tokens)
    done = len(study.cells) - len(pending)
    for number, batch in enumerate(batches):
        progress(done / len(study.cells), _remaining(done, study, number, batches, start))
        for cell, result in run_batch(study.model, batch, study.task, lambda: session.lock):
            study.folder.write(cell.key, result)
            done += 1
    progress(1.0, "all cells are done")
    return collect(study, time.monotonic() - start)


def collect(study: Study, seconds: float = 0.0) -> Finished:
    """The results of all cells, sample by sample."""
    results: dict[Setting, dict[str, list[float]]] = {}
    samples: dict[str, dict[int, tuple[Any, ...]]] = {}
    for cell in study.cells:
        kept = study.folder.read(cell.key)
        assert kept is not None, "a cell is missing: run() has to end first"
        own = results.setdefault(cell.setting, {})
        for measure, values in kept["values"].items():
            own.setdefault(measure, []).extend(values)
        samples.setdefault(cell.shard.task, {})[cell.shard.number] = cell.shard.samples
    return Finished(
        study,
        {s: {m: tuple(v) for m, v in own.items()} for s, own in results.items()},
        {task: tuple(s for n in sorted(by) for s in by[n]) for task, by in samples.items()},
        seconds,
    )


def _remaining(
    done: int, study: Study, number: int, batches: Sequence[Sequence[Cell]], start: float
) -> str:
    text = f"{done} of {len(study.cells)} cells"
    if not number:
        return text
    seconds = (time.monotonic() - start) / number * (len(batches) - number)
    return f"{text}, about {seconds:.0f} s left"


def estimate_seconds(session: Session, study: Study) -> float:
    """How long what is pending will take: one batch of each task is timed, and kept."""
    batches = batched(study.pending, study.model, study.plan.max_new_tokens)
    spent: dict[str, float] = {}
    for batch in batches:
        task = batch[0].shard.task
        if task not in spent:
            start = time.monotonic()
            for cell, result in run_batch(study.model, batch, study.task, lambda: session.lock):
                study.folder.write(cell.key, result)
            spent[task] = time.monotonic() - start
    # The timed ones are done.
    return sum(spent[batch[0].shard.task] for batch in batches) - sum(spent.values())
