"""How the contrastive model of the drawn world is shaped and trained: every number of it."""

import math
from dataclasses import dataclass
from typing import Any

from toyworld.pictures.drawing import SIDE


@dataclass(frozen=True)
class ClipSchedule:
    """An open_clip model of the drawn world."""

    name: str = "tiny-clip"
    seed: int = 0
    embed_dim: int = 96  # of the joint space
    patch: int = 8  # pixels
    vision_layers: int = 5
    vision_width: int = 128
    d_head: int = 16
    text_layers: int = 2
    text_width: int = 128
    text_heads: int = 4
    context: int = 32  # tokens
    seeing_steps: int = 3200  # of the first part, in which the image tower learns to see
    seeing_batch: int = 128  # fresh pictures
    seeing_rate: float = 1.5e-3  # learning rate of that part
    whole_weight: float = (
        4.0  # of the words that hold for the picture; a patch's classes count once
    )
    more_digits: float = 0.25  # of all pictures that it learns from are digits,
    more_scenes: float = 0.25  # and scenes; the rest is of any sort
    batch: int = 96  # fresh pictures
    phrases: int = 96  # color and noun, "a red circle", that a batch is compared with
    steps: int = 1200  # of the second part, in which pictures are matched with texts
    learning_rate: float = 1.5e-3
    tower_pace: float = 0.3  # the image tower's learning rate there, as a multiple of the others'
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warm_up: int = 100  # steps
    clip: float = 1.0  # gradient norm
    plain_captions: float = 0.5  # of the captions mention all there is to say
    word_weight: float = 0.5  # of the loss of each concept's words; captions count once
    phrase_weight: float = 1.0
    patch_weight: float = 0.5  # of what is read off the patches, so that the tower keeps seeing
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

    @property
    def all_steps(self) -> int:
        """Of both parts of the training."""
        return self.seeing_steps + self.steps

    def learning_rate_at(self, step: int) -> float:
        """In each part a warm-up, then a cosine down to a fiftieth."""
        if step < self.seeing_steps:
            return self.seeing_rate * self._pace(step, self.seeing_steps)
        return self.learning_rate * self._pace(step - self.seeing_steps, self.steps)

    def _pace(self, step: int, n_steps: int) -> float:
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, n_steps - self.warm_up)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


CLIP_SCHEDULES: dict[str, ClipSchedule] = {"tiny-clip": ClipSchedule()}
