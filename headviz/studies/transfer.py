"""Heads of one data set, accuracy on another: do they overlap, and does their edit carry over?

The paper's question about image classification. Each data set picks its heads on its own selection
samples; every choice is then judged on every data set, beside random heads of the same layers. Each
data set keeps its cells in its own folder, as a study of it alone would.
"""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headviz.heads.capture import Progress, no_progress
from headviz.session.session import Session
from headviz.studies.arms import in_order
from headviz.studies.cells import RANDOM, settings_of
from headviz.studies.figures import files, matrix
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from headviz.studies.study import Finished, lay_out, run, with_settings
from headviz.studies.summary import Row, as_csv, of_measure, rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADS_OF = "heads of "


@dataclass(frozen=True, eq=False)
class Transfer:
    """Every data set's heads, judged on every data set."""

    names: tuple[str, ...]
    finished: tuple[Finished, ...]
    """Of each data set, all arms."""
    k: int
    alpha: float
    overlap: tuple[tuple[float, ...], ...]
    """Jaccard index of the first k heads, data set by data set."""
    ratios: tuple[tuple[float | None, ...], ...]
    """(heads of, judged on) -> accuracy edited ÷ unedited; the last row is random heads."""

    @property
    def chance(self) -> float:
        """The Jaccard index of two random choices of k heads, about."""
        total = self.finished[0].study.model.total_heads
        return self.k / (2 * total - self.k)


def names_of(request: Request) -> tuple[str, ...]:
    """The data sets that are named, apart by commas; fewer than two where it is one."""
    if request.study != "classification" or not request.data or Path(request.data).exists():
        return ()
    return tuple(dict.fromkeys(n.strip() for n in request.data.split(",") if n.strip()))


def transfer(
    session: Session,
    request: Request,
    names: Sequence[str],
    out: Path,
    progress: Progress = no_progress,
) -> Transfer:
    """Run what is not done yet; the matrices are those of the largest k and the first α.

    Raises StudyError where two data sets would share a folder.
    """
    folders = {name: re.sub(r"[^\w.-]+", "-", name).strip("-.") for name in names}
    if len(set(folders.values())) < len(names):
        raise StudyError(f"Two of {', '.join(names)} would share a folder. Rename one.")
    first = request.arms[0]
    arms = (first, RANDOM) if RANDOM in request.arms else (first,)
    studies = {
        name: lay_out(
            session, replace(request, data=name, arms=arms), out / folders[name], progress
        )
        for name in names
    }
    orders = {name: in_order(study.scores[first]) for name, study in studies.items()}
    model = next(iter(studies.values())).model
    size = (model.head_layers, model.n_heads)
    finished = []
    for name, study in studies.items():
        others = {f"{_HEADS_OF}{other}": orders[other] for other in names if other != name}
        more = settings_of(others, study.ks, request.alphas, 0, size)
        finished.append(run(session, with_settings(study, more), progress))
    k, alpha = max(finished[0].study.ks), request.alphas[0]
    chosen = [set(orders[name][:k]) for name in names]
    return Transfer(
        tuple(names),
        tuple(finished),
        k,
        alpha,
        tuple(tuple(len(a & b) / len(a | b) for b in chosen) for a in chosen),
        tuple(
            tuple(
                _ratio(own, RANDOM if of is None else first if of == on else f"{_HEADS_OF}{of}", k)
                for on, own in zip(names, finished, strict=True)
            )
            for of in (*names, *((None,) if RANDOM in arms else ()))
        ),
    )


def _ratio(finished: Finished, arm: str, k: int) -> float | None:
    main = finished.study.plan.measures[0]
    alpha = finished.study.request.alphas[0]
    rows = of_measure(rows_of(finished), main)
    return next(r.ratio for r in rows if (r.arm, r.k, r.alpha) == (arm, k, alpha))


def sentence(found: Transfer) -> str:
    """What came out, in one sentence that gives chance and control."""
    n = len(found.names)
    own = _mean(found.ratios[i][i] for i in range(n))
    across = _mean(found.ratios[i][j] for i in range(n) for j in range(n) if i != j)
    shared = _mean(found.overlap[i][j] for i in range(n) for j in range(i))
    random = f"; random heads leave {_mean(found.ratios[n])}" if len(found.ratios) > n else ""
    return (
        f"Under α = {found.alpha:g} the first {found.k} heads of a data set leave {own} of its own "
        f"accuracy in the mean and {across} of another's{random}; two data sets share {shared} of "
        f"their heads (Jaccard; {found.chance:.2f} by chance)."
    )


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.2f}" if known else "no ratio"


def write_transfer(found: Transfer, out: Path) -> list[str]:
    """Write transfer.csv, transfer.md and the two heatmaps; their names.

    Raises StudyError where the disk is full.
    """
    folder = found.finished[0].study.folder
    rows = [
        replace(row, arm=f"{row.arm}, judged on {name}")
        for name, finished in zip(found.names, found.finished, strict=True)
        for row in rows_of(finished)
    ]
    texts = {"transfer.csv": as_csv(rows), "transfer.md": _report(found, rows)}
    written = {name: text.encode() for name, text in texts.items()}
    written |= files(figures(found))
    for name, content in written.items():
        replace(folder, path=out).write_bytes(name, content)
    return list(written)


def figures(found: Transfer) -> "dict[str, Figure]":
    """The heatmaps of overlap and transfer."""
    names = found.names
    random = ["random heads"] if len(found.ratios) > len(names) else []
    return {
        "overlap": matrix(
            names,
            names,
            found.overlap,
            f"Overlap of the first {found.k} heads (Jaccard; {found.chance:.2f} by chance)",
            ("", "data sets"),
        ),
        "transfer": matrix(
            [*names, *random],
            names,
            found.ratios,
            f"Accuracy ÷ unedited, α = {found.alpha:g}, {found.k} heads",
            ("heads of", "judged on"),
        ),
    }


def _report(found: Transfer, rows: Sequence[Row]) -> str:
    n_samples = round(statistics.mean(row.n for row in rows if row.part == "inside"))
    return "\n".join(
        [
            "# Heads of one data set, accuracy on another",
            "",
            f"**{sentence(found)}**",
            "",
            f"{found.finished[0].study.model.name}; {', '.join(found.names)}, about {n_samples} "
            "pictures each. Intervals, other numbers of heads and factors are in transfer.csv.",
            "",
            "![overlap](overlap.svg)",
            "",
            "![transfer](transfer.svg)",
            "",
        ]
    )
