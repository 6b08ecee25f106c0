"""Writes a file whole or not at all. Knows nothing of what is written."""

import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".writing-"
"""How the name of a file begins that is still being written, or was when its process died."""

_ABANDONED = 3600.0  # seconds without a change after which whoever wrote it has died


def write_whole(path: Path, content: bytes, lasting: bool = False) -> None:
    """Put the content at `path`: written beside it, then renamed, so that nobody sees a part of it.

    A file of that name is replaced. `lasting` waits until the disk has it, so that a power cut does
    not empty it. Raises OSError, and then leaves nothing behind.
    """
    temporary = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def remove_abandoned(folder: Path, pattern: str = f"{UNFINISHED}*") -> None:
    """Remove the files and folders of that name in which nobody has written for an hour."""
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process may have been quicker
            inside = path.rglob("*") if path.is_dir() else ()
            if time.time() - max(p.stat().st_mtime for p in (path, *inside)) < _ABANDONED:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
