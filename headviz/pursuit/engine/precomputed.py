"""What a pursuit needs to know of the heads whatever the concept: made once, used for every one.

A head writes H = z·W_O (sample × d_model). Its total variance needs only two d_head × d_head
matrices, zᵀz and W_O·W_Oᵀ, for ‖H‖² = Σ (zᵀz ∘ W_O·W_Oᵀ); H itself is never built. Knows no
dictionaries, and no models beyond the tensors it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from headviz.base.errors import PromptError
from headviz.base.shapes import Float, Tensor
from headviz.pursuit.engine.matmul import rows_times_rows
from headviz.pursuit.engine.parallel import in_parts, share_size

_CONSTANT = 1e-6  # a deviation from the mean below this share of the largest signal is rounding
_MANY_ATOMS = 512  # from here on another library is quicker, in spite of a copy
_ROWS = 4096  # atoms that it takes at a time
_PART = 16  # heads at most that a processor core takes at a time
_TILE_BYTES = 2**20  # of signals that it works on at once: they stay in its own cache
_BLOCK = 64  # columns of a product of a matrix with itself that are multiplied at once


@dataclass(frozen=True, eq=False)
class PrecomputedHeads:
    """Heads of one or more layers, ready for any dictionary."""

    z: Float[Tensor, "head sample d_head"]
    """Signals as they were read (not a copy)."""
    mean: Float[Tensor, "head d_head"] | None
    """Their mean over samples if centred."""
    varies: Float[Tensor, " head"] | None
    """If centred: 1, or 0 for a head that says the same to every sample."""
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

    @property
    def n_samples(self) -> int:
        """Of every head."""
        return self.z.shape[1]

    def project(self, atoms: Float[Tensor, "atom d_model"]) -> Float[Tensor, "head atom d_head"]:
        """The atoms in each head's space: D·W_Oᵀ."""
        if atoms.device.type != "cpu":
            parts = []
            for block in self.w_o:
                flat = atoms @ block.reshape(-1, block.shape[2]).T  # one product for the layer
                parts.append(flat.view(len(atoms), len(block), -1).transpose(0, 1))
            return torch.cat(parts)
        found = atoms.new_empty((len(self), len(atoms), self.w_o[0].shape[1]))
        rows = [row for block in self.w_o for row in block]

        def fill(start: int, stop: int) -> None:
            for head in range(start, stop):
                _project(atoms, rows[head], found[head])

        in_parts(fill, len(self), share_size(len(self), _PART, atoms.device), atoms.device)
        return found

    def group(self, start: int, stop: int) -> "PrecomputedHeads":
        """The heads numbered `start` to `stop` - 1."""
        blocks, first = [], 0
        for block in self.w_o:
            part = block[max(start - first, 0) : max(stop - first, 0)]
            blocks += [part] if len(part) else []
            first += len(block)
        rows = slice(start, stop)
        return PrecomputedHeads(
            z=self.z[rows],
            mean=None if self.mean is None else self.mean[rows],
            varies=None if self.varies is None else self.varies[rows],
            w_o=tuple(blocks),
            moments=self.moments[rows],
            gram=self.gram[rows],
            variance=self.variance[rows],
        )

    def signals(self, start: int, stop: int) -> Float[Tensor, "head sample d_head"]:
        """Some heads' signals, about their mean over samples if centred.

        Worked out at each call: that takes less time than reading a copy of all would.
        """
        if self.mean is None or self.varies is None:
            return self.z[start:stop]
        return _about(self.z[start:stop], self.mean[start:stop], self.varies[start:stop])


def _project(
    atoms: Float[Tensor, "atom d_model"],
    own: Float[Tensor, "d_head d_model"],
    out: Float[Tensor, "atom d_head"],
) -> None:
    """D·W_Oᵀ of one head, on a CPU."""
    if len(atoms) < _MANY_ATOMS:
        torch.mm(atoms, own.T, out=out)
        return
    # Copied twice, since a copy that turns what lies far apart takes ten times as long.
    near = own if own.is_contiguous() else own.T.contiguous().T.contiguous()
    for few, part in zip(atoms.split(_ROWS), out.split(_ROWS), strict=True):
        part.copy_(rows_times_rows(few, near))


