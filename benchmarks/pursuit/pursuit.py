"""`python -m benchmarks pursuit`: the whole table as plain data and as text."""

import platform
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.pursuit.choices import Choice, compare_choices
from benchmarks.pursuit.growth import Point, by_axis, draw, exponent, grow
from benchmarks.pursuit.machine import Rates, measure_rates
from benchmarks.pursuit.tasks import TASKS, Row, run, smaller


def bench_pursuit(
    device: torch.device,
    quick: bool = False,
    out: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], str]:
    """Measure everything: plain data for JSON, and the text for people.

    Args:
        device: where the engine and the oracle run.
        quick: small sizes, a minute in all; the figures then stand for nothing.
        out: a folder for the picture of the growth.
        say: told each line as soon as it is measured.
    """
    rates = measure_rates(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    about = {
        "date": date.today().isoformat(),
        "device": f"{device.type} ({where})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "quick": quick,
    }
    lines = [f"{about['device']}, {about['threads']} threads, torch {about['torch']}"]
    lines += _rate_lines(rates)

    def told(line: str) -> None:
        lines.append(line)
        say(line)

    tasks = tuple(smaller(task) for task in TASKS) if quick else TASKS
    rows = []
    for row in run(tasks, device, rates):
        rows.append(row)
        told(_row_line(row))
    points = []
    for point in grow(device, rates, 1 if quick else 3):
        points.append(point)
        told(_point_line(point))
    lines += _growth_lines(points)
    choices = compare_choices(device)
    for choice in choices:
        told(_choice_line(choice))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "pursuit_growth.svg").write_text(draw(points), encoding="utf-8")
    data = {
        "about": about,
        "rates": vars(rates),
        "table": [row.as_dict() for row in rows],
        "growth": [point.as_dict() for point in points],
        "choices": [choice.as_dict() for choice in choices],
    }
    return data, "\n".join(lines)


def _rate_lines(rates: Rates) -> list[str]:
    return [
        f"products {rates.product_flops / 1e9:.0f} GFLOP/s, memory {rates.read_bytes / 1e9:.1f} "
        f"GB/s, updates in cache {rates.vector_updates / 1e9:.1f} G/s"
    ]


def _row_line(row: Row) -> str:
    target = f" (target {row.target_s:g} s)" if row.target_s else ""
    least = f" (target {row.target_ratio:,.0f})" if row.target_ratio else ""
    return (
        f"{row.task}: {row.seconds:.3g} s{target}, oracle {row.oracle_s:,.0f} s "
        f"[{row.oracle_on}], ratio {row.ratio:,.0f}{least}, as published "
        f"{row.published_s:,.0f} s, ratio {row.published_ratio:,.0f}, same picks {row.same_picks}, "
        f"explained within {row.explained_off:.0e}, {row.peak_gib:.2f} GiB, "
        f"floor {row.floor_s:.3g} s (×{row.over_floor:.1f})"
    )


def _point_line(point: Point) -> str:
    return (
        f"growth of {point.axis:<10} {point.size:>7}: {point.seconds:.3f} s, "
        f"{point.peak_mib:.0f} MiB, counted work ×{point.work:.2f}"
    )


def _growth_lines(points: Sequence[Point]) -> list[str]:
    return [
        f"time grows as {axis} ^ {exponent(group):.2f}, the counted work as "
        f"^ {exponent(group, 'work'):.2f}"
        for axis, group in by_axis(points).items()
    ]


def _choice_line(choice: Choice) -> str:
    return (
        f"{choice.choice:<15} first pick same {choice.first_pick:.0%}, picks shared "
        f"{choice.same_set:.0%}, ranking agrees {choice.rank_agreement:.4f}, explained differs "
        f"{choice.explained_off:.1e}, {choice.seconds:.2f} s"
    )
