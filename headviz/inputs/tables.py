"""A table as people have it -> rows: CSV, TSV, JSON, JSON lines or Parquet, the texts also gzipped.

The one reader of texts, captions, labels and questions. Knows how files are written, not what their
columns mean: whoever reads names the columns that it knows.
"""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import Any

from headviz.base.errors import TableError

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
Row = Any
"""A dict by its columns, in a file that is what it should be."""
_MIB = 2**20
_GZIP = b"\x1f\x8b"
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # of Excel now, and before 2007
_DELIMITERS = "\t,;|"
_PACKED = 20  # Parquet's columns are packed; a table that unpacks to more than this is a trap
_FOREIGN = 0.25  # of letters: a text of western Europe has fewer beyond ASCII


@dataclass(frozen=True)
class Table:
    """The rows of a file."""

    name: str
    rows: list[Row]
    columns: tuple[str, ...] = ()
    """As its first row has them; of a table without a header, the cells of its first line."""
    document: Any = None
    """The whole of a JSON file that is one object; it has no rows then."""


def is_table(path: PurePath) -> bool:
    """Whether a file of that name is one, by its ending."""
    return _kind(path.name) in ENDINGS


def is_hidden(path: PurePath) -> bool:
    """Whether a path inside a folder or an archive is what programs leave there for themselves."""
    return any(part.startswith((".", "__MACOSX", "@eaDir")) for part in path.parts)


def read_table(
    path: Path, known: Sequence[str], unheaded: Sequence[str] = (), max_bytes: int = 2**31
) -> Table:
    """The rows of a file.

    Args:
        path: ends as one of ENDINGS; any other is read as CSV.
        known: names of columns, in lower case, one of which a header has.
        unheaded: what the columns are called where no header is there; empty where one has to be.
        max_bytes: of a larger file nothing is read.

    Raises:
        TableError: where it cannot be read, or has no known column, naming those that it has.
    """
    if _kind(path.name) == ".parquet":
        _check_size(path, max_bytes)
        return _from_parquet(path, path.name, max_bytes)
    return parse_table(path.name, _bytes(path, max_bytes), known, unheaded, max_bytes)


def parse_table(
    name: str,
    content: bytes,
    known: Sequence[str],
    unheaded: Sequence[str] = (),
    max_bytes: int = 2**31,
) -> Table:
    """The rows of a file's content. Arguments and errors as `read_table` has them."""
    kind = _kind(name)
    if kind == ".parquet":
        return _from_parquet(io.BytesIO(content), name, max_bytes)
    if name.lower().endswith(".gz") or content.startswith(_GZIP):  # not all say so
        content = _unpacked(content, name, max_bytes)
    text = decoded(content, name)
    if kind in (".json", ".jsonl", ".ndjson"):
        return _from_json(text, name, whole_first=kind == ".json")
    return _from_csv(text, name, known, unheaded)


def read_lines(path: Path, max_bytes: int = 2**31) -> list[str]:
    """The lines of a text file. Raises TableError where it cannot be read."""
    return lines_of(decoded(_bytes(path, max_bytes), path.name))


def lines_of(text: str) -> list[str]:
    """The lines of a text; separators inside a paragraph (U+2028, form feeds) end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def decoded(content: bytes, name: str) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, or Windows' western code page.

    Raises TableError for any other: a wrong guess would turn every letter into another.
    """
    if content.startswith(_SPREADSHEETS):
        raise TableError(f"{name} is a spreadsheet or an archive, no text. Save its table as .csv.")
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        text = "" if utf16 else _western(content)
        if not text:
            raise TableError(f"{name} is not UTF-8 text. Save it as UTF-8.") from error
    if "\0" in text:
        raise TableError(f"{name} is not a text file. Save a spreadsheet as .csv.")
    return text


