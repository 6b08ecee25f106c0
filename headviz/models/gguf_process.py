"""Turns a GGUF file into an ordinary model folder; a process of its own, so that stopping is sure.

What transformers does with a GGUF file takes seconds to minutes and several times the memory, and
nothing stops it from outside; a process can be ended at any moment, and gives all memory back.
Reads one line of JSON from stdin, and answers with lines of JSON: how far it is, and at the end
that it is done, or which step failed and why. It ends when stdin does, and so with whoever started
it. It imports nothing of headviz.
"""

import functools
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tqdm.auto


def main() -> None:
    """Convert; what it prints last is {"done": true} or {"error": type, "step": …, …}."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    tqdm.auto.tqdm = _Told
    step = "import"
    try:
        for step in _steps(Path(asked["file"]), Path(asked["folder"]), asked["dtype"]):
            _tell(step=step)
        _tell(done=True)
    except Exception as error:  # whatever it is, who started this process says it
        _tell(error=type(error).__name__, step=step, text=str(error), errno=errno_of(error))


def errno_of(error: Exception) -> int | None:
    """The system's number of an error; libraries written in Rust tell it in words alone."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


def _steps(file: Path, folder: Path, dtype: str) -> Iterator[str]:
    """Do it, naming each step before it begins."""
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # transformers asks for both again and again: for the config, each module and the tokenizer.
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)  # type: ignore[misc,assignment]
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    yield "config"
    config = AutoConfig.from_pretrained(file.parent, **given)
    config.save_pretrained(folder)
    yield "vocabulary"
    AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(folder)
    yield "weights"
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        file.parent,
        dtype=getattr(torch, dtype),
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        **given,
    )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"the weights lack {', '.join(missing[:3])}")
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    yield "writing"
    # A model that was read from GGUF refuses to be saved while it remembers that.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    for path in folder.iterdir():
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _end_with_stdin() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(1)


class _Told(tqdm.auto.tqdm):
    """Tells how far transformers is in place of drawing a bar."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "disable": True})

    def __iter__(self) -> Iterator[Any]:
        every = list(self.iterable)
        for number, one in enumerate(every):
            _tell(share=number / max(len(every), 1))
            yield one


if __name__ == "__main__":
    main()
