"""How a prompt is put to a model: its chat template, a system prompt, and whether it thinks first.

Templates are programs of others: what they refuse is told in one sentence. Knows tokenizers and
processors by their templates alone, and no tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headviz.base.errors import PromptError, check_unicode

MARK = "\ue000"
"""Stands for the prompt's own words, to find their place: of private use, no template has it."""
_THINKING = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL)
_OPENED = re.compile(r"<think>\s*\Z")
_CLOSING = "\n\n</think>\n\n"


@dataclass(frozen=True)
class Chat:
    """How a prompt is put to a model that has a chat template."""

    template: bool = True
    """Inside the template, rather than the prompt's words alone."""
    system: str | None = None
    """The system prompt; None for the template's own, '' for an empty one."""
    thinking: bool = False
    """Whether a model that can think first does."""

    def __post_init__(self) -> None:
        """Raise PromptError for a system prompt that there is no place for."""
        if self.system is not None:
            check_unicode([self.system], PromptError)
            if not self.template:
                raise PromptError(
                    "A system prompt stands in the chat template, which is turned off. Leave one "
                    "of the two out."
                )


PLAIN = Chat()
"""The template's own way, where there is one."""


@dataclass(frozen=True)
class Span:
    """A stretch of a text: its characters from `start` to before `stop`."""

    kind: str
    """`own` or `system` in what is sent, else `template`; `thinking` in what is said."""
    start: int
    stop: int


def has_template(reader: Any, chat: Chat) -> bool:
    """Whether a tokenizer or processor is to set the prompt inside its template.

    Raises PromptError for a system prompt where there is no template to hold it.
    """
    found = bool(getattr(reader, "chat_template", None))
    if chat.system is not None and not found:
        raise PromptError(
            "This model has no chat template, and so no place for a system prompt. Write it into "
            "the prompt."
        )
    return found and chat.template


def inside_template(reader: Any, content: Any, chat: Chat) -> str:
    """The content of a person's message inside the template, up to where the model answers.

    Raises PromptError where the template refuses it.
    """
    messages = [{"role": "user", "content": content}]
    if chat.system is not None:
        system = chat.system if isinstance(content, str) else _as_parts(chat.system)
        messages.insert(0, {"role": "system", "content": system})
    # Only to those that ask: processors warn of what they do not know.
    known = {"enable_thinking": chat.thinking} if can_think(str(reader.chat_template)) else {}
    try:
        whole = str(
            reader.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **known
            )
        )
    except Exception as error:  # whatever the program of somebody else may raise
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else "no why"
        advice = "Leave the system prompt out" if chat.system is not None else "Turn it off"
        raise PromptError(
            f"The model's chat template does not take this ({reason}). {advice}."
        ) from error
    if chat.system and chat.system.strip() not in whole:
        raise PromptError(
            "The model's chat template leaves the system prompt out. Write it into the prompt."
        )
    # Some templates begin to think whatever they are asked: an empty thought is closed for them.
    return whole + _CLOSING if not chat.thinking and _OPENED.search(whole) else whole


def can_think(template: str) -> bool:
    """Whether a model with this template may be told to think first, or not to."""
    return "enable_thinking" in template


def _as_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def spans_of(whole: str, own: tuple[int, int], system: str) -> tuple[Span, ...]:
    """The stretches of a rendered prompt in order: its own words, the system prompt, the rest."""
    known = [Span("own", *own)]
    at = whole.find(system, 0, own[0]) if system else -1
    if at >= 0:
        known.insert(0, Span("system", at, at + len(system)))
    spans, last = [], 0
    for span in (*known, Span("", len(whole), len(whole))):
        if last < span.start:
            spans.append(Span("template", last, span.start))
        spans += [span] if span.start < span.stop else []
        last = span.stop
    return tuple(spans)


def thinking_in(text: str, is_open: bool = False) -> tuple[Span, ...]:
    """Where an answer thinks rather than answers, its marks included.

    `is_open`: the prompt has begun the thought, as some templates do.
    """
    end = text.find("</think>")
    first = text.find("<think>")
    if is_open and not 0 <= first < end:
        stop = end + len("</think>") if end >= 0 else len(text)
        rest = thinking_in(text[stop:])
        later = [Span(span.kind, span.start + stop, span.stop + stop) for span in rest]
        return (Span("thinking", 0, stop), *later) if stop else ()
    return tuple(Span("thinking", *match.span()) for match in _THINKING.finditer(text))


def opens_thinking(sent: str) -> bool:
    """Whether a rendered prompt ends inside a thought."""
    return bool(_OPENED.search(sent))


def alike(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens the two have in common from the start."""
    pairs = zip(ids, others, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(others)))