def pick(row: Row, names: Iterable[str], name: str) -> Any:
    """The first of these columns that the row has, whatever their case.

    Raises TableError with the file's name and the columns that the row has.
    """
    names = list(names)
    if isinstance(row, dict):
        lower = {str(column).strip().lower(): value for column, value in row.items()}
        for wanted in names:
            if wanted in lower:
                return lower[wanted]
    raise TableError(_without(name, names, list(row) if isinstance(row, dict) else repr(row)))


def list_in(row: Row, names: Iterable[str], name: str) -> list[Any]:
    """The list in the first of these columns. Raises TableError as `pick`, and for no list."""
    names = list(names)
    found = pick(row, names, name)
    if not isinstance(found, list):
        raise TableError(f"{name} has {str(found)[:60]!r} where {names[0]!r} is to be a list.")
    return found


def rows_of(table: Table) -> list[Row]:
    """The rows of a table, or of the one list that its JSON object holds.

    Raises TableError where it holds none, or several.
    """
    if table.document is None:
        return table.rows
    lists = [value for value in table.document.values() if isinstance(value, list)]
    if len(lists) != 1:
        keys = ", ".join(map(str, table.document))[:200]
        raise TableError(
            f"{table.name} is one JSON object ({keys}). Write a list of texts, or a row a line."
        )
    return lists[0]


def open_parquet(source: Any, name: str) -> Any:
    """Pyarrow's ParquetFile. Raises TableError where it is none."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(source)
    except (OSError, pyarrow.ArrowException) as error:
        raise TableError(_no_parquet(name, error)) from error


def column_of(there: Sequence[str], wanted: Sequence[str], name: str) -> str:
    """The first of the wanted columns that is there. Raises TableError, naming those there."""
    for column in wanted:
        if column in there:
            return column
    raise TableError(_without(name, wanted, there))


def _kind(name: str) -> str:
    return PurePath(name.lower().removesuffix(".gz")).suffix


def _check_size(path: Path, max_bytes: int) -> None:
    size = path.stat().st_size
    if size > max_bytes:
        raise TableError(
            f"{path.name} has {size / _MIB:.0f} MB; at most {max_bytes // _MIB} MB are read. Take "
            "a part."
        )


def _bytes(path: Path, max_bytes: int) -> bytes:
    try:
        _check_size(path, max_bytes)
        return path.read_bytes()
    except OSError as error:
        raise TableError(f"{path.name} cannot be read ({error.strerror or error}).") from error


def _unpacked(content: bytes, name: str, max_bytes: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{name} cannot be read ({error}).") from error
    if len(unpacked) > max_bytes:
        raise TableError(f"{name} unpacks to more than {max_bytes // _MIB} MB. Take a part.")
    return unpacked


def _western(content: bytes) -> str:
    """The text in Windows' western code page; empty where it is hardly written in that."""
    if not content.decode("utf-8", "ignore").isascii():
        return ""  # UTF-8 that is broken somewhere
    with suppress(UnicodeDecodeError):
        text = content.decode("cp1252")
        letters = [letter for letter in text if letter.isalpha()]
        foreign = sum(not letter.isascii() for letter in letters)
        return text if foreign <= _FOREIGN * len(letters) else ""
    return ""


def _from_csv(text: str, name: str, known: Sequence[str], unheaded: Sequence[str]) -> Table:
    told, _, rest = text.partition("\n")
    told = told.strip().strip('"')
    if told.lower().startswith("sep=") and len(told) == 5:  # Excel's own line
        delimiter, text = told[-1], rest
    else:
        delimiter = _delimiter(text.lstrip("\r\n").partition("\n")[0], known)
    records = _records(text, delimiter, name)
    if not records:
        return Table(name, [])
    first = tuple(cell.strip() for cell in records[0][1])
    if not unheaded or {cell.lower() for cell in first} & set(known):
        names, records = first, records[1:]
    elif len(first) == len(unheaded):
        names = tuple(unheaded)
    else:
        raise TableError(_without(name, known, first))
    twice = [n for n in names if n.lower() in known and names.count(n) > 1]
    if twice:
        raise TableError(
            f"{name} has {names.count(twice[0])} columns {twice[0]!r}. Rename all but one."
        )
    rows = [_row(names, cells, delimiter, f"Line {at} of {name}") for at, cells in records]
    return Table(name, rows, first)


