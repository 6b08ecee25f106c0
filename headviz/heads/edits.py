"""An edit is data: a factor for some heads, and where in the sequence it holds.

Here edits are applied; editing/bake.py writes them into weights. Rows of one batch may carry
different edits, so that original, edited and control share a forward pass, and two visitors' edits
never mix.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from headviz.base.errors import OptionError
from headviz.base.head import Head, parse_factors
from headviz.base.shapes import Bool, Float, Tensor
from headviz.heads.forward import Batch
from headviz.heads.hooks import projection_inputs
from headviz.models.loaded import LoadedModel

WHERE: Mapping[str, str] = {
    "everywhere": "at every position: picture, prompt and answer",
    "image": "only at the positions that hold the picture: what the heads carry on from it there",
    "prompt": "only at the prompt's words and the template around them; the last of them decides "
    "the first word of the answer",
    "generated": "only at the words of the answer, from the first one on: what the heads have read "
    "before stays as it is",
}
"""Where an edit holds -> what that means. The last three together are the first."""


@dataclass(frozen=True)
class Edit:
    """Heads and their factors: -1 inhibits, 0 removes, 1 leaves alone, above 1 enhances."""

    factors: Mapping[Head, float] = field(default_factory=dict)
    where: str = "everywhere"
    """One of WHERE."""

    def __post_init__(self) -> None:
        """Raise OptionError for an unknown place."""
        if self.where not in WHERE:
            raise OptionError(
                f"Unknown place {self.where!r} of an edit. Known: {', '.join(WHERE)}."
            )

    @classmethod
    def of(cls, heads: Iterable[Head], factor: int | float, where: str = "everywhere") -> "Edit":
        """The same factor for all these heads."""
        return cls(dict.fromkeys(heads, float(factor)), where)

    @classmethod
    def parse(cls, text: str, where: str = "everywhere") -> "Edit":
        """From `L3.H7=-1,L2.H1=0`. Raises OptionError where it cannot be read."""
        return cls(parse_factors(text), where)

    def __str__(self) -> str:
        """As `parse` reads it."""
        exact = ((head, repr(factor).removesuffix(".0")) for head, factor in self.factors.items())
        return ",".join(f"{head}={factor}" for head, factor in exact)


NO_EDIT = Edit()


def factor_table(model: LoadedModel, edits: Sequence[Edit]) -> Float[Tensor, "row layer head"]:
    """One row an edit, 1 where nothing is changed. Raises OptionError for a missing head."""
    table = torch.ones(len(edits), model.n_layers, model.n_heads, dtype=model.dtype)
    for row, edit in enumerate(edits):
        model.check_heads(edit.factors)
        for head, factor in edit.factors.items():
            table[row, head.layer, head.index] = factor
    return table.to(model.device)


def places(edits: Sequence[Edit], batch: Batch) -> Bool[Tensor, "row position"] | None:
    """The positions of a forward pass at which each row's edit holds; None where all do."""
    if all(edit.where == "everywhere" for edit in edits):
        return None
    found = {
        "everywhere": torch.ones_like(batch.prompt),
        "image": batch.image,
        "prompt": batch.prompt,
        "generated": batch.generated,
    }
    return torch.stack([found[edit.where][row] for row, edit in enumerate(edits)])


@contextmanager
def applied(
    model: LoadedModel,
    table: Float[Tensor, "row layer head"],
    at: Bool[Tensor, "row position"] | None = None,
) -> Iterator[None]:
    """While open, row r of every batch runs with the factors table[r], at its positions at[r]."""
    touched = (table != 1).any(2).any(0).tolist()
    wide = table.repeat_interleave(model.d_head, dim=2)[:, :, None]
    with projection_inputs(model, partial(_scaled, touched, wide, at, {})):
        yield


def _scaled(
    touched: Sequence[bool],
    wide: Float[Tensor, "row layer one signal"],
    at: Bool[Tensor, "row position"] | None,
    near: dict[int, Tensor],
    layer: int,
    signals: Tensor,
) -> Tensor | None:
    """A layer's signals times their factors; None where none of its heads is turned.

    Factors live where their layer runs, which a split model tells with its first signals: `near`
    keeps them.
    """
    if not touched[layer]:
        return None
    if layer not in near:
        factors = wide[:, layer].to(signals.device)
        if at is not None:
            one = torch.ones((), dtype=factors.dtype, device=factors.device)
            factors = torch.where(at.to(signals.device)[:, :, None], factors, one)
        near[layer] = factors
    return signals * near[layer]
