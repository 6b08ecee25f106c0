"""An edit baked into a checkpoint: an ordinary folder that runs without headviz.

W_O's columns are scaled, nothing else is changed: safetensors weights, config, generation config,
tokenizer or processor, checksums, and a model card that names the edit. The folder is written
beside its place and then moved there, so that nothing half-written is left behind.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from headviz.base.errors import CheckpointError, OptionError
from headviz.base.shapes import Tensor
from headviz.base.sums import write_sums
from headviz.base.write_whole import remove_abandoned
from headviz.editing.model_card import checkpoint_card
from headviz.editing.recipe import Recipe, check_fit
from headviz.heads.edits import Edit, factor_table
from headviz.models.loaded import LoadedModel

RECIPE_FILE = "headviz-recipe.json"
_FORMATS = (torch.bfloat16, torch.float16)
_OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path", "_name_or_path")


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was written."""

    folder: Path
    dtype: str
    """Number format of the weights: the narrowest in which none of them changes."""
    n_bytes: int
    """Of all its files."""


def write_checkpoint(model: LoadedModel, recipe: Recipe, folder: Path) -> Checkpoint:
    """Write the model with the edit in its weights to a new or empty folder.

    Raises OptionError for an edit that weights cannot hold, or a head that is not there, and
    CheckpointError where the folder is not empty or the disk does not take it.
    """
    check_fit(recipe, model)
    check_bakeable(model, recipe.edit)
    _check_empty(folder)
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent, f".{escape(folder.name)}-writing-*")
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-writing-"))
        dtype = _write(model, recipe, temporary)
        write_sums(temporary)
        _open_to_others(temporary)
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        told = f"The checkpoint {folder.name} cannot be written: {reason}."
        raise CheckpointError(told) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Checkpoint(folder, dtype, n_bytes)


def check_bakeable(model: LoadedModel, edit: Edit) -> None:
    """Raise OptionError, with what to do, where weights cannot hold the edit.

    Where the model lies does not matter: what is split over devices and disk is read part by part.
    """
    if edit.where != "everywhere":
        raise OptionError(
            f"The edit holds only in places ({edit.where}) and weights are the same "
            "everywhere: it cannot be baked. Choose an edit that holds everywhere."
        )
    if all(factor == 1 for factor in edit.factors.values()):
        raise OptionError("The edit changes no head: there is nothing to bake.")
    if not model.writes:
        raise OptionError(
            f"{model.name} is a CLIP model, which transformers does not load from open_clip's "
            "files: only models that write text can be baked."
        )
    if getattr(model.model, "hf_quantizer", None) is not None:
        raise OptionError(
            f"The weights of {model.name} are quantised: scaled columns would be rounded anew and "
            "no longer be the edit. Load it with --dtype bfloat16 or float16 to bake it."
        )


def _check_empty(folder: Path) -> None:
    try:
        taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise CheckpointError(f"{folder.name} cannot be read ({error.strerror}).") from error
    if taken:
        raise CheckpointError(
            f"{folder.name} is there already and is not an empty folder. Name a new one."
        )


def _open_to_others(folder: Path) -> None:
    """Give folder and files the usual rights; what writes temporary files keeps them to itself."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def _write(model: LoadedModel, recipe: Recipe, folder: Path) -> str:
    """All files of the checkpoint; returns the number format of its weights."""
    state = _scaled_state(model, recipe)
    dtype = _narrowest(state)
    if dtype is not None:
        state = _all_cast(state, dtype)
    model.model.save_pretrained(folder, state_dict=state)
    written = str(dtype or model.dtype).removeprefix("torch.")
    reader = model.vision.processor if model.vision is not None else model.tokenizer
    reader.save_pretrained(folder)
    _tidy_configs(folder, written)
    recipe.save(folder / RECIPE_FILE)
    (folder / "README.md").write_text(checkpoint_card(model, recipe, written), encoding="utf-8")
    return written


def _scaled_state(model: LoadedModel, recipe: Recipe) -> dict[str, Tensor]:
    """The model's weights, by name; those of edited layers are scaled copies."""
    factors = factor_table(model, [recipe.edit])[0].repeat_interleave(model.d_head, dim=1)
    names = {id(module): name for name, module in model.model.named_modules()}
    state: dict[str, Tensor] = dict(model.model.state_dict())
    for layer, projection in model.projections.items():
        if (factors[layer] == 1).all():
            continue
        name = f"{names[id(projection)]}.weight"
        # GPT-2's Conv1D keeps (in, out) where nn.Linear keeps (out, in).
        linear = isinstance(projection, nn.Linear)
        scale = factors[layer] if linear else factors[layer][:, None]
        weight = state[name]
        if weight.is_meta:  # it lies on the disk
            # Takes a second to import, for what few bake.
            from transformers.integrations.accelerate import load_offloaded_parameter

            weight = load_offloaded_parameter(model.model, name)
        state[name] = weight * scale.to(weight)
    return state


def _narrowest(state: Mapping[str, Tensor]) -> torch.dtype | None:
    """A number format of two bytes in which every weight is what it is; None where there is none.

    A checkpoint of two bytes a weight may have been loaded as float32: it goes back as it came.
    Weights that lie on the disk are not read twice to see.
    """
    if any(tensor.is_meta for tensor in state.values()):
        return None
    for dtype in _FORMATS:
        if all(_cast(tensor, dtype).to(tensor.dtype).equal(tensor) for tensor in state.values()):
            return dtype
    return None


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _all_cast(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Every weight in another number format; tied ones stay one tensor, which is stored once."""
    done: dict[tuple[int, torch.Size], Tensor] = {}
    for tensor in state.values():
        done.setdefault((tensor.data_ptr(), tensor.shape), _cast(tensor, dtype))
    return {name: done[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}


def _tidy_configs(folder: Path, dtype: str) -> None:
    """Let the configs name the number format, and not how the model was found on this machine."""

    def tidy(part: Any) -> Any:
        if isinstance(part, list):
            return [tidy(item) for item in part]
        if not isinstance(part, dict):
            return part
        kept = {key: value for key, value in part.items() if key not in _OF_THIS_MACHINE}
        return {k: dtype if k == "dtype" and v else tidy(v) for k, v in kept.items()}

    for path in folder.glob("*config.json"):
        content = tidy(json.loads(path.read_text(encoding="utf-8")))
        text = json.dumps(content, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
