"""A layer watched from outside: how it is called, what it reads and gives, with a head silenced.

Whatever is known here of a layer is what passes through it. Of families it knows the hook point.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from headviz.base.shapes import Tensor
from headviz.models.loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class LayerCall:
    """A decoder layer and the arguments that the model calls it with."""

    layer: nn.Module
    projection: nn.Module
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]

    @torch.inference_mode()
    def output(self) -> Tensor:
        """What the layer gives on to the next."""
        return first(self.layer(*self.arguments, **self.keywords))

    def at_projection(self) -> tuple[Tensor, Tensor]:
        """The projection's input and output."""
        seen: list[Tensor] = []
        with hooked(self.projection, lambda args, out: seen.extend((args[0], out))):
            self.output()
        signals, output = seen
        return signals.clone(), output.clone()

    def signals(self) -> Tensor:
        """The projection's input."""
        return self.at_projection()[0]


def first(output: Any) -> Tensor:
    """The tensor that a module gives, which some wrap in a tuple."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def hooked(module: nn.Module, read: Callable[[tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """While open, `read(arguments, output)` sees each call of the module and may replace it."""
    handle = module.register_forward_hook(lambda _, args, output: read(args, output))
    try:
        yield
    finally:
        handle.remove()


def layer_calls(model: LoadedModel, run: Callable[[], Any]) -> dict[int, LayerCall]:
    """How the model calls each of its layers that have heads while `run` runs it."""
    calls: dict[int, LayerCall] = {}
    handles: list[Any] = []

    def hook_of(number: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            # Copies: a layer may add to its input in place.
            named = {name: _copied(value) for name, value in keywords.items()}
            calls[number] = LayerCall(layer, model.projections[number], _copied(args), named)

        return hook

    try:
        for number in model.head_layers:
            layer = model.layers[number]
            handles.append(layer.register_forward_pre_hook(hook_of(number), with_kwargs=True))
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


class _Silencer(TorchFunctionMode):
    """Turns one head's attention to zero where torch works it out."""

    def __init__(self, head: int, n_heads: int) -> None:
        super().__init__()
        self.head = head
        self.n_heads = n_heads
        self.found = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _ATTENTION and self._by_head(result):
            self.found = True
            result = result.clone()
            result[:, self.head] = 0
        return result

    def _by_head(self, result: Any) -> bool:
        return isinstance(result, Tensor) and result.ndim == 4 and result.shape[1] == self.n_heads


_ATTENTION = (
    functional.scaled_dot_product_attention,
    functional.softmax,
    torch.softmax,
    Tensor.softmax,
)
"""Where torch works attention out: its own function, or the softmax of a family that does it by
hand. Both give (row, head, query, …)."""


@contextmanager
def silenced_head(head: int, n_heads: int) -> Iterator[_Silencer]:
    """While open, that head attends to nothing, in every layer that runs; see `found`."""
    with _Silencer(head, n_heads) as silencer:
        yield silencer


class Replay:
    """A layer run again with other signals, whatever comes after the attention held as it was."""

    def __init__(self, call: LayerCall, keep: Collection[nn.Module] = ()) -> None:
        """Modules in `keep` run anew as well, and so does dropout, which does nothing."""
        self.call = call
        self._free = {id(m) for module in keep for m in module.modules()}
        self._held: dict[int, Any] = {}
        """By module: what it gave after the attention was done."""

    def record(self) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output, and the projection's input and output."""
        seen: list[Tensor] = []
        started: set[int] = set()
        after = False

        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            if after:
                started.add(id(module))

        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            nonlocal after
            if module is self.call.projection:
                seen.extend((args[0].clone(), output.clone()))
                after = True
            elif id(module) in started and self._holds(module):
                self._held[id(module)] = _copied(output)

        with self._everywhere(enter, leave):
            output = self.call.output()
        signals, projected = seen
        return output.clone(), signals, projected

    def run(self, signals: Tensor) -> Tensor:
        """The layer's output with these signals at the hook point."""

        def enter(module: nn.Module, args: tuple[Any, ...]) -> Any:
            return (signals, *args[1:]) if module is self.call.projection else None

        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return _copied(self._held[id(module)]) if id(module) in self._held else None

        with self._everywhere(enter, leave):
            return self.call.output()

    def _holds(self, module: nn.Module) -> bool:
        # Not what is made of other modules: some add the stream to what those give.
        whole = next(module.children(), None) is None
        idle = isinstance(module, (nn.Dropout, nn.Identity))
        return whole and not idle and id(module) not in self._free

    @contextmanager
    def _everywhere(self, enter: Any, leave: Any) -> Iterator[None]:
        handles: list[Any] = []
        try:
            for module in self.call.layer.modules():
                if module is not self.call.layer:
                    handles.append(module.register_forward_pre_hook(enter))
                    handles.append(module.register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _copied(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple):
        return tuple(_copied(part) for part in output)
    return output
