"""The table of the pursuit: sizes of real models, random data, the oracle in the same run.

A row is measured time and memory, the oracle's time (on as many heads and steps as can be waited
for, scaled to the whole task, and said so), whether the picks agree, and the machine's floor.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks.pursuit.machine import Rates, seconds, watched
from benchmarks.pursuit.oracle import Plain, plain_somp
from headviz.base.shapes import Float, Tensor
from headviz.pursuit.engine.precomputed import PrecomputedHeads, precompute_heads
from headviz.pursuit.engine.result import Pursuit
from headviz.pursuit.engine.somp import pursue_precomputed

TIE = 1e-5  # relative lead of the best score below which another pick is as good


@dataclass(frozen=True)
class Task:
    """Sizes of one row, and how much of it the oracle can be asked for."""

    name: str
    heads: int
    in_layer: int
    samples: int
    d_head: int
    d_model: int
    atoms: int
    steps: int
    oracle_heads: int
    oracle_steps: int
    target_s: float | None
    target_ratio: float | None
    again: bool = False
    """A second concept: the heads are prepared already."""
    measured_heads: int | None = None
    """Heads that are run where all would take too long; the time is scaled to `heads`."""


CONCEPT = Task("concept, 1,024 heads", 1024, 32, 500, 128, 4096, 50, 50, 4, 50, 2.5, 7500.0)
TASKS = (
    CONCEPT,
    replace(
        CONCEPT,
        name="a second concept",
        target_s=1.2,
        target_ratio=None,
        oracle_heads=1,
        again=True,
    ),
    Task("spectrum, 32,000 words, 1 head", 1, 1, 1000, 128, 4096, 32000, 50, 1, 5, 5.0, 75.0),
    Task(
        "spectra, 32,000 words, 1,024 heads",
        *(1024, 32, 1000, 128, 4096, 32000, 20, 1, 2),
        *(None, None, False, 8),
    ),
    Task("spectrum, 262,144 words, 1 head", 1, 1, 500, 256, 3840, 262144, 20, 1, 1, 30.0, None),
)


@dataclass(frozen=True)
class Row:
    """What came out of one task."""

    task: str
    seconds: float
    target_s: float | None
    peak_gib: float
    """Beyond activations, weights and dictionary."""
    oracle_s: float
    """Scaled to all heads and steps."""
    oracle_on: str
    ratio: float
    published_s: float
    """The same pursuit with the measures that its authors' program takes at every step."""
    published_ratio: float
    target_ratio: float | None
    same_picks: str
    """Of the steps that the oracle was run for, ties aside."""
    explained_off: float
    """Largest relative difference of explained variance."""
    floor_s: float
    over_floor: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


Problem = tuple[Float[Tensor, "head sample d_head"], list[Tensor], Float[Tensor, "atom d_model"]]


