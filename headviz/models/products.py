"""Float32 products on a CPU by the library that is quicker on this processor.

torch hands them to BLAS (MKL on x86). On some processors that does less than half of what oneDNN
does, which torch brings along and which it asks only where factors may be rounded to bfloat16.
oneDNN does round on matrix units and does not elsewhere: so it is asked where it is quicker and, as
measured, exact. Knows nothing of models.
"""

import math
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
_EXACT = 1e-5  # of the product's size; factors in bfloat16 are 3e-3 off


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
    if not chosen or not all(_is_exact(*pair) for pair in tried):
        matmul.fp32_precision = before
        return False
    return True


def _seconds(x: Float[Tensor, "row column"], table: Float[Tensor, "other column"]) -> float:
    """Of the quickest of some tries."""
    found = []
    for _ in range(_TRIES):
        start = perf_counter()
        torch.nn.functional.linear(x, table)
        found.append(perf_counter() - start)
    return min(found)


def _is_exact(x: Float[Tensor, "row column"], table: Float[Tensor, "other column"]) -> bool:
    exact = x.double() @ table.double().T
    found = torch.nn.functional.linear(x, table)
    return bool((found - exact).norm() < _EXACT * exact.norm())
