"""Simultaneous orthogonal matching pursuit (SOMP) in head space. Plain tensors; knows no models.

A head writes H = z·W_O (sample × d_model). SOMP explains all rows of H by few shared atoms d_j:
pick the atom with the largest sum over samples of |⟨residual, d_j⟩|, refit by least squares, take
the residual, repeat (Head Pursuit, NeurIPS 2025, section 3; Tropp et al. 2006).

H is never built. With P = D·W_Oᵀ (atom × d_head) the correlations of H with all atoms are
C = z·Pᵀ, and for the residual of an orthonormal basis q_1..q_t of the picked atoms they are
C − Σ c_t ⊗ b_t, with c_t = H·q_t and b_t = D·q_t. Each step therefore costs one rank-one update of
C, and nothing is as wide as d_model but the product with one picked atom. Exact: the same picks
and explained variance as refitting by least squares, up to rounding.
"""

from dataclasses import dataclass

import torch

from headviz.shapes import Float, Int, Tensor

_SPENT = 1e-6  # a residual below this share of the variance is float32 rounding
_CONSTANT = 1e-6  # so is a deviation from the mean below this share of the largest signal
_DEPENDENT = 1e-5  # an atom with a smaller share of its length outside the picked ones adds nothing


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


def pursue(
    z: Float[Tensor, "head sample d_head"],
    w_o: Float[Tensor, "head d_head d_model"],
    atoms: Float[Tensor, "atom d_model"],
    steps: int,
    centre: bool = True,
) -> Pursuit:
    """SOMP on every head: `steps` atoms at most, fewer where the head or the atoms are used up.

    Args:
        z: signals of the heads, pooled per sample.
        w_o: each head's rows of the output projection.
        atoms: directions to pick from.
        steps: how many atoms to pick.
        centre: explain the variance about the mean over samples rather than the raw energy.
    """
    if centre:
        z = _centred(z)
    state = _State.start(z, w_o, atoms, min(steps, len(atoms)))
    for step in range(state.picks.shape[1]):
        state.advance(step)
        if not bool(state.alive.any()):
            break
    variance = state.variance.clamp_min(torch.finfo(z.dtype).tiny)
    explained = (state.gains.cumsum(1) / variance[:, None]).clamp(0, 1)
    return Pursuit(state.picks, explained.to(z.dtype), state.weights(), state.variance)


def _centred(z: Float[Tensor, "head sample d_head"]) -> Float[Tensor, "head sample d_head"]:
    """Deviations from the mean over samples; exactly 0 for a head that says the same to all."""
    about_mean = z - z.mean(1, keepdim=True)
    deviation = about_mean.abs().amax((1, 2), keepdim=True)
    # Otherwise the rounding of a constant head would be explained as if it were a signal.
    varies = deviation > _CONSTANT * z.abs().amax((1, 2), keepdim=True)
    return torch.where(varies, about_mean, torch.zeros_like(z))


@dataclass(eq=False)
class _State:
    """The running sums of one pursuit over all its heads."""

    atoms: Float[Tensor, "atom d_model"]
    correlations: Float[Tensor, "head sample atom"]
    """Of the residual with every atom."""
    variance: Float[Tensor, " head"]
    alive: Tensor
    picks: Int[Tensor, "head step"]
    gains: Float[Tensor, "head step"]
    """Variance explained by each step."""
    basis_atoms: Float[Tensor, "head step atom"]
    """b_t: products of the orthonormal basis with every atom."""
    basis_signals: Float[Tensor, "head step sample"]
    """c_t: products of the orthonormal basis with every sample."""
    triangle: Float[Tensor, "head step step"]
    """Picked atoms in the orthonormal basis (the R of their QR)."""

    @classmethod
    def start(cls, z: Tensor, w_o: Tensor, atoms: Tensor, steps: int) -> "_State":
        in_head = torch.einsum("hkd,ad->hka", w_o, atoms)
        gram = torch.einsum("hkd,hld->hkl", w_o, w_o)
        variance = torch.einsum("hsk,hkl,hsl->h", z, gram, z)
        heads, samples, _ = z.shape
        new = z.new_zeros
        return cls(
            atoms=atoms,
            correlations=torch.einsum("hsk,hka->hsa", z, in_head),
            variance=variance,
            alive=variance > torch.finfo(z.dtype).tiny,
            picks=torch.full((heads, steps), -1, device=z.device),
            gains=new((heads, steps)),
            basis_atoms=new((heads, steps, len(atoms))),
            basis_signals=new((heads, steps, samples)),
            triangle=torch.eye(steps, dtype=z.dtype, device=z.device).repeat(heads, 1, 1),
        )

    def advance(self, step: int) -> None:
        """Pick one more atom for every head that is still alive."""
        scores = self.correlations.abs().sum(1)
        chosen = self.picks[:, :step]
        if step:
            scores.scatter_(1, chosen.clamp_min(0), -1.0)
        best = scores.argmax(1)
        heads = torch.arange(len(best), device=best.device)
        # Gram-Schmidt through inner products: ⟨q_s, d_best⟩ stand in basis_atoms already.
        along = self.basis_atoms[heads, :step, best]
        with_all = self.atoms[best] @ self.atoms.T
        squared = (self.atoms[best] ** 2).sum(1)
        outside = squared - (along**2).sum(1)
        spent = self.variance - self.gains[:, :step].sum(1) <= _SPENT * self.variance
        self.alive &= (outside > _DEPENDENT * squared) & ~spent & (scores.amax(1) > 0)
        length = outside.clamp_min(torch.finfo(outside.dtype).tiny).sqrt()
        scale = torch.where(self.alive, 1 / length, torch.zeros_like(length))
        inside = torch.einsum("ht,hta->ha", along, self.basis_atoms[:, :step])
        b = (with_all - inside) * scale[:, None]
        # The residual is orthogonal to the basis, so its product with the atom is c_t's own.
        c = self.correlations[heads, :, best] * scale[:, None]
        self.correlations.baddbmm_(c[:, :, None], b[:, None, :], alpha=-1)
        self.gains[:, step] = (c**2).sum(1)
        self.basis_atoms[:, step], self.basis_signals[:, step] = b, c
        self.triangle[:, :step, step] = along * self.alive[:, None]
        self.triangle[:, step, step] = torch.where(self.alive, length, torch.ones_like(length))
        self.picks[:, step] = torch.where(self.alive, best, torch.full_like(best, -1))

    def weights(self) -> Tensor:
        """Root mean square of each atom's least-squares weight: solve R·w = c once at the end."""
        solved = torch.linalg.solve_triangular(self.triangle, self.basis_signals, upper=True)
        rms = solved.pow(2).mean(2).sqrt()
        return torch.where(self.picks >= 0, rms, torch.zeros_like(rms))
