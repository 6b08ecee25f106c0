"""A pursuit on plain tensors, as most tests of the engines want it."""

from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.somp import How, pursue_precomputed


def pursue(z, w_o, atoms, steps, centre=True, **chosen):
    """The pursuit over `atoms` of heads with signals z and output projections w_o."""
    given = {name: chosen.pop(name) for name in ("watch", "in_head") if name in chosen}
    heads = precompute_heads(z, [w_o], centre)
    return pursue_precomputed(heads, atoms, steps, How(**chosen), **given)
