"""How the contrastive model of the drawn world is shaped and trained: every number of it."""

import math
from dataclasses import dataclass
from typing import Any

from headviz.toyworld.pictures.drawing import SIDE


@dataclass(frozen=True)
class ClipRecipe:
    """An open_clip model of the drawn world."""

    name: str = "tiny-clip"
    seed: int = 0
    embed_dim: int = 96  # of the joint space
    patch: int = 8  # pixels
    vision_layers: int = 4
    vision_width: int = 128
    d_head: int = 16
    text_layers: int = 2
    text_width: int = 128
    text_heads: int = 4
    context: int = 32  # tokens
    pool: int = 12_000  # pictures that are drawn to train on
    batch: int = 96  # pictures
    phrases: int = 96  # color and noun, "a red circle", that a batch is compared with
    steps: int = 1000
    learning_rate: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warm_up: int = 100  # steps
    clip: float = 1.0  # gradient norm
    plain_captions: float = 0.5  # of the captions mention all there is to say
    word_weight: float = 0.5  # of the loss of each concept's words; captions count once
    phrase_weight: float = 1.0
    penalty: float = 0.001  # on the sum over heads of the root-mean-square of the head's signal
    hottest: float = math.log(100)  # the logit scale's logarithm is at most this, as in CLIP

    def model_config(self, vocab_size: int, pad: int, eos: int) -> dict[str, Any]:
        """The model's shape, as open_clip wants it."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": SIDE,
                "patch_size": self.patch,
                "layers": self.vision_layers,
                "width": self.vision_width,
                "head_width": self.d_head,
            },
            "text_cfg": {
                "context_length": self.context,
                "vocab_size": vocab_size,
                "width": self.text_width,
                "heads": self.text_heads,
                "layers": self.text_layers,
                "pool_type": "eos",
                "pad_id": pad,
                "eos_id": eos,
                "hf_tokenizer_name": self.name,  # from a local folder: the tokenizer beside it
            },
        }

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, then a cosine down to a fiftieth."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


CLIP_RECIPES: dict[str, ClipRecipe] = {"tiny-clip": ClipRecipe()}
