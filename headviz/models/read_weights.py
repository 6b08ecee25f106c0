"""A folder of weights -> a transformers model on its devices, with progress and a way to stop.

Knows number formats, quantisation and how a model is split; knows nothing of names and heads.
"""

import logging
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import set_tqdm_hook

from headviz.base.errors import ModelError
from headviz.base.progress import Progress
from headviz.models.devices import QUANTISED
from headviz.models.memory import size_text
from headviz.models.memory_plan import INSTALL, Plan

_BAR = "Loading weights"  # as transformers names it; the tests would notice another name


def check_quantising(quantised: str) -> None:
    """Raise ModelError, with what to install, where weights of 8 or 4 bits cannot be made."""
    if quantised and not find_spec("bitsandbytes"):
        raise ModelError(f"{quantised} weights need bitsandbytes: {INSTALL}.")


def read_model(
    maker: Any,
    folder: Path,
    plan: Plan,
    number_format: torch.dtype,
    quantised: str,
    progress: Progress,
) -> Any:
    """The model, all its weights read, on the devices of the plan.

    Args:
        maker: transformers' class that makes it.
        folder: with config and safetensors weights.
        plan: where it goes.
        number_format: what it computes in.
        quantised: a row of devices.QUANTISED, or nothing.
        progress: told of every weight; what it raises stops the reading.

    Raises:
        ModelError: where the folder lacks weights that the model needs.
    """
    options: dict[str, Any] = {"dtype": number_format, "use_safetensors": True}
    if quantised:
        options["quantization_config"] = _quantisation(quantised, number_format)
        # That 8 bits are multiplied in float16, once for every product.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    scratch = None
    if plan.spread:
        scratch = tempfile.mkdtemp(prefix="headviz-")  # for weights that are stored otherwise
        options |= {
            "device_map": "auto",
            "max_memory": plan.limits,
            "offload_folder": scratch,
        }
        logging.getLogger("accelerate").setLevel(logging.ERROR)  # that some are on the disk
    elif quantised or plan.device.type != "cpu":
        options["device_map"] = {"": plan.device}
    model = None
    try:
        with _watched(plan, progress):
            model, report = maker.from_pretrained(
                folder,
                output_loading_info=True,
                trust_remote_code=False,
                local_files_only=True,
                **options,
            )
    finally:
        if scratch is not None:
            _remove_with(model, scratch)
    if missing := sorted(report["missing_keys"]):
        # transformers would make them up at random, and every score with them.
        raise ModelError(f"The weights of {plan.name!r} lack {', '.join(missing[:3])}.")
    return model if "device_map" in options else model.to(plan.device)


def _quantisation(quantised: str, number_format: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if QUANTISED[quantised] == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=number_format
    )


def _remove_with(model: Any, folder: str) -> None:
    """Remove the folder with the model, at once where there is none."""
    if model is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)


@contextmanager
def _watched(plan: Plan, progress: Progress) -> Iterator[None]:
    """While open, transformers' bar over the weights that this thread reads goes to `progress`."""
    reader = threading.get_ident()

    def counted(weights: Iterable[Any]) -> Iterator[Any]:
        every = list(weights)
        for number, weight in enumerate(every):
            progress(number / len(every), f"reading {plan.name}: {size_text(plan.n_bytes)}")
            yield weight

    def bar(make: Callable[..., Any], args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        mine = threading.get_ident() == reader and more.get("desc") == _BAR
        return counted(args[0]) if mine else make(*args, **more)

    before = set_tqdm_hook(bar)
    try:
        yield
    finally:
        set_tqdm_hook(before)
