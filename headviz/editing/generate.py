"""One batch, several edits, streamed: each row is a prompt under its own edit.

Hooks are set for one forward pass at a time and never across a `yield`, so a consumer that goes
away, or a second visitor, finds the model as it was. There is no thread; crowd.py says who makes a
token. Sampling adds the same Gumbel noise to the logits of every row, so what differs between rows
is the edit.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from headviz.base.errors import OptionError
from headviz.base.shapes import Float, Int, Tensor
from headviz.editing.crowd import Crowd, Text
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import Edit, applied, factor_table, places
from headviz.heads.forward import Batch, batch_of, end_ids, read_on, sayable
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.heads.stem import Stems, stem_of
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

MAX_NEW_TOKENS = 2048
_LARGEST_SEED = 2**53  # what a recipe's JSON holds exactly
Turn = Callable[[Sequence[bool]], Sequence[Edit] | None]
"""Which rows are done -> the edits that hold from here on, one a row; None where they stay."""


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
    place: int = 0
    """In the queue, from 1; 0 for what is written."""


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
    turn: Turn = lambda _: None,
    stems: Stems | None = None,
    crowd: Crowd | None = None,
) -> Generator[Streams, None, None]:
    """Continue prompts[r] under edits[r] for all rows at once; yields after every token.

    Among others it yields the newest whenever there are more, and its place while it waits.

    Args:
        model: the model.
        prompts: one a row.
        edits: one a row.
        sampling: how tokens are chosen.
        lock: held for each forward pass.
        pictures: those of each row, or nothing for a language model.
        chat: how each prompt is put to the model.
        turn: asked before every token. What was read before keeps what it was read with.
        stems: prompts that were read before; this one is kept there.
        crowd: the texts to write this one among, under their lock; None: it is alone.

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
    writing = Writing(model, encoded, edits, sampling, turn, stems)
    return _stream(writing, Crowd(model, lock) if crowd is None else crowd)


def _stream(writing: "Writing", crowd: Crowd) -> Generator[Streams, None, None]:
    with closing(crowd.write(writing)) as places_in_queue:
        for place in places_in_queue:
            yield replace(writing.streams, place=place)


class Writing(Text):
    """What is written: every row under its own edit, all with the same way to choose a token.

    One thread at a time goes on with it; `streams` is what another may read meanwhile.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompts: list[EncodedPrompt],
        edits: Sequence[Edit],
        sampling: Sampling,
        turn: Turn = lambda _: None,
        stems: Stems | None = None,
    ) -> None:
        """Nothing yet. Raises OptionError for a head that the model does not have."""
        self._model, self._sampling, self._turn, self._stems = model, sampling, turn, stems
        self.prompts: Sequence[EncodedPrompt] = prompts
        self.edits: Sequence[Edit] = list(edits)
        self.table = factor_table(model, edits)
        self.length = max(len(prompt.ids) for prompt in prompts) + sampling.max_new_tokens
        self.ended = False
        self._ends = end_ids(model)
        self._noise = torch.Generator().manual_seed(sampling.seed)
        self._last = [0] * len(prompts)
        self._ids: list[list[int]] = [[] for _ in prompts]
        self._done = [False] * len(prompts)
        self._cut: list[str | None] = [None] * len(prompts)
        """Texts that have come to `stop`, without it."""
        self._n_said = 0
        self._shown = self._as_it_stands()

    @property
    def going(self) -> Sequence[int]:
        """Numbers of the rows that go on."""
        return [] if self.ended else [row for row, done in enumerate(self._done) if not done]

    def turned(self) -> bool:
        """Before a token: take the edits of whoever turns them, if there are any."""
        edits = self._turn(tuple(self._done))
        if not edits:
            return False
        self.table, self.edits = factor_table(self._model, edits), edits
        return True

    def read(self) -> tuple[Float[Tensor, "row vocab"], Batch, Any]:
        """Logits after the prompts, what was read, keys and values; pictures are encoded here."""
        model, prompts, n_rows = self._model, list(self.prompts), len(self.prompts)
        stem = stem_of(model, prompts, self._stems) if n_rows > 1 else None
        if stem is not None and stem.given is not None:
            batch = stem.batch.narrowed(torch.zeros(n_rows, dtype=torch.long))
            logits, cache = stem.rows(self.table, places(self.edits, batch))
            return logits, batch, cache
        batch = batch_of(model, prompts, left=True)
        with applied(model, self.table, places(self.edits, batch)):
            logits, cache = read_on(model, batch, None)
        return logits, batch, cache

    def say(
        self, rows: Sequence[int], logits: Float[Tensor, "row vocab"], likeliest: Sequence[int]
    ) -> None:
        """Choose the next token of these rows, each from its logits, of which one is likeliest."""
        chosen = likeliest
        if self._sampling.temperature or self._model.vision is not None:
            said = sayable(self._model, logits)
            chosen = _choose(said, self._sampling, self._noise).tolist()
        for row, token in zip(rows, chosen, strict=True):
            self._last[row] = token
            self._done[row] = self._done[row] or token in self._ends
            if not self._done[row]:
                self._ids[row].append(token)
                self._stop(row)
        self._n_said += 1
        self.ended = all(self._done) or self._n_said == self._sampling.max_new_tokens
        self._shown = self._as_it_stands()

    def token(self, row: int) -> int:
        """What a row has said last."""
        return self._last[row]

    @property
    def streams(self) -> Streams:
        """What every row has said so far."""
        ids, done, cut = self._shown
        texts = self._model.tokenizer.batch_decode(list(ids), skip_special_tokens=True)
        whole = (t if short is None else short for t, short in zip(texts, cut, strict=True))
        return Streams(tuple(whole), ids, done)

    def _stop(self, row: int) -> None:
        stop = self._sampling.stop
        if not stop:
            return
        text = self._model.tokenizer.decode(self._ids[row], skip_special_tokens=True)
        if stop in text:
            self._done[row] = True
            self._ids[row] = _ids_before(self._model, self._ids[row], stop)
            self._cut[row] = text.partition(stop)[0].rstrip()

    def _as_it_stands(
        self,
    ) -> tuple[tuple[tuple[int, ...], ...], tuple[bool, ...], tuple[str | None, ...]]:
        done = tuple(done or self.ended for done in self._done)
        return tuple(map(tuple, self._ids)), done, tuple(self._cut)


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
