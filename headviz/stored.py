"""The pursuit for small dictionaries (concepts): every correlation is kept and updated.

For each head a table has a row for each atom that is left: its correlations with every signal and
its products with every atom, both outside what is picked. One rank-one update a step serves both
halves. Rows of picked atoms are dropped, and heads are taken in groups whose tables stay in the
processor's cache; streamed from memory, the same work takes several times as long.
"""

import torch

from headviz.picks import Pursuit, Trail, join
from headviz.prepared import PreparedHeads
from headviz.shapes import Float, Tensor

_CACHE_BYTES = 3 * 2**20  # of a group's tables on a CPU: two cores with 2 MiB of their own each
_CHECK_EVERY = 8  # steps between looks whether all heads are done: a look stops a GPU
_JITTER = 1e-7  # of the mean variance of a signal: makes its matrix of moments invertible


def pursue_stored(
    heads: PreparedHeads,
    atoms: Float[Tensor, "atom d_model"],
    steps: int,
    rule: str,
    budget: int,
    in_head: Float[Tensor, "head atom d_head"] | None = None,
) -> Pursuit:
    """SOMP on every head over one small dictionary.

    Args:
        heads: the heads.
        atoms: directions to pick from.
        steps: how many atoms to pick at most.
        rule: "l1" or "energy": the norm over samples by which the best atom is chosen.
        budget: bytes that the tables of one group of heads may take.
        in_head: the atoms in head space, where they are known already.
    """
    in_head = heads.project(atoms) if in_head is None else in_head
    exact = atoms.double() @ atoms.double().T
    products = exact.to(atoms.dtype)
    size = _group_size(heads, len(atoms), budget)
    parts = []
    for start in range(0, len(heads), size):
        stop = min(start + size, len(heads))
        group = heads.group(start, stop)
        trail = _search(group, in_head[start:stop], products, min(steps, len(atoms)), rule)
        picks = trail.picks.clamp_min(0)
        every = torch.arange(len(group), device=atoms.device)[:, None]
        in_picks = in_head[start:stop][every, picks]
        of_picks = exact[picks[:, :, None], picks[:, None, :]]
        parts.append(trail.finish(group, of_picks, in_picks, steps))
    return join(parts)


def _group_size(heads: PreparedHeads, atoms: int, budget: int) -> int:
    """How many heads' tables fit the cache (CPU) or the budget (GPU)."""
    each = atoms * (2 * heads.n_samples + atoms) * heads.variance.element_size()
    limit = min(budget, _CACHE_BYTES) if heads.variance.device.type == "cpu" else budget
    return max(1, min(len(heads), limit // each))


def _signals(heads: PreparedHeads, rule: str) -> Float[Tensor, "head signal d_head"]:
    """The samples; for the energy rule d_head rows with the same moments do as well."""
    d_head = heads.moments.shape[1]
    if heads.z is not None and (rule == "l1" or heads.n_samples <= d_head):
        return heads.z
    diagonal = heads.moments.diagonal(dim1=1, dim2=2)
    jitter = diagonal.mean(1).mul(_JITTER).clamp_min(torch.finfo(diagonal.dtype).tiny)
    shifted = heads.moments + torch.diag_embed(jitter[:, None].expand_as(diagonal))
    return torch.linalg.cholesky_ex(shifted).L.mT


def _search(
    heads: PreparedHeads,
    in_head: Float[Tensor, "head atom d_head"],
    products: Float[Tensor, "atom atom"],
    steps: int,
    rule: str,
) -> Trail:
    """Pick until the steps or the heads are used up."""
    signals = _signals(heads, rule)
    n_heads, width, n_atoms = len(heads), signals.shape[1], len(products)
    table = torch.cat([in_head @ signals.mT, products.expand(n_heads, -1, -1)], 2)
    rows = table.view(n_heads * n_atoms, -1)
    atom_of = torch.arange(n_atoms, device=table.device).repeat(n_heads)  # by row
    first = torch.arange(n_heads, device=table.device) * n_atoms  # row of each head
    buffer = table.new_empty((n_heads, n_atoms, width))
    size_of = torch.abs if rule == "l1" else torch.square
    squared = products.diagonal().contiguous()
    trail = Trail(heads.variance, steps)
    for step in range(steps):
        if step % _CHECK_EVERY == 0 and not bool(trail.alive.any()):
            break
        last = n_atoms - step - 1
        scores = size_of(table[:, : last + 1, :width], out=buffer[:, : last + 1]).sum(2)
        score, row = scores.max(1)
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
            table[:, :last].addcmul_(along[:, :, None], atom[:, None], value=-1)
    return trail
