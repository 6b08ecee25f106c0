"""A head and how it is written: `L18.H27` is head 27 of layer 18, both counted from 0.

Knows nothing of models; whether a head exists is asked of the model (`check_heads`).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from headviz.base.errors import OptionError

_PATTERN = re.compile(r"L(\d{1,6})\.?H(\d{1,6})", re.IGNORECASE | re.ASCII)
_LARGEST = 1000.0  # factors beyond it overflow half precision and mean nothing


@dataclass(frozen=True, order=True)
class Head:
    """One query head of the decoder's self-attention."""

    layer: int
    index: int

    def __str__(self) -> str:
        """`L18.H27`, as in the paper."""
        return f"L{self.layer}.H{self.index}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """The head that `text` names. Raises OptionError for anything but `L<layer>.H<head>`."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise OptionError(f"{text.strip()!r} is no head. Write layer and head as in L3.H7.")
        return cls(int(match[1]), int(match[2]))


def parse_factor(text: str) -> float:
    """The factor α that `text` names. Raises OptionError where it is no number of -1000 to 1000."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # nan is not either
        raise OptionError(
            f"{text.strip()!r} is no factor. Write a number of -1000 to 1000, e.g. -1, 0 or 2.5."
        )
    return value


def parse_factors(text: str) -> dict[Head, float]:
    """Factors by head from `L3.H7=-1,L2.H1=0`. Raises OptionError where a part is not readable."""
    factors: dict[Head, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise OptionError(f"{part!r} is no edit. Write head=factor, e.g. L3.H7=-1,L2.H1=0.")
        factors[Head.parse(name)] = parse_factor(value)
    return factors


def check_heads(heads: Iterable[Head], n_layers: int, n_heads: int) -> None:
    """Raise OptionError for the first head that a model of this size does not have."""
    for head in heads:
        if head.layer >= n_layers or head.index >= n_heads:
            raise OptionError(
                f"There is no head {head}: this model has layers 0 to {n_layers - 1} "
                f"with heads 0 to {n_heads - 1} each."
            )
