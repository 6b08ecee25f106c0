"""Pictures with classes or captions out of Parquet files of the hub: bytes in a column of structs.

Class numbers get their names from the files' own metadata, or from the data set's card (README.md).
Only the pictures that are wanted are read.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headviz.inputs.images import Picture, open_picture
from headviz.inputs.tables import column_of, open_parquet
from headviz.studies.samples import StudyError

_PICTURES = ("image", "img")
_LABELS = ("label", "labels", "class", "fine_label")
_CAPTIONS = ("caption", "captions", "answer", "sentences")


@dataclass(frozen=True)
class _Read:
    rows: list[tuple[Picture, Any]]
    """The pictures that were wanted, and what the other column says of them."""
    told: list[Any]
    """What that column says of all."""
    column: str
    metadata: Any


def read_parquet_images(
    files: Sequence[Path], n: int, seed: int, name: str
) -> tuple[list[tuple[Picture, str]], tuple[str, ...]]:
    """`n` pictures (or all) with their classes, and the names of all classes.

    Raises TableError where a column is missing, naming those that there are.
    """
    read = _read(files, n, seed, name, _LABELS)
    names = _class_names(read.metadata, read.column, files[0])
    rows = [(picture, _named(value, names)) for picture, value in read.rows]
    return rows, names or tuple(sorted({_named(value, names) for value in set(read.told)}))


def read_parquet_captions(
    files: Sequence[Path], n: int, seed: int, name: str
) -> list[tuple[Picture, tuple[str, ...]]]:
    """`n` pictures (or all) with their captions, of those that have any.

    Raises as `read_parquet_images` does, and StudyError where no picture has a caption.
    """
    read = _read(files, n, seed, name, _CAPTIONS)
    rows = [(picture, _captions(value)) for picture, value in read.rows]
    if not any(captions for _, captions in rows):
        raise StudyError(f"{name} has no captions in its column {read.column!r}.")
    return [(picture, captions) for picture, captions in rows if captions]


def _captions(value: Any) -> tuple[str, ...]:
    return tuple(str(one).strip() for one in (value if isinstance(value, list) else [value]) if one)


def _read(files: Sequence[Path], n: int, seed: int, name: str, columns: Sequence[str]) -> _Read:
    """`n` pictures (or all), and the first of `columns` that there is."""
    opened = [open_parquet(file, file.name) for file in files]
    schema = opened[0].schema_arrow
    picture, column = (column_of(schema.names, names, name) for names in (_PICTURES, columns))
    total = sum(file.metadata.num_rows for file in opened)
    wanted = set(sorted(range(total), key=lambda row: _order(seed, row))[:n])
    found: dict[int, tuple[Picture, Any]] = {}
    told: list[Any] = []
    before = 0
    for file in opened:
        for group in range(file.num_row_groups):
            own = file.read_row_group(group, columns=[column]).column(column).to_pylist()
            told += own
            rows = [row for row in range(len(own)) if before + row in wanted]
            if rows:
                cells = file.read_row_group(group, columns=[picture]).column(picture).take(rows)
                for row, cell in zip(rows, cells.to_pylist(), strict=True):
                    at = before + row
                    found[at] = (_opened(cell, f"{name} {at}"), own[row])
            before += len(own)
    shown = [found[at] for at in sorted(found, key=lambda row: _order(seed, row))]
    return _Read(shown, told, column, schema.metadata)


def _class_names(metadata: Any, label: str, file: Path) -> tuple[str, ...]:
    """From what `datasets` writes into every file, or else from the card; empty where neither."""
    told = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    feature = told.get("info", {}).get("features", {}).get(label) or {}
    if names := feature.get("names"):
        return tuple(map(_readable, names))
    for folder in list(file.parents)[:3]:
        card = folder / "README.md"
        if card.is_file():
            return _of_card(card, label)
    return ()


def _of_card(card: Path, label: str) -> tuple[str, ...]:
    from huggingface_hub import metadata_load

    told: Any = metadata_load(card) or {}
    info = told.get("dataset_info")
    for one in info if isinstance(info, list) else [info or {}]:
        for feature in one.get("features", ()):
            kind = feature.get("dtype")
            if feature.get("name") == label and isinstance(kind, dict):
                names = kind.get("class_label", {}).get("names", {})
                return tuple(_readable(names[key]) for key in sorted(names, key=int))
    return ()


def _readable(name: Any) -> str:
    """As a person would write it: data sets join words by underscores."""
    return " ".join(str(name).replace("_", " ").split())


def _named(value: Any, names: Sequence[str]) -> str:
    return names[value] if names and isinstance(value, int) else _readable(value)


def _opened(cell: Any, name: str) -> Picture:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise StudyError(f"The picture {name} is not in the file itself.")
    return open_picture(data, name)


def _order(seed: int, row: int) -> str:
    return hashlib.sha256(json.dumps([seed, row]).encode()).hexdigest()
