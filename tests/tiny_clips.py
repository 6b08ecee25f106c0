"""Tiny open_clip models with random weights, as local folders that open_clip itself loads."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

VISION = {"image_size": 24, "patch_size": 8, "layers": 2, "width": 32, "head_width": 8}
TEXT = {"context_length": 12, "width": 16, "heads": 2, "layers": 1}

KINDS = {
    "class-token": {},
    "mean-of-patches": {"pool_type": "avg"},
    "norm-after-mean": {"pool_type": "avg", "final_ln_after_pool": True},
    "custom-block": {"block_type": "custom", "qk_norm": True},
}
"""Ways in which open_clip's vision transformers differ that matter to heads."""

REFUSED = {
    "attentional-pool": {"attentional_pool": True, "attn_pooler_heads": 2},
    "layer-scale": {"ls_init_value": 0.1},
    "normed-attention": {"scale_attn": True},
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64},
}


def make_clip(folder: Path, seed: int = 0, **vision: object) -> Path:
    """A folder with config and weights; the tokenizer is open_clip's own byte-level one."""
    import open_clip

    torch.manual_seed(seed)
    config = {"embed_dim": 16, "vision_cfg": {**VISION, **vision}, "text_cfg": TEXT}
    model = open_clip.CLIP(**config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "ln_post.weight")):  # they are 0 and 1 in a fresh model
                parameter.add_(torch.randn_like(parameter) * 0.3)
    folder.mkdir(parents=True)
    weights = {name: t.contiguous() for name, t in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder
