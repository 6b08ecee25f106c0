"""An edit beside the original and a random control: three columns from one batch, measured.

No effect is shown without its control, and none without a quality figure.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans, first_difference, surprise
from headviz.heads.chat import PLAIN, Chat, Span, thinking_in
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.prompts import default_prompt, encode_prompt, sent
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

Lock = Callable[[], AbstractContextManager[Any]]


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


@dataclass(frozen=True)
class Column:
    """One of the three texts and what was measured on it."""

    name: str
    """original, edited or control."""
    edit: str
    """As on the command line, '' for the original."""
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


@dataclass(frozen=True)
class Comparison:
    """The columns as far as they have come."""

    prompt: str
    columns: tuple[Column, ...]
    done: bool
    pictures: tuple[str, ...] = ()
    """Names of the pictures beside the prompt."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the texts as original, edited and control, and what was measured."""
        texts = {column.name: column.text for column in self.columns}
        apart = ("name", "text", "ids")
        measures = {
            c.name: {k: v for k, v in asdict(c).items() if k not in apart} for c in self.columns
        }
        for measured in measures.values():
            if not measured["thinking"]:
                del measured["thinking"]
        seen = {"pictures": list(self.pictures)} if self.pictures else {}
        return {"prompt": self.prompt, **seen, **texts, "measures": measures}


def compare(
    model: LoadedModel, asked: CompareRequest, lock: Lock = nullcontext
) -> Iterator[Comparison]:
    """Stream original, edited and control; the last one yielded has the perplexities as well.

    An empty prompt beside a picture is the model's usual one; `lock` is held for one token at a
    time. Raises OptionError or PromptError before the first token for a bad head or prompt.
    """
    pictures, words = asked.pictures, asked.words
    prompt = asked.prompt or default_prompt(model) if pictures else asked.prompt
    edits = {"original": NO_EDIT, "edited": asked.edit}
    if asked.control:
        edits["control"] = control_of(model, asked.edit, asked.control_seed)
    columns = [Column(name, str(e)) for name, e in edits.items()]
    n, rows = len(edits), [pictures] * len(edits) if pictures else ()
    streams = generate(
        model, [prompt] * n, list(edits.values()), asked.sampling, lock, rows, asked.chat
    )
    names = tuple(picture.name for picture in pictures)
    is_open = sent(model, prompt, len(pictures), asked.chat).is_thinking

    def follow() -> Iterator[Comparison]:
        current = Comparison(prompt, tuple(columns), False, names)
        for stream in streams:
            original = stream.texts[0]
            current = Comparison(
                prompt,
                tuple(
                    replace(
                        column,
                        text=text,
                        ids=ids,
                        concept_words=len(concept_spans(text, words)) if words else None,
                        differs_at=first_difference(text, original),
                        thinking=thinking_in(text, is_open),
                    )
                    for column, text, ids in zip(columns, stream.texts, stream.ids, strict=True)
                ),
                False,
                names,
            )
            yield current
        with lock():
            encoded = encode_prompt(model, prompt, 0, pictures, asked.chat)
            values = surprise(model, encoded, [c.ids for c in current.columns])
        finished = zip(current.columns, values, strict=True)
        yield replace(
            current, columns=tuple(replace(c, perplexity=v) for c, v in finished), done=True
        )

    return follow()


def last_of(comparisons: Iterator[Comparison]) -> Comparison:
    """The finished comparison."""
    *_, result = comparisons
    return result
