"""What all atoms of a small dictionary explain together, without a pursuit.

A pursuit that may pick every atom ends at the projection on their span, whatever the order: its
share follows from one decomposition of the atoms' products, shared by all heads.
"""

import torch

from headviz.base.shapes import Float, Tensor

_DEPENDENT = 1e-6  # of the largest: directions below it are rounding of dependent atoms


def span_basis(
    atoms: Float[Tensor, "atom d_model"], in_head: Float[Tensor, "head atom d_head"]
) -> Float[Tensor, "head step d_head"]:
    """An orthonormal basis of the atoms' span, in each head's space.

    Args:
        atoms: the dictionary.
        in_head: its atoms in head space (`heads.project(atoms)`).
    """
    exact = atoms.double()
    values, vectors = torch.linalg.eigh(exact @ exact.T)
    kept = values > _DEPENDENT * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    to_basis = (vectors[:, kept] / values[kept].sqrt()).T.to(in_head.dtype)
    return to_basis @ in_head
