"""Pictures with classes out of Parquet files as the hub keeps them: bytes in a column of structs.

Class numbers get their names from the files' own metadata, or from the data set's card (README.md).
Only the pictures that are wanted are read. Needs pyarrow, an optional extra.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headviz.experiments.samples import StudyError
from headviz.images import Picture, open_picture

_PICTURES = ("image", "img")
_LABELS = ("label", "labels", "class", "fine_label")


def read_parquet_album(
    files: Sequence[Path], n: int, seed: int, name: str
) -> tuple[list[tuple[Picture, str]], tuple[str, ...]]:
    """`n` pictures (or all) with their classes, and the names of all classes.

    Raises StudyError where pyarrow is missing, or a column is, naming those that there are.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StudyError(
            f"{name} comes as Parquet files, which need pyarrow: pip install pyarrow."
        ) from None
    try:
        opened = [pyarrow.parquet.ParquetFile(file) for file in files]
    except (OSError, pyarrow.ArrowException) as error:
        raise StudyError(f"{name} has a file that is no Parquet ({error}).") from error
    schema = opened[0].schema_arrow
    picture, label = (_column(schema.names, names, name) for names in (_PICTURES, _LABELS))
    names = _class_names(schema.metadata, label, files[0])
    total = sum(file.metadata.num_rows for file in opened)
    wanted = set(sorted(range(total), key=lambda row: _order(seed, row))[:n])
    found: dict[int, tuple[Picture, str]] = {}
    labels: set[Any] = set()
    before = 0
    for file in opened:
        for group in range(file.num_row_groups):
            own = file.read_row_group(group, columns=[label]).column(label).to_pylist()
            labels.update(own)
            rows = [row for row in range(len(own)) if before + row in wanted]
            if rows:
                shown = file.read_row_group(group, columns=[picture]).column(picture).take(rows)
                for row, cell in zip(rows, shown.to_pylist(), strict=True):
                    at = before + row
                    found[at] = (_opened(cell, f"{name} {at}"), _named(own[row], names))
            before += len(own)
    classes = names or tuple(sorted({_named(value, names) for value in labels}))
    return [found[at] for at in sorted(found, key=lambda row: _order(seed, row))], classes


def _column(there: Sequence[str], wanted: Sequence[str], name: str) -> str:
    for column in wanted:
        if column in there:
            return column
    raise StudyError(
        f"{name} has no column {' or '.join(map(repr, wanted))}. It has: {', '.join(there)}."
    )


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
