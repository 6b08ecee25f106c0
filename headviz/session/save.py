"""Results as files: CSV and JSON for people and scripts, safetensors for arrays.

What can be saved as what is a table, FORMATS. The layouts are described in docs/formats.md.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as pack

from headviz.base.errors import OptionError, SaveError
from headviz.base.shapes import Tensor
from headviz.base.write_whole import write_whole
from headviz.clip.zero_shot import ZeroShot
from headviz.editing.compare import Comparison
from headviz.editing.recipe import Recipe
from headviz.heads.capture import HeadActivations
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session.tables import comparison_table, ranking_table, spectrum_table, zero_shot_table

SCORES, ACTIVATIONS = "headviz-scores-1", "headviz-activations-1"
"""Formats of safetensors files; the number grows when an old reader would misread them."""


def to_bytes(result: Any, kind: str) -> bytes:
    """The content of a file of this kind (csv, json, safetensors).

    Raises OptionError, with the kinds there are, where the result has no such form.
    """
    known = FORMATS[type(result)]
    if kind not in known:
        raise OptionError(
            f"A {type(result).__name__} is saved as {_listing(type(result))}, not as {kind!r}."
        )
    return known[kind](result)


def save(result: Any, path: Path | str) -> Path:
    """Write a result in the form that the file's suffix names.

    A file of that name is replaced, whole or not at all. Raises OptionError for a suffix that the
    result has no form for, SaveError where the file cannot be written.
    """
    path = Path(path)
    content = to_bytes(result, _kind_of(path))
    try:
        write_whole(path, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(f"{path.name} cannot be written ({reason}).") from error
    return path


def check_files(files: Mapping[type, Path | str | None]) -> None:
    """Raise OptionError for the first file that its result cannot be saved as.

    `files` are by the type of the result; before anything is computed, that costs nothing.
    """
    for kind, path in files.items():
        if path is not None and _kind_of(path) not in FORMATS[kind]:
            raise OptionError(f"{Path(path).name!r} should end with {_listing(kind)}.")


def _kind_of(path: Path | str) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def _listing(kind: type) -> str:
    return " or ".join(f".{name}" for name in FORMATS[kind])


def _json(data: Any) -> bytes:
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()


def _packed(tensors: Mapping[str, Tensor], layout: str, about: Mapping[str, Any]) -> bytes:
    """A safetensors file; what the tensors are about stands in its metadata as JSON."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    notes = json.dumps(dict(about), ensure_ascii=False)
    return pack(contiguous, {"format": layout, "about": notes})


def _scores(ranking: Ranking) -> bytes:
    """Scores, chance level and intervals, all `layer head`."""
    tensors = {"scores": ranking.scores, "chance": ranking.chance}
    if ranking.spread is not None:
        spread = ranking.spread
        tensors |= {"low": spread.low, "high": spread.high}
        tensors |= {"best_rank": spread.best_rank, "worst_rank": spread.worst_rank}
    about = {name: value for name, value in ranking.as_dict(0).items() if name != "heads"}
    return _packed(tensors, SCORES, about)


def _activations(activations: HeadActivations) -> bytes:
    """Every head's signal on every sample: z, `layer head sample d_head`."""
    about = {
        "model": activations.model,
        "revision": activations.revision,
        "prompt_set": activations.prompt_set,
        "pooling": activations.pooling,
        "n_positions": activations.n_positions,
        "texts": list(activations.texts),
        "pictures": [picture.name for picture in activations.pictures],
    }
    return _packed({"z": activations.z}, ACTIVATIONS, about)


FORMATS: Mapping[type, Mapping[str, Callable[[Any], bytes]]] = {
    Ranking: {
        "csv": lambda ranking: ranking_table(ranking).to_csv().encode(),
        "json": lambda ranking: _json(ranking.as_dict()),
        "safetensors": _scores,
    },
    Spectrum: {
        "csv": lambda spectrum: spectrum_table(spectrum).to_csv().encode(),
        "json": lambda spectrum: _json(spectrum.as_dict()),
    },
    Comparison: {
        "csv": lambda comparison: comparison_table([comparison]).to_csv().encode(),
        "json": lambda comparison: _json(comparison.as_dict()),
    },
    ZeroShot: {
        "csv": lambda found: zero_shot_table(found).to_csv().encode(),
        "json": lambda found: _json(found.as_dict()),
    },
    HeadActivations: {"safetensors": _activations},
    Recipe: {"json": lambda recipe: recipe.to_json().encode()},
}
"""Type of a result -> kind of file -> what makes its content."""
