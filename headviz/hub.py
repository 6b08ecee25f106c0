"""A model of the Hugging Face hub: what it takes to have it here, and fetching it.

Knows the hub's answers and turns them into one sentence each; knows nothing of what the files hold.
The token goes to the hub and nowhere else: no sentence of this module can hold it.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    get_token,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from headviz.errors import ModelError
from headviz.memory import size_text
from headviz.progress import Progress, no_progress

_READ = (".json", ".txt", ".model", ".jinja")
_POLL = 0.2  # seconds between two looks at a download
_SECRET = re.compile(r"hf_\w+|(?<=Bearer )\S+")


class NotOnHub(Exception):
    """The hub does not have the model, or does not tell that it has it."""


@dataclass(frozen=True)
class HubModel:
    """A model on the hub at one commit."""

    name: str
    commit: str
    files: dict[str, int]
    """The files that are read here, with their bytes."""
    missing: int
    """Bytes that are not in the local cache yet."""
    parameters: dict[str, int]
    """Number format, as safetensors names it -> how many numbers; empty where it is not told."""

    @property
    def weights_bytes(self) -> int:
        """Of the weights' files."""
        return sum(size for file, size in self.files.items() if not file.endswith(_READ))


def small_files(names: Sequence[str]) -> list[str]:
    """Those of a model's files that hold no weights and are read: config, tokenizer, templates."""
    return [name for name in names if "/" not in name and name.endswith(_READ)]


def transformers_files(names: Sequence[str]) -> list[str]:
    """The weights as transformers names them, and the small files; nothing without weights."""
    weights = [n for n in names if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", n)]
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    return [*weights, *small_files(names)] if weights else []


def find_on_hub(
    name: str, wanted: Callable[[Sequence[str]], list[str]] = transformers_files
) -> HubModel | None:
    """The model of that name, None where the hub cannot be reached.

    `wanted`: the names of all files of the model -> those to be read, none without weights.

    Raises NotOnHub where the hub does not have it, and ModelError where it may not be had, has no
    weights that are read here, or the token is refused.
    """
    try:
        # One quick question: transformers itself would try for half a minute.
        info: Any = HfApi().model_info(name, timeout=10, files_metadata=True)
    except GatedRepoError:
        raise ModelError(gated(name)) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise NotOnHub from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            raise ModelError(
                "The hub does not know the token that is set here. Make a new one in the hub's "
                "settings and set HF_TOKEN or run `hf auth login`; open models need none."
            ) from None
        return None
    except Exception:  # the HTTP client's errors differ from release to release
        return None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    files = {file: sizes[file] for file in wanted(list(sizes))}
    if not files:
        raise ModelError(
            f"The model {name!r} has no .safetensors weights on the hub, the only format headviz "
            "loads."
        )
    kept = {f for f in files if isinstance(try_to_load_from_cache(name, f, revision=info.sha), str)}
    missing = sum(size for file, size in files.items() if file not in kept)
    counted = getattr(info.safetensors, "parameters", None) or {}
    return HubModel(name, info.sha, files, missing, dict(counted))


def cached_folder(name: str) -> tuple[Path, str] | None:
    """Folder and commit of a model that was downloaded before, None where none was."""
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder, folder.name


def config_of(model: HubModel) -> Path:
    """The folder with the model's config alone, a few kB. Raises ModelError as `fetch` does."""
    try:
        # Without a revision: the cache then knows which commit the name stood for last.
        return Path(hf_hub_download(model.name, "config.json")).parent
    except Exception as error:
        raise ModelError(_refusal(model.name, type(error).__name__, str(error))) from None


def fetch(model: HubModel, progress: Progress = no_progress) -> Path:
    """Download what is missing; the folder with the files.

    Raises ModelError where the hub does not give them, and what `progress` raises: the download
    then ends at once, and a later one fetches again what was not whole.
    """
    asked = {
        "name": model.name,
        "revision": model.commit,
        "files": list(model.files),
        "cache": str(constants.HF_HUB_CACHE),
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("fetching.py"))]
    before, others = _on_disk(model.name), set(_unfinished(model.name))
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
                _report(model, _on_disk(model.name) - before, progress)
                time.sleep(_POLL)
            answer = process.stdout.read().strip()
        finally:
            process.kill()
            process.wait()
            # The hub's client never takes an unfinished file up again.
            for file in set(_unfinished(model.name)) - others:
                file.unlink(missing_ok=True)
    found = json.loads(answer or '{"error": "", "text": "the process that does it ended early"}')
    if "folder" in found:
        return Path(found["folder"])
    raise ModelError(_refusal(model.name, found["error"], found["text"]))


def _report(model: HubModel, done: int, progress: Progress) -> None:
    done = min(max(done, 0), model.missing)
    text = f"downloading {model.name}: {size_text(done)} of {size_text(model.missing)}"
    progress(done / max(model.missing, 1), text)


def _blobs(name: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"


def _unfinished(name: str) -> list[Path]:
    return list(_blobs(name).glob("*.incomplete"))


def _on_disk(name: str) -> int:
    """Bytes of the model's files so far, unfinished ones with what they really hold."""
    total = 0
    for file in _blobs(name).glob("*"):
        try:
            status = file.stat()
        except OSError:
            continue  # renamed meanwhile
        total += min(status.st_size, getattr(status, "st_blocks", sys.maxsize) * 512)
    return total


def gated(name: str) -> str:
    """What to do about a model that its owner gives only to those who asked."""
    page = f"{constants.ENDPOINT}/{name}"
    if get_token() is None:
        how = "set the environment variable HF_TOKEN or run `hf auth login`"
    else:
        how = "see that the token in use is of the account that was given access"
    return f"The model {name!r} is gated: accept its licence at {page} and {how}, then try again."


def _refusal(name: str, kind: str, text: str) -> str:
    if kind == "GatedRepoError":
        return gated(name)
    return f"The model {name!r} could not be downloaded: {first_line(text, kind)}"


def first_line(text: str, kind: str) -> str:
    """The first line of what an error of this kind says, or the kind; without any token."""
    text = without_token(text.strip())
    return text.splitlines()[0][:200] if text else kind


def without_token(text: str) -> str:
    """The text without anything that is, or looks like, a token of the hub."""
    token = get_token()
    for form in (token, repr(token)[1:-1]) if token else ():
        text = text.replace(form, "…")
    return _SECRET.sub("…", text)
