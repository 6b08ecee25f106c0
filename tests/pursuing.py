"""A pursuit on plain tensors, as most tests of the engines want it."""

from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.somp import pursue_precomputed


def pursue(z, w_o, atoms, steps, centre=True, **chosen):
    """The pursuit over `atoms` of heads with signals z and output projections w_o."""
    return pursue_precomputed(precompute_heads(z, [w_o], centre), atoms, steps, **chosen)