def _delimiter(first: str, known: Sequence[str]) -> str:
    """What parts the cells: by that a known column appears in the first line, else the commonest.

    A header of one column parts nothing, and the commas of its rows are text.
    """
    for delimiter in _DELIMITERS:
        if {cell.strip(' "\r').lower() for cell in first.split(delimiter)} & set(known):
            return delimiter
    return "\t" if "\t" in first else max(",;", key=first.count)


def _records(text: str, delimiter: str, name: str) -> list[tuple[int, list[str]]]:
    """The number of its last line, and the cells, of each row that is not blank."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        found = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        if delimiter not in "\t|":  # these are often written without quotes around anything
            raise TableError(
                f"Line {reader.line_num} of {name} cannot be read: {error}."
            ) from error
        found = [(at, line.split(delimiter)) for at, line in enumerate(lines_of(text), 1)]
    return [(at, cells) for at, cells in found if any(cell.strip() for cell in cells)]


def _row(names: Sequence[str], cells: list[str], delimiter: str, where: str) -> Row:
    more = cells[len(names) :]
    if any(cell.strip() for cell in more):
        if delimiter != "|":
            raise TableError(
                f"{where} has {len(cells)} cells, and {len(names)} are named. Put quotes around a "
                f"text that holds {delimiter!r}."
            )
        cells = [*cells[: len(names) - 1], delimiter.join(cells[len(names) - 1 :])]
    return dict(zip_longest(names, cells[: len(names)], fillvalue=""))


def _from_json(text: str, name: str, whole_first: bool) -> Table:
    """JSON, or JSON lines; either is often found under the other's ending."""
    ways = [_whole, _each_line] if whole_first else [_each_line, _whole]
    try:
        found = ways[0](text, name)
    except TableError:
        with suppress(TableError):
            return _of_json(ways[1](text, name), name)
        raise
    return _of_json(found, name)


def _of_json(found: Any, name: str) -> Table:
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]  # a list on one line, under the ending of lines
    if isinstance(found, list):
        first = found[0] if found and isinstance(found[0], dict) else {}
        return Table(name, found, tuple(map(str, first)))
    if isinstance(found, dict):
        return Table(name, [], tuple(map(str, found)), found)
    raise TableError(f"{name} holds {str(found)[:30]!r} and no rows.")


def _whole(text: str, name: str) -> Any:
    return _json(text, name)


def _each_line(text: str, name: str) -> Any:
    lines = enumerate(lines_of(text), 1)
    return [_json(line, f"Line {at} of {name}") for at, line in lines if line.strip()]


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers too long, brackets too deep
        reason = getattr(error, "msg", "it is too long or too deep")
        raise TableError(f"{where} is not JSON: {reason}.") from error


def _from_parquet(source: Any, name: str, max_bytes: int) -> Table:
    file = open_parquet(source, name)
    groups = range(file.metadata.num_row_groups)
    unpacked = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    if unpacked > _PACKED * max_bytes:
        raise TableError(f"{name} unpacks to {unpacked / _MIB:.0f} MB. Take a part.")
    try:
        rows: list[Row] = file.read().to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        raise TableError(_no_parquet(name, error)) from error
    return Table(name, rows, tuple(file.schema_arrow.names))


def _no_parquet(name: str, error: Exception) -> str:
    first = str(error).partition("\n")[0][:120].rstrip(". ")
    return f"{name} is no Parquet that can be read ({first})."


def _without(name: str, wanted: Sequence[str], there: Sequence[object] | str) -> str:
    """Which columns are not there, and which are, or the row that has none."""
    found = there if isinstance(there, str) else ", ".join(map(str, there))
    named = " or ".join(map(repr, wanted))
    return f"{name} has no column {named}. It has: {found[:200]}."
