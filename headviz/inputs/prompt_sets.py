"""Sets of texts, or of pictures, that heads are read on: built in, given, or from a file.

A prompt set is plain text, picture files and a hash of them. Knows nothing of models and tokens.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headviz.base import assets
from headviz.base.errors import PromptError, UnknownName, check_unicode
from headviz.inputs.image_folders import is_image_folder, open_image_folder
from headviz.inputs.images import SUFFIXES, Picture, open_picture
from headviz.inputs.tables import Row, is_table, pick, read_lines, read_table, rows_of

MAX_BYTES = 10 * 2**20
MAX_TEXTS = 5000
GENERAL = ("questions", "descriptions", "tasks")
"""The sets in assets/prompt_sets, which fit any language model; the first is the default."""
_COLUMNS = ("text", "prompt", "question", "sentence", "caption")


@dataclass(frozen=True)
class PromptSet:
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


@dataclass(frozen=True)
class Item:
    """A line of a general set."""

    prompt: str
    concept: str = ""
    """Name of the preset that it is about; empty or "other" where it is about none."""
    answer: str = ""
    """A true one, for a question."""


def general_items(name: str) -> tuple[Item, ...]:
    """The lines of the general set of that name, one of GENERAL."""
    lines = read_lines(general_prompt_sets()[name])
    return tuple(Item(**json.loads(line)) for line in lines if line.strip())


def built_in_prompt_sets(model_name: str) -> dict[str, Path]:
    """Name -> file or folder of a built-in model's prompt sets; the first is its default."""
    folder = assets.ASSETS / model_name / "prompt_sets"
    return _texts(folder.glob("*")) | _image_folders(folder.glob("*"))


def general_prompt_sets() -> dict[str, Path]:
    """Name -> file of the sets for any language model, in the order of GENERAL."""
    found = _texts((assets.ASSETS / "prompt_sets").glob("*"))
    return {name: found[name] for name in GENERAL if name in found}


def default_prompt_sets(model_name: str, has_vision: bool = False) -> dict[str, Path]:
    """The prompt sets to offer for a model, the default first: its own, where it has any.

    Any other model that sees is offered the pictures of the built-in ones, and any other language
    model the general texts. The built-in models' texts tell of a toy world and stay theirs.
    """
    shipped = assets.ASSETS.glob("*/prompt_sets/*")
    return built_in_prompt_sets(model_name) or (
        _image_folders(shipped) if has_vision else general_prompt_sets()
    )


def known_prompt_sets(model_name: str, has_vision: bool = False) -> dict[str, Path]:
    """The prompt sets that may be named: those offered first, then the general ones.

    A general set is hidden by one of the model's own of the same name.
    """
    general = {} if has_vision else general_prompt_sets()
    offered = default_prompt_sets(model_name, has_vision)
    return offered | {name: path for name, path in general.items() if name not in offered}


def _texts(paths: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths) if path.suffix == ".jsonl"}


def _image_folders(paths: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths) if is_image_folder(path)}


def find_prompt_set(
    name_or_path: str | None, model_name: str, has_vision: bool = False, prompt: str = ""
) -> PromptSet:
    """The prompt set that a person asked for.

    Args:
        name_or_path: a name, a file of texts, a picture, a folder or a zip of pictures, or None for
            the model's default.
        model_name: the model that is to read it.
        has_vision: whether that model reads pictures.
        prompt: what is asked about each picture; empty for the model's usual prompt.

    Raises:
        UnknownName, PromptError, TableError or PictureError.
    """
    known = known_prompt_sets(model_name, has_vision)
    if name_or_path is None:
        if not known:
            kind = "pictures: name a folder or zip of them" if has_vision else "texts: name a file"
            raise PromptError(f"Nothing to read {model_name} on is built in. It reads {kind}.")
        name_or_path = next(iter(known))
    if name_or_path in known:
        return _open(known[name_or_path], prompt)
    with suppress(OSError):  # a text that is too long for a file's name
        if name_or_path and Path(name_or_path).exists():
            return _open(Path(name_or_path), prompt)
    hint = "Or name a .txt file or a table (.csv, .tsv, .json, .jsonl, .parquet)"
    hint += ", or a folder or zip of pictures." if has_vision else "."
    raise UnknownName("prompt set", name_or_path, known, hint)


def _open(path: Path, prompt: str) -> PromptSet:
    if is_image_folder(path):
        image_folder = open_image_folder(path)
        return picture_prompt_set(
            image_folder.name, image_folder.pictures, prompt, image_folder.labels
        )
    if path.suffix.lower() in SUFFIXES:
        return picture_prompt_set(path.stem, [open_picture(path)], prompt)
    return read_prompt_set(path)


def picture_prompt_set(
    name: str, pictures: Sequence[Picture], prompt: str = "", labels: Sequence[str] = ()
) -> PromptSet:
    """A prompt set of these pictures, each with the same prompt (empty: the model's usual one)."""
    if not pictures:
        raise PromptError(f"There is no picture in {name!r}. Give one or more.")
    assert len(labels) in (0, len(pictures)), "a label a picture"
    check_unicode([prompt], PromptError)
    return PromptSet(name, (prompt,) * len(pictures), tuple(pictures), tuple(labels))


def read_prompt_set(path: Path) -> PromptSet:
    """The texts of a file: one a line, or those of a table (column text, prompt, question, …).

    Raises TableError where it cannot be read or has no such column, and PromptError without a text.
    """
    if not is_table(path):
        return make_prompt_set(path.stem, read_lines(path, MAX_BYTES))
    table = read_table(path, _COLUMNS, ("text",), MAX_BYTES)
    return make_prompt_set(path.stem, [_text(row, path.name) for row in rows_of(table)])


def _text(row: Row, name: str) -> str:
    """A row's text; '' where its cell is empty."""
    found = row if isinstance(row, str) else pick(row, _COLUMNS, name)
    if not isinstance(found, str | None):
        raise PromptError(f"{name} has a row without a text but {str(found)[:60]}.")
    return found or ""


def make_prompt_set(name: str, texts: Iterable[str]) -> PromptSet:
    """A prompt set of these texts, blank ones left out. Raises PromptError where none is left."""
    kept = tuple(t.strip() for t in texts if t.strip())
    if not kept:
        raise PromptError(f"There is no text in {name!r}. Write one prompt a line.")
    check_unicode(kept, PromptError)
    if len(kept) > MAX_TEXTS:
        raise PromptError(f"{name!r} has {len(kept)} texts; at most {MAX_TEXTS} are read.")
    return PromptSet(name, kept)
