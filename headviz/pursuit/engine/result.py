"""What a pursuit found in each head, and why it stopped there. Knows nothing of how it searched.

The engines (stored, bounded) differ in how they find the next atom, in float32 where the heads are.
What a set of picks explains is then worked out once, in float64, from the products of the picked
atoms and zᵀz: near-parallel atoms cost the search a tie at most, and the figures nothing.
"""

from dataclasses import dataclass

import torch

from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.pursuit.engine.precomputed import PrecomputedHeads

SPENT = 1e-6  # a residual below this share of the variance is float32 rounding
DEPENDENT = 1e-5  # an atom with a smaller share of its length outside the picked ones adds nothing
_TOGETHER = 16  # heads that a processor core finishes at a time: their figures stay in its cache

STOPS = {
    "steps": "all the steps asked for were taken",
    "atoms": "every atom is picked: there are fewer than the steps asked for",
    "spent": "nothing is left to explain beyond rounding",
    "dependent": "the best atom left is a combination of those picked",
    "silent": "the head says the same to every sample: it has no variance",
}
"""Why the pursuit of a head ended, and what that means."""


@dataclass(frozen=True, eq=False)
class Pursuit:
    """What the pursuit picked for each head, in order."""

    picks: Int[Tensor, "head step"]
    """Atom numbers; -1 once nothing is left to explain."""
    explained: Float[Tensor, "head step"]
    """Share of the head's variance explained by all atoms up to this step, 0 to 1."""
    weights: Float[Tensor, "head step"]
    """Root mean square over samples of the atom's least-squares weight after the last step."""
    variance: Float[Tensor, " head"]
    """The head's total variance: Σ over samples of ‖H‖² (about the mean if centred)."""
    basis: Float[Tensor, "head step d_head"]
    """Orthonormal directions of the picks, in head space: z times them are H's products."""
    stopped: tuple[str, ...]
    """Why each head's pursuit ended: a name of STOPS."""


class Trail:
    """The running record of one pursuit over a group of heads."""

    def __init__(self, variance: Float[Tensor, " head"], steps: int) -> None:
        """An empty record of `steps` steps at most."""
        heads, device = len(variance), variance.device
        self._tiny = torch.finfo(variance.dtype).tiny
        self._floor = variance * SPENT
        self._left = variance
        self.silent = variance <= self._tiny
        self.alive = ~self.silent
        self.n_taken = 0
        self._best = torch.zeros((steps, heads), dtype=torch.long, device=device)
        self._accepted = torch.zeros((steps, heads), dtype=torch.bool, device=device)
        self._rich = torch.ones((steps, heads), dtype=torch.bool, device=device)

    def accept(
        self,
        best: Int[Tensor, " head"],
        score: Float[Tensor, " head"],
        outside: Float[Tensor, " head"],
        squared: Float[Tensor, " head"],
    ) -> Float[Tensor, " head"]:
        """1 / length of each head's best atom outside those picked; 0 where the pursuit ends.

        Args:
            best: the atom.
            score: what made it the best.
            outside: its squared length outside the atoms already picked.
            squared: its squared length.
        """
        rich = (self._left > self._floor) & (score > 0)
        self.alive = self.alive & rich & (outside > squared * DEPENDENT)
        self._best[self.n_taken] = best
        self._rich[self.n_taken] = rich
        self._accepted[self.n_taken] = self.alive
        self.n_taken += 1
        return outside.clamp_min(self._tiny).rsqrt() * self.alive

    def gain(self, explained: Float[Tensor, " head"]) -> None:
        """Note the variance that the accepted atoms explain."""
        self._left = self._left - explained

    @property
    def picks(self) -> Int[Tensor, "head step"]:
        """Atom numbers, -1 where none was accepted."""
        return torch.where(self._accepted, self._best, -1).T

    def finish(
        self,
        heads: PrecomputedHeads,
        products: Float[Tensor, "head step step"],
        in_head: Float[Tensor, "head step d_head"],
        asked: int,
    ) -> Pursuit:
        """The result: explained variance and weights of the picks, by Cholesky in float64.

        Args:
            heads: the group's heads.
            products: the picked atoms' products with one another, in float64.
            in_head: the picked atoms in head space.
            asked: steps that were asked for.
        """
        picks = self.picks
        taken = picks >= 0
        size = _TOGETHER if picks.device.type == "cpu" else len(picks)
        solved = [
            _solve(*few)
            for few in zip(
                heads.moments.split(size),
                products.split(size),
                in_head.split(size),
                taken.split(size),
                strict=True,
            )
        ]
        gains, squares, basis = (torch.cat(parts) for parts in zip(*solved, strict=True))
        scale = heads.variance.clamp_min(self._tiny)[:, None]
        return Pursuit(
            picks=picks,
            explained=(gains.cumsum(1) / scale).clamp(0, 1),
            weights=squares.div(heads.n_samples).sqrt(),
            variance=heads.variance,
            basis=basis,
            stopped=self._reasons(asked),
        )

    def _reasons(self, asked: int) -> tuple[str, ...]:
        done = "steps" if len(self._best) == asked else "atoms"
        poor = (~self._rich).any(0)
        rows = zip(self.alive.tolist(), self.silent.tolist(), poor.tolist(), strict=True)
        return tuple(
            "silent" if silent else done if alive else "spent" if spent else "dependent"
            for alive, silent, spent in rows
        )


def _solve(
    moments: Float[Tensor, "head d_head d_head"],
    products: Float[Tensor, "head step step"],
    in_head: Float[Tensor, "head step d_head"],
    taken: Bool[Tensor, "head step"],
) -> tuple[
    Float[Tensor, "head step"], Float[Tensor, "head step"], Float[Tensor, "head step d_head"]
]:
    """What each pick adds, the weights' sums of squares, and the picks' orthonormal basis."""
    both = taken[:, :, None] & taken[:, None, :]
    whole = products * both + torch.diag_embed((~taken).to(products.dtype))
    triangle = torch.linalg.cholesky_ex(whole).L
    solve = torch.linalg.solve_triangular
    basis = solve(triangle, in_head.double() * taken[:, :, None], upper=False)
    weights = solve(triangle.mT, basis, upper=True)
    gains, squares = (_energies(rows.to(moments.dtype), moments) for rows in (basis, weights))
    return gains, squares, basis.to(moments.dtype)


def _energies(
    rows: Float[Tensor, "head step d_head"], moments: Float[Tensor, "head d_head d_head"]
) -> Float[Tensor, "head step"]:
    """Σ over samples of (z·row)², from zᵀz alone."""
    return ((rows @ moments) * rows).sum(2).clamp_min(0)


def join(parts: list[Pursuit]) -> Pursuit:
    """The pursuits of several groups of heads as one."""
    return Pursuit(
        torch.cat([p.picks for p in parts]),
        torch.cat([p.explained for p in parts]),
        torch.cat([p.weights for p in parts]),
        torch.cat([p.variance for p in parts]),
        torch.cat([p.basis for p in parts]),
        tuple(reason for p in parts for reason in p.stopped),
    )
