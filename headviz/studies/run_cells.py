"""Runs cells: generates all their rows in shared batches, measures them, hands each on as it ends.

Rows of one batch carry their own factors, so a whole column of arms runs at once. Knows neither
folders nor statistics.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from headviz.editing.measures import repetition
from headviz.heads.edits import factor_table
from headviz.heads.prompts import encode_prompt
from headviz.models.loaded import LoadedModel
from headviz.studies.batch_generate import complete
from headviz.studies.cells import Cell
from headviz.studies.samples import Sample, cut_at
from headviz.studies.teacher_forcing import force, log_probability, planned, read, row_tokens

Score = Callable[[Sequence[Sample], Sequence[str]], Mapping[str, Sequence[float]]]
"""(samples, what was said about them) -> measure -> a number a sample."""
Lock = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Task:
    """How cells are run."""

    score: Score
    max_new_tokens: int
    stops: tuple[str, ...]


def batched(cells: Sequence[Cell], model: LoadedModel, new_tokens: int) -> list[list[Cell]]:
    """Cells of one shard that fit into one batch together, batch by batch."""
    found: list[list[Cell]] = []
    for (task, _), group in groupby(cells, lambda c: (c.shard.task, c.shard.number)):
        own = list(group)
        samples = own[0].shard.samples
        longest = max(len(encode_prompt(model, s.prompt, 0, s.pictures).ids) for s in samples)
        tokens = len(samples) * (longest + (new_tokens if task == "answers" else 0))
        at_once = max(1, row_tokens(model) // tokens)
        found += [own[start : start + at_once] for start in range(0, len(own), at_once)]
    return found


def run_batch(
    model: LoadedModel, cells: Sequence[Cell], task: Task, lock: Lock = nullcontext
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell with its result: `values` (measure -> a number a sample), and `texts` if said."""
    samples = cells[0].shard.samples
    if cells[0].shard.task == "ordinary":
        with lock():
            yield from _ordinary(model, cells)
        return
    said = _said(model, cells, task, lock)
    cut = cut_at(task.stops)
    for number, cell in enumerate(cells):
        texts = [cut(text) for text in said[number * len(samples) : (number + 1) * len(samples)]]
        values = {name: list(v) for name, v in task.score(samples, texts).items()}
        values["repetition"] = [repetition(text) for text in texts]
        yield cell, {**cell.as_dict(), "texts": texts, "values": values}


def _said(model: LoadedModel, cells: Sequence[Cell], task: Task, lock: Lock) -> tuple[str, ...]:
    """What every row says, cell by cell."""
    samples = cells[0].shard.samples
    prompts = [sample.prompt for sample in samples] * len(cells)
    edits = [cell.edit for cell in cells for _ in samples]
    pictures = [sample.pictures for sample in samples] * len(cells) if samples[0].pictures else ()
    return complete(
        model,
        prompts,
        edits,
        task.max_new_tokens,
        lambda text: any(stop in text.lstrip() for stop in task.stops),
        lock,
        pictures,
    )


@torch.inference_mode()
def _ordinary(model: LoadedModel, cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    forced = [force(model, sample) for sample in cells[0].shard.samples]
    found = torch.zeros(len(cells), len(forced))
    for rows in planned(model, forced, len(cells)):
        table = factor_table(model, [cell.edit for cell in cells for _ in rows])
        read_now = read(model, [forced[row] for row in rows] * len(cells))
        values = log_probability(model, *read_now, table)
        found[:, rows] = values.view(len(cells), len(rows)).float().cpu()
    for cell, values in zip(cells, found, strict=True):
        surprise = [round(-value, 5) for value in values.tolist()]
        yield cell, {**cell.as_dict(), "values": {"surprise": surprise}}
