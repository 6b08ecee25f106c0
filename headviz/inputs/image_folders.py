"""Many pictures at once: a folder or a zip, with captions or labels from a table beside them.

A zip is read in memory, never unpacked to the disk. Knows nothing of models and prompts.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from headviz.base.errors import PictureError, TableError
from headviz.inputs.images import MAX_BYTES, SUFFIXES, UNREAD, Picture, open_picture
from headviz.inputs.tables import Row, Table, is_hidden, is_table, parse_table

MAX_PICTURES = 2000
MAX_ENTRIES = 10_000
MAX_TOTAL = 1024 * 2**20
"""Bytes of all pictures of an image folder together, as files."""
_RATIO = 200  # pictures are compressed already: what unpacks to more than this is no picture
_TABLE_BYTES = 10 * 2**20
_SAID_UTF8 = 0x800
FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_name", "picture", "name", "path")
TEXT_COLUMNS = (
    "caption", "captions", "label", "class", "text", "title", "description", "comment", "sentences",
)  # fmt: skip


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
    source: str
    """As the folder or the zip itself calls it."""


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
        return _image_folder(path.name, _in_folder(path), lambda e: (path / e.source).read_bytes())
    try:
        with zipfile.ZipFile(path) as archive:
            # No more than asked for is unpacked, whatever the zip says of itself.
            return _image_folder(
                path.stem,
                _in_zip(path.name, archive),
                lambda e: archive.open(e.source).read(MAX_BYTES + 1),
            )
    except PictureError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        # RuntimeError: locked by a password; NotImplementedError: an unknown compression.
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise PictureError(f"{path.name} is no zip that can be read: {reason}") from error


def _image_folder(name: str, entries: Sequence[_Entry], read: Any) -> ImageFolder:
    shown = [e for e in entries if e.path.suffix.lower() in SUFFIXES]
    if unread := [e for e in entries if e.path.suffix.lower() in UNREAD]:
        raise PictureError(
            f"{name} holds {len(unread)} pictures in a format that is not read, such as "
            f"{unread[0].path}. Save them as JPEG or PNG, or take them out."
        )
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
        if is_table(entry.path):
            captions = _table(entry, read) | captions
    pictures = tuple(open_picture(read(entry), str(entry.path)) for entry in shown)
    folders = [str(e.path.parent) if len(e.path.parts) > 1 else "" for e in shown]
    named = _named(captions, [entry.path for entry in shown])
    if captions and not any(named):
        raise PictureError(
            f"The tables of {name} name {next(iter(captions))!r} and no picture that is there. "
            "Put the pictures' own names into the first column, or leave the tables out."
        )
    return ImageFolder(name, pictures, tuple(named if captions else folders))


def _named(captions: Mapping[str, str], paths: Sequence[PurePosixPath]) -> list[str]:
    """What each picture shows: by its path, or else by its name where only one row has that."""
    of_path = {_path(file): text for file, text in captions.items()}
    alone = Counter(path.name for path in of_path)
    of_name = {path.name: text for path, text in of_path.items() if alone[path.name] == 1}
    return [of_path.get(path, of_name.get(path.name, "")) for path in paths]


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


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
        if file.is_file() and not is_hidden(inside):
            entries.append(_Entry(inside, file.stat().st_size, str(inside)))
    return sorted(entries, key=lambda entry: entry.path)


def _in_zip(name: str, archive: zipfile.ZipFile) -> list[_Entry]:
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise PictureError(
            f"{name} holds {len(infos)} files; at most {MAX_ENTRIES} are read. Take a part."
        )
    entries = []
    for info in infos:
        inside = _path(_name(info))
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
        if not info.is_dir() and not is_hidden(inside):
            entries.append(_Entry(inside, info.file_size, info.filename))
    return sorted(entries, key=lambda entry: entry.path)


def _name(info: zipfile.ZipInfo) -> str:
    """A file's name; many programs write UTF-8 and do not say so, as the format wants them to."""
    if info.flag_bits & _SAID_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _table(entry: _Entry, read: Any) -> dict[str, str]:
    """File's name -> what it shows; empty from a JSON object that is about something else.

    Raises PictureError for a table that cannot be read or that names no picture.
    """
    what = f"The table {entry.path} beside the pictures"
    if entry.size > _TABLE_BYTES:
        raise PictureError(
            f"{what} has {entry.size / 2**20:.0f} MB; at most {_TABLE_BYTES // 2**20} MB are read. "
            "Take a part, or leave it out."
        )
    known = (*FILE_COLUMNS, *TEXT_COLUMNS)
    try:
        table = parse_table(str(entry.path), read(entry), known, ("file", "caption"), _TABLE_BYTES)
    except TableError as error:
        raise PictureError(f"{what} cannot be read ({error}) Mend it, or leave it out.") from error
    found: dict[str, str] = {}
    for row in _rows(table):
        file, text = _cell(row, FILE_COLUMNS), _cell(row, TEXT_COLUMNS)
        # Data sets give several captions of one picture; the first stands for it.
        text = text[0] if isinstance(text, list) and text else text
        if _is_picture(file) and isinstance(text, str | int | float):
            found.setdefault(file.strip(), str(text).strip())
    if not found and table.rows:
        raise PictureError(
            f"{what} names no picture and what it shows. It has: {', '.join(table.columns)[:200]}. "
            "Write columns 'file' and 'caption' or 'label', or leave it out."
        )
    return found


def _cell(row: Row, columns: Sequence[str]) -> Any:
    """What the first of these columns holds; None where there is none of them."""
    lower = {str(key).strip().lower(): value for key, value in row.items()}
    return next((lower[column] for column in columns if column in lower), None)


def _is_picture(name: Any) -> bool:
    return isinstance(name, str) and _path(name.strip()).suffix.lower() in SUFFIXES


def _rows(table: Table) -> list[Row]:
    """The rows, also of {"a.png": "a red ball"} and of {"images": [{...}]}."""
    whole = table.document or {}
    pairs = [{"file": k, "caption": v} for k, v in whole.items() if _is_picture(k)]
    lists = [row for value in whole.values() if isinstance(value, list) for row in value]
    return [row for row in (*pairs, *lists, *table.rows) if isinstance(row, dict)]
