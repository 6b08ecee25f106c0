"""What a pursuit needs to know of the heads whatever the concept: made once, used for every one.

A head writes H = z·W_O (sample × d_model). Its total variance needs only two d_head × d_head
matrices, zᵀz and W_O·W_Oᵀ, for ‖H‖² = Σ (zᵀz ∘ W_O·W_Oᵀ); H itself is never built. Knows no
dictionaries, and no models beyond the tensors it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from headviz.errors import ProbeError
from headviz.shapes import Float, Tensor
from headviz.statistics import Moments

_CONSTANT = 1e-6  # a deviation from the mean below this share of the largest signal is rounding
_MANY_ATOMS = 1024
_PANEL = 256


@dataclass(frozen=True, eq=False)
class PreparedHeads:
    """Heads of one or more layers, ready for any dictionary."""

    z: Float[Tensor, "head sample d_head"] | None
    """Signals, about their mean over samples if centred; None where only statistics are known."""
    n_samples: int
    w_o: tuple[Float[Tensor, "_ d_head d_model"], ...]
    """The heads' rows of the output projections, a block for each layer (views, not copies)."""
    moments: Float[Tensor, "head d_head d_head"]
    """zᵀz, summed over samples."""
    gram: Float[Tensor, "head d_head d_head"]
    """W_O·W_Oᵀ."""
    variance: Float[Tensor, " head"]
    """Σ over samples of ‖H‖²."""

    def __len__(self) -> int:
        """Number of heads."""
        return len(self.variance)

    def project(self, atoms: Float[Tensor, "atom d_model"]) -> Float[Tensor, "head atom d_head"]:
        """The atoms in each head's space: D·W_Oᵀ."""
        if len(atoms) > _MANY_ATOMS:
            # Head by head, so that nothing is held twice.
            found = atoms.new_empty((len(self), len(atoms), self.w_o[0].shape[1]))
            for head, rows in enumerate(row for block in self.w_o for row in block):
                torch.mm(atoms, rows.T, out=found[head])
            return found
        parts = []
        for block in self.w_o:
            flat = _times(atoms, block.reshape(-1, block.shape[2]).T)  # one for the layer
            parts.append(flat.view(len(atoms), len(block), -1).transpose(0, 1))
        return torch.cat(parts)

    def group(self, start: int, stop: int) -> "PreparedHeads":
        """The heads numbered `start` to `stop` - 1."""
        blocks, first = [], 0
        for block in self.w_o:
            part = block[max(start - first, 0) : max(stop - first, 0)]
            blocks += [part] if len(part) else []
            first += len(block)
        rows = slice(start, stop)
        return PreparedHeads(
            z=None if self.z is None else self.z[rows],
            n_samples=self.n_samples,
            w_o=tuple(blocks),
            moments=self.moments[rows],
            gram=self.gram[rows],
            variance=self.variance[rows],
        )


def prepare_heads(
    z: Float[Tensor, "head sample d_head"],
    w_o: Sequence[Float[Tensor, "_ d_head d_model"]],
    centre: bool = True,
    name_of: Callable[[int], str] = "number {}".format,
) -> PreparedHeads:
    """The heads, ready for any dictionary.

    Args:
        z: signals of the heads, pooled per sample.
        w_o: each head's rows of the output projection, in one or more blocks of heads.
        centre: explain the variance about the mean over samples rather than the raw energy.
        name_of: a head's name, for errors.

    Raises:
        ProbeError: where a head's signals or their squares are not finite; it names the head.
    """
    signals = centred(z) if centre else z
    prepared = _prepared(signals, z.shape[1], signals.mT @ signals, w_o)
    # Whatever is not finite in z makes the variance so: no look at z itself is needed.
    for number in (~prepared.variance.isfinite()).nonzero().flatten().tolist():
        raise ProbeError(
            f"Head {name_of(number)} has activations that are not finite (NaN or infinite), or too "
            "large for float32. Read the texts again with --dtype float32."
        )
    return prepared


def prepare_moments(
    moments: Moments,
    w_o: Sequence[Float[Tensor, "_ d_head d_model"]],
    centre: bool = True,
) -> PreparedHeads:
    """Heads known by statistics alone: enough for the energy rule, however many the samples."""
    return _prepared(None, moments.count, moments.about(centre).to(w_o[0].dtype), w_o)


def _prepared(
    z: Float[Tensor, "head sample d_head"] | None,
    n_samples: int,
    moments: Float[Tensor, "head d_head d_head"],
    w_o: Sequence[Float[Tensor, "_ d_head d_model"]],
) -> PreparedHeads:
    gram = torch.cat([_gram(block) for block in w_o])
    variance = (moments * gram).sum((1, 2)).clamp_min(0)
    return PreparedHeads(z, n_samples, tuple(w_o), moments, gram, variance)


def _times(
    atoms: Float[Tensor, "atom d_model"], weight: Float[Tensor, "d_model width"]
) -> Float[Tensor, "atom width"]:
    if weight.device.type != "cpu" or not weight.is_contiguous():
        return atoms @ weight
    # In panels of rows, which stay in the cache: a fifth less time for few atoms.
    found = atoms.new_zeros((len(atoms), weight.shape[1]))
    for few, panel in zip(atoms.split(_PANEL, 1), weight.split(_PANEL), strict=True):
        found.addmm_(few, panel)
    return found


def _gram(block: Float[Tensor, "head d_head d_model"]) -> Float[Tensor, "head d_head d_head"]:
    if block.device.type == "cpu":
        # A batched product of a layer as models keep it (transposed) takes a third longer.
        return torch.stack([rows @ rows.T for rows in block])
    return block @ block.mT


def centred(z: Float[Tensor, "head sample d_head"]) -> Float[Tensor, "head sample d_head"]:
    """Deviations from the mean over samples; exactly 0 for a head that says the same to all."""
    about_mean = z - z.mean(1, keepdim=True)
    low, high = torch.aminmax(about_mean.flatten(1), dim=1)
    least, most = torch.aminmax(z.flatten(1), dim=1)
    deviation = torch.maximum(high, -low)
    # Otherwise the rounding of a constant head would be explained as if it were a signal.
    varies = deviation > _CONSTANT * torch.maximum(most, -least)
    return about_mean.mul_(varies[:, None, None])