def smaller(task: Task) -> Task:
    """The same row in little, for a quick look."""
    return replace(
        task,
        heads=max(1, task.heads // 16),
        in_layer=min(task.in_layer, 8),
        samples=task.samples // 4,
        d_model=task.d_model // 4,
        atoms=task.atoms if task.atoms < 1000 else task.atoms // 16,
        steps=min(task.steps, 20),
        oracle_heads=1,
        oracle_steps=min(task.oracle_steps, 3),
        target_s=None,
        target_ratio=None,
        measured_heads=None,
    )


def problem(task: Task, device: torch.device) -> Problem:
    """Random signals, projections and atoms of unit length."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    heads = task.measured_heads or task.heads
    in_layer = min(task.in_layer, heads)
    z = normal(heads, task.samples, task.d_head)
    # Laid out as a model's output projection is: d_model × (head · d_head), seen transposed.
    w_o = [
        normal(task.d_model, in_layer * task.d_head)
        .div_(task.d_model**0.5)
        .T.reshape(in_layer, task.d_head, task.d_model)
        for _ in range(heads // in_layer)
    ]
    atoms = normal(task.atoms, task.d_model)
    for part in atoms.split(4096):
        part.div_(part.norm(dim=1, keepdim=True))
    return z, w_o, atoms


def run(tasks: tuple[Task, ...], device: torch.device, rates: Rates) -> Iterator[Row]:
    """Measure task after task."""
    for task in tasks:
        z, w_o, atoms = problem(task, device)
        precomputed = precompute_heads(z, w_o) if task.again else None

        def work(
            z: Tensor = z,
            w_o: list[Tensor] = w_o,
            atoms: Tensor = atoms,
            task: Task = task,
            precomputed: PrecomputedHeads | None = precomputed,
        ) -> Pursuit:
            return pursue_precomputed(precomputed or precompute_heads(z, w_o), atoms, task.steps)

        with watched(device) as used:
            found = work()
        taken = min(used.seconds, seconds(work, device, 3 if used.seconds < 10 else 1))
        yield _row(task, z, w_o, atoms, found, taken, used.peak_bytes, rates)


def _row(
    task: Task,
    z: Tensor,
    w_o: list[Tensor],
    atoms: Tensor,
    found: Pursuit,
    taken: float,
    peak: int,
    rates: Rates,
) -> Row:
    blocks = [rows for block in w_o for rows in block]
    plain = [
        plain_somp(z[h], blocks[h], atoms, task.oracle_steps) for h in range(task.oracle_heads)
    ]
    published = plain_somp(z[0], blocks[0], atoms, task.oracle_steps, measures=True).seconds
    of_a_head = task.heads * task.steps / min(task.oracle_steps, task.steps)
    oracle = sum(p.seconds for p in plain) / len(plain) * of_a_head
    whole = taken * task.heads / len(z)
    same, n, off = compare(found, plain)
    bound = floor(task, rates)
    return Row(
        task=task.name,
        seconds=whole,
        target_s=task.target_s,
        peak_gib=peak / 2**30,
        oracle_s=oracle,
        oracle_on=f"{task.oracle_heads} of {task.heads} heads, {task.oracle_steps} of "
        f"{task.steps} steps"
        + (f"; the engine on {len(z)} of {task.heads} heads" if len(z) < task.heads else ""),
        ratio=oracle / whole,
        published_s=published * of_a_head,
        published_ratio=published * of_a_head / whole,
        target_ratio=task.target_ratio,
        same_picks=f"{same} of {n}",
        explained_off=off,
        floor_s=bound,
        over_floor=whole / bound,
    )


def compare(found: Pursuit, plain: list[Plain]) -> tuple[int, int, float]:
    """Picks that agree (ties aside), picks compared, largest relative difference explained."""
    same = total = 0
    off = 0.0
    for head, one in enumerate(plain):
        mine = found.picks[head].tolist()
        for step, pick in enumerate(one.picks):
            total += 1
            same += mine[step] == pick or one.gaps[step] < TIE
            share = found.explained[head, step].item()
            off = max(off, abs(share - one.explained[step]) / one.explained[step])
    return same, total, off


def floor(task: Task, rates: Rates) -> float:
    """Seconds that the counted operations and bytes would take at the machine's measured rates.

    Products run at the product rate, half of them where a matrix meets itself; what is read again
    at every step at the memory rate; rank-one updates and the sums over them at the rate inside
    the cache; whichever of products and memory is slower.
    """
    heads, n, k, d, atoms = task.heads, task.samples, task.d_head, task.d_model, task.atoms
    prepare = 0 if task.again else heads * k * (k + 1) * (d + n)
    project = 2 * heads * atoms * k * d
    weights = 4 * heads * k * d * (1 if task.again else 2)
    if atoms < 1024:
        flops = prepare + project + 2 * heads * atoms * n * k
        left = sum(atoms - step for step in range(1, min(task.steps, atoms)))
        updates = heads * (left * (n + atoms) + (left + atoms) * n)
        memory = (weights + 4 * heads * n * k) / rates.read_bytes
        return max(flops / rates.product_flops, memory) + updates / rates.vector_updates
    energies = 2 * heads * atoms * k * k
    # Of one head the products with a picked atom wait for memory; of many, for the processor.
    with_atoms = task.steps * 2 * heads * atoms * d if heads > 1 else 0
    read = task.steps * 4 * (heads * atoms * k + (atoms * d if heads == 1 else 0))
    flops = prepare + project + energies + with_atoms
    return flops / rates.product_flops + read / rates.read_bytes
