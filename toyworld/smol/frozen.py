"""The language model of the training: read as it is, not one of its numbers trained.

Gradients go through it to the image tokens.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from headviz.models.products import choose_products


def read_frozen(folder: Path) -> PreTrainedModel:
    """The language model in a folder, in float32 on the CPU, for reading and for gradients."""
    choose_products()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    frozen: PreTrainedModel = model.requires_grad_(False).eval()
    return frozen
