"""The language model of the training: read as it is, not one of its numbers trained.

Gradients go through it to the image tokens.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from headviz.models.products import choose_products
from toyworld.running import is_quick_in_bfloat16


def read_frozen(folder: Path) -> PreTrainedModel:
    """The language model in a folder, on the CPU, for reading and for gradients.

    In bfloat16 where the processor is built for it, else in float32.
    """
    dtype = torch.bfloat16 if is_quick_in_bfloat16("cpu") else torch.float32
    choose_products()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    frozen: PreTrainedModel = model.requires_grad_(False).eval()
    return frozen
