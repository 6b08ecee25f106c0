"""The hook point: each layer's attention output projection, whose input holds the heads in a row.

Capture reads there and edits multiply there, both through `projection_inputs`, so that they cannot
disagree on what a head is. Every hook is set inside a context manager that takes it away again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from headviz.base.shapes import Tensor
from headviz.models.loaded import LoadedModel


@contextmanager
def projection_inputs(
    model: LoadedModel, read: Callable[[int, Tensor], Tensor | None]
) -> Iterator[None]:
    """While open, `read(layer, signals)` sees each projection's input and may return another."""
    handles: list[Any] = []
    try:
        for layer, projection in model.projections.items():
            handles.append(projection.register_forward_pre_hook(partial(_hook, read, layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def projection_output(
    model: LoadedModel, layer: int, change: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[None]:
    """While open, `change(signals, output)` stands for what this layer's projection returns."""

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return change(args[0], output)

    handle = model.projections[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def layer_arguments(
    model: LoadedModel, read: Callable[[int, tuple[Any, ...], dict[str, Any]], None]
) -> Iterator[None]:
    """While open, `read(layer, positional, named)` sees what each decoder layer is called with."""
    handles: list[Any] = []
    try:
        for number, layer in enumerate(model.layers):
            hook = partial(_tell_arguments, read, number)
            handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(
    read: Callable[[int, Tensor], Tensor | None], layer: int, _: nn.Module, args: tuple[Any, ...]
) -> tuple[Any, ...] | None:
    changed = read(layer, args[0])
    return None if changed is None else (changed, *args[1:])


def _tell_arguments(
    read: Callable[[int, tuple[Any, ...], dict[str, Any]], None],
    layer: int,
    _: nn.Module,
    args: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    read(layer, args, named)
