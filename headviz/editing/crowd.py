"""Texts of several visitors, written side by side: rows of one batch that come and go at a token.

There is no thread of its own. Whoever waits for a token and finds that nobody is at it makes one
for all (*flat combining*): one pass reads the next token of every row under its own edit, and each
text chooses for itself what it says. Nobody waits for a visitor who reads slowly: a text goes on
while others are written, up to a bound. A text that is alone has nothing done that it has not asked
for, and stays in a batch of its own until a second one comes.

Knows nothing of how a token is chosen and of what a visitor is shown.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor
from headviz.editing.measures import surprise, surprises
from headviz.heads.edits import Edit, applied, places
from headviz.heads.forward import Batch, batch_of, is_plain, read_on
from headviz.heads.prompts import EncodedPrompt
from headviz.heads.rows import filler_rows
from headviz.heads.slots import Slots, bytes_of_position, can_share, longest_shared
from headviz.models.loaded import LoadedModel

MOST_ROWS = 96
"""Of all texts together: of 32 visitors with original, edited and control. More wait."""
MOST_BYTES = 2**30
"""That keys and values of all rows may take, as long as they will be."""
_LARGE = 8  # a text that needs more than this part of them alone stays in a batch of its own
LEAD = 32
"""Tokens that a text may be ahead of who reads it: then it is left out until it is asked for."""
_OTHERS = 4
"""Other visitors for whom a text is handed out a token later: what is made of it on the way to a
browser costs as much as the token, so that in a crowd several come at a time."""
_AT_LATEST = 1.0  # seconds after which it is handed out in any case
_READING = 0.03
"""Seconds between two tokens for which prompts are begun to be read; some always are."""
_TOGETHER = 1024
"""Tokens of prompts that are read in one pass, padding counted."""
BEAT = 0.25
"""Seconds after which who waits hears of the place, so that one who has gone is noticed."""


class Text(ABC):
    """What is written: rows, each with its own edit, that share a prompt or not."""

    prompts: Sequence[EncodedPrompt]
    edits: Sequence[Edit]
    table: Float[Tensor, "row layer head"]
    """The edits' factors."""
    length: int
    """Tokens that the longest row will have, its prompt among them."""
    ended: bool

    @property
    @abstractmethod
    def going(self) -> Sequence[int]:
        """Numbers of the rows that go on."""

    @abstractmethod
    def turned(self) -> bool:
        """Before a token: take new edits, if there are any. May raise."""

    @abstractmethod
    def read(self) -> tuple[Float[Tensor, "row vocab"], Batch, Any]:
        """Read the prompts under the edits: logits, what was read, keys and values."""

    @abstractmethod
    def say(
        self, rows: Sequence[int], logits: Float[Tensor, "row vocab"], likeliest: Sequence[int]
    ) -> None:
        """Choose the next token of these rows, each from its logits, of which one is likeliest."""

    @abstractmethod
    def token(self, row: int) -> int:
        """What a row has said last."""


class Own:
    """Rows of one text in a batch of their own."""

    def __init__(self, model: LoadedModel, text: Text, batch: Batch, cache: Any) -> None:
        """After the prompts were read."""
        self._model, self._text = model, text
        self.batch, self.cache = batch, cache
        self._rows = list(range(len(text.prompts)))
        """Numbers of the text's rows that the batch's rows are; fillers come after."""
        self._is_filled = False

    def step(self) -> None:
        """One token more."""
        text, model = self._text, self._model
        numbers = self._rows
        tokens = [text.token(number) for number in numbers]
        self.batch = self.batch.following(torch.tensor(tokens, device=model.device))
        if not self._is_filled:
            self._fill()
            numbers = self._rows
        rows = torch.tensor(numbers, device=model.device)
        edits = [text.edits[number] for number in numbers]
        with applied(model, text.table[rows], places(edits, self.batch)):
            logits, self.cache = read_on(model, self.batch, self.cache)
        logits = logits[: len(text.prompts)]
        text.say(range(len(logits)), logits, logits.argmax(1).tolist())

    def _fill(self) -> None:
        """Rows that nobody asked for, where that takes less time."""
        self._is_filled = True
        filler = filler_rows(self._model, len(self._rows)) if is_plain(self.cache) else 0
        if filler:
            self._rows = [*self._rows, *[0] * filler]
            wider = torch.tensor(self._rows, device=self._model.device)
            self.cache.batch_select_indices(wider)
            self.batch = self.batch.narrowed(wider)


