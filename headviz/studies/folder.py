"""A study's folder: its config, and its cells as they finish, each written whole or not at all.

A run that was killed goes on from what lies there. A cell that is damaged counts as missing. A
folder of another study is refused, so that no results mix.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headviz.base.write_whole import UNFINISHED, remove_abandoned, write_whole
from headviz.studies.samples import StudyError

_CONFIG = "config.json"


@dataclass(frozen=True)
class StudyFolder:
    """Where one study keeps its results."""

    path: Path

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any]) -> "StudyFolder":
        """The folder for this config: made, or gone on with where the config is the same.

        Raises StudyError for a folder that holds another study or other files.
        """
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            for place in (path, path / "cells"):
                remove_abandoned(place)
            others = [p.name for p in path.iterdir() if not p.name.startswith(UNFINISHED)]
        except OSError as error:
            raise StudyError(f"{path} cannot be made ({error.strerror or error}).") from error
        if _CONFIG in others:
            folder._go_on(config)
        elif others:
            raise StudyError(
                f"The folder {path.name!r} holds {others[0]!r} and no {_CONFIG}: it is no study's. "
                "Name an empty or a new folder with --out."
            )
        else:
            folder.write_text(_CONFIG, _json(config))
        return folder

    def _go_on(self, config: Mapping[str, Any]) -> None:
        """Raise StudyError where the folder is of another config.

        One that no longer is JSON is written anew: cells are known by all that they depend on.
        """
        try:
            kept = json.loads((self.path / _CONFIG).read_text(encoding="utf-8"))
        except OSError as error:
            raise StudyError(
                f"{_CONFIG} in {self.path.name!r} cannot be read. Name a new folder with --out."
            ) from error
        except (ValueError, RecursionError):
            kept = None
        if not isinstance(kept, dict):
            self.write_text(_CONFIG, _json(config))
            return
        wanted = json.loads(_json(config))
        differs = [n for n in {**wanted, **kept} if kept.get(n) != wanted.get(n)]
        if differs:
            name = differs[0]
            raise StudyError(
                f"The folder {self.path.name!r} holds another study: its {name} is "
                f"{kept.get(name)!r}, not {wanted.get(name)!r}. Name a new folder with --out."
            )

    def read(self, key: str) -> dict[str, Any] | None:
        """A result that is kept, or None; a damaged one is removed."""
        path = self._path(key)
        try:
            checksum, _, body = path.read_text(encoding="utf-8").partition("\n")
            if json.loads(checksum) != _checksum(body):
                raise ValueError("checksum differs")
            found: dict[str, Any] = json.loads(body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            with suppress(OSError):
                path.unlink()
            return None
        return found

    @property
    def n_kept(self) -> int:
        """Results that are kept."""
        return sum(1 for _ in (self.path / "cells").glob("*.jsonl"))

    def write(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep a result. Raises StudyError where the disk does not take it."""
        body = json.dumps(dict(result), ensure_ascii=False)
        self.write_text(
            str(self._path(key).relative_to(self.path)), f'"{_checksum(body)}"\n{body}\n'
        )

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all. Raises StudyError where the disk does not take it."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """The same for bytes."""
        target = self.path / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, content, lasting=True)
        except OSError as error:
            raise StudyError(
                f"{name} was not written ({error.strerror or error}). What was finished before is "
                "kept: make room and run the same command again to go on."
            ) from error

    def _path(self, key: str) -> Path:
        return self.path / "cells" / f"{key}.jsonl"


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(dict(config), ensure_ascii=False, indent=2) + "\n"


def _checksum(body: str) -> str:
    return hashlib.sha256(body.strip().encode()).hexdigest()
