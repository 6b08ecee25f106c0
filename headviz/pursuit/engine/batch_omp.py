"""The pursuit for small dictionaries (concepts): every correlation is kept and updated.

For each head a table has a row for each atom that is left: its correlations with every signal and
its products with every atom, both outside what is picked. One rank-one update a step serves both
halves. Rows of picked atoms are dropped. Heads advance together in large groups, for the many small
operations of a step; the update and the sums run over tiles of heads that stay in the processor's
own cache, so that a step reads its tables once.
"""

import torch

from headviz.base.shapes import Float, Tensor
from headviz.pursuit.engine.parallel import in_parts, n_cores, share_size
from headviz.pursuit.engine.precomputed import PrecomputedHeads
from headviz.pursuit.engine.result import Pursuit, Trail, join

_GROUP_BYTES = 8 * 2**20  # of a group's tables on a CPU: they stay in the cache of all cores
_TILE_BYTES = 2 * 2**20  # of the tables and sums that a core works on at once
_CHECK_EVERY = 8  # steps between looks whether all heads are done: a look stops a GPU
_JITTER = 1e-7  # of the mean variance of a signal: makes its matrix of moments invertible


def pursue_batch_omp(
    heads: PrecomputedHeads,
    atoms: Float[Tensor, "atom d_model"],
    steps: int,
    rule: str,
    budget: int,
    tiled: bool,
    in_head: Float[Tensor, "head atom d_head"] | None = None,
) -> Pursuit:
    """SOMP on every head over one small dictionary.

    Args:
        heads: the heads.
        atoms: directions to pick from.
        steps: how many atoms to pick at most.
        rule: "l1" or "energy": the norm over samples by which the best atom is chosen.
        budget: bytes that the tables of one group of heads may take.
        tiled: work on a few heads at a time, which stay in a core's cache; a GPU takes all at once.
        in_head: the atoms in head space, where they are known already.
    """
    exact = atoms.double() @ atoms.double().T
    products = exact.to(atoms.dtype)

    def search(start: int, stop: int) -> Pursuit:
        group = heads.group(start, stop)
        inside = group.project(atoms) if in_head is None else in_head[start:stop]
        trail = _search(group, inside, products, min(steps, len(atoms)), rule, tiled)
        picks = trail.picks.clamp_min(0)
        every = torch.arange(len(group), device=atoms.device)[:, None]
        of_picks = exact[picks[:, :, None], picks[:, None, :]]
        return trail.finish(group, of_picks, inside[every, picks], steps)

    most = _group_size(heads, len(atoms), budget)
    size = share_size(len(heads), most, atoms.device)
    return join(in_parts(search, len(heads), size, atoms.device))


