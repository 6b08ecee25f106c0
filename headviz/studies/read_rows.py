"""Rows of a data set's file: JSON, JSON lines, CSV, TSV or Parquet, as published, possibly gzipped.

A row comes back as a dict. Knows no data set.
"""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headviz.studies.samples import StudyError

Row = Any
"""A dict by its columns, in a file that is what it should be."""
_MAX_BYTES = 2 * 2**30


def read_rows(path: Path, columns: tuple[str, ...] = ()) -> tuple[list[Row], Any]:
    """The rows, and the whole document where it is one JSON object (else None).

    Args:
        path: .json, .jsonl, .csv, .tsv or .parquet, the text formats also with .gz.
        columns: of a table without a header: what its columns are called.

    Raises:
        StudyError: where the file cannot be read.
    """
    suffixes = [s.lower() for s in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()
    if kind == ".parquet":
        return _from_parquet(path), None
    text = _text(path, gzipped=suffixes[-1:] == [".gz"])
    if kind in (".csv", ".tsv"):
        return _from_table(text, columns), None
    try:
        if kind == ".json":
            document = json.loads(text)
            return (document, None) if isinstance(document, list) else ([], document)
        lines = text.split("\n")
        return [json.loads(line) for line in lines if line.strip()], None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path.name} is no JSON that can be read ({str(error)[:80]}).") from error


def pick(row: Row, names: Iterable[str], path: Path) -> Any:
    """The first of these columns that the row has. Raises StudyError, naming what it found."""
    names = list(names)
    if isinstance(row, dict):
        for name in names:
            if name in row:
                return row[name]
    found = ", ".join(map(str, row)) if isinstance(row, dict) else f"a {type(row).__name__}"
    raise StudyError(
        f"{path.name} has no column {' or '.join(map(repr, names))}. It has: {found[:200]}."
    )


def _text(path: Path, gzipped: bool) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StudyError(f"{path.name} has more than {_MAX_BYTES // 2**30} GB. Take a part.")
        data = path.read_bytes()
        return (gzip.decompress(data) if gzipped else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{str(path)!r} cannot be read ({reason}).") from error


def _from_table(text: str, columns: tuple[str, ...]) -> list[Row]:
    # Published TSV files quote with doubled quotes inside lists, or not at all: csv does both.
    first = text.split("\n", 1)[0]
    delimiter = "\t" if "\t" in first else ","
    csv.field_size_limit(sys.maxsize)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    lines = [line for line in lines if line]
    if not lines:
        return []
    known = {name.lower() for name in columns}
    header = [cell.strip() for cell in lines[0]]
    if not columns or known & {cell.lower() for cell in header}:
        names, body = header, lines[1:]
    else:
        names, body = [*columns], lines
    return [dict(zip(names, line, strict=False)) for line in body]


def _from_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise StudyError(f"{path.name} is no Parquet that can be read ({error}).") from error
    return rows
