"""An edit written into a copy of a model's weights in memory: what the hook is compared with."""

import copy

from torch import nn

from headviz.heads.edits import factor_table


def bake(model, edit):
    """A copy of the transformers model whose weights have the edit in them: no hook needed."""
    table = factor_table(model, [edit])[0].repeat_interleave(model.d_head, dim=1)
    baked = copy.deepcopy(model.model)
    # The copy has the same modules in the same order; W_O's input columns are scaled.
    copies = dict(zip(map(id, model.model.modules()), baked.modules(), strict=True))
    for layer, projection in model.projections.items():
        columns = table[layer] if isinstance(projection, nn.Linear) else table[layer][:, None]
        copies[id(projection)].weight.data.mul_(columns)
    return baked
