"""An edit beside the original and a random control: three columns from one batch, measured.

No effect is shown without its control, and none without a quality figure.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

from headviz.editing.control import control_of
from headviz.editing.crowd import Crowd
from headviz.editing.generate import Sampling, Streams, generate
from headviz.editing.measures import concept_spans, first_difference
from headviz.heads.chat import PLAIN, Chat, Span, thinking_in
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.prompts import encode_prompt, question_of, sent
from headviz.heads.stem import Stems
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

NAMES = ("original", "edited", "control")
Lock = Callable[[], AbstractContextManager[Any]]
Knob = Callable[[], Edit | None]
"""Asked before every token for the edit that holds from there on; None where it stays."""


@dataclass(frozen=True)
class Stretch:
    """Tokens of an answer that were written under another edit, before this one was turned to."""

    tokens: int
    """How many, from 1."""
    edit: Edit


@dataclass(frozen=True)
class CompareRequest:
    """What is asked, under which edit, and how the answers are made and measured."""

    prompt: str
    edit: Edit
    words: tuple[str, ...] = ()
    """Of a concept: they are counted in the texts; none are if it is empty."""
    control: bool = True
    """Also edit as many random other heads of the same layers."""
    control_seed: int = 0
    """Which ones."""
    sampling: Sampling = field(default_factory=Sampling)
    pictures: tuple[Picture, ...] = ()
    """All of them beside the prompt; none for a language model."""
    chat: Chat = PLAIN
    """How the prompt is put to the model."""
    earlier: tuple[Stretch, ...] = ()
    """What the answer is written under first; `edit` holds from then on."""


@dataclass(frozen=True)
class Column:
    """One of the three texts and what was measured on it."""

    name: str
    """original, edited or control."""
    edit: str
    """As on the command line, '' for the original; where it was moved, each in turn."""
    text: str = ""
    ids: tuple[int, ...] = ()
    concept_words: int | None = None
    """How many of the concept's words the text says; None where no concept is chosen."""
    differs_at: int | None = None
    """Number of the first word that differs from the original, None if none does."""
    perplexity: float | None = None
    """Of the text for the unedited model (1: what it would say); None until the text ends."""
    thinking: tuple[Span, ...] = ()
    """Where the text thinks rather than answers."""
    turned_at: tuple[int, ...] = ()
    """Where in the text each stretch ends that it has come to the end of, in characters."""
    ended: bool = True
    """Whether nothing more comes."""


@dataclass(frozen=True)
class Comparison:
    """The columns as far as they have come."""

    prompt: str
    columns: tuple[Column, ...]
    done: bool
    pictures: tuple[str, ...] = ()
    """Names of the pictures beside the prompt."""
    edit: Edit = NO_EDIT
    """Which the edited column ends under."""
    earlier: tuple[Stretch, ...] = ()
    """What it was written under before; empty unless the edit was moved."""
    place: int = 0
    """In the queue of those that wait to be written, from 1; 0 for what is written."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the texts as original, edited and control, and what was measured."""
        texts = {column.name: column.text for column in self.columns}
        apart = ("name", "text", "ids", "ended")
        measures = {
            c.name: {k: v for k, v in asdict(c).items() if k not in apart} for c in self.columns
        }
        for measured in measures.values():
            for rare in ("thinking", "turned_at"):
                if not measured[rare]:
                    del measured[rare]
        seen = {"pictures": list(self.pictures)} if self.pictures else {}
        return {"prompt": self.prompt, **seen, **texts, "measures": measures}


@dataclass
class Kept:
    """What the unedited model has said to a prompt so far: no knob changes it."""

    text: str = ""
    ids: tuple[int, ...] = ()
    done: bool = False
    perplexity: float | None = None


