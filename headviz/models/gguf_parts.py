"""A GGUF model that is split into `-00001-of-0000N` files: which they are, and one of all.

transformers reads one file alone. Knows where tensors lie, and not what they mean.
"""

import re
from collections.abc import Sequence
from io import BufferedWriter
from pathlib import Path

from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.models.gguf_header import GgufHeader, GgufTensor

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_CHUNK = 2**22


def part_names(name: str) -> tuple[str, ...]:
    """The names of all files of the model that the file `name` is of, in order."""
    match = _PART.search(name)
    if match is None:
        return (name,)
    stem, count = name[: match.start()], int(match[2])
    return tuple(f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))


def parts_of(file: Path) -> tuple[Path, ...]:
    """All files of the model that `file` is of. Raises ModelError for one that is not there."""
    parts = tuple(file.with_name(name) for name in part_names(file.name))
    for number, part in enumerate(parts, 1):
        if not part.is_file():
            raise ModelError(
                f"Part {number} of {len(parts)} of this model is missing: {part.name}."
            )
    return parts


def merge(headers: Sequence[GgufHeader], file: Path, progress: Progress = no_progress) -> None:
    """Write the parts of a split model as one file. Raises OSError where the disk is full."""
    first = headers[0]
    entries = [raw for key, raw in first.entries.items() if not key.startswith("split.")]
    tensors = [(header, tensor) for header in headers for tensor in header.tensors]
    head = [b"GGUF", _number(first.version, 4), _number(len(tensors)), _number(len(entries))]
    offset, padding = 0, []
    for _, tensor in tensors:
        entries.append(tensor.entry + _number(offset))
        padding.append(-tensor.n_bytes % first.alignment)
        offset += tensor.n_bytes + padding[-1]
    start = b"".join([*head, *entries])
    with file.open("wb") as merged:
        merged.write(start + bytes(-len(start) % first.alignment))
        for number, ((header, tensor), more) in enumerate(zip(tensors, padding, strict=True)):
            progress(number / len(tensors), f"putting {len(headers)} parts together")
            _copy(header, tensor, merged)
            merged.write(bytes(more))


def _copy(header: GgufHeader, tensor: GgufTensor, merged: BufferedWriter) -> None:
    with header.path.open("rb") as part:
        part.seek(header.data_start + tensor.offset)
        left = tensor.n_bytes
        while left:
            chunk = part.read(min(left, _CHUNK))
            merged.write(chunk)
            left -= len(chunk)


def _number(value: int, n_bytes: int = 8) -> bytes:
    return value.to_bytes(n_bytes, "little")
