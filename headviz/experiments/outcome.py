"""What a finished study leaves in its folder: summary.csv, a table of cells, report.md, figures.

The cells go into cells.parquet where pyarrow is installed (an optional extra), else into cells.csv.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

from headviz.experiments.figures import bars
from headviz.experiments.finding import Finding
from headviz.experiments.report import report
from headviz.experiments.study import Finished
from headviz.experiments.summary import Row, as_csv, cell_rows, of_measure


def write_outcome(finished: Finished, rows: Sequence[Row], finding: Finding) -> list[str]:
    """Write all files; their names. Raises StudyError where the disk is full."""
    folder = finished.study.folder
    name, table = _cells(cell_rows(finished))
    folder.write_bytes(name, table)
    texts = {"summary.csv": as_csv(rows), "report.md": report(finished, rows, finding)}
    for measure in finished.study.plan.measures[:2]:
        figure = bars(of_measure(rows, measure), measure)
        texts[f"{measure.column}-{measure.part}.svg"] = figure
    for file, text in texts.items():
        folder.write_text(file, text)
    return ["config.json", name, *texts]


def _cells(rows: Sequence[dict[str, Any]]) -> tuple[str, bytes]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        names = list(dict.fromkeys(name for row in rows for name in row))
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return "cells.csv", buffer.getvalue().encode()
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_complete(rows)), sink)
    return "cells.parquet", sink.getvalue().to_pybytes()


def _complete(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with every column: pyarrow reads the columns off the first one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]
