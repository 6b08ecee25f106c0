"""A model of two: image tower and connector of this repository, and a language model as it is.

assets/NAME/parts holds what was trained here, with the config and the processor's files of the
whole; `language_model.json` there names the language model and the sha256 of the file that it has
to come from. Joined, they are an ordinary model folder in the cache, made once for each content.
Not one number of the language model changes. Knows nothing of how a language model is fetched.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from headviz.base import assets
from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.base.sums import write_sums
from headviz.models.converted import check_disk, content_of, disk_error, is_whole, scratch

FRONT = "front.safetensors"
"""Tower and connector, each weight named as in the whole model's file."""
TRAINED_WITH = "language_model.json"
KIND = "joined"
"""How the cache names folders of joined models."""
_OWN = ("config.json", "generation_config.json", "processor_config.json", "chat_template.jinja")
"""Small files of the whole model."""
_TAKEN = ("tokenizer.json", "tokenizer_config.json")
"""Small files of the language model."""


@dataclass(frozen=True)
class Parts:
    """What was trained here, and what it was trained with."""

    name: str
    """Of the whole model."""
    folder: Path
    language_model: str
    """Its name among the known models."""
    sha256: str
    """Of the file that the language model comes from."""

    @property
    def content(self) -> str:
        """The sha256 of all that the joined model is made from."""
        return content_of([self.folder / name for name in (FRONT, TRAINED_WITH, *_OWN)])


def parts_of(name: str) -> Parts | None:
    """The parts of the model of that name, None where assets hold none of it."""
    folder = assets.ASSETS / name / "parts"
    if not (folder / FRONT).is_file():
        return None
    told = json.loads((folder / TRAINED_WITH).read_text(encoding="utf-8"))
    return Parts(name, folder, told["name"], told["sha256"])


def check_language_model(parts: Parts, sha256: str) -> None:
    """Raise ModelError where the language model comes from another file than in the training."""
    if sha256 != parts.sha256:
        raise ModelError(
            f"{parts.name!r} was trained with {parts.language_model} of the sha256 "
            f"{parts.sha256[:12]}… and not {sha256[:12]}…: its image tokens would mean nothing to "
            "other weights."
        )


def join_into(
    target: Path, parts: Parts, language_model: Path, progress: Progress = no_progress
) -> None:
    """Make the folder `target`, unless it is there, for whoever holds its lock.

    Args:
        target: of the cache, named for the content.
        parts: tower and connector.
        language_model: the folder of the language model that they were trained with.
        progress: told what is done.

    Raises:
        ModelError: where a part is missing, or the disk does not take it.
    """
    if is_whole(target):
        return
    progress(0.0, f"joining {parts.name} with {parts.language_model}")
    weights = language_model / "model.safetensors"
    try:
        check_disk(parts.name, weights.stat().st_size + (parts.folder / FRONT).stat().st_size)
        with scratch(target) as folder:
            made = folder / "model"
            made.mkdir()
            joined = {f"language_model.{name}": w for name, w in _tensors(weights).items()}
            joined |= _tensors(parts.folder / FRONT)
            save_file(joined, made / "model.safetensors", metadata={"format": "pt"})
            for source, names in ((parts.folder, _OWN), (language_model, _TAKEN)):
                for name in names:
                    shutil.copyfile(source / name, made / name)
            write_sums(made)
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
            made.replace(target)
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise ModelError(f"{parts.name!r} cannot be joined: {missing} is missing.") from None
    except OSError as error:
        raise disk_error(error) from None


def _tensors(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
