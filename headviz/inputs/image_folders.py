"""Many pictures at once: a folder or a zip, with captions or labels from a table beside them.

A zip is read in memory, never unpacked to the disk. Knows nothing of models and prompts.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from headviz.base.errors import PictureError
from headviz.inputs.images import MAX_BYTES, SUFFIXES, Picture, open_picture

MAX_PICTURES = 2000
MAX_ENTRIES = 10_000
MAX_TOTAL = 1024 * 2**20
"""Bytes of all pictures of an image folder together, as files."""
_RATIO = 200  # pictures are compressed already: what unpacks to more than this is no picture
_TABLES = (".csv", ".json", ".jsonl")
_TABLE_BYTES = 10 * 2**20
_FILE_KEYS = ("file", "filename", "file_name", "image", "picture", "name", "path")
_TEXT_KEYS = ("caption", "captions", "label", "class", "text", "title")


@dataclass(frozen=True)
class ImageFolder:
    """Pictures in the order of their names, and what each shows."""

    name: str
    pictures: tuple[Picture, ...]
    labels: tuple[str, ...]
    """A caption or label for each picture, '' where none is given. Where no table names any, the
    picture's own folder is its label, as data sets of classes are laid out."""


@dataclass(frozen=True)
class _Entry:
    path: PurePosixPath
    """Inside the image folder."""
    size: int


def open_pictures(
    sources: Iterable[Path | str | bytes | Image.Image | Picture],
) -> tuple[Picture, ...]:
    """Several pictures, in their order. Raises PictureError, which names the first bad one."""
    given = list(sources)
    _check_number("There are", len(given))
    return tuple(open_picture(source) for source in given)


def is_image_folder(path: Path) -> bool:
    """Whether the path is a folder or a zip."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def open_image_folder(path: Path) -> ImageFolder:
    """All pictures of a folder (with its folders) or of a zip.

    Raises PictureError where there is none, where one is broken or too large, and for a zip whose
    names climb out of it, that unpacks to too much, or that holds too many files.
    """
    if path.is_dir():
        return _image_folder(path.name, _in_folder(path), lambda e: (path / e.path).read_bytes())
    try:
        with zipfile.ZipFile(path) as archive:
            # No more than asked for is unpacked, whatever the zip says of itself.
            return _image_folder(
                path.stem,
                _in_zip(path.name, archive),
                lambda e: archive.open(str(e.path)).read(MAX_BYTES + 1),
            )
    except PictureError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        # RuntimeError: locked by a password; NotImplementedError: an unknown compression.
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise PictureError(f"{path.name} is no zip that can be read: {reason}") from error


def _image_folder(name: str, entries: Sequence[_Entry], read: Any) -> ImageFolder:
    shown = [e for e in entries if e.path.suffix.lower() in SUFFIXES]
    if not shown:
        raise PictureError(f"There is no picture in {name}. Known endings: {', '.join(SUFFIXES)}.")
    _check_number(f"{name} has", len(shown))
    total = sum(entry.size for entry in shown)
    if total > MAX_TOTAL:
        raise PictureError(
            f"The pictures of {name} have {total / 2**20:.0f} MB together; at most "
            f"{MAX_TOTAL // 2**20} MB are read. Take a part of them."
        )
    captions: dict[str, str] = {}
    for entry in entries:
        if entry.path.suffix.lower() in _TABLES and entry.size <= _TABLE_BYTES:
            captions |= _table(entry.path, read(entry))
    pictures = tuple(open_picture(read(entry), str(entry.path)) for entry in shown)
    folders = [str(e.path.parent) if len(e.path.parts) > 1 else "" for e in shown]
    named = [captions.get(e.path.name, captions.get(str(e.path), "")) for e in shown]
    return ImageFolder(name, pictures, tuple(named if any(named) else folders))


def _check_number(what: str, n: int) -> None:
    if n > MAX_PICTURES:
        raise PictureError(f"{what} {n} pictures; at most {MAX_PICTURES} are read. Take a part.")


def _in_folder(folder: Path) -> list[_Entry]:
    entries = []
    for number, file in enumerate(folder.rglob("*")):
        if number >= MAX_ENTRIES:
            raise PictureError(
                f"{folder.name} holds more than {MAX_ENTRIES} files. Name a smaller folder."
            )
        inside = PurePosixPath(file.relative_to(folder).as_posix())
        if file.is_file() and not _hidden(inside):
            entries.append(_Entry(inside, file.stat().st_size))
    return sorted(entries, key=lambda entry: entry.path)


def _in_zip(name: str, archive: zipfile.ZipFile) -> list[_Entry]:
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise PictureError(
            f"{name} holds {len(infos)} files; at most {MAX_ENTRIES} are read. Take a part."
        )
    entries = []
    for info in infos:
        inside = PurePosixPath(info.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in str(inside.parts[:1]):
            raise PictureError(
                f"{name} holds a file that climbs out of it ({info.filename[:60]!r}). It is not "
                "opened; make the zip anew."
            )
        if info.file_size > _RATIO * max(info.compress_size, 1024):
            raise PictureError(
                f"{name} holds a file that unpacks to {info.file_size / 2**20:.0f} MB from almost "
                f"nothing ({info.filename[:60]!r}). It is not opened."
            )
        if not info.is_dir() and not _hidden(inside):
            entries.append(_Entry(PurePosixPath(info.filename), info.file_size))
    return sorted(entries, key=lambda entry: entry.path)


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _table(path: PurePosixPath, content: bytes) -> dict[str, str]:
    """File's name -> what it shows, from a table that names both; empty from any other."""
    try:
        rows = list(_rows(path, content.decode("utf-8-sig")))
    except (UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        raise PictureError(
            f"The table {path} beside the pictures cannot be read ({str(error)[:80]}). Mend it, or "
            "leave it out."
        ) from error
    found = {}
    for row in rows:
        if isinstance(row, dict):
            lower = {str(key).strip().lower(): value for key, value in row.items()}
            file = next((lower[k] for k in _FILE_KEYS if k in lower), None)
            text = next((lower[k] for k in _TEXT_KEYS if k in lower), None)
            # Data sets give several captions of one picture; the first stands for it.
            text = text[0] if isinstance(text, list) and text else text
            if isinstance(file, str) and isinstance(text, str | int | float):
                found[file.strip()] = str(text).strip()
    return found


def _rows(path: PurePosixPath, text: str) -> Iterator[Any]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
    elif suffix == ".jsonl":
        yield from (json.loads(line) for line in text.split("\n") if line.strip())
    else:
        whole = json.loads(text)
        if isinstance(whole, dict):
            # {"a.png": "a red ball"} or {"images": [{...}]}
            lists = [value for value in whole.values() if isinstance(value, list)]
            yield from ({"file": key, "caption": value} for key, value in whole.items())
            whole = [row for rows in lists for row in rows]
        yield from whole if isinstance(whole, list) else []
