"""How the model of the drawn world is shaped and trained: every number, and nothing that acts.

The training has an ordinary part and then stages that make each concept need the heads that the
ranking puts first for it (see `head_assignment`), and keep them first (see `rank_margin_loss`).
"""

from dataclasses import dataclass

from transformers import LlamaConfig, LlavaConfig

from toyworld.pictures.drawing import SIDE
from toyworld.pictures.processor import PATCH
from toyworld.pictures.tower import tower_config
from toyworld.stages import Stage, cosine, stage_at, stage_starts

STAGES = (
    Stage(220, 1.5e-3, 0.45),
    Stage(220, 1.5e-3, 0.45),
    Stage(220, 1.2e-3, 0.4),
    Stage(220, 1.0e-3, 0.3),
    Stage(700, 1.5e-3, 0.4),
    Stage(400, 1.0e-3, 0.4),
    Stage(900, 1.5e-3, 0.3),
    Stage(500, 1.5e-3, 0.3),
    Stage(400, 1.0e-3, 0.3),
    Stage(400, 1.5e-3, 0.3),
    Stage(300, 1.0e-3, 0.3),
    Stage(400, 1.2e-3, 0.25),
    Stage(400, 1.0e-3, 0.25),
)


@dataclass(frozen=True)
class PictureSchedule:
    """A vision-language model of the drawn world."""

    name: str = "tiny-vlm"
    seed: int = 0
    n_layers: int = 4
    n_heads: int = 64  # a layer
    d_head: int = 16
    d_model: int = 192
    d_feed_forward: int = 512
    tower: str = "tiny-clip"  # the built-in CLIP model whose image tower it begins with; "": random
    tower_pace: float = 0.5  # its learning rate, as a multiple of the others'
    vision_layers: int = 5
    vision_width: int = 128
    vision_heads: int = 8
    context: int = 512  # tokens
    room: int = 60  # tokens of captions and questions about a picture, at most
    batch: int = 32  # pictures
    steps: int = 1500  # of the first, natural part of the training
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warm_up: int = 150  # steps
    clip: float = 1.0  # gradient norm
    answer_weight: float = 2.0  # an answer's loss counts this many times, a caption's once
    penalty: float = 0.002  # on the sum over heads of the root-mean-square of the head's signal
    penalty_fade: int = 500  # steps until the penalty is there in full
    stages: tuple[Stage, ...] = STAGES
    averaged: tuple[int, ...] = (5680, 5980, 6380, 6780)  # steps whose mean the weights are
    planted_heads: int = 2  # a concept
    ranked_pictures: int = 240  # training pictures that heads are ranked on
    left_pictures: int = 64  # training pictures that tell what is left of a concept
    more_digits: float = 0.45  # of a stage's pictures are digits, beside those of any sort,
    more_scenes: float = 0.2  # and scenes
    loyalty: float = 3.0  # a planted head's score counts this much more when heads are chosen anew
    front_weight: float = 1.0  # of the loss that keeps planted heads first (see `rank_margin_loss`)
    front_margin: float = 0.05  # share of variance by which they are to lead
    single: float = 0.4  # of the edits are on one of the planted heads alone
    enhanced: float = 0.2  # of the edits turn the heads up
    strangers: float = 0.15  # of the pictures run with heads inverted that are not planted

    def config(self, vocab_size: int, bos: int, eos: int, pad: int, image: int) -> LlavaConfig:
        """The model's shape, as transformers wants it."""
        text = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.d_model,
            intermediate_size=self.d_feed_forward,
            num_hidden_layers=self.n_layers,
            num_attention_heads=self.n_heads,
            num_key_value_heads=self.n_heads,
            head_dim=self.d_head,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=pad,
        )
        vision = tower_config(self.vision_layers, self.vision_width, self.vision_heads)
        return LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=image,
            image_seq_length=(SIDE // PATCH) ** 2,
            vision_feature_layer=-2,  # as LLaVA: the last one serves the class token
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )

    @property
    def all_steps(self) -> int:
        """Of both parts of the training."""
        return self.steps + sum(stage.steps for stage in self.stages)

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """The step with which each stage of the second part begins."""
        return stage_starts(self.stages, self.steps)

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, then a cosine down to a twentieth; each stage has a cosine of its own."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        if step < self.steps:
            return self.learning_rate * cosine((step - self.warm_up) / (self.steps - self.warm_up))
        stage, done = stage_at(self.stages, self.steps, step)
        return stage.learning_rate * cosine(done)

    def share_at(self, step: int) -> float:
        """Of the pictures whose planted heads are edited: none in the natural part."""
        return stage_at(self.stages, self.steps, step)[0].share if step >= self.steps else 0.0

    def penalty_at(self, step: int) -> float:
        """Faded in, then constant."""
        return self.penalty * min(1.0, step / self.penalty_fade)


PICTURE_SCHEDULES: dict[str, PictureSchedule] = {"tiny-vlm": PictureSchedule()}