def compare(
    model: LoadedModel,
    asked: CompareRequest,
    lock: Lock = nullcontext,
    knob: Knob = lambda: None,
    stems: Stems | None = None,
    kept: Kept | None = None,
    crowd: Crowd | None = None,
) -> Generator[Comparison, None, None]:
    """Stream original, edited and control; the last one yielded has the perplexities as well.

    An empty prompt beside a picture is the model's usual one; `lock` is held for one token at a
    time. Whoever turns the `knob` has the edit changed from the next token on, until the edited
    text has ended; the control follows. `stems` are prompts that were read before, `kept` is what
    the model has said to this one unedited: the original begins there, and leaves there what it
    adds. In a `crowd`, who is written to under the same lock, tokens come several at a time.
    Raises OptionError or PromptError before the first token for a bad head or prompt.
    """
    kept = kept if kept is not None else Kept()
    crowd = crowd if crowd is not None else Crowd(model, lock)
    pictures, words = asked.pictures, asked.words
    prompt = question_of(model, asked.prompt, pictures)
    course = _Course(asked.edit, asked.earlier)

    drawn: list[tuple[Edit, list[Edit]]] = []

    def rows_of(edit: Edit) -> list[Edit]:
        for known, rows in drawn:
            if known is edit:
                return rows
        control = [control_of(model, edit, asked.control_seed)] if asked.control else []
        drawn.append((edit, [NO_EDIT, edit, *control]))
        return drawn[-1][1]

    def turn(done: Sequence[bool]) -> list[Edit] | None:
        edit = course.next(None if done[1] else knob())
        return rows_of(edit) if edit is not None else None

    for stretch in asked.earlier:
        rows_of(stretch.edit)  # wrong heads are told before the first token
    n = len(rows_of(asked.edit))
    streams = generate(
        model,
        [prompt] * n,
        rows_of(course.edit),
        asked.sampling,
        lock,
        [pictures] * n if pictures else (),
        asked.chat,
        turn,
        stems,
        crowd,
    )
    names = tuple(picture.name for picture in pictures)
    is_open = sent(model, prompt, len(pictures), asked.chat).is_thinking

    def column(row: int, stream: Streams) -> Column:
        text, ids, ended = stream.texts[row], stream.ids[row], stream.done[row]
        if row == 0:
            text, ids, ended = kept.text, kept.ids, kept.done
        held = [rows_of(edit)[row] for edit in course.edits] if row else []
        return Column(
            name=NAMES[row],
            edit=_told(held, course.starts),
            text=text,
            ids=ids,
            concept_words=len(concept_spans(text, words)) if words else None,
            differs_at=first_difference(text, kept.text),
            thinking=thinking_in(text, is_open),
            turned_at=_turned_at(model, text, ids, course.starts) if row else (),
            ended=ended,
        )

    def follow() -> Generator[Comparison, None, None]:
        for stream in streams:
            if not kept.done and (stream.done[0] or len(stream.ids[0]) > len(kept.ids)):
                kept.text, kept.ids, kept.done = stream.texts[0], stream.ids[0], stream.done[0]
            columns = tuple(column(row, stream) for row in range(n))
            current = Comparison(
                prompt, columns, False, names, course.edits[-1], course.earlier, stream.place
            )
            yield current
            if kept.done and all(stream.done[1:]):
                break
        streams.close()
        with lock():
            encoded = encode_prompt(model, prompt, 0, pictures, asked.chat)
        known = kept.perplexity is not None
        values = crowd.surprise(encoded, [c.ids for c in current.columns[known:]])
        if known:
            values = [kept.perplexity, *values]
        kept.perplexity = values[0]
        finished = zip(current.columns, values, strict=True)
        yield replace(
            current, columns=tuple(replace(c, perplexity=v) for c, v in finished), done=True
        )

    return follow()


class _Course:
    """Which edit holds from which token on: as it was asked for, and as the knob was turned."""

    def __init__(self, edit: Edit, earlier: tuple[Stretch, ...]) -> None:
        self.edits = [*(stretch.edit for stretch in earlier), edit]
        self.starts = [0, *accumulate(stretch.tokens for stretch in earlier)]
        self._token = 0
        self._held = self.edit

    @property
    def edit(self) -> Edit:
        """That holds at the next token."""
        return self.edits[bisect_right(self.starts, self._token) - 1]

    @property
    def earlier(self) -> tuple[Stretch, ...]:
        """All stretches but the last."""
        ends = zip(self.edits, pairwise(self.starts), strict=False)
        return tuple(Stretch(stop - start, edit) for edit, (start, stop) in ends)

    def next(self, turned: Edit | None) -> Edit | None:
        """One token on: the edit that begins to hold with it, None where the last one stays."""
        if turned is not None and turned != self.edit:
            # What was still to come of the course gives way to the hand on the knob.
            kept = bisect_left(self.starts, self._token)
            self.edits, self.starts = self.edits[:kept], self.starts[:kept]
            if not self.edits or self.edits[-1] != turned:
                self.edits.append(turned)
                self.starts.append(self._token)
        before, self._held = self._held, self.edit
        self._token += 1
        return self._held if self._held != before else None


def _told(edits: Sequence[Edit], starts: Sequence[int]) -> str:
    """The edits as on the command line, each but the first with the token that it begins with."""
    pairs = zip(edits, starts, strict=False)
    return "; ".join(f"from token {at + 1}: {edit}" if at else str(edit) for edit, at in pairs)


def _turned_at(
    model: LoadedModel, text: str, ids: tuple[int, ...], starts: Sequence[int]
) -> tuple[int, ...]:
    """Where those tokens begin in the text, as far as it reaches."""
    reached = [start for start in starts[1:] if start <= len(ids)]
    before = [model.tokenizer.decode(ids[:n], skip_special_tokens=True) for n in reached]
    return tuple(min(len(piece), len(text)) for piece in before)


def last_of(comparisons: Iterator[Comparison]) -> Comparison:
    """The finished comparison."""
    *_, result = comparisons
    return result
