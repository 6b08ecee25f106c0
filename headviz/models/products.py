"""Float32 products on a CPU by the library, and from the layout, that is quicker on this processor.

torch hands them to BLAS (MKL on x86). On some processors that does less than half of what oneDNN
does, which torch brings along and which it asks only where factors may be rounded to bfloat16.
oneDNN does round on matrix units and does not elsewhere: so it is asked where it is quicker and, as
measured, exact.

A few rows at a time, as texts that are written side by side have them, cost one reading of the
weights. BLAS lays the weights out anew for each product, which takes several times as long: so they
are kept a second time as oneDNN reads them. Knows nothing of what the models are.
"""

import math
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor

_SIZES = ((3, 8192), (160, 1536))
"""Rows and outputs: three columns of an answer before a vocabulary, a text in a layer."""
_COLUMNS = 576
_QUICKER = 1.5  # times, both together: a try may have been disturbed
_TRIES = 5
_FEW = range(2, 65)
"""Rows that kept weights are for: one is read as it lies, many hide the laying out."""
_LARGE = 2**18  # numbers in a weight: below, the call costs more than the product
_KEPT_QUICKER = 1.3
_ROUNDED = 1e-5  # of the product's size; factors in bfloat16 are 3e-3 off
_linear = torch.nn.functional.linear


@cache
def choose_products() -> bool:
    """Whether oneDNN works out float32 products from now on, in the whole process; tried once.

    Whoever has set how torch rounds keeps what was set.
    """
    backends: Any = torch.backends
    matmul = backends.mkldnn.matmul
    before = matmul.fp32_precision
    if before == "bf16" or not backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    tried = [
        (
            torch.randn(rows, _COLUMNS, generator=generator),
            torch.randn(others, _COLUMNS, generator=generator),
        )
        for rows, others in _SIZES
    ]
    usual = [_seconds(*pair) for pair in tried]
    matmul.fp32_precision = "bf16"
    other = [_seconds(*pair) for pair in tried]
    gains = [then / now for then, now in zip(usual, other, strict=True)]
    chosen = min(gains) > 1 and math.prod(gains) > _QUICKER
    if not chosen or not all(_is_exact(_linear(*pair), _exact(*pair)) for pair in tried):
        matmul.fp32_precision = before
        return False
    return True


class KeptLinear(torch.nn.Linear):
    """A Linear that keeps its weight a second time, laid out for products with a few rows."""

    _kept: tuple[tuple[int, int], Tensor] | None = None
    """Which weight was laid out, and how it lies: set as one, for threads compute side by side."""

    def forward(self, x: Float[Tensor, "... column"]) -> Float[Tensor, "... other"]:
        """The same, but for rounding; with gradients as ever."""
        few = x.numel() // self.in_features in _FEW
        # A model may be moved to a GPU that is lent to it (page/zero_gpu.py).
        if few and not torch.is_grad_enabled() and _can_be_kept(self.weight):
            return _product(x, self._laid_out(), self.bias)
        return super().forward(x)

    def _laid_out(self) -> Tensor:
        mark = self.weight.data_ptr(), self.weight._version  # another after a change in place
        kept = self._kept
        if kept is None or kept[0] != mark:
            kept = self._kept = mark, _lay_out(self.weight)
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        """What a copy begins with: it lays its own weight out."""
        return {k: v for k, v in self.__dict__.items() if k != "_kept"}


def keep_linears(model: torch.nn.Module) -> int:
    """Have the large float32 Linears of a model on the CPU keep their weights for a few rows.

    They take as much memory again once the first such product is asked for. Returns how many do: 0
    where that is not quicker, or not exact, on this processor.
    """
    if not keeping_is_quicker():
        return 0
    found = [
        module
        for module in model.modules()
        if type(module) is torch.nn.Linear
        and module.weight.numel() >= _LARGE
        and _can_be_kept(module.weight)
    ]
    for module in found:
        module.__class__ = KeptLinear
    return len(found)


@cache
def keeping_is_quicker() -> bool:
    """Whether a few rows are multiplied quicker with a weight that is laid out; tried once."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    (rows, many), (_, others) = _SIZES  # of a step's products nearly all are of a layer
    x = torch.randn(_FEW[-1], _COLUMNS, generator=generator)
    tables = [torch.randn(size, _COLUMNS, generator=generator) for size in (others, many)]
    try:
        laid = [_lay_out(table) for table in tables]
        now = _seconds(x[:rows], laid[0], _product)
        is_exact = all(
            _is_exact(_product(x[:n], kept), exact[:n])
            for kept, exact in zip(laid, [_exact(x, table) for table in tables], strict=True)
            for n in (_FEW[0], rows, _FEW[-1])
        )
    except (AttributeError, RuntimeError):  # what torch keeps for its compiler may go or change
        return False
    return is_exact and _KEPT_QUICKER * now < _seconds(x[:rows], tables[0])


def _can_be_kept(weight: Tensor) -> bool:
    return weight.is_cpu and weight.dtype == torch.float32


def _lay_out(weight: Float[Tensor, "other column"]) -> Tensor:
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _FEW[0])
    return laid


def _product(
    x: Float[Tensor, "... column"], kept: Tensor, bias: Tensor | None = None
) -> Float[Tensor, "... other"]:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, kept, bias, "none", [], "")
    return found


def _seconds(
    x: Float[Tensor, "row column"], table: Tensor, product: Callable[..., Tensor] = _linear
) -> float:
    """Of the quickest of some tries."""
    found = []
    for _ in range(_TRIES):
        start = perf_counter()
        product(x, table)
        found.append(perf_counter() - start)
    return min(found)


def _exact(
    x: Float[Tensor, "row column"], table: Float[Tensor, "other column"]
) -> Float[Tensor, "row other"]:
    return x.double() @ table.double().T


def _is_exact(found: Float[Tensor, "row other"], exact: Float[Tensor, "row other"]) -> bool:
    return bool((found - exact).norm() < _ROUNDED * exact.norm())
