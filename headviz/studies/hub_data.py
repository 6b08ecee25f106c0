"""A data set by its name on the Hugging Face hub, or a folder laid out as there -> its files.

The hub keeps a split in files like `data/test-00000-of-00001.parquet`, and parts of a data set in
folders of their own. Files are read as they are: no script of a data set is ever run. Knows nothing
of what the files hold.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from huggingface_hub import (
    constants,
    hf_hub_download,
    scan_cache_dir,
    try_to_load_from_cache,
)
from huggingface_hub.errors import CacheNotFound

from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.inputs.tables import is_hidden
from headviz.models.download import fetch
from headviz.models.hub import DATASET, NotOnHub, find_on_hub
from headviz.studies.samples import StudyError

KNOWN: Mapping[str, str] = {
    "mnist": "ylecun/mnist",
    "svhn": "ufldl-stanford/svhn:cropped_digits",
    "eurosat": "tanganke/eurosat",
    "resisc45": "tanganke/resisc45",
    "dtd": "tanganke/dtd",
    "gtsrb": "tanganke/gtsrb",
    "triviaqa": "mandarjoshi/trivia_qa:rc.nocontext",
    "nq-open": "google-research-datasets/nq_open",
    "realtoxicityprompts": "allenai/real-toxicity-prompts",
    "flickr30k": "lmms-lab/flickr30k",
    "coco": "lmms-lab/COCO-Caption2017",
    "tet": "convoicon/Thoroughly_Engineered_Toxicity",
}
"""Short names -> owner/name on the hub, and after a colon the part of it."""
PICTURE_SPLITS = ("test", "validation", "train")
CAPTION_SPLITS = ("val", "validation", "test", "train")
"""COCO's test pictures come without captions."""
TEXT_SPLITS = ("validation", "dev", "train", "test")
"""The first that a data set has is read; TriviaQA's test questions come without answers."""
_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".tsv", ".csv")
_NAMED = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_NOT_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "package.json")


def is_on_hub(name: str) -> bool:
    """Whether this is a name of the hub rather than a path: a known one, or owner/name."""
    known = name.lower() in KNOWN
    return known or (_NAMED.fullmatch(name) is not None and not Path(name.split("/")[0]).exists())


def located(name: str, splits: Sequence[str], progress: Progress = no_progress) -> Path:
    """The file or folder of that name, or a folder of the data set's files, fetched from the hub.

    `progress` is told how far that is; the download ends with what it raises.

    Raises StudyError, in one sentence, for a name that is neither, or that cannot be fetched.
    """
    if Path(name).exists():
        return Path(name)
    if not is_on_hub(name):
        raise StudyError(
            f"There is no file or folder {name!r}, and it is no data set: name one of "
            f"{', '.join(KNOWN)}, or one of the hub as owner/name."
        )
    repository, _, part = KNOWN.get(name.lower(), name).partition(":")
    return _fetched(repository, part, splits, progress)


def hub_files(folder: Path, splits: Sequence[str], part: str = "") -> list[Path]:
    """The files of one split in a folder laid out as on the hub; empty where it is laid out else.

    Raises StudyError as `chosen` does.
    """
    inside = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]
    names = [path.as_posix() for path in inside if not is_hidden(path)]
    if not any(_split_of(name, splits) and name.endswith(_ENDINGS) for name in names):
        return []
    return [folder / name for name in chosen(names, splits, part, folder.name)]


def _split_of(name: str, splits: Sequence[str]) -> str:
    """Which of these splits a file is of, by its name; nothing where of none."""
    file = Path(name).name
    return next((s for s in splits if re.match(rf"{s}(?![a-z])", file)), "")


def chosen(names: Sequence[str], splits: Sequence[str], part: str, data: str) -> list[str]:
    """Of a data set's files, those of its first split of these, of one part.

    Raises StudyError, naming what there is, where a part has to be named or there is none of it.
    """
    found = [n for n in names if n.endswith(_ENDINGS) and Path(n).name not in _NOT_DATA]
    for ending in _ENDINGS:  # the same rows may lie there in several formats
        if same := [n for n in found if n.endswith(ending)]:
            found = same
            break
    folders = list(dict.fromkeys(n.rpartition("/")[0] for n in found))
    if part:
        own = [n for n in found if n.rpartition("/")[0].split("/")[-1] == part]
        if not own:
            raise StudyError(
                f"{data} has no part {part!r}. It has: {', '.join(folders) or 'none'}."
            )
        found = own
    elif len(folders) > 1 and "" not in folders and "data" not in folders:
        raise StudyError(
            f"{data} has several parts: {', '.join(folders[:12])}. Name one, as owner/name:part."
        )
    elif "data" in folders:
        found = [n for n in found if n.startswith("data/")]
    for split in splits:
        if own := [n for n in found if _split_of(n, splits) == split]:
            return own
    return found


def _fetched(repository: str, part: str, splits: Sequence[str], progress: Progress) -> Path:
    def wanted(names: Sequence[str]) -> list[str]:
        rows = chosen(names, splits, part, repository)
        if not rows:
            raise StudyError(
                f"The data set {repository!r} holds none of {', '.join(_ENDINGS)}, and scripts of "
                "data sets are not run. Download it and name the folder."
            )
        return [*rows, *(name for name in names if name == "README.md")]

    progress(0.0, f"looking for {repository}")
    try:
        found = find_on_hub(repository, wanted, DATASET)
        if found is None:
            return _kept(repository, part, splits)
        first = next(iter(found.files))
        if found.missing:
            fetch(found, progress)
            with suppress(Exception):  # the HTTP client's errors differ from release to release
                # Without a revision: the cache then knows which commit the name stood for last.
                hf_hub_download(repository, first, repo_type=DATASET)
    except NotOnHub:
        raise StudyError(f"The hub has no data set {repository!r}.") from None
    except ModelError as error:
        raise StudyError(str(error)) from None
    path = try_to_load_from_cache(repository, first, revision=found.commit, repo_type=DATASET)
    return _with(Path(str(path)).parents[first.count("/")], part, splits)


def _kept(repository: str, part: str, splits: Sequence[str]) -> Path:
    """The folder of what was fetched before. Raises StudyError without any."""
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        repos = frozenset()
    own = [r for r in repos if (r.repo_type, r.repo_id) == (DATASET, repository)]
    last = own[0].refs.get("main") if own else None
    if last is None:
        raise StudyError(
            f"The data set {repository!r} could not be fetched: the hub cannot be reached. "
            "Download it elsewhere and name its folder with --data."
        )
    return _with(last.snapshot_path, part, splits)


def _with(root: Path, part: str, splits: Sequence[str]) -> Path:
    """The folder that holds the files of this part."""
    files = hub_files(root, splits, part)
    return files[0].parent if part and files else root
