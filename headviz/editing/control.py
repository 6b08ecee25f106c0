"""The random control of an edit: as many other heads, drawn by chance, scaled alike.

Without it an effect says nothing: heads drawn by chance can break a model too.
"""

import random
from collections.abc import Collection

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.heads.edits import Edit
from headviz.models.loaded import LoadedModel


def control_of(model: LoadedModel, edit: Edit, seed: int = 0) -> Edit:
    """The matched random control of an edit: the same factors on other heads of the same layers."""
    model.check_heads(edit.factors)
    changed = {head: factor for head, factor in edit.factors.items() if factor != 1}
    heads = matched_control(changed, model.n_layers, model.n_heads, seed)
    by_layer = sorted(changed, key=lambda head: head.layer)
    return Edit({c: changed[h] for c, h in zip(heads, by_layer, strict=True)}, edit.where)


def matched_control(
    chosen: Collection[Head], n_layers: int, n_heads: int, seed: int = 0
) -> tuple[Head, ...]:
    """As many heads, the same number in each layer, none of them chosen (the paper's control).

    Raises OptionError where a layer has too few heads left.
    """
    generator = random.Random(seed)
    control: list[Head] = []
    for layer in range(n_layers):
        taken = {head.index for head in chosen if head.layer == layer}
        free = [i for i in range(n_heads) if i not in taken]
        if len(taken) > len(free):
            raise OptionError(
                f"Layer {layer} has {n_heads} heads and {len(taken)} of them are edited: too few "
                "are left for a random control. Edit fewer heads of this layer."
            )
        control += [Head(layer, i) for i in sorted(generator.sample(free, len(taken)))]
    return tuple(control)
