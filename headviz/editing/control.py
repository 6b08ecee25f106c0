"""The random control of an edit: as many other heads, drawn by chance, scaled alike.

Without it an effect says nothing: heads drawn by chance can break a model too. They come from the
layers of the edited ones (the paper's control); where such a layer has too few others left, from
the nearest layers, which `moved` tells.
"""

import random
from collections import Counter
from collections.abc import Collection, Sequence

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.heads.edits import Edit
from headviz.models.loaded import LoadedModel


def control_of(model: LoadedModel, edit: Edit, seed: int = 0) -> Edit:
    """The matched random control of an edit: the same factors on other heads.

    Raises OptionError where more than half of all heads are edited.
    """
    model.check_heads(edit.factors)
    changed = {head: factor for head, factor in edit.factors.items() if factor != 1}
    heads = matched_control(changed, model.head_layers, model.n_heads, seed)
    by_layer = sorted(changed, key=lambda head: head.layer)
    return Edit({c: changed[h] for c, h in zip(heads, by_layer, strict=True)}, edit.where)


def matched_control(
    chosen: Collection[Head], layers: Sequence[int], n_heads: int, seed: int = 0
) -> tuple[Head, ...]:
    """As many heads, the same number in each layer, none of them chosen.

    What a layer has too few heads for is drawn from the nearest layers. The heads stand in the
    order of the layers that they stand for.

    Args:
        chosen: the edited heads.
        layers: numbers of the layers that have heads.
        n_heads: of each of these layers.
        seed: which heads.

    Raises:
        OptionError: where more than half of all heads are chosen.
    """
    if 2 * len(chosen) > len(layers) * n_heads:
        raise OptionError(
            f"{len(chosen)} of {len(layers) * n_heads} heads are edited: too few are left for a "
            "random control. Edit at most half of them."
        )
    generator = random.Random(seed)
    free = {n: [Head(n, i) for i in range(n_heads) if Head(n, i) not in chosen] for n in layers}
    wanted = Counter(head.layer for head in chosen)
    drawn: dict[int, list[Head]] = {}
    # Every layer serves itself first: only then are its other heads there for its neighbours.
    for layer in sorted(wanted):
        own = generator.sample(free[layer], min(wanted[layer], len(free[layer])))
        drawn[layer] = sorted(own)
        free[layer] = [head for head in free[layer] if head not in own]
    for layer in sorted(wanted):
        for near in sorted(layers, key=lambda n: (abs(n - layer), n)):
            missing = wanted[layer] - len(drawn[layer])
            more = generator.sample(free[near], min(missing, len(free[near])))
            drawn[layer] += sorted(more)
            free[near] = [head for head in free[near] if head not in more]
    return tuple(head for layer in sorted(wanted) for head in drawn[layer])


def moved(edit: Edit, control: Edit) -> int:
    """How many heads of the control lie in other layers than those they stand for."""
    changed = Counter(head.layer for head, factor in edit.factors.items() if factor != 1)
    return (changed - Counter(head.layer for head in control.factors)).total()
