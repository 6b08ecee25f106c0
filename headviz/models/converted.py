"""Models that were converted: a folder of the cache for each content, whole or not there.

A folder is named for the sha256 of what it was made from, made beside its place and renamed when it
is whole: what was stopped, killed or cut off is never read. A lock lets one process make it while
others wait. Knows nothing of what is converted, and how.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headviz.base.cache_folder import cache_folder
from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.base.sums import first_damaged
from headviz.base.write_whole import write_whole
from headviz.models.memory import size_text

FORMAT = 1
"""Part of a folder's name: of how a file is converted."""
_POLL = 0.2  # seconds between two looks at the lock of another
_CHUNK = 2**22


def converted_folder(content: str, kind: str = "gguf") -> Path:
    """Where the model made from content of this sha256 is, or would be.

    `kind`: what it was made from.
    """
    return cache_folder() / "models" / f"{kind}-{FORMAT}-{content[:32]}"


def is_converted(content: str, kind: str = "gguf") -> bool:
    """Whether it is there; a bit that the disk has turned since is not looked for."""
    return converted_folder(content, kind).is_dir()


def is_whole(folder: Path) -> bool:
    """Whether a model was made there and still is what was written. Reads all of it."""
    return folder.is_dir() and first_damaged(folder) is None


def content_of(parts: Sequence[Path], progress: Progress = no_progress) -> str:
    """The sha256 of a file; of several, that of theirs.

    Remembered for as long as size and time of a file stay: reading gigabytes takes a while. Raises
    ModelError for a file that cannot be read.
    """
    digests = [_sha256(part, progress) for part in parts]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _sha256(file: Path, progress: Progress) -> str:
    path = str(file.resolve())
    name = hashlib.sha256(path.encode()).hexdigest()[:32]
    kept = cache_folder() / "models" / "contents" / f"{name}.json"
    try:
        status = file.stat()
        now = [path, status.st_size, status.st_mtime_ns]
        with suppress(OSError, ValueError):
            *then, digest, check = json.loads(kept.read_text(encoding="utf-8"))
            if then == now and check == _check(now, digest):
                return str(digest)
        hashed, done = hashlib.sha256(), 0
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                progress(done / max(status.st_size, 1), f"looking at {file.name}")
                hashed.update(chunk)
                done += len(chunk)
    except OSError as error:
        raise ModelError(f"The file {file.name!r} cannot be read: {error.strerror}.") from None
    digest = hashed.hexdigest()
    with suppress(OSError):  # it is read again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps([*now, digest, _check(now, digest)]).encode())
    return digest


def _check(now: list[Any], digest: str) -> str:
    """Of what is remembered, which a disk may have damaged."""
    return hashlib.sha256(json.dumps([*now, digest]).encode()).hexdigest()[:16]


@contextmanager
def locked(content: str, progress: Progress = no_progress, kind: str = "gguf") -> Iterator[Path]:
    """Hold the right to make the folder of this content, whose place is given.

    Waits for whoever has it, and removes what a killed process left. Raises ModelError where the
    cache folder takes no file, and what `progress` raises.
    """
    target = converted_folder(content, kind)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock"))
        while not lock.is_locked:
            with suppress(Timeout):
                lock.acquire(timeout=_POLL)
                continue
            progress(0.0, "waiting for another process that fetches or converts the same model")
    except OSError as error:
        raise disk_error(error) from None
    try:
        for left in target.parent.glob(f".{target.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield target
    finally:
        lock.release()


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, removed at the end. Raises ModelError where none can be."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise disk_error(error) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_disk(name: str, n_bytes: int) -> None:
    """Raise ModelError where the disk of the cache does not take so many bytes for `name`."""
    place = cache_folder()
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < n_bytes:
        raise ModelError(
            f"{name!r} takes {size_text(n_bytes)} of the disk of the cache folder, which has "
            f"{size_text(free)} left. Free some, or set HEADVIZ_CACHE to another."
        )


def disk_error(error: OSError) -> ModelError:
    """What to say where the cache folder takes no more."""
    return ModelError(
        f"The cache folder does not take the model ({error.strerror or error}). Free some space, "
        "or set HEADVIZ_CACHE to another."
    )
