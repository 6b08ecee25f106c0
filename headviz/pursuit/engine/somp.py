"""Simultaneous orthogonal matching pursuit (SOMP) in head space. Plain tensors; knows no models.

A head writes H = z·W_O (sample × d_model). SOMP explains all rows of H by few shared atoms d_j:
pick the atom with the largest sum over samples of |⟨residual, d_j⟩|, refit by least squares, take
the residual, repeat (Head Pursuit, NeurIPS 2025, section 3; Tropp et al. 2006).

H is never built. With P = D·W_Oᵀ (atom × d_head) the correlations of H with all atoms are z·Pᵀ,
and for the residual of an orthonormal basis q_1..q_t of the picked atoms they are
z·Pᵀ − Σ c_t ⊗ b_t, with c_t = H·q_t and b_t = D·q_t. Exact: the same picks and explained variance
as refitting by least squares, up to rounding. Two engines do the search: one keeps all correlations
(concepts), the other bounds them (whole vocabularies).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headviz.base.errors import OptionError
from headviz.base.shapes import Float, Tensor
from headviz.pursuit.engine.batch_omp import pursue_batch_omp
from headviz.pursuit.engine.lazy_greedy import Watch, pursue_lazily
from headviz.pursuit.engine.precision import PRECISIONS, converted, products_in
from headviz.pursuit.engine.precomputed import PrecomputedHeads
from headviz.pursuit.engine.result import STOPS, Pursuit

__all__ = ["RULES", "STOPS", "How", "Pursuit", "pursue_precomputed"]

RULES = {
    "l1": "sum over samples of absolute correlations (the paper's)",
    "energy": "sum of squares, which needs zᵀz but no samples",
}
ENGINES = ("auto", "batch_omp", "lazy_greedy")
BUDGET = 2 * 2**30
"""Bytes of working memory beside the heads and the dictionary, unless the caller says otherwise."""
_MANY_ATOMS = 1024  # from here on bounding scores is cheaper than keeping correlations


def _check(name: str, known: Sequence[str] | dict[str, str], what: str) -> None:
    if name not in known:
        raise OptionError(f"Unknown {what} {name!r}. Known: {', '.join(known)}.")


@dataclass(frozen=True)
class How:
    """How atoms are searched for."""

    rule: str = "l1"
    """One of RULES."""
    budget: int = BUDGET
    """Bytes of working memory."""
    engine: str = "auto"
    """One of ENGINES; all find the same."""
    precision: str = "float32"
    """One of precision.PRECISIONS."""

    def __post_init__(self) -> None:
        """Raise OptionError for an unknown rule, engine or precision."""
        _check(self.rule, RULES, "rule")
        _check(self.engine, ENGINES, "engine")
        _check(self.precision, PRECISIONS, "precision")


USUAL = How()


def pursue_precomputed(
    heads: PrecomputedHeads,
    atoms: Float[Tensor, "atom d_model"],
    steps: int,
    how: How = USUAL,
    watch: Watch = lambda share: None,
    in_head: Float[Tensor, "head atom d_head"] | None = None,
) -> Pursuit:
    """SOMP on every head: `steps` atoms at most, fewer where the head or the atoms are used up.

    Args:
        heads: the heads, ready for any dictionary.
        atoms: directions to pick from.
        steps: how many atoms to pick.
        how: rule, memory, engine and precision.
        watch: called with the share done; may raise to stop.
        in_head: `heads.project(atoms)`, where the caller has it.
    """
    heads, atoms = converted(heads, atoms, how.precision)
    stored = how.engine == "batch_omp" or (how.engine == "auto" and len(atoms) < _MANY_ATOMS)
    tiled = atoms.device.type == "cpu"
    with products_in(how.precision):
        if stored:
            return pursue_batch_omp(heads, atoms, steps, how.rule, how.budget, tiled, in_head)
        return pursue_lazily(heads, atoms, steps, how.rule, how.budget, tiled, watch)
