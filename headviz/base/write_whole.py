"""Writes a file whole or not at all. Knows nothing of what is written."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".writing-"
"""How the name of a file begins that is still being written, or was when its process died."""


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
