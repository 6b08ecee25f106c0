"""The number formats that a pursuit can work in, and what each costs.

float32 is the default: its picks are those of float64 but for near ties. bfloat16 rounds the
factors of every product to 8 bits and still sums in float32; matrix units do that several times
faster, and heads whose best atoms are close pick others (`python -m benchmarks pursuit` counts
how many). Nothing is stored in bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from headviz.base.shapes import Float, Tensor
from headviz.pursuit.engine.precomputed import PrecomputedHeads

PRECISIONS = {
    "float32": "as fast as the processor's own float32 products (default)",
    "float64": "half as fast, for checking",
    "bfloat16": "products of bfloat16 factors summed in float32, on matrix units",
}


def converted(
    heads: PrecomputedHeads, atoms: Float[Tensor, "atom d_model"], precision: str
) -> tuple[PrecomputedHeads, Float[Tensor, "atom d_model"]]:
    """Heads and atoms in the format that a pursuit of this precision works in."""
    if precision != "float64":
        return heads, atoms
    return replace(
        heads,
        z=heads.z.double(),
        mean=None if heads.mean is None else heads.mean.double(),
        varies=None if heads.varies is None else heads.varies.double(),
        w_o=tuple(block.double() for block in heads.w_o),
        moments=heads.moments.double(),
        gram=heads.gram.double(),
        variance=heads.variance.double(),
    ), atoms.double()


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """While open, float32 products round their factors as `precision` says.

    The switch is torch's and holds for the whole process: do not run a model in another thread.
    """
    if precision != "bfloat16":
        yield
        return
    backends: Any = torch.backends
    places = [backends.mkldnn.matmul, backends.cuda.matmul]
    before = [place.fp32_precision for place in places]
    try:
        for place, setting in zip(places, ["bf16", "tf32"], strict=True):
            place.fp32_precision = setting
        yield
    finally:
        for place, setting in zip(places, before, strict=True):
            place.fp32_precision = setting
