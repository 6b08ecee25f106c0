"""The errors a person may see.

Each says in one sentence what was wrong, what was got and what to do. The page and the command
line show the sentence as it is, never a stack trace. Mistakes of the programmer stay assertions.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 1000  # characters of a sentence; names and texts of others may be far longer


class HeadvizError(Exception):
    """Something a person can put right; its text is shown as it is."""

    def __str__(self) -> str:
        """The text on one line: what it quotes cannot end it, color a terminal or flood it."""
        return one_line(super().__str__())


class UnknownName(HeadvizError):
    """A name that stands for nothing; the text lists the names that do."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        """Say which `kind` of thing `name` is not, what is `known`, and a `hint` what to do."""
        known = list(known)
        close = get_close_matches(name, known, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        listing = f" Known: {', '.join(known)}." if known else ""
        super().__init__(f"Unknown {kind} {name!r}.{guess}{listing}{' ' + hint if hint else ''}")


class ModelError(HeadvizError):
    """A model that cannot be loaded or read."""


class ConceptError(HeadvizError):
    """A concept without a usable word."""


class PromptError(HeadvizError):
    """Texts that cannot be read, or that the model cannot take."""


class TableError(HeadvizError):
    """A file of texts, captions or questions that cannot be read."""


class PictureError(HeadvizError):
    """A picture that cannot be read, or that a model cannot take."""


class OptionError(HeadvizError):
    """An option or a number out of its range."""


class RecipeError(HeadvizError):
    """A recipe that cannot be read or written."""


class SaveError(HeadvizError):
    """A file that cannot be written."""


class CheckpointError(HeadvizError):
    """A baked checkpoint that cannot be written."""


class CacheError(HeadvizError):
    """A result could not be kept on the disk; the result itself is not lost."""


class Cancelled(HeadvizError):
    """The person stopped the run."""


def one_line(text: str) -> str:
    """The text with its control characters written out, and its middle left out where it is long.

    File names, headers and error texts of libraries come from others.
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST * 2 // 3]} … {text[-_LONGEST // 3 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def check_unicode(texts: Iterable[str], error: type[HeadvizError]) -> None:
    """Raise `error` for a text with half a character (a lone surrogate): no tokenizer takes it."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise error(f"{text[:30]!a} is not valid Unicode text. Type it anew.") from None
