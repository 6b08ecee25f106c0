"""A model folder's weight files, and what a folder holds that only looks like a model.

Reads names, first bytes and configs, never a weight. Knows nothing of families and memory.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headviz.base.errors import ModelError

_ADAPTER = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_BEGINNINGS: Mapping[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself: run `git lfs pull`",
    b"<!doctype html": "a web page and not the file itself: download the file's raw content",
    b"<html": "a web page and not the file itself: download the file's raw content",
}
"""How files begin that stand in another's place -> what they are."""
_READ_PACKED = ("bitsandbytes", "mxfp4")
"""Kinds of quantised weights that are read: the first keeps its projections readable, of the second
only experts are packed."""


def weight_files(folder: Path) -> list[Path]:
    """The files that are read: transformers' own where they are there, or else every one.

    Folders often hold the same weights twice, as `consolidated.safetensors` or in another format.
    """
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    parts = [folder / name for name in _indexed(folder)]
    return parts or sorted(folder.glob("*.safetensors"))


def check_folder(name: str, folder: Path) -> None:
    """Raise ModelError, saying what it is, where a folder is no model that transformers reads."""
    check_no_adapter(name, [path.name for path in folder.iterdir()], _base_model(folder))
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {name!r} has no config.json: it is no model folder.")
    files = weight_files(folder)
    if not files:
        raise ModelError(
            f"The folder {name!r} has no .safetensors weights, the only format headviz loads "
            "beside .gguf. Write them with model.save_pretrained(folder)."
        )
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"The folder {name!r} lacks {missing[0]}, which its {_INDEX} names: copy it there too."
        )
    if not any(file.name.startswith("model") for file in files):
        raise ModelError(
            f"The folder {name!r} has {files[0].name} in place of model.safetensors: these are not "
            "transformers' weights. Get those, or rename them if they are."
        )
    for file in (*files, *folder.glob("*.json"), *folder.glob("tokenizer.model")):
        check_is_itself(file)


def check_no_adapter(name: str, files: Collection[str], base: str = "") -> None:
    """Raise ModelError where an adapter is among the files of a model, alone or beside weights."""
    if _ADAPTER not in files:
        return
    of = f" of {base!r}" if base else ""
    if "config.json" in files:
        what = "an adapter (LoRA) beside full weights, and only one of the two would be read"
    else:
        what = f"an adapter (LoRA){of} and no model"
    raise ModelError(
        f"{name!r} holds {what}. Merge it into its base model (peft's merge_and_unload, then "
        f"save_pretrained) and name that folder, or take {_ADAPTER} away."
    )


def check_is_itself(file: Path) -> None:
    """Raise ModelError where something else stands in a file's place, as a pointer to it."""
    with file.open("rb") as opened:
        begins = opened.read(64).lstrip().lower()
    for beginning, what in _BEGINNINGS.items():
        if begins.startswith(beginning):
            raise ModelError(f"{file.name} is {what}.")


def check_packing(name: str, config: Any) -> None:
    """Raise ModelError where a transformers config tells of packed weights that are not read."""
    told = getattr(config, "quantization_config", None) or {}
    told = told if isinstance(told, dict) else told.to_dict()
    method = str(told.get("quant_method", "")).lower()
    if not method or method in _READ_PACKED:
        return
    bits = told.get("bits") or told.get("w_bit")
    kept = f"{method.upper()} of {bits} bits" if bits else method.upper()
    raise ModelError(
        f"The weights of {name!r} are packed as {kept}, which no head can be read out of. "
        "Name the model they were made from, with --dtype int4 where memory is short, or its GGUF."
    )


def _base_model(folder: Path) -> str:
    """What the adapter in a folder belongs to, as far as it tells."""
    with suppress(OSError, ValueError, AttributeError):
        told = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
        return str(told.get("base_model_name_or_path") or "")
    return ""


def _indexed(folder: Path) -> list[str]:
    """Names of the files that the folder's index names; none where it has no index to be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return sorted({Path(name).name for name in told["weight_map"].values()})
    return []
