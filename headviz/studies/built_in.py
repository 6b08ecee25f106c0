"""The study data that ships beside the built-in models: rows and pictures of assets/MODEL/studies.

`python -m toyworld study-data` writes the files. Knows their layout, and nothing of what a study
makes of them.
"""

import gzip
import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headviz.base import assets
from headviz.inputs.images import Picture, open_picture
from headviz.studies.request import Request
from headviz.studies.samples import StudyError

TEXT_MODEL, PICTURE_MODEL, SMOL_MODEL = "tiny-lm", "tiny-vlm", "smol-vlm"
USUAL = 200
"""Samples to evaluate on where no number is asked for."""
STOPS = (".", "\n")

Row = dict[str, Any]


def check_built_in(request: Request, *models: str) -> None:
    """Raise StudyError where another model is given no data."""
    if request.model not in models:
        have = " and ".join(models) + (" have" if len(models) > 1 else " has")
        raise StudyError(
            f"Name the data: only {have} built-in data for the study "
            f"{request.study!r}, and the model is {request.model!r}."
        )


def class_names(model: str = PICTURE_MODEL) -> dict[str, tuple[str, ...]]:
    """Data set of classes -> the names of its classes, in the order in which they are asked."""
    found: dict[str, list[str]] = json.loads(_read(model, "classes.json"))
    return {name: tuple(classes) for name, classes in found.items()}


def rows(model: str, part: str, seed: int = 0) -> list[Row]:
    """All rows of a part, e.g. stories/evaluation: as they lie for seed 0, else another order."""
    content = gzip.decompress(_read(model, f"{part}.jsonl.gz"))
    return _in_order(_parsed(content), seed)


def shown_rows(
    part: str, n: int, seed: int = 0, model: str = PICTURE_MODEL
) -> list[tuple[Picture, Row]]:
    """`n` pictures of a part of the model's, e.g. digits/other, each with its row.

    Raises StudyError where it has fewer.
    """
    with zipfile.ZipFile(_path(model, f"{part}.zip")) as archive:
        kept = _in_order(_parsed(archive.read("samples.jsonl")), seed)
        check_shipped(f"{model}'s {part}", kept, n)
        return [(open_picture(archive.read(row["file"]), row["file"]), row) for row in kept[:n]]


def check_shipped(what: str, kept: Sequence[Row], n: int) -> None:
    """Raise StudyError where fewer than `n` samples ship."""
    if n > len(kept):
        raise StudyError(
            f"{what} ships {len(kept)} samples, fewer than the {n} that were asked for. Take a "
            "smaller --limit or --selection, or name other data with --data."
        )


def _parsed(content: bytes) -> list[Row]:
    return [json.loads(line) for line in content.decode().split("\n") if line]


def _in_order(kept: list[Row], seed: int) -> list[Row]:
    return random.Random(seed).sample(kept, len(kept)) if seed else kept


def _read(model: str, name: str) -> bytes:
    return _path(model, name).read_bytes()


def _path(model: str, name: str) -> Path:
    path = assets.ASSETS / model / "studies" / name
    if not path.is_file():
        raise StudyError(
            f"The study data of {model} is not here ({name}). Make it with "
            f"`python -m toyworld study-data {model}`, or name other data with --data."
        )
    return path
