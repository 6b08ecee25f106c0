"""Sets of texts, or of pictures, that heads are read on: built in, given, or from a file.

A probe set is plain text, picture files and a hash of them. Knows nothing of models and tokens.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headviz.base.assets import ASSETS
from headviz.base.errors import ProbeError, UnknownName, check_unicode
from headviz.inputs.image_folders import is_album, open_album
from headviz.inputs.images import SUFFIXES, Picture, open_picture

MAX_BYTES = 10 * 2**20
MAX_TEXTS = 5000
_COLUMNS = ("text", "prompt", "question", "sentence", "caption")


@dataclass(frozen=True)
class ProbeSet:
    """Texts to read heads on, or pictures with a prompt each."""

    name: str
    texts: tuple[str, ...]
    """With pictures: what is asked about each; empty for the model's usual prompt."""
    pictures: tuple[Picture, ...] = ()
    """None, or one for each text."""
    labels: tuple[str, ...] = ()
    """What the pictures show, as far as it was given; the heads never read it."""

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that change with any text or picture or their order."""
        content: list[object] = list(self.texts)
        if self.pictures:
            content = [content, [picture.digest for picture in self.pictures]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.texts)


def built_in_probes(model_name: str) -> dict[str, Path]:
    """Name -> file or folder of a built-in model's probe sets; the first is its default."""
    folder = ASSETS / model_name / "probes"
    return _texts(folder.glob("*")) | _albums(folder.glob("*"))


def default_probes(model_name: str, sees: bool = False) -> dict[str, Path]:
    """The model's own probe sets, or those of every built-in model where it has none.

    A model that sees is offered pictures, any other one texts.
    """
    shipped = ASSETS.glob("*/probes/*")
    return built_in_probes(model_name) or (_albums(shipped) if sees else _texts(shipped))


def _texts(paths: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths) if path.suffix == ".jsonl"}


def _albums(paths: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths) if is_album(path)}


def find_probes(
    name_or_path: str | None, model_name: str, sees: bool = False, prompt: str = ""
) -> ProbeSet:
    """The probe set that a person asked for.

    Args:
        name_or_path: a name, a file of texts, a picture, a folder or a zip of pictures, or None for
            the model's default.
        model_name: the model that is to read it.
        sees: whether that model reads pictures.
        prompt: what is asked about each picture; empty for the model's usual prompt.

    Raises:
        UnknownName, ProbeError or PictureError.
    """
    known = default_probes(model_name, sees)
    if name_or_path is None:
        name_or_path = next(iter(known), "")
    if name_or_path in known:
        return _open(known[name_or_path], prompt)
    with suppress(OSError):  # a text that is too long for a file's name
        if name_or_path and Path(name_or_path).exists():
            return _open(Path(name_or_path), prompt)
    hint = "Or name a .txt, .csv or .jsonl file"
    hint += ", or a folder or zip of pictures." if sees else "."
    raise UnknownName("probe set", name_or_path, known, hint)


def _open(path: Path, prompt: str) -> ProbeSet:
    if is_album(path):
        album = open_album(path)
        return picture_probes(album.name, album.pictures, prompt, album.labels)
    if path.suffix.lower() in SUFFIXES:
        return picture_probes(path.stem, [open_picture(path)], prompt)
    return read_probes(path)


def picture_probes(
    name: str, pictures: Sequence[Picture], prompt: str = "", labels: Sequence[str] = ()
) -> ProbeSet:
    """A probe set of these pictures, each with the same prompt (empty: the model's usual one)."""
    if not pictures:
        raise ProbeError(f"There is no picture in {name!r}. Give one or more.")
    assert len(labels) in (0, len(pictures)), "a label a picture"
    check_unicode([prompt], ProbeError)
    return ProbeSet(name, (prompt,) * len(pictures), tuple(pictures), tuple(labels))


def read_probes(path: Path) -> ProbeSet:
    """The texts of a .txt (one a line), .csv or .jsonl file (column text, prompt or question)."""
    if path.stat().st_size > MAX_BYTES:
        size = path.stat().st_size / 2**20
        raise ProbeError(
            f"{path.name} has {size:.0f} MB; at most {MAX_BYTES // 2**20} MB are read. Take a part."
        )
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProbeError(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise ProbeError(f"{path.name} cannot be read ({error.strerror or error}).") from error
    if "\0" in content:
        raise ProbeError(f"{path.name} is not a text file.")
    readers = {".csv": _from_csv, ".jsonl": _from_jsonl}
    texts = readers.get(path.suffix.lower(), _lines)(content)
    return make_probes(path.stem, texts)


def make_probes(name: str, texts: Iterable[str]) -> ProbeSet:
    """A probe set of these texts, blank ones left out. Raises ProbeError where none is left."""
    kept = tuple(t.strip() for t in texts if t.strip())
    if not kept:
        raise ProbeError(f"There is no text in {name!r}. Write one prompt a line.")
    check_unicode(kept, ProbeError)
    if len(kept) > MAX_TEXTS:
        raise ProbeError(f"{name!r} has {len(kept)} texts; at most {MAX_TEXTS} are read.")
    return ProbeSet(name, kept)


def _lines(content: str) -> list[str]:
    # Not splitlines(), which also breaks at separators that JSON and prose may hold.
    return content.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _from_csv(content: str) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    except csv.Error as error:
        raise ProbeError(f"The CSV cannot be read: {error}.") from error
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0]]
    named = [header.index(c) for c in _COLUMNS if c in header]
    column, body = (named[0], rows[1:]) if named else (0, rows)
    return [row[column] for row in body if len(row) > column]


def _from_jsonl(content: str) -> list[str]:
    texts = []
    for number, line in enumerate(_lines(content), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:  # numbers too long, brackets too deep
            reason = getattr(error, "msg", "it is too long or too deep")
            raise ProbeError(f"Line {number} is not JSON: {reason}.") from error
        if isinstance(item, dict):
            item = next((item[c] for c in _COLUMNS if c in item), None)
        if not isinstance(item, str):
            raise ProbeError(f"Line {number} has none of the keys {', '.join(_COLUMNS)}.")
        texts.append(item)
    return texts
