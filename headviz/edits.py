"""An edit is data: a factor for some heads. Here edits are applied, and baked into weights.

Rows of one batch may carry different edits, so that original, edited and control share a forward
pass, and two visitors' edits never mix. Other scopes than "everywhere" come with their own issue;
`scope` is the place for them.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from headviz.capture import projection_inputs
from headviz.heads import Head, check_heads, parse_factors
from headviz.models import LoadedModel
from headviz.shapes import Float, Tensor


@dataclass(frozen=True)
class Edit:
    """Heads and their factors: -1 inhibits, 0 removes, 1 leaves alone, above 1 enhances."""

    factors: Mapping[Head, float] = field(default_factory=dict)
    scope: str = "everywhere"

    @classmethod
    def of(cls, heads: Iterable[Head], factor: int | float) -> "Edit":
        """The same factor for all these heads."""
        return cls(dict.fromkeys(heads, float(factor)))

    @classmethod
    def parse(cls, text: str) -> "Edit":
        """From `L3.H7=-1,L2.H1=0`. Raises OptionError where it cannot be read."""
        return cls(parse_factors(text))

    def __str__(self) -> str:
        """As `parse` reads it."""
        exact = ((head, repr(factor).removesuffix(".0")) for head, factor in self.factors.items())
        return ",".join(f"{head}={factor}" for head, factor in exact)


NO_EDIT = Edit()


def factor_table(model: LoadedModel, edits: Sequence[Edit]) -> Float[Tensor, "row layer head"]:
    """One row an edit, 1 where nothing is changed. Raises OptionError for a missing head."""
    table = torch.ones(len(edits), model.n_layers, model.n_heads, dtype=model.dtype)
    for row, edit in enumerate(edits):
        check_heads(edit.factors, model.n_layers, model.n_heads)
        for head, factor in edit.factors.items():
            table[row, head.layer, head.index] = factor
    return table.to(model.device)


@contextmanager
def applied(model: LoadedModel, table: Float[Tensor, "row layer head"]) -> Iterator[None]:
    """While open, row r of every batch runs with the factors table[r]."""
    touched = (table != 1).any(2).any(0).tolist()
    wide = table.repeat_interleave(model.d_head, dim=2)[:, :, None]

    def scale(layer: int, signals: Tensor) -> Tensor | None:
        return signals * wide[:, layer] if touched[layer] else None

    with projection_inputs(model, scale):
        yield


def bake(model: LoadedModel, edit: Edit) -> Any:
    """A copy of the transformers model whose weights have the edit in them: no hook needed."""
    table = factor_table(model, [edit])[0].repeat_interleave(model.d_head, dim=1)
    baked = copy.deepcopy(model.model)
    # The copy has the same modules in the same order; W_O's input columns are scaled.
    copies = dict(zip(map(id, model.model.modules()), baked.modules(), strict=True))
    for layer, projection in enumerate(model.projections):
        target = copies[id(projection)]
        columns = table[layer] if isinstance(projection, nn.Linear) else table[layer][:, None]
        target.weight.data.mul_(columns)
    return baked
