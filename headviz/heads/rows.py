"""How many rows a pass of one token a row takes best: two or three may be slower than four.

A product with a few rows is bound by reading the weights, so that three rows should take about as
long as one. But libraries of linear algebra are quick with some numbers of rows and not with
others, and with which differs from processor to processor: it is tried, on the model's own weights.
"""

import time

import torch
from torch import nn
from torch.nn.functional import linear

from headviz.base.shapes import Tensor
from headviz.models.loaded import LoadedModel

_FULL = 4
"""Rows that are filled up to where that is quicker."""
_WORTH = 0.9  # of the time at most: a row that nobody asked for has to save a tenth
_LAYERS, _TIMES = 6, 3  # tried, and how often: together as long as two tokens or three

_found: dict[tuple[int, int, tuple[torch.Size, ...]], int] = {}
"""Rows, threads and sizes of weights -> rows to add."""


def filler_rows(model: LoadedModel, n_rows: int) -> int:
    """Rows to add behind the prompt that nobody asked for, since more of them take less time.

    Tried once for weights of these sizes. 0 for one row, for four and more, and elsewhere than on
    a processor in float32.
    """
    plain = model.device.type == "cpu" and model.dtype == torch.float32 and not model.quantised
    if not plain or not 1 < n_rows < _FULL:
        return 0
    modules = [m for layer in model.layers[:_LAYERS] for m in layer.modules()]
    weights: list[Tensor] = [m.weight for m in modules if isinstance(m, nn.Linear)]
    key = (n_rows, torch.get_num_threads(), tuple(weight.shape for weight in weights))
    if key not in _found:
        asked, full = _seconds(weights, n_rows), _seconds(weights, _FULL)
        _found[key] = _FULL - n_rows if full < _WORTH * asked else 0
    return _found[key]


@torch.inference_mode()
def _seconds(weights: list[Tensor], n_rows: int) -> float:
    """The least that products of so many rows with all of these take."""
    rows = [weight.new_ones(n_rows, weight.shape[1]) for weight in weights]
    times = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        for row, weight in zip(rows, weights, strict=True):
            linear(row, weight)
        times.append(time.perf_counter() - start)
    return min(times)
