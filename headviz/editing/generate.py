"""One batch, several edits, streamed: each row is a prompt under its own edit.

Hooks are set for one forward pass at a time and never across a `yield`, so a consumer that goes
away, or a second visitor, finds the model as it was. There is no thread. Sampling adds the same
Gumbel noise to the logits of every row, so what differs between rows is the edit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from headviz.base.errors import OptionError
from headviz.base.shapes import Float, Int, Tensor
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import Edit, applied, factor_table, places
from headviz.heads.forward import Batch, batch_of, end_ids, is_plain, read_on, sayable
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.heads.rows import filler_rows
from headviz.heads.stem import Stems, stem_of
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

MAX_NEW_TOKENS = 2048
_LARGEST_SEED = 2**53  # what a recipe's JSON holds exactly
Turn = Callable[[], Sequence[Edit] | None]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    max_new_tokens: int = 60
    temperature: float = 0.0
    """0 takes the most likely token; above 0 samples."""
    seed: int = 0
    """Of the noise that all rows share."""
    stop: str = ""
    """A text ends before this; empty: where the model ends it."""

    def __post_init__(self) -> None:
        """Raise OptionError for numbers out of range."""
        if not 1 <= self.max_new_tokens <= MAX_NEW_TOKENS:
            raise OptionError(
                f"max_new_tokens is {self.max_new_tokens}; choose 1 to {MAX_NEW_TOKENS}."
            )
        if not 0 <= self.temperature <= 10:
            raise OptionError(f"temperature is {self.temperature}; choose 0 to 10.")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise OptionError(f"seed is {self.seed}; choose 0 to {_LARGEST_SEED}.")


@dataclass(frozen=True)
class Streams:
    """What every row has said so far."""

    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    """Generated token ids of each row, the end-of-text token left out."""
    done: tuple[bool, ...]
    """Rows that said their end-of-text token, or reached the length limit."""


def usual_stop(prompt: str) -> str:
    """Where the answer to a prompt of questions and answers ends: before the next question."""
    asked = prompt.rstrip()
    return "Question:" if asked.endswith("Answer:") and "Question:" in asked else ""


def generate(
    model: LoadedModel,
    prompts: Sequence[str],
    edits: Sequence[Edit],
    sampling: Sampling | None = None,
    lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    pictures: Sequence[Sequence[Picture]] = (),
    chat: Chat = PLAIN,
    turn: Turn = lambda: None,
    stems: Stems | None = None,
) -> Iterator[Streams]:
    """Continue prompts[r] under edits[r] for all rows at once; yields after every token.

    Args:
        model: the model.
        prompts: one a row.
        edits: one a row.
        sampling: how tokens are chosen.
        lock: held for each forward pass.
        pictures: those of each row, or nothing for a language model.
        chat: how each prompt is put to the model.
        turn: asked before every token for the edits that hold from there on, one a row; None where
            they stay. What was read before keeps what it was read with.
        stems: prompts that were read before; this one is kept there.

    Raises:
        PromptError: for a prompt that is empty or too long.
        OptionError: for a head that the model does not have, pictures where none belong, none where
            one does, or an edit of image positions where there are none.
    """
    assert len(prompts) == len(edits), "one edit a prompt"
    sampling = sampling or Sampling()
    rows = pictures or [()] * len(prompts)
    for edit, seen in zip(edits, rows, strict=True):
        if edit.where == "image" and not seen:
            raise OptionError(
                "The edit is limited to image positions and there is no picture in the prompt. "
                "Give a picture, or edit somewhere else."
            )
    encoded = [
        encode_prompt(model, prompt, sampling.max_new_tokens, seen, chat)
        for prompt, seen in zip(prompts, rows, strict=True)
    ]
    table = factor_table(model, edits)
    return _stream(model, encoded, edits, table, sampling, lock, turn, stems)


def _stream(
    model: LoadedModel,
    prompts: list[EncodedPrompt],
    edits: Sequence[Edit],
    table: Float[Tensor, "row layer head"],
    sampling: Sampling,
    lock: Callable[[], AbstractContextManager[Any]],
    turn: Turn,
    stems: Stems | None,
) -> Iterator[Streams]:
    n_rows = len(prompts)
    ends = end_ids(model)
    noise = torch.Generator().manual_seed(sampling.seed)
    rows: list[list[int]] = [[] for _ in range(n_rows)]
    done = [False] * len(rows)
    batch: Batch | None = None
    cache: Any = None
    for step in range(sampling.max_new_tokens):
        if turned := turn():
            edits = [*turned, *[turned[0]] * (len(edits) - n_rows)]
            table = factor_table(model, edits)
        with lock(), torch.inference_mode():
            stem = stem_of(model, prompts, stems) if batch is None and n_rows > 1 else None
            if stem is not None and stem.given is not None:
                batch = stem.batch.narrowed(torch.zeros(n_rows, dtype=torch.long))
                logits, cache = stem.rows(table, places(edits, batch))
            else:
                # The first pass encodes pictures, so that it belongs under the lock.
                batch = batch or batch_of(model, prompts, left=True)
                with applied(model, table, places(edits, batch)):
                    logits, cache = read_on(model, batch, cache)
        chosen = _choose(sayable(model, logits[:n_rows]), sampling, noise)
        for row, token in enumerate(chosen.tolist()):
            done[row] = done[row] or token in ends
            if not done[row]:
                rows[row].append(token)
        last = step + 1 == sampling.max_new_tokens
        texts = model.tokenizer.batch_decode(rows, skip_special_tokens=True)
        if sampling.stop:
            for row, text in enumerate(texts):
                if sampling.stop in text:
                    done[row] = True
                    rows[row] = _ids_before(model, rows[row], sampling.stop)
                    texts[row] = text.partition(sampling.stop)[0].rstrip()
        finished = tuple(d or last for d in done)
        yield Streams(tuple(texts), tuple(map(tuple, rows)), finished)
        if all(done):
            return
        batch = batch.following(torch.cat([chosen, chosen[:1].expand(len(edits) - n_rows)]))
        filler = filler_rows(model, n_rows) if step == 0 and is_plain(cache) else 0
        if filler:
            wider = torch.tensor([*range(n_rows), *[0] * filler], device=model.device)
            cache.batch_select_indices(wider)
            batch, table = batch.narrowed(wider), table[wider]
            edits = [*edits, *[edits[0]] * filler]


def _ids_before(model: LoadedModel, ids: list[int], stop: str) -> list[int]:
    """The first tokens, as many as do not yet say `stop` or begin to."""
    text = model.tokenizer.decode(ids, skip_special_tokens=True).partition(stop)[0].rstrip()
    kept = len(ids)
    while kept and len(model.tokenizer.decode(ids[:kept], skip_special_tokens=True)) > len(text):
        kept -= 1
    return ids[:kept]


def _choose(
    logits: Float[Tensor, "row vocab"], sampling: Sampling, noise: torch.Generator
) -> Int[Tensor, " row"]:
    """The next token of every row; with a temperature, by the Gumbel-max trick on shared noise."""
    if sampling.temperature == 0:
        return logits.argmax(1)
    uniform = torch.rand(logits.shape[1], generator=noise, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
    # On the CPU: an Apple GPU has no float64.
    return (logits.cpu().double() / sampling.temperature + gumbel).argmax(1).to(logits.device)
