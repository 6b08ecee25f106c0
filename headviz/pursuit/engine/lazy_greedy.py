"""The pursuit for whole vocabularies: exact scores only for the atoms that might win.

Outside the picked atoms, atom j acts on a head as r_j = p_j − Σ b_s(j)·u_s (d_head wide): its
correlations are z·r_j, its L1 score is ‖z·r_j‖₁ and its energy ‖z·r_j‖₂² = r_jᵀ·zᵀz·r_j, which a
step changes by a known amount. Two upper bounds on the score follow for every atom:

- a step changes the score by at most |b(j)|·‖c‖₁ (triangle inequality), and
- the score is at most √samples·√energy (Cauchy and Schwarz).

Atoms are scored exactly from the largest bound downwards until none of the rest can win. The
pick is the same as if all had been scored; some 1 to 5 % are. No table is as wide as the samples
but a tile of candidates.
"""

from collections.abc import Callable
from threading import Lock

import torch

from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.pursuit.engine.matmul import rows_times_rows
from headviz.pursuit.engine.parallel import in_parts, leave_if_stopped, n_cores, share_size
from headviz.pursuit.engine.precomputed import PrecomputedHeads
from headviz.pursuit.engine.result import Pursuit, Trail, join

_FIRST = 64  # candidates scored first; the best of them decides which others are
_ROUNDING = 1e-5  # of an energy at the start: what float32 sums may be wrong by, with room
_TILE_BYTES = 2**20  # of correlations at once on a CPU, so that they stay in its cache

_ROWS = 2048  # atoms whose energies are worked out at once

Watch = Callable[[float], None]
"""Called with the share done; may raise Cancelled."""


