"""A model's name or folder -> LoadedModel: the model, its tokenizer or processor, its layout.

Safetensors only, remote code never. Says why it chose the device and the number format. Knows
nothing of concepts, prompts or edits. What transformers makes models with takes a second or two to
import (torchvision, scipy): it is taken out of the package where a model is loaded, not before, so
that the page stands sooner.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from headviz.base.errors import HeadvizError, ModelError
from headviz.base.progress import Progress, no_progress
from headviz.models.devices import QUANTISED, choose_device
from headviz.models.families import Family, family_of
from headviz.models.hub import HubRepo, config_of, first_line
from headviz.models.layout import describe
from headviz.models.loaded import LoadedModel
from headviz.models.memory import memory_left
from headviz.models.memory_plan import (
    Plan,
    Weights,
    plan_of,
    weights_bytes,
    weights_in_memory,
    weights_of_hub,
)
from headviz.models.places import Fetching, locate
from headviz.models.products import choose_products, keep_linears
from headviz.models.read_weights import check_quantising, read_model
from headviz.models.weight_files import check_packing
from headviz.models.weights import run_device

_SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


Described = Callable[[Family], LoadedModel]
"""What a model in memory is with this family's paths."""
Discover = Callable[[Any, Described], LoadedModel]


def refuse_unknown(model: Any, described: Described) -> LoadedModel:
    """Raise ModelError: where nobody can discover a structure, a class needs its row."""
    raise ModelError(
        f"Models of type {model.config.model_type!r} have no row in headviz/models/families.py."
    )


def load_model(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress = no_progress,
    make_room: Callable[[], None] = lambda: None,
    held: int = 0,
    discover: Discover = refuse_unknown,
) -> LoadedModel:
    """The model called `name`: a built-in one, a local folder, or one of the hub.

    Args:
        name: of the model.
        device: one of devices.DEVICES; `auto` spreads only what does not fit one device.
        dtype: auto, or of devices.DTYPES or QUANTISED.
        progress: told first what will be downloaded and read, then how far it is.
        make_room: called when all is known to be well, before the first weight is read.
        held: bytes of memory that `make_room` will free.
        discover: finds the structure of a model whose class has no row in FAMILIES.

    Raises:
        ModelError: in one sentence, where it does not exist, may not be had, has no safetensors
            weights, is of a family that is not supported, or does not fit.
        OptionError: for an unknown device or dtype.
    """
    name = name.strip()
    wish = _Wish(name, device, dtype, held, progress)
    check_quantising(wish.quantised)
    try:
        folder, revision = wish.bring()
        family = wish.family(folder)
        has_vision = family is not None and family.vision_spec is not None
        reader: Any = transformers.AutoProcessor if has_vision else transformers.AutoTokenizer
        reader = reader.from_pretrained(folder, **_SAFE)
        plan = wish.plan(
            weights_bytes(folder), weights_in_memory(folder, wish.format, wish.quantised)
        )
        make_room()
        if wish.device.type == "cpu":
            choose_products()
        maker = (
            transformers.AutoModelForImageTextToText
            if has_vision
            else transformers.AutoModelForCausalLM
        )
        model = read_model(maker, folder, plan, wish.format, wish.quantised, progress)
        if wish.device.type == "cpu" and not plan.spread and _is_room(plan):
            keep_linears(model)
    except HeadvizError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise ModelError(
            f"There is not enough memory for the model {name!r} on {wish.device}. Choose a smaller "
            "one, --dtype bfloat16, or --device spread."
        ) from None
    except Exception as error:
        # transformers, the hub client and safetensors raise a dozen types for a bad name or file.
        raise ModelError(_load_failure(name, error)) from error
    progress(1.0, f"{name} is loaded")
    where, why = wish.device, wish.why
    if plan.spread:
        where = run_device(model.get_input_embeddings())
        why = f"{why}, spread over {_places(model)}"

    def described(family: Family) -> LoadedModel:
        return describe(name, revision, model, reader, family, where, wish.format, why)

    return described(family) if family is not None else discover(model, described)


def fetch_model(
    name: str, device: str = "auto", dtype: str = "auto", progress: Progress = no_progress
) -> tuple[Path, str]:
    """The folder of a model, fetched and converted where it is not here yet, and its revision.

    Arguments and errors of `load_model`; no weight is read.
    """
    return _Wish(name.strip(), device, dtype, 0, progress).bring()


def _is_room(plan: Plan) -> bool:
    """Whether weights may be kept twice, and as much again is left."""
    left = memory_left(plan.device)
    return left is None or left > 2 * plan.needed


class _Wish:
    """What was asked for, and how it would be met."""

    def __init__(self, name: str, device: str, dtype: str, held: int, progress: Progress) -> None:
        self.device, self.format, self.why = choose_device(device, dtype)
        self.quantised = dtype if dtype in QUANTISED else ""
        self._name, self._asked, self._held, self._progress = name, device, held, progress

    def plan(self, n_bytes: int, weights: int, to_fetch: int = 0) -> Plan:
        """How it is loaded, which is told at once. Raises ModelError where it does not fit."""
        of = Weights(self._name, n_bytes, weights, to_fetch, bool(self.quantised))
        plan = plan_of(of, self.device, self._asked, self._held)
        self._progress(0.0, str(plan))
        return plan

    def family(self, folder: Path) -> Family | None:
        """See `family_of`. Raises ModelError too where the weights are packed as none are read."""
        config = transformers.AutoConfig.from_pretrained(folder, **_SAFE)
        check_packing(self._name, config)
        return family_of(config)

    def bring(self) -> tuple[Path, str]:
        """The model's folder and revision. Raises ModelError."""
        return locate(self._name).bring(Fetching(self._progress, self.look))

    def look(self, hub: HubRepo) -> None:
        """At config and size of a model of the hub. Raises ModelError where it is not for here."""
        self.family(config_of(hub))
        weights = weights_of_hub(hub, self.format, self.quantised)
        self.plan(hub.weights_bytes, weights, hub.missing)


def _places(model: Any) -> str:
    found = dict.fromkeys((getattr(model, "hf_device_map", None) or {}).values())
    names = {"cpu": "main memory", "disk": "the disk"}
    return ", ".join(names.get(str(place), f"GPU {place}") for place in found) or "one device"


def _load_failure(name: str, error: Exception) -> str:
    first = first_line(str(error), type(error).__name__)
    return f"The model {name!r} could not be loaded: {first}"
