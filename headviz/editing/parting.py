"""Where two answers part, and how likely each word is there under many edits.

What was said up to there is held fixed, so that what differs between rows is the edit. Nothing is
drawn: a probability is the model's own, whatever the temperature. Knows nothing of how the edits
were chosen.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor
from headviz.heads.edits import Edit, applied, factor_table, places
from headviz.heads.forward import Batch, batch_of, read_on
from headviz.heads.pooling import batch_tokens
from headviz.heads.prompts import EncodedPrompt
from headviz.heads.stem import Stem
from headviz.models.loaded import LoadedModel

_MARKS = ".,;:!?\"'()"


@dataclass(frozen=True)
class Word:
    """A word of an answer, and the token that decides for it."""

    text: str
    """Without the marks around it."""
    token: int
    """The first one that the other answer does not have there."""


@dataclass(frozen=True)
class Parting:
    """The first place at which an edited answer leaves the original."""

    said: tuple[int, ...]
    """Token ids that both have said before; none where the answers are the same."""
    original: Word | None
    """What the original says there, None where it has ended."""
    edited: Word | None
    """What the edited answer says there; None where it has ended, or is the same."""


def parting(model: LoadedModel, original: Sequence[int], edited: Sequence[int]) -> Parting:
    """Where the two answers, as token ids, part; the first word where they are the same."""
    if tuple(original) == tuple(edited):
        return Parting((), word_at(model, original, 0), None)
    pairs = enumerate(zip_longest(original, edited))
    at = next(number for number, (one, other) in pairs if one != other)
    return Parting(tuple(original[:at]), word_at(model, original, at), word_at(model, edited, at))


def word_at(model: LoadedModel, ids: Sequence[int], at: int) -> Word | None:
    """The word of an answer that its token number `at` begins or goes on with; None at its end."""
    before, whole = (
        str(model.tokenizer.decode(list(part), skip_special_tokens=True))
        for part in (ids[:at], ids)
    )
    rest = whole[len(before) :]
    if rest[:1].isalnum() and before and not before[-1].isspace():
        rest = before.split()[-1] + rest
    words = rest.split()
    return Word(words[0].strip(_MARKS) or words[0], ids[at]) if words else None


def probabilities(
    model: LoadedModel,
    prompt: EncodedPrompt,
    said: Sequence[int],
    tokens: Sequence[int],
    edits: Sequence[Edit],
    lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Float[Tensor, "row token"]:
    """The probability of each token to come next, under each edit: one row an edit.

    Args:
        model: the model.
        prompt: what is answered.
        said: token ids of the answer so far, read under the edit too where it holds there.
        tokens: ids of what may come next.
        edits: the rows; in batches, where they are too many tokens for one pass.
        lock: held for one forward pass at a time.

    Raises:
        OptionError: for a head that the model does not have.
    """
    whole = prompt.continued(said)
    table = factor_table(model, edits)
    with lock(), torch.inference_mode():
        stem = None if prompt.pictures else Stem.of(model, whole)
    at_once = max(1, batch_tokens(model) // len(whole.ids))
    found: list[Tensor] = []
    for start in range(0, len(edits), at_once):
        some, rows = edits[start : start + at_once], table[start : start + at_once]
        with lock(), torch.inference_mode():
            if stem is not None and stem.given is not None:
                batch = stem.batch.narrowed(torch.zeros(len(some), dtype=torch.long))
                logits, _ = stem.rows(rows, places(some, _answering(batch, len(said))))
            else:
                batch = batch_of(model, [whole] * len(some), left=True)
                with applied(model, rows, places(some, _answering(batch, len(said)))):
                    logits, _ = read_on(model, batch, None)
        found.append(logits.float().softmax(1)[:, list(tokens)].cpu())
    return torch.cat(found)


def _answering(batch: Batch, n_said: int) -> Batch:
    """The same with its last positions as what they are: the model's own words."""
    generated = torch.zeros_like(batch.prompt)
    generated[:, generated.shape[1] - n_said :] = True
    return replace(batch, prompt=batch.prompt & ~generated, generated=generated)
