"""Keeps tensors on disk by content key: atomic, checked, bounded in size, shared by processes.

An entry is one safetensors file whose metadata carries a checksum of its tensors. The names of
entries come from `key_of`: everything that the content depends on, the format's version included.
(diskcache would do, but it pickles; a cache folder that someone else can write must not run code.)
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from headviz.base.cache_folder import cache_folder
from headviz.base.errors import CacheError
from headviz.base.shapes import Tensor
from headviz.base.write_whole import remove_abandoned, write_whole

FORMAT = 1


def key_of(**parts: Any) -> str:
    """A file name's stem that changes with any of the parts (JSON-able values)."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Store:
    """A folder of entries, the least recently used ones dropped beyond `max_bytes`."""

    folder: Path = field(default_factory=lambda: cache_folder() / "activations")
    max_bytes: int = 2 * 2**30

    def get(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and notes kept under `key`, or None. A damaged entry is removed."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
            if metadata.get("sha256") != _checksum(tensors, metadata.get("notes", "")):
                raise SafetensorError("checksum differs")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except (SafetensorError, OSError, RuntimeError, ValueError):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # not touch(): it would make an empty file of a dropped entry
            os.utime(path)
        return tensors, json.loads(metadata["notes"])

    def put(self, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Keep the tensors and notes. Raises CacheError where the disk does not take them."""
        cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(dict(notes), sort_keys=True)
        content = save(cpu, {"notes": text, "sha256": _checksum(cpu, text)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(key), content)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CacheError(
                f"The result was not kept in the cache ({reason}); it is only shown. "
                f"Free some space in the cache folder to keep results."
            ) from error
        self._drop_oldest()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _drop_oldest(self) -> None:
        remove_abandoned(self.folder)
        entries = []
        for path in self.folder.glob("*.safetensors"):
            with suppress(OSError):  # another process may have dropped it meanwhile
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries)[:-1]:
            if total <= self.max_bytes:
                break
            with suppress(OSError):
                path.unlink()
            total -= size


def _checksum(tensors: Mapping[str, Tensor], notes: str) -> str:
    digest = hashlib.sha256(notes.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