class _Member:
    """A text that is written, and who waits for it."""

    def __init__(self, text: Text, mutex: threading.Lock) -> None:
        self.text = text
        self.own: Own | None = None
        self.may_share = True
        self.told = threading.Condition(mutex)
        self.waits = False
        self.lead = 0
        """Tokens that were made since it was handed out."""
        self.handed = 0.0
        self.gone = False
        self.error: Exception | None = None

    @property
    def is_over(self) -> bool:
        return self.text.ended or self.gone or self.error is not None


class _Measured:
    """Texts that have ended, whose perplexity is asked for."""

    def __init__(self, prompt: EncodedPrompt, said: Sequence[Sequence[int]]) -> None:
        self.prompt, self.said = prompt, said
        self.found: list[float | None] | None = None


class Crowd:
    """The texts that a model writes now."""

    def __init__(
        self,
        model: LoadedModel,
        lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Nobody yet. `lock` is held for each token; who holds it must not wait for a text."""
        self._model, self._lock = model, lock
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._mutex = threading.Lock()
        self._queue: deque[_Member] = deque()
        self._members: list[_Member] = []
        self._at_work = False
        """Whether a thread is making tokens: it alone touches what follows."""
        self._slots = Slots(model)
        self._rows: list[tuple[_Member, int]] = []
        """Of each slot: whose row, and which."""
        self._factors: Tensor | None = None
        self._to_measure: list[_Measured] = []
        self._longest: int | None = None
        """Tokens up to which a text shares the batch; None before it was tried."""

    def __len__(self) -> int:
        """Texts that are written or wait."""
        return len(self._members) + len(self._queue)

    @property
    def n_rows(self) -> int:
        """Rows that share a batch now."""
        return len(self._slots)

    def write(self, text: Text) -> Generator[int, None, None]:
        """Have it written: yields 0 whenever it has gone on, else its place in the queue, from 1.

        Raises what the text raises. Whoever closes this takes the text away.
        """
        member = _Member(text, self._mutex)
        with self._mutex:
            self._queue.append(member)
        try:
            while True:
                yield self._next(member)
                if text.ended and not member.lead:
                    return
        finally:
            self._leave(member)

    def surprise(self, prompt: EncodedPrompt, said: Sequence[Sequence[int]]) -> list[float | None]:
        """As in measures.py; what several ask for while the model is at work is read in one go."""
        own = _Measured(prompt, said)
        if not prompt.pictures:
            with self._mutex:
                self._to_measure.append(own)
        with self._lock():
            with self._mutex:
                asked = self._to_measure if own.found is None else []
                self._to_measure = [] if asked else self._to_measure
            if len(asked) > 1:
                together = surprises(self._model, [(one.prompt, one.said) for one in asked])
                for one, found in zip(asked, together, strict=True):
                    one.found = found
            if own.found is None:
                own.found = surprise(self._model, prompt, said)
        return own.found

    def _next(self, member: _Member) -> int:
        until = time.monotonic() + BEAT
        while True:
            with self._mutex:
                while (place := self._handed_out(member, until)) is None and self._at_work:
                    member.waits = True
                    member.told.wait(BEAT)
                    member.waits = False
                if place is not None:
                    self._let_another_work()
                    return place
                self._at_work = True
            try:
                self._round()
            finally:
                with self._mutex:
                    self._at_work = False
                    self._clear()
                    for other in self._members:
                        if other.waits and self._is_due(other):
                            other.told.notify()

    def _handed_out(self, member: _Member, until: float) -> int | None:
        """0 where there is more of the text, its place where it has waited long, else None."""
        if member.error is not None:
            raise member.error
        if self._is_due(member):
            member.lead, member.handed = 0, time.monotonic()
            return 0
        if member in self._queue and len(self) > 1 and time.monotonic() >= until:
            return self._queue.index(member) + 1
        return None

    def _is_due(self, member: _Member) -> bool:
        if member.text.ended or member.error is not None:
            return True
        enough = min(len(self._members) // _OTHERS, LEAD // 2)
        late = time.monotonic() > member.handed + _AT_LATEST
        return member.lead > enough or bool(member.lead and late)

    def _let_another_work(self) -> None:
        """Who leaves with its text lets one of those that wait take over."""
        if not self._at_work:
            other = next((m for m in (*self._members, *self._queue) if m.waits), None)
            if other is not None:
                other.told.notify()

    def _leave(self, member: _Member) -> None:
        with self._mutex:
            member.gone = True
            if member in self._queue:
                self._queue.remove(member)
            if not self._at_work:
                self._clear()
                self._let_another_work()

    @torch.inference_mode()
    def _clear(self) -> None:
        """Let the rows go that are over; nobody is at work."""
        for slot in reversed(range(len(self._rows))):
            member, number = self._rows[slot]
            if member.is_over or number not in member.text.going:
                self._slots.remove(slot)
                self._rows[slot] = self._rows[-1]
                self._rows.pop()
                self._factors = None
        self._members = [m for m in self._members if not m.is_over]

    def _round(self) -> None:
        """One token of every text, and the prompts of some that have waited."""
        with self._lock(), torch.inference_mode():
            going = [m for m in self._members if not m.gone and m.lead < LEAD]
            until = time.monotonic() + _READING
            while newcomers := self._next_newcomers():
                self._read(newcomers)
                with self._mutex:
                    for newcomer in newcomers:
                        if newcomer in self._queue:
                            self._queue.remove(newcomer)
                        if not newcomer.is_over:
                            self._members.append(newcomer)
                if time.monotonic() > until:
                    break
            self._step(going)

    def _next_newcomers(self) -> list[_Member]:
        """The first of the queue that may be written now: as many as one pass reads, or one."""
        with self._mutex:
            waiting = list(self._queue)
        if len(self._members) + len(waiting) < 2:
            return waiting
        taken, n_rows, longest = waiting[:1], 0, 0
        for number, member in enumerate(waiting, 1):
            prompts = member.text.prompts
            n_rows += len(prompts)
            longest = max(longest, *(len(prompt.ids) for prompt in prompts))
            if n_rows * longest > _TOGETHER or not self._shares(member.text):
                break
            taken = waiting[:number]
        while taken and not self._has_room(taken):
            taken.pop()
        return taken

    def _has_room(self, newcomers: Sequence[_Member]) -> bool:
        """Whether these of the queue may be written now; one alone always may."""
        if not self._members and len(newcomers) == 1:
            return True
        texts = [m.text for m in (*self._members, *newcomers)]
        n_rows = sum(len(text.prompts) for text in texts)
        shared = [m for m in self._members if m.own is None or m.may_share]
        longest = max(m.text.length for m in (*shared, *newcomers))
        return n_rows <= self._most_rows and (
            n_rows * longest * self._bytes_of_position <= self._most_bytes
        )

    def _shares(self, text: Text) -> bool:
        """Whether it may be read and written beside others from its prompt on."""
        was_read = self._bytes_of_position > 0  # a prompt, of whoever
        return was_read and not self._is_large(text) and self._fits_slots(text)

    def _is_large(self, text: Text) -> bool:
        need = len(text.prompts) * text.length * self._bytes_of_position
        return need * _LARGE > self._most_bytes

    def _fits_slots(self, text: Text) -> bool:
        if self._longest is None:
            can = can_share(self._model, text.prompts[0])
            self._longest = longest_shared(self._model) if can else 0
        return text.length <= self._longest

    _bytes_of_position = 0  # known with the first prompt that was read

    def _try(self, members: list[_Member], work: Callable[[], None]) -> None:
        """Do it; what it raises, these members hear and nobody else."""
        try:
            work()
        except Exception as error:  # handed on to whoever waits for the text
            for member in members:
                member.error = error

    def _read(self, newcomers: list[_Member]) -> None:
        for member in newcomers:
            self._try([member], partial(self._turn, member))
        newcomers = [m for m in newcomers if m.error is None]
        if len(newcomers) < 2 or not self._begin_together(newcomers):
            for member in newcomers:
                self._try([member], partial(self._begin, member))

    def _begin_together(self, members: list[_Member]) -> bool:
        """Read the prompts of all in one pass, as rows of the shared batch from the start.

        False where that cannot be done: then whoever it comes from is to hear it alone.
        """
        texts, model = [member.text for member in members], self._model
        prompts = [prompt for text in texts for prompt in text.prompts]
        edits = [edit for text in texts for edit in text.edits]
        try:
            batch = batch_of(model, prompts, left=True)
            with applied(model, torch.cat([text.table for text in texts]), places(edits, batch)):
                logits, cache = read_on(model, batch, None)
        except Exception:
            return False
        likeliest, lengths = logits.argmax(1).tolist(), batch.attention.sum(1).tolist()
        going: list[int] = []
        start = 0
        for member, text in zip(members, texts, strict=True):
            rows, stop = range(len(text.prompts)), start + len(text.prompts)
            self._try([member], partial(text.say, rows, logits[start:stop], likeliest[start:stop]))
            member.lead += 1
            if not member.is_over:
                going += [start + row for row in text.going]
                self._rows += [(member, row) for row in text.going]
            start = stop
        if going:
            self._slots.put(cache, going, [lengths[row] for row in going])
            self._factors = None
        return True

    def _begin(self, member: _Member) -> None:
        text = member.text
        logits, batch, cache = text.read()
        member.may_share = self._model.vision is None and is_plain(cache)
        if member.may_share:
            self._bytes_of_position = bytes_of_position(cache)
            member.may_share = not self._is_large(text)
        member.own = Own(self._model, text, batch, cache)
        text.say(range(len(text.prompts)), logits, logits.argmax(1).tolist())
        member.lead += 1

    def _step(self, going: list[_Member]) -> None:
        for member in going:
            self._try([member], partial(self._turn, member))
        self._gather()
        for member in going:
            if member.own is not None and not member.is_over:
                self._try([member], member.own.step)
                member.lead += 1
        sharing = [m for m in going if m.own is None and not m.is_over]
        if sharing:
            self._try(sharing, partial(self._read_shared, sharing))

    def _turn(self, member: _Member) -> None:
        if member.text.turned() and member.own is None:
            self._factors = None

    def _gather(self) -> None:
        """Put those that still have a batch of their own into the shared one, if two can share."""
        apart = [m for m in self._members if m.own is not None and m.may_share and not m.is_over]
        if not apart or len(apart) + bool(self._rows) < 2:
            return
        for member in apart:
            text, own = member.text, member.own
            assert own is not None
            if not self._fits_slots(text):
                member.may_share = False
                continue
            going = list(text.going)
            lengths = own.batch.attention.sum(1).tolist()
            self._slots.put(own.cache, going, [lengths[row] for row in going])
            self._rows += [(member, row) for row in going]
            member.own, self._factors = None, None

    def _read_shared(self, sharing: list[_Member]) -> None:
        """One more token of all rows of these members; others keep their slots."""
        rows, model = self._rows, self._model
        if self._factors is None:
            self._factors = torch.stack([_factors(m.text, number) for m, number in rows])
        added = filler_rows(model, len(rows))
        table = self._factors
        if added:
            table = torch.cat([table, torch.ones_like(table[:1]).expand(added, -1, -1)])
        mine = {id(member): [] for member in sharing}  # type: dict[int, list[int]]
        for slot, (member, _) in enumerate(rows):
            if id(member) in mine:
                mine[id(member)].append(slot)
        tokens = [member.text.token(number) for member, number in rows]
        with applied(model, table):
            logits = self._slots.read(tokens, [id(m) in mine for m, _ in rows], added)
        likeliest = logits.argmax(1).tolist()
        for member in sharing:
            slots = mine[id(member)]
            self._try([member], partial(self._say, member, slots, logits, likeliest))

    def _say(
        self,
        member: _Member,
        slots: list[int],
        logits: Float[Tensor, "row vocab"],
        likeliest: list[int],
    ) -> None:
        numbers = [self._rows[slot][1] for slot in slots]
        member.text.say(numbers, logits[slots], [likeliest[slot] for slot in slots])
        member.lead += 1


def _factors(text: Text, number: int) -> Float[Tensor, "layer head"]:
    """Under which a row reads what it has said itself."""
    holds = text.edits[number].where in ("everywhere", "generated")
    return text.table[number] if holds else torch.ones_like(text.table[number])
