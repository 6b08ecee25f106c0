"""The head of a GGUF file: what it says of its model, and where its tensors lie.

Reads no tensor. Every length is held against the file's own, so that a file that is cut short or
damaged is refused and never read beyond its end. The format: ggml's docs/gguf.md. Knows nothing of
what transformers makes of it.
"""

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from headviz.base.errors import ModelError
from headviz.models.memory import size_text

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_FORMATS |= {12: "d"}
"""Kind of a value of fixed size -> how struct writes it."""
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32  # bytes, where the file says nothing else


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies."""

    name: str
    shape: tuple[int, ...]
    """As transformers has it: (rows, columns)."""
    kind: str
    """How its numbers are kept: F32, Q4_1 …"""
    offset: int
    """In bytes, from the beginning of the data."""
    n_bytes: int
    entry: bytes
    """What the table of tensors holds of it, up to its offset."""


@dataclass(frozen=True)
class GgufHeader:
    """What a file says before its data."""

    path: Path
    version: int
    values: dict[str, Any]
    """Its values by key; of an array, how long it is."""
    entries: dict[str, bytes]
    """The same as they stand in the file, key and all."""
    tensors: tuple[GgufTensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """As GGUF names it: llama, qwen2, gemma3."""
        return str(self.values.get("general.architecture", "unknown"))

    @cached_property
    def quantisation(self) -> str:
        """How most of its bytes are kept."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.kind] += tensor.n_bytes
        return sizes.most_common(1)[0][0] if sizes else "nothing"

    @property
    def n_numbers(self) -> int:
        """Of all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def largest(self) -> int:
        """How many numbers its largest tensor has."""
        return max((prod(tensor.shape) for tensor in self.tensors), default=0)

    @property
    def alignment(self) -> int:
        """Bytes that the places of tensors are multiples of."""
        return int(self.values.get("general.alignment", _ALIGNMENT)) or _ALIGNMENT


def read_header(path: Path) -> GgufHeader:
    """The head of this file. Raises ModelError where it is no whole GGUF file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise ModelError(f"The file {path.name!r} is empty.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _parse(path, _Cursor(path, content, size))
    except OSError as error:
        raise ModelError(f"The file {path.name!r} cannot be read: {error.strerror}.") from None


class _Cursor:
    """A place in a file that only moves on, and never beyond the end."""

    def __init__(self, path: Path, content: mmap.mmap, size: int) -> None:
        self.path, self.content, self.size, self.at = path, content, size, 0

    def take(self, n_bytes: int) -> bytes:
        start, self.at = self.at, self.at + n_bytes
        if self.at > self.size:
            raise cut_short(self.path, self.size)
        return self.content[start : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """A value, or of an array how long it is."""
        if kind in _FORMATS:
            return self.number(_FORMATS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise ModelError(f"The file {self.path.name!r} is damaged: it has values of no kind.")
        inner, count = self.number("I"), self.number("Q")
        if inner in _FORMATS:
            self.take(count * struct.calcsize(f"<{_FORMATS[inner]}"))
        else:
            for _ in range(count):
                self.value(inner)
        return count


def cut_short(path: Path, size: int) -> ModelError:
    """What to say of a file that ends too early."""
    return ModelError(
        f"The file {path.name!r} is cut short: it ends after {size_text(size)}, in the middle of "
        "what it says it holds. Fetch it again."
    )


def _parse(path: Path, cursor: _Cursor) -> GgufHeader:
    _check_magic(path, cursor)
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise ModelError(
            f"The file {path.name!r} is GGUF of version {version}; versions 2 and 3 are read."
        )
    n_tensors, n_values = cursor.number("Q"), cursor.number("Q")
    values, entries = {}, {}
    for _ in range(n_values):
        start = cursor.at
        key = cursor.text()
        values[key] = cursor.value(cursor.number("I"))
        entries[key] = cursor.content[start : cursor.at]
    tensors = tuple(_tensor(path, cursor) for _ in range(n_tensors))
    header = GgufHeader(path, version, values, entries, tensors, 0)
    data_start = -(-cursor.at // header.alignment) * header.alignment
    end = max((tensor.offset + tensor.n_bytes for tensor in tensors), default=0)
    if data_start + end > cursor.size:
        raise cut_short(path, cursor.size)
    return GgufHeader(path, version, values, entries, tensors, data_start)


def _check_magic(path: Path, cursor: _Cursor) -> None:
    if not cursor.content[: min(512, cursor.size)].startswith(_MAGIC):
        raise ModelError(
            f"The file {path.name!r} is no GGUF file: it does not begin as one. Fetch it again."
        )
    cursor.take(len(_MAGIC))


def _tensor(path: Path, cursor: _Cursor) -> GgufTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    start = cursor.at
    name = cursor.text()
    shape = tuple(cursor.number("Q") for _ in range(cursor.number("I")))
    kind = cursor.number("I")
    entry = cursor.content[start : cursor.at]
    offset = cursor.number("Q")
    try:
        known = GGMLQuantizationType(kind)
    except ValueError:
        raise ModelError(
            f"The file {path.name!r} keeps {name!r} in a number format ({kind}) that this "
            "version of the package gguf does not know."
        ) from None
    block, block_bytes = GGML_QUANT_SIZES[known]
    n_bytes = prod(shape) // block * block_bytes
    return GgufTensor(name, tuple(reversed(shape)), known.name, offset, n_bytes, entry)
