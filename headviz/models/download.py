"""Fetches the files of a repository of the hub, with progress, stoppable at any moment.

The download is a process of its own (`fetching`), since nothing else can be stopped for certain.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from huggingface_hub import constants

from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.models.hub import NOUNS, HubRepo, refusal
from headviz.models.memory import size_text

_POLL = 0.2  # seconds between two looks at a download


def fetch(repo: HubRepo, progress: Progress = no_progress) -> Path:
    """Download what is missing; the folder with the files.

    Raises ModelError where the hub does not give them, and what `progress` raises: the download
    then ends at once, and a later one fetches again what was not whole.
    """
    _check_disk(repo)
    asked = {
        "name": repo.name,
        "kind": repo.kind,
        "revision": repo.commit,
        "files": list(repo.files),
        "cache": str(constants.HF_HUB_CACHE),
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("download_process.py"))]
    before, others = _on_disk(repo), set(_unfinished(repo))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": constants.ENDPOINT},
    ) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(asked))
            process.stdin.close()
            while process.poll() is None:
                _report(repo, _on_disk(repo) - before, progress)
                time.sleep(_POLL)
            answer = process.stdout.read().strip()
        finally:
            process.kill()
            process.wait()
            # The hub's client never takes an unfinished file up again.
            for file in set(_unfinished(repo)) - others:
                file.unlink(missing_ok=True)
    found = json.loads(answer or '{"error": "", "text": "the process that does it ended early"}')
    if "folder" in found:
        return Path(found["folder"])
    raise ModelError(refusal(repo, found["error"], found["text"]))


def _report(repo: HubRepo, done: int, progress: Progress) -> None:
    done = min(max(done, 0), repo.missing)
    text = f"downloading {repo.name}: {size_text(done)} of {size_text(repo.missing)}"
    progress(done / max(repo.missing, 1), text)


def _check_disk(repo: HubRepo) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < repo.missing:
        raise ModelError(
            f"The {NOUNS[repo.kind]} {repo.name!r} is {size_text(repo.missing)} to download, "
            f"and the disk of the hub's cache has {size_text(free)} left. Free some, or set "
            "HF_HOME to another."
        )


def _blobs(repo: HubRepo) -> Path:
    folder = f"{repo.kind}s--{repo.name.replace('/', '--')}"
    return Path(constants.HF_HUB_CACHE) / folder / "blobs"


def _unfinished(repo: HubRepo) -> list[Path]:
    return list(_blobs(repo).glob("*.incomplete"))


def _on_disk(repo: HubRepo) -> int:
    """Bytes of the repository's files so far, unfinished ones with what they really hold."""
    total = 0
    for file in _blobs(repo).glob("*"):
        try:
            status = file.stat()
        except OSError:
            continue  # renamed meanwhile
        total += min(status.st_size, getattr(status, "st_blocks", sys.maxsize) * 512)
    return total
