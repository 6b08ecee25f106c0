"""What a finished study leaves in its folder: summary.csv, a table of cells, report.md, figures.

The cells go into cells.parquet; figures are SVG and a page, and PNG where resvg is installed (an
optional extra).
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from headviz.studies.figures import bars
from headviz.studies.finding import Finding
from headviz.studies.raster import can_draw, to_png
from headviz.studies.report import report
from headviz.studies.study import Finished
from headviz.studies.summary import Row, as_csv, cell_rows, of_measure
from headviz.studies.sweeps import over_factors, over_heads


def write_outcome(finished: Finished, rows: Sequence[Row], finding: Finding) -> list[str]:
    """Write all files; their names. Raises StudyError where the disk is full."""
    folder = finished.study.folder
    name, table = _cells(cell_rows(finished))
    text = report(finished, rows, finding)
    files = {name: table, "summary.csv": as_csv(rows).encode(), "report.md": text.encode()}
    files |= drawn(figures_of(finished, rows), finding.text)
    for file, content in files.items():
        folder.write_bytes(file, content)
    return ["config.json", *files]


def figures_of(finished: Finished, rows: Sequence[Row]) -> dict[str, str]:
    """Name -> SVG: bars and sweeps of what the study is about and of what should stay."""
    found: dict[str, str] = {}
    for measure in finished.study.plan.measures[:2]:
        own, name = of_measure(rows, measure), f"{measure.column}-{measure.part}"
        found[name] = bars(own, measure)
        found[f"{name}-heads"] = over_heads(own, measure)
        found[f"{name}-factors"] = over_factors(own, measure)
    return {name: svg for name, svg in found.items() if svg}


def drawn(figures: Mapping[str, str], title: str) -> dict[str, bytes]:
    """Each figure as SVG, as PNG where resvg is installed, and all on one page to point at."""
    files = {f"{name}.svg": svg.encode() for name, svg in figures.items()}
    if can_draw():
        files |= {f"{name}.png": to_png(svg) for name, svg in figures.items()}
    page = "".join(f"<figure>{svg}</figure>" for svg in figures.values())
    files["figures.html"] = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{font-family:sans-serif;max-width:70rem;margin:2rem auto}svg{width:100%}"
        f"</style><p>{escape(title)}</p>{page}</html>\n"
    ).encode()
    return files


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
