"""Published data sets of pictures: folders of classes, captions as COCO and Flickr30k have them.

Only as many pictures are opened as are wanted; which, depends on their names and the seed alone.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headviz.inputs.image_folders import FILE_COLUMNS
from headviz.inputs.images import SUFFIXES, Picture, open_picture
from headviz.inputs.tables import Row, is_hidden, list_in, pick, read_lines, read_table
from headviz.studies.hub_data import CAPTION_SPLITS, PICTURE_SPLITS, hub_files
from headviz.studies.parquet_image_folders import read_parquet_captions, read_parquet_images
from headviz.studies.samples import StudyError

_LABELS = ("labels.csv", "labels.tsv", "labels.jsonl")
_CAPTIONS = ("*captions*.json", "dataset_*.json", "*.token", "results.csv", "captions.txt")
_LABEL_COLUMNS = ("label", "class")
_CAPTION_COLUMNS = ("captions", "caption", "sentences", "comment")
_NUMBERED = re.compile(r"([^\t]+)#\d+\t(.*)")
_FOLDERS = (
    "", "images", "val2017", "train2017", "val2014", "train2014", "flickr30k-images",
    "flickr30k_images",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A picture, and its class or its captions."""

    picture: Picture
    texts: tuple[str, ...]


def read_labelled(path: Path, n: int, seed: int = 0) -> tuple[tuple[Shown, ...], tuple[str, ...]]:
    """`n` pictures (or all) of a folder with their classes, and the names of all classes.

    The class is what labels.csv says (columns file and label), or the name of the picture's folder;
    a folder laid out as on the hub has both in Parquet files.
    Raises StudyError where there is no picture or no label.
    """
    if not path.is_dir():
        raise StudyError(f"There is no folder {str(path)!r}; pictures with labels come in one.")
    if parquet := _parquet_of(path, PICTURE_SPLITS):
        shown, classes = read_parquet_images(parquet, n, seed, path.name)
        return tuple(Shown(picture, (text,)) for picture, text in shown), classes
    table = next((path / name for name in _LABELS if (path / name).is_file()), None)
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    files = [p for p in files if not is_hidden(p.relative_to(path))]
    labels: dict[Path, str] = {}
    if table is not None:
        known = (*FILE_COLUMNS, *_LABEL_COLUMNS)
        for row in read_table(table, known, ("file", "label")).rows:
            file = str(pick(row, FILE_COLUMNS, table.name)).strip().replace("\\", "/")
            labels[path / file] = str(pick(row, _LABEL_COLUMNS, table.name)).strip()
    else:
        labels = {p: p.parent.name for p in files if p.parent != path}
    named = [p for p in files if labels.get(p)]
    if not named:
        raise StudyError(
            f"The folder {path.name!r} has no picture with a label: put them into folders named by "
            f"class, or a labels.csv (columns file and label) beside them."
        )
    classes = tuple(sorted({labels[p] for p in named}))
    chosen = _some(named, n, seed, path)
    return tuple(Shown(open_picture(p), (labels[p],)) for p in chosen), classes


def read_captioned(path: Path, n: int, seed: int = 0) -> tuple[Shown, ...]:
    """`n` pictures (or all) with their captions.

    `path` is a file of captions (COCO's JSON, Flickr30k's .token, results.csv or Karpathy's JSON, a
    list of {file, captions}), or a folder with one; pictures are looked for beside it. A folder
    laid out as on the hub has both in Parquet files. Raises StudyError where one of the two is
    missing.
    """
    if parquet := _parquet_of(path, CAPTION_SPLITS):
        return tuple(Shown(*row) for row in read_parquet_captions(parquet, n, seed, path.name))
    table = _caption_table(path)
    captions = _captions(table)
    places = [table.parent / name for name in _FOLDERS if (table.parent / name).is_dir()]
    places += [table.parent.parent / name for name in _FOLDERS[1:]]
    found = {f: at for name in captions if (at := _find(name, places)) for f in [name]}
    if not found:
        raise StudyError(
            f"{table.name} names {len(captions)} pictures, such as {next(iter(captions), '')!r}, "
            f"and none of them lies beside it (or in {', '.join(_FOLDERS[1:4])} …)."
        )
    chosen = _some(list(found), n, seed, table.parent)
    return tuple(Shown(open_picture(found[f]), tuple(captions[f])) for f in chosen)


