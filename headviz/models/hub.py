"""A model or data set of the Hugging Face hub: what it takes to have it here.

Knows the hub's answers and turns them into one sentence each; knows nothing of what the files hold.
The token goes to the hub and nowhere else: no sentence of this module can hold it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
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

from headviz.base.errors import ModelError

_READ = (".json", ".txt", ".model", ".jinja")
DATASET = "dataset"
NOUNS: Mapping[str, str] = {"model": "model", DATASET: "data set"}
_SECRET = re.compile(r"hf_\w+|(?<=Bearer )\S+")


class NotOnHub(Exception):
    """The hub does not have the model, or does not tell that it has it."""


@dataclass(frozen=True)
class HubRepo:
    """A model or a data set on the hub at one commit."""

    name: str
    commit: str
    files: dict[str, int]
    """The files that are read here, with their bytes."""
    missing: int
    """Bytes that are not in the local cache yet."""
    parameters: dict[str, int]
    """Number format, as safetensors names it -> how many numbers; empty where it is not told."""
    kind: str = "model"
    """Or DATASET, as the hub has it."""

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
    name: str,
    wanted: Callable[[Sequence[str]], list[str]] = transformers_files,
    kind: str = "model",
) -> HubRepo | None:
    """The model or data set of that name, None where the hub cannot be reached.

    Args:
        name: owner/name.
        wanted: the names of all its files -> those to be read, none without weights; may raise.
        kind: "model" or DATASET.

    Raises NotOnHub where the hub does not have it, and ModelError where it may not be had, has no
    weights that are read here, or the token is refused.
    """
    try:
        # One quick question: transformers itself would try for half a minute.
        info: Any = HfApi().repo_info(name, repo_type=kind, timeout=10, files_metadata=True)
    except GatedRepoError:
        raise ModelError(gated(name, kind)) from None
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
        gguf = next((file for file in sizes if file.endswith(".gguf")), None)
        other = f", but GGUF files: name one, as {name}/{gguf}." if gguf else "."
        raise ModelError(f"The model {name!r} has no .safetensors weights on the hub{other}")
    counted = getattr(getattr(info, "safetensors", None), "parameters", None) or {}
    missing = _missing(name, info.sha, files, kind)
    return HubRepo(name, info.sha, files, missing, dict(counted), kind)


def _missing(name: str, commit: str, files: Mapping[str, int], kind: str) -> int:
    """Bytes of these files that are not in the local cache."""
    return sum(
        size
        for file, size in files.items()
        if not isinstance(try_to_load_from_cache(name, file, revision=commit, repo_type=kind), str)
    )


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


def cached_files(name: str, files: Sequence[str]) -> list[Path]:
    """Files of a model that were downloaded before, of the last commit that all are of; or none."""
    commits = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots")
    found = [[commit / file for file in files] for commit in commits.glob("*")]
    whole = [paths for paths in found if all(path.is_file() for path in paths)]
    return max(whole, key=lambda paths: paths[0].parent.stat().st_mtime, default=[])


def cached_weights(name: str) -> Path | None:
    """The folder of a model that was downloaded before with all its weights, else None."""
    cached = cached_folder(name)
    if cached is None:
        return None
    folder, index = cached[0], cached[0] / "model.safetensors.index.json"
    if index.is_file():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return folder if all((folder / file).is_file() for file in files) else None
    return folder if any(folder.glob("*.safetensors")) else None


def config_of(model: HubRepo) -> Path:
    """The folder with the model's config alone, a few kB.

    Raises ModelError where the hub does not give it.
    """
    try:
        # Without a revision: the cache then knows which commit the name stood for last.
        return Path(hf_hub_download(model.name, "config.json")).parent
    except Exception as error:
        raise ModelError(refusal(model, type(error).__name__, str(error))) from None


def gated(name: str, kind: str = "model") -> str:
    """What to do about a model or data set that its owner gives only to those who asked."""
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == DATASET else ''}{name}"
    if get_token() is None:
        how = "set the environment variable HF_TOKEN or run `hf auth login`"
    else:
        how = "see that the token in use is of the account that was given access"
    return (
        f"The {NOUNS[kind]} {name!r} is gated: accept its licence at {page} and {how}, then try "
        "again."
    )


def refusal(model: HubRepo, error: str, text: str) -> str:
    """Why the hub does not give it: after an error of this type's name, with this text."""
    if error == "GatedRepoError":
        return gated(model.name, model.kind)
    noun = NOUNS[model.kind]
    return f"The {noun} {model.name!r} could not be downloaded: {first_line(text, error)}"


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