def pursue_lazily(
    heads: PrecomputedHeads,
    atoms: Float[Tensor, "vocab d_model"],
    steps: int,
    rule: str,
    budget: int,
    tiled: bool,
    watch: Watch = lambda share: None,
) -> Pursuit:
    """SOMP on every head over a large dictionary.

    Args:
        heads: the heads.
        atoms: directions to pick from.
        steps: how many atoms to pick at most.
        rule: "l1" or "energy": the norm over samples by which the best atom is chosen.
        budget: bytes of working memory beside heads and atoms; heads are taken in groups of it.
        tiled: score heads one after the other, in tiles that stay in a core's cache; a GPU scores
            all at once, padded to the longest.
        watch: called after every step.
    """
    taken, device = min(steps, len(atoms)), atoms.device
    fit = max(1, budget // bytes_of_a_head(heads, len(atoms), taken))
    at_once = min(fit, n_cores(device), len(heads))
    told = _Watched(watch, len(heads))

    def search(start: int, stop: int) -> Pursuit:
        group = heads.group(start, stop)
        found = _Search(group, atoms, taken, rule, budget // at_once, tiled)
        return found.run(steps, lambda share: told.by(start, share * len(group)))

    size = share_size(len(heads), max(1, fit // at_once), device)
    return join(in_parts(search, len(heads), size, device, at_once))


class _Watched:
    """Sums up what the parts have done, for one who watches the whole."""

    def __init__(self, watch: Watch, total: int) -> None:
        self.watch, self.total = watch, total
        self.done: dict[int, float] = {}
        self.lock = Lock()

    def by(self, start: int, done: float) -> None:
        """Note the heads done of the part that begins at `start`."""
        leave_if_stopped()
        with self.lock:
            self.done[start] = done
            self.watch(sum(self.done.values()) / self.total)


def bytes_of_a_head(heads: PrecomputedHeads, atoms: int, steps: int) -> int:
    """Working memory of one head: atoms in head space, products with the basis, and bounds."""
    return atoms * (heads.moments.shape[2] + steps + 8) * heads.moments.element_size()


class _Search:
    """One pursuit over a group of heads."""

    def __init__(
        self,
        heads: PrecomputedHeads,
        atoms: Float[Tensor, "atom d_model"],
        steps: int,
        rule: str,
        budget: int,
        tiled: bool,
    ) -> None:
        self.heads, self.atoms, self.steps = heads, atoms, steps
        self.by_energy, self.tiled = rule == "energy", tiled
        self.z = heads.signals(0, len(heads))
        n_heads = len(heads)
        tile = min(budget, _TILE_BYTES) if tiled else max(budget // (8 * n_heads), _TILE_BYTES)
        self.tile = max(16, tile // (heads.n_samples * atoms.element_size()))
        self.every = torch.arange(n_heads, device=atoms.device)
        self.in_head = heads.project(atoms)
        self.trail = Trail(heads.variance, steps)
        self.energy = torch.stack(
            [_energy(p, m) for p, m in zip(self.in_head, heads.moments, strict=True)]
        )
        self.rounding = self.energy * _ROUNDING
        self.upper = self._from_energy()
        """At least the score; the score itself where `exact`."""
        self.exact = torch.zeros_like(self.upper, dtype=torch.bool)
        new = atoms.new_zeros
        self.basis = new((n_heads, steps, atoms.shape[1]))
        """q_t: the orthonormal basis of the picked atoms."""
        self.u = new((n_heads, steps, heads.moments.shape[2]))
        """q_t in head space: z·u_t are the samples' products with it."""
        self.b = new((n_heads, steps, len(atoms)))
        """Products of the basis with every atom."""

    def run(self, steps: int, watch: Watch) -> Pursuit:
        """Pick until the steps or the heads are used up."""
        for step in range(self.steps):
            if not self.by_energy:
                self._score_candidates(step)
            self._pick(step)
            watch((step + 1) / self.steps)
            if not bool(self.trail.alive.any()):
                break
        picked = self.trail.picks.clamp_min(0)
        in_head = self.in_head[self.every[:, None], picked]
        chosen = (self.atoms[own].double() for own in picked)
        products = torch.stack([rows @ rows.T for rows in chosen])
        return self.trail.finish(self.heads, products, in_head, steps)

    def _from_energy(self) -> Float[Tensor, "head atom"]:
        return (self.energy + self.rounding).clamp_min(0).mul(self.heads.n_samples).sqrt()

    def _score_candidates(self, step: int) -> None:
        """Score exactly, by falling bound, until no other atom can be the best."""
        for most in (_FIRST, len(self.atoms)):
            best = torch.where(self.exact, self.upper, 0.0).amax(1, keepdim=True)
            wanted = (~self.exact & (self.upper > best)).mul_(self.trail.alive[:, None])
            width = min(most, int(wanted.sum(1).max()))
            if not width:
                return
            bound, atom = torch.where(wanted, self.upper, -1.0).topk(width, 1, sorted=False)
            self._score(atom, bound > 0, step)

    def _score(
        self, atom: Int[Tensor, "head few"], wanted: Bool[Tensor, "head few"], step: int
    ) -> None:
        """Replace the bounds of a few atoms of each head by their exact L1 scores."""
        if self.tiled:
            for head, mine in enumerate(atom):
                for few in mine[wanted[head]].split(self.tile):
                    correlations = rows_times_rows(self._residual_of(head, few, step), self.z[head])
                    self.upper[head, few] = correlations.abs_().sum(1)
                    self.exact[head, few] = True
            return
        for few in atom.split(self.tile, 1):
            correlations = self._residual(self.every, few, step) @ self.z.mT
            self.upper.scatter_(1, few, correlations.abs_().sum(2))
            self.exact.scatter_(1, few, True)

    def _residual_of(
        self, head: int, atom: Int[Tensor, " few"], step: int
    ) -> Float[Tensor, "few d_head"]:
        """`_residual` of one head."""
        inside = self.in_head[head].index_select(0, atom)
        b = self.b[head, :step].index_select(1, atom)
        return inside.addmm_(b.T, self.u[head, :step], alpha=-1)

    def _residual(
        self, head: Int[Tensor, " some"], atom: Int[Tensor, "some few"], step: int
    ) -> Float[Tensor, "some few d_head"]:
        """r_j: the atoms in head space, outside what is picked."""
        inside = self.in_head[head[:, None], atom]
        if not step:
            return inside
        b = self.b[head[:, None], :step, atom]
        return torch.baddbmm(inside, b, self.u[head, :step], alpha=-1)

    def _pick(self, step: int) -> None:
        """Take each head's best atom and bring energies and bounds up to date."""
        scores = self.energy if self.by_energy else self.upper
        scores = torch.where(self.exact | self.by_energy, scores, -1.0)
        score, best = scores.scatter(1, self.trail.picks[:, :step].clamp_min(0), -1.0).max(1)
        direction = self.atoms[best]
        squared = direction.square().sum(1)
        for _ in range(2 if step else 0):  # once more: what rounding left of the first time
            along = torch.einsum("htd,hd->ht", self.basis[:, :step], direction)
            direction = direction - torch.einsum("ht,htd->hd", along, self.basis[:, :step])
        outside = direction.square().sum(1)
        scale = self.trail.accept(best, score, outside, squared)
        u = self._residual(self.every, best[:, None], step)[:, 0] * scale[:, None]
        moment = torch.einsum("hkl,hl->hk", self.heads.moments, u)
        gain = (moment * u).sum(1)
        self.trail.gain(gain)
        self.basis[:, step] = direction * scale[:, None]
        b = _products(self.basis[:, step].contiguous(), self.atoms)
        change = torch.einsum("hak,hk->ha", self.in_head, moment)
        if step:
            shared = torch.einsum("htk,hk->ht", self.u[:, :step], moment)
            change -= torch.einsum("ht,hta->ha", shared, self.b[:, :step])
        self.u[:, step], self.b[:, step] = u, b
        # ‖z·(r − b·u)‖² = ‖z·r‖² − 2b·(zᵀz·u)·r + b²·uᵀ·zᵀz·u
        self.energy += b * (b * gain[:, None] - 2 * change)
        if not self.by_energy:
            self._loosen(b, torch.einsum("hsk,hk->hs", self.z, u).abs().sum(1), step)

    def _loosen(
        self, b: Float[Tensor, "head atom"], length: Float[Tensor, " head"], step: int
    ) -> None:
        """Make the bounds hold after the step with products b and ‖c‖₁ = length."""
        grown = b.abs().mul_(length[:, None] * (1 + _ROUNDING)).add_(self.upper)
        torch.minimum(grown, self._from_energy(), out=self.upper)
        self.upper.scatter_(1, self.trail.picks[:, : step + 1].clamp_min(0), -1.0)
        self.exact.zero_()


def _products(
    rows: Float[Tensor, "head d_model"], atoms: Float[Tensor, "atom d_model"]
) -> Float[Tensor, "head atom"]:
    """Products of a few rows with every atom."""
    return (atoms @ rows[0])[None] if len(rows) == 1 else rows_times_rows(atoms, rows).T


def _energy(
    rows: Float[Tensor, "atom d_head"], moments: Float[Tensor, "d_head d_head"]
) -> Float[Tensor, " atom"]:
    return torch.cat(
        [(rows_times_rows(part, moments) * part).sum(1) for part in rows.split(_ROWS)]
    )  # the moments are symmetric
