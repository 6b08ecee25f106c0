"""Reads the signals of the decoder's heads while training, and scales them.

Training needs the gradients and the model in its raw form, so this does not go through the core's
capture and edits.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor

Hook = Callable[[torch.nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...] | None]


@contextmanager
def heads_open(
    layers: Iterable[Any], factors: Float[Tensor, "row layer head"] | None = None
) -> Iterator[list[Tensor]]:
    """While open, collects each layer's unscaled signals (row token head·d_head), then scales them.

    `layers` keep their output projection at self_attn.o_proj. Row r of the batch runs with
    factors[r].
    """
    seen: list[Tensor] = []

    def hook(layer: int) -> Hook:
        table = None if factors is None else factors[:, layer, None, :, None]
        touched = table is not None and bool((table != 1).any())

        def read(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            seen.append(args[0])
            if table is None or not touched:
                return None
            wide = args[0].unflatten(-1, (table.shape[-2], -1)) * table.to(args[0].dtype)
            return (wide.flatten(-2),)

        return read

    handles = []
    try:
        for number, layer in enumerate(layers):
            handles.append(layer.self_attn.o_proj.register_forward_pre_hook(hook(number)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()
