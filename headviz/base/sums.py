"""A folder's checksums, in the file that `sha256sum -c SHA256SUMS` reads.

What headviz writes to be read again as a model carries them, so that a bit that a disk has turned
is noticed before a number is computed from it. Knows nothing of what the files hold.
"""

import hashlib
from pathlib import Path

NAME = "SHA256SUMS"
_LEFT_OUT = (NAME, "README.md")
_CHUNK = 2**22


def write_sums(folder: Path) -> None:
    """Write down what every file holds, but README.md, which people change. Raises OSError."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name not in _LEFT_OUT)
    lines = [f"{_sha256(path)}  {path.name}\n" for path in files]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def first_damaged(folder: Path) -> str | None:
    """The first file that is not what was written; None where all are, or nothing was noted.

    Reads every file that is listed: about as long again as loading the weights from memory takes.
    """
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return NAME
    for line in lines or [""]:
        digest, _, name = line.partition("  ")
        path = folder / name
        if not name or path.name != name:  # the list itself is damaged
            return NAME
        try:
            if _sha256(path) != digest:
                return name
        except (OSError, ValueError):
            return name
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
