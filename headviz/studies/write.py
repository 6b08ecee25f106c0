"""What a finished study leaves in its folder: summary.csv, a table of cells, report.md, figures.

The cells go into cells.parquet, figures are SVG and PNG.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headviz.studies.figures import bars, files, over_factors, over_heads
from headviz.studies.finding import Finding
from headviz.studies.report import report
from headviz.studies.study import Finished
from headviz.studies.summary import Row, as_csv, cell_rows, of_measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_outcome(finished: Finished, rows: Sequence[Row], finding: Finding) -> list[str]:
    """Write all files; their names. Raises StudyError where the disk is full."""
    folder = finished.study.folder
    name, table = _cells(cell_rows(finished))
    text = report(finished, rows, finding)
    written = {name: table, "summary.csv": as_csv(rows).encode(), "report.md": text.encode()}
    written |= files(figures_of(finished, rows))
    for file, content in written.items():
        folder.write_bytes(file, content)
    return ["config.json", *written]


def figures_of(finished: Finished, rows: Sequence[Row]) -> "dict[str, Figure]":
    """By name, bars and sweeps of what the study is about and of what should stay."""
    found: dict[str, Figure | None] = {}
    for measure in finished.study.plan.measures[:2]:
        own, name = of_measure(rows, measure), f"{measure.column}-{measure.part}"
        found[name] = bars(own, measure)
        found[f"{name}-heads"] = over_heads(own, measure)
        found[f"{name}-factors"] = over_factors(own, measure)
    return {name: figure for name, figure in found.items() if figure is not None}


def _cells(rows: Sequence[dict[str, Any]]) -> tuple[str, bytes]:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_complete(rows)), sink)
    return "cells.parquet", sink.getvalue().to_pybytes()


def _complete(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with every column: pyarrow reads the columns off the first one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]