def _parquet_of(path: Path, splits: Sequence[str]) -> list[Path]:
    """The Parquet files of a folder laid out as on the hub; empty for any other."""
    has_parquet = path.is_dir() and next(path.rglob("*.parquet"), None) is not None
    return hub_files(path, splits) if has_parquet else []


def _caption_table(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise StudyError(f"There is no file or folder {str(path)!r}.")
    for pattern in _CAPTIONS:
        for found in sorted(path.glob(pattern)):
            return found
    raise StudyError(
        f"The folder {path.name!r} has no captions: none of {', '.join(_CAPTIONS)} is in it."
    )


def _captions(table: Path) -> dict[str, list[str]]:
    """File's name -> captions."""
    if numbered := _numbered(table):
        return numbered
    read = read_table(table, (*FILE_COLUMNS, *_CAPTION_COLUMNS), ("file", "caption"))
    found: dict[str, list[str]] = {}
    if read.document is None:
        for row in read.rows:
            file = str(pick(row, FILE_COLUMNS, table.name)).strip()
            found.setdefault(file, []).extend(_captions_of(row, table.name))
        return found
    name, images = table.name, list_in(read.document, ("images",), table.name)
    if "annotations" not in read.document:  # Karpathy's
        return {
            str(pick(i, ("filename",), name)): _strings(pick(i, ("sentences",), name))
            for i in images
        }
    names = {str(pick(i, ("id",), name)): str(pick(i, ("file_name",), name)) for i in images}
    for row in list_in(read.document, ("annotations",), name):
        file = names.get(str(pick(row, ("image_id",), name)), "")
        if file:
            found.setdefault(file, []).append(str(pick(row, ("caption",), name)).strip())
    return found


def _numbered(table: Path) -> dict[str, list[str]]:
    """File's name -> captions of lines `name.jpg#0<tab>caption`; empty for a table of another kind.

    They are published without quotes around anything.
    """
    if table.suffix.lower() not in (".token", ".txt", ".csv"):
        return {}
    found: dict[str, list[str]] = {}
    for at, line in enumerate(filter(str.strip, read_lines(table))):
        matched = _NUMBERED.fullmatch(line)
        if matched is None and at == 0:
            return {}
        if matched is None:
            raise StudyError(
                f"{table.name} has a line without a picture and caption: {line[:60]!r}."
            )
        found.setdefault(matched[1].strip(), []).append(matched[2].strip())
    return found


def _captions_of(row: Row, name: str) -> list[str]:
    found = pick(row, _CAPTION_COLUMNS, name)
    if found == "":  # Flickr30k's own table lacks a bar in one of its rows
        file, *cells = filter(None, row.values())
        if not cells:
            raise StudyError(f"{name} has no caption for {file!r}.")
        found = cells[-1]
    return _strings(found)


def _strings(value: Any) -> list[str]:
    rows = value if isinstance(value, list) else [value]
    return [str(row.get("raw", row) if isinstance(row, dict) else row).strip() for row in rows]


def _find(name: str, places: Iterable[Path]) -> Path | None:
    inside = Path(name).name  # no name climbs out of the folder
    with suppress(OSError):  # a caption that is too long for a file's name
        return next((place / inside for place in places if (place / inside).is_file()), None)
    return None


def _some(items: list[Any], n: int, seed: int, root: Path) -> list[Any]:
    def order(item: Any) -> str:
        name = item.relative_to(root).as_posix() if isinstance(item, Path) else str(item)
        return hashlib.sha256(json.dumps([seed, name]).encode()).hexdigest()

    return sorted(items, key=order)[:n]