def precompute_heads(
    z: Float[Tensor, "head sample d_head"],
    w_o: Sequence[Float[Tensor, "_ d_head d_model"]],
    centre: bool = True,
    name_of: Callable[[int], str] = "number {}".format,
) -> PrecomputedHeads:
    """The heads, ready for any dictionary.

    Args:
        z: signals of the heads, pooled per sample.
        w_o: each head's rows of the output projection, in one or more blocks of heads.
        centre: explain the variance about the mean over samples rather than the raw energy.
        name_of: a head's name, for errors.

    Raises:
        PromptError: where a head's signals or their squares are not finite; it names the head.
    """
    rows = [row for block in w_o for row in block]
    n_heads, _, d_head = z.shape
    mean = z.new_empty((n_heads, d_head)) if centre else None
    varies = z.new_empty(n_heads) if centre else None
    moments, variance = z.new_empty((n_heads, d_head, d_head)), z.new_empty(n_heads)
    on_cpu = z.device.type == "cpu"
    gram = torch.empty_like(moments) if on_cpu else torch.cat([w @ w.mT for w in w_o])

    def fill(start: int, stop: int) -> None:
        tile = max(1, _TILE_BYTES // max(1, z[0].nbytes)) if on_cpu else stop - start
        for low in range(start, stop, tile):
            now = slice(low, min(low + tile, stop))
            signals = z[now]
            if mean is not None and varies is not None:
                mean[now], varies[now] = _mean(signals)
                signals = _about(signals, mean[now], varies[now])
            moments[now] = _with_itself(signals)
        if on_cpu:
            _fill_gram(gram[start:stop], rows[start:stop])
        variance[start:stop] = (moments[start:stop] * gram[start:stop]).sum((1, 2)).clamp_min(0)

    size = share_size(n_heads, _PART if on_cpu else n_heads, z.device)
    in_parts(fill, n_heads, size, z.device)
    # Whatever is not finite in z makes the variance so: no look at z itself is needed.
    for number in (~variance.isfinite()).nonzero().flatten().tolist():
        raise PromptError(
            f"Head {name_of(number)} has activations that are not finite (NaN or infinite), or too "
            "large for float32. Read the texts again with --dtype float32."
        )
    return PrecomputedHeads(z, mean, varies, tuple(w_o), moments, gram, variance)


def _mean(
    z: Float[Tensor, "head sample d_head"],
) -> tuple[Float[Tensor, "head d_head"], Float[Tensor, " head"]]:
    """The mean over samples, and 0 for each head that says the same to every sample, else 1."""
    mean, most, least = z.mean(1), z.amax(1), z.amin(1)
    deviation = torch.maximum(most - mean, mean - least).amax(1)
    # Otherwise the rounding of a constant head would be explained as if it were a signal.
    varies = deviation > _CONSTANT * torch.maximum(most, -least).amax(1)
    return mean, varies.to(z.dtype)


def _about(
    z: Float[Tensor, "head sample d_head"],
    mean: Float[Tensor, "head d_head"],
    varies: Float[Tensor, " head"],
) -> Float[Tensor, "head sample d_head"]:
    return (z - mean[:, None]).mul_(varies[:, None, None])


def _fill_gram(
    gram: Float[Tensor, "head d_head d_head"], rows: Sequence[Float[Tensor, "d_head d_model"]]
) -> None:
    """W_O·W_Oᵀ of some heads, on a CPU."""
    # As models keep them, the rows of a head lie far apart: brought together, they multiply in a
    # quarter less time.
    near = torch.empty_like(rows[0].T, memory_format=torch.contiguous_format)
    for head, own in enumerate(rows):
        across = own.T
        apart = across.stride(1) == 1 and not across.is_contiguous()
        gram[head] = _with_itself(near.copy_(across) if apart else across)


def _with_itself(x: Float[Tensor, "*head row column"]) -> Float[Tensor, "*head column column"]:
    """xᵀ·x. On a CPU only the blocks up to the diagonal are multiplied, and mirrored."""
    if x.device.type != "cpu":
        return x.mT @ x
    n = x.shape[-1]
    found = x.new_empty((*x.shape[:-2], n, n))
    for low in range(0, n, _BLOCK):
        block = slice(low, low + _BLOCK)
        found[..., block, : low + _BLOCK] = x[..., block].mT @ x[..., : low + _BLOCK]
        found[..., :low, block] = found[..., block, :low].mT
    return found
