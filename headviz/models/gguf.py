"""A GGUF file -> an ordinary model folder in the cache, converted once for each content.

What llama.cpp, Ollama and LM Studio keep models in. transformers reads it in a process of its own
(`gguf_process`), into weights that every other part of headviz knows. Knows nothing of where files
come from.
"""

import errno
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from headviz.base.errors import ModelError
from headviz.base.progress import Progress, no_progress
from headviz.base.sums import write_sums
from headviz.models.converted import check_disk, content_of, disk_error, is_whole, locked, scratch
from headviz.models.families import family_of
from headviz.models.gguf_header import GgufHeader, read_header
from headviz.models.gguf_parts import merge, parts_of
from headviz.models.hub import first_line
from headviz.models.memory import memory_left, size_text

_DTYPES = {"F32": ("float32", 4), "BF16": ("bfloat16", 2)}
_DTYPE = ("float16", 2)
"""Of the rest. Its 11 bits lose nothing that 8 bits and a scale could tell; bfloat16 has 8 bits."""
_PROCESS = 5 * 10**8  # bytes that torch and transformers take
_POLL = 0.2  # seconds between two looks at the process
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""How a system says that nothing more can be written, whichever file it was."""


def gguf_in(place: Path) -> tuple[Path, ...]:
    """The GGUF file that `place` is, or the one in a folder without a config, with all its parts.

    Nothing where there is none. Raises ModelError where a folder holds several models, or a part
    is missing.
    """
    if place.is_file():
        return parts_of(place) if place.suffix == ".gguf" else ()
    if (place / "config.json").exists():
        return ()
    found = {parts_of(file) for file in place.glob("*.gguf")}
    if len(found) > 1:
        names = ", ".join(sorted(parts[0].name for parts in found))
        raise ModelError(f"The folder {place.name!r} has several models; name one: {names}.")
    return found.pop() if found else ()


def convert(parts: Sequence[Path], progress: Progress = no_progress) -> tuple[Path, str]:
    """The folder of the model in these files, converted if it is not there yet, and its revision.

    Args:
        parts: the file, or all files of a split one in order.
        progress: told how far it is; what it raises ends the work.

    Raises:
        ModelError: in one sentence, where a file is no whole GGUF file, transformers cannot read
            it, or memory or disk do not hold it.
    """
    content = content_of(parts, progress)
    with locked(content, progress) as target:
        convert_into(target, parts, progress)
    return target, revision_of(content)


def revision_of(content: str) -> str:
    """What tells models apart: twelve digits of the sha256 of the files."""
    return content[:12]


def convert_into(target: Path, parts: Sequence[Path], progress: Progress = no_progress) -> None:
    """Make the folder `target`, unless it is there, for whoever holds its lock."""
    if is_whole(target):
        return
    headers = [read_header(part) for part in parts]
    _check_vocabulary(headers)
    _check_room(headers)
    with scratch(target) as folder:
        file = parts[0]
        try:
            if len(parts) > 1:
                file = folder / "merged.gguf"
                merge(headers, file, progress)
            made = folder / "model"
            made.mkdir()
            _run(file, headers[0], made, progress)
            write_sums(made)
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
            made.replace(target)
        except OSError as error:
            raise disk_error(error) from None


def _check_vocabulary(headers: Sequence[GgufHeader]) -> None:
    """Raise ModelError where the files do not make up one language model with its vocabulary."""
    first, name = headers[0], headers[0].path.name
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    told = first.values.get("split.tensors.count", len(tensors))
    if len(tensors) != told:
        raise ModelError(f"The files of {name!r} hold {len(tensors)} tensors and not {told}.")
    embedding = tensors.get("token_embd.weight")
    n_tokens = first.values.get("tokenizer.ggml.tokens")
    if embedding is None or n_tokens is None:
        lacking = "token embeddings" if embedding is None else "vocabulary"
        raise ModelError(
            f"The file {name!r} ({first.architecture}, {first.quantisation}) holds no language "
            f"model: it has no {lacking}."
        )
    if embedding.shape[0] != n_tokens:
        raise ModelError(
            f"The vocabulary of {name!r} does not match its weights: {n_tokens} tokens and "
            f"{embedding.shape[0]} rows of embeddings."
        )


def _dtype(header: GgufHeader) -> tuple[str, int]:
    """What the weights are kept in, and its bytes."""
    return _DTYPES.get(header.quantisation, _DTYPE)


def _check_room(headers: Sequence[GgufHeader]) -> None:
    name, each = headers[0].path.name, _dtype(headers[0])[1]
    n_numbers = sum(header.n_numbers for header in headers)
    largest = max(header.largest for header in headers)
    # All weights, those of the model and those just read, and one of them in float32 some times.
    needed, left = _PROCESS + 2 * each * n_numbers + 16 * largest, memory_left(torch.device("cpu"))
    if left is not None and needed > left:
        raise ModelError(
            f"Converting {name!r} needs {size_text(needed)} of memory and {size_text(left)} are "
            "left. Choose a smaller model."
        )
    merged = sum(header.path.stat().st_size for header in headers) if len(headers) > 1 else 0
    check_disk(name, each * n_numbers + merged)


@dataclass
class _Answers:
    """What the process has said."""

    steps: list[str] = field(default_factory=list)
    share: float = 0.0
    last: dict[str, Any] = field(default_factory=dict)
    """Its last word: that it is done, or why not."""

    def listen(self, lines: Iterable[str]) -> None:
        """Hear it out."""
        for line in lines:
            with suppress(ValueError):  # what a library prints
                told = json.loads(line)
                if "done" in told or "error" in told:
                    self.last = told
                elif "step" in told:
                    self.share = 0.0
                    self.steps.append(told["step"])
                else:
                    self.share = told["share"]


def _run(file: Path, header: GgufHeader, folder: Path, progress: Progress) -> None:
    """Let the process convert `file`. Raises ModelError, and what `progress` raises."""
    asked = {"file": str(file.resolve()), "folder": str(folder), "dtype": _dtype(header)[0]}
    command = [sys.executable, "-P", str(Path(__file__).with_name("gguf_process.py"))]
    answers, is_checked = _Answers(), False
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        listener = threading.Thread(target=answers.listen, args=[process.stdout], daemon=True)
        listener.start()
        try:
            with suppress(BrokenPipeError):  # it ended early: what is said then is known below
                process.stdin.write(json.dumps(asked) + "\n")
                process.stdin.flush()
            while process.poll() is None:
                if len(answers.steps) > 1 and not is_checked:
                    # Minutes are not to be spent on a model that has no heads to look at.
                    family_of(
                        transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
                    )
                    is_checked = True
                step = answers.steps[-1] if answers.steps else "starting"
                progress(answers.share, f"converting {header.path.name}: {step}")
                time.sleep(_POLL)
        finally:
            process.kill()
            process.wait()
            listener.join()
    if "done" not in answers.last:
        raise ModelError(_failure(header, answers.last))


def _failure(header: GgufHeader, last: dict[str, Any]) -> str:
    """Why the process did not do it."""
    what = f"{header.path.name!r} ({header.architecture}, {header.quantisation})"
    if not last:
        return f"Converting {what} ended early, as a process does that the system ends for memory."
    reason = first_line(last["text"], last["error"]).rstrip(".")
    if last["step"] == "writing" or last["errno"] in _NO_ROOM:
        return f"The cache folder does not take {what}: {reason}. Free some space."
    return f"transformers {transformers.__version__} does not read {what}: {reason}."
