"""The language model of the training: read as it is, not one of its numbers trained.

Gradients go through it to the image tokens, so of each product only that with respect to its input
is needed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel


class _Product(torch.autograd.Function):
    """x @ weight.T by numpy's BLAS: on an AMD core some 70 GFLOP/s where torch's gets 58."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight
        return _matmul(x, weight.T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _matmul(grads[0], ctx.weight), None


def _matmul(x: Tensor, matrix: Tensor) -> Tensor:
    flat = x.detach().reshape(-1, x.shape[-1]).numpy()
    return torch.from_numpy(np.matmul(flat, matrix.numpy())).view(*x.shape[:-1], -1)


def read_frozen(folder: Path) -> PreTrainedModel:
    """The language model in a folder, in float32 on the CPU, for reading and for gradients."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    model.requires_grad_(False).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert module.bias is None
            weight = module.weight.data
            module.forward = lambda x, weight=weight: _Product.apply(x, weight)  # type: ignore[method-assign]
    frozen: PreTrainedModel = model
    return frozen