def _group_size(heads: PrecomputedHeads, atoms: int, budget: int) -> int:
    """How many heads' tables fit the budget; on a CPU no more than pays."""
    each = atoms * (heads.n_samples + atoms) * heads.variance.element_size()
    if heads.variance.device.type == "cpu":
        budget = min(budget // n_cores(heads.variance.device), _GROUP_BYTES)
    return max(1, min(len(heads), budget // each))


def _signals(
    heads: PrecomputedHeads, start: int, stop: int, by_moments: bool
) -> Float[Tensor, "head signal d_head"]:
    """The samples; or d_head rows with the same moments, which do as well for the energy rule."""
    if not by_moments:
        return heads.signals(start, stop)
    moments = heads.moments[start:stop]
    diagonal = moments.diagonal(dim1=1, dim2=2)
    jitter = diagonal.mean(1).mul(_JITTER).clamp_min(torch.finfo(diagonal.dtype).tiny)
    shifted = moments + torch.diag_embed(jitter[:, None].expand_as(diagonal))
    return torch.linalg.cholesky_ex(shifted).L.mT


def _table(
    heads: PrecomputedHeads,
    in_head: Float[Tensor, "head atom d_head"],
    products: Float[Tensor, "atom atom"],
    rule: str,
    tiled: bool,
) -> Float[Tensor, "head atom _"]:
    """Each atom's correlations with every signal, then its products with every atom."""
    n_atoms, d_head = in_head.shape[1:]
    by_moments = rule == "energy" and heads.n_samples > d_head
    width = d_head if by_moments else heads.n_samples
    table = in_head.new_empty((len(heads), n_atoms, width + n_atoms))
    table[:, :, width:] = products
    # The signals are worked out a few heads at a time.
    few = max(1, _TILE_BYTES // (2 * width * d_head * table.element_size()))
    few = few if tiled else len(heads)
    for start in range(0, len(heads), few):
        stop = min(start + few, len(heads))
        signals = _signals(heads, start, stop, by_moments)
        table[start:stop, :, :width].baddbmm_(in_head[start:stop], signals.mT, beta=0)
    return table


def _search(
    heads: PrecomputedHeads,
    in_head: Float[Tensor, "head atom d_head"],
    products: Float[Tensor, "atom atom"],
    steps: int,
    rule: str,
    tiled: bool,
) -> Trail:
    """Pick until the steps or the heads are used up."""
    table = _table(heads, in_head, products, rule, tiled)
    n_heads, n_atoms, width = table.shape
    width -= n_atoms
    rows = table.view(n_heads * n_atoms, -1)
    atom_of = torch.arange(n_atoms, device=table.device).repeat(n_heads)  # by row
    first = torch.arange(n_heads, device=table.device) * n_atoms  # row of each head
    scores = table.new_empty((n_heads, n_atoms))
    tile = _TILE_BYTES if tiled else 2 * table.numel() * table.element_size()
    squared = products.diagonal().contiguous()
    trail = Trail(heads.variance, steps)
    for step in range(steps):
        if step % _CHECK_EVERY == 0 and not bool(trail.alive.any()):
            break
        last = n_atoms - step - 1
        if not step:
            _score(table, scores, width, rule, tile)
        score, row = scores[:, : last + 1].max(1)
        row = row + first
        best, atom = atom_of.index_select(0, row), rows.index_select(0, row)
        # That was a copy; its row now takes the last one's place, which drops the atom.
        atom_of.index_copy_(0, row, atom_of.index_select(0, first + last))
        rows.index_copy_(0, row, rows.index_select(0, first + last))
        outside = atom.gather(1, (best + width)[:, None])[:, 0]
        atom *= trail.accept(best, score, outside, squared[best])[:, None]
        trail.gain(atom[:, :width].square().sum(1))
        if last:
            left = atom_of.view(n_heads, n_atoms)[:, :last] + width
            along = atom.gather(1, left)
            _score(table[:, :last], scores[:, :last], width, rule, tile, along, atom)
    return trail


def _score(
    table: Float[Tensor, "head atom _"],
    scores: Float[Tensor, "head atom"],
    width: int,
    rule: str,
    tile_bytes: int,
    along: Float[Tensor, "head atom"] | None = None,
    picked: Float[Tensor, "head _"] | None = None,
) -> None:
    """Take the picked atoms out of the rows, where there are any, and score what is left.

    Args:
        table: rows of correlations with `width` signals, and of products with all atoms.
        scores: receives each row's score.
        width: number of signals.
        rule: "l1" or "energy".
        tile_bytes: of the heads in work at a time.
        along: products of each row with the picked atom, of unit length outside earlier ones.
        picked: the picked atom's own row, scaled likewise.
    """
    heads, atoms, _ = table.shape
    size_of = torch.abs if rule == "l1" else torch.square
    each = atoms * (table.shape[2] + width) * table.element_size()
    tile = min(heads, max(1, tile_bytes // each))
    buffer = table.new_empty((tile, atoms, width))
    for start in range(0, heads, tile):
        now = slice(start, min(start + tile, heads))
        part = table[now]
        if along is not None and picked is not None:
            part.addcmul_(along[now, :, None], picked[now, None], value=-1)
        sizes = size_of(part[:, :, :width], out=buffer[: len(part)])
        torch.sum(sizes, 2, out=scores[now])
