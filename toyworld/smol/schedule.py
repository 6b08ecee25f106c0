"""How smol-vlm's tower and connector are shaped and trained: every number, nothing that acts."""

from dataclasses import dataclass

from transformers import LlavaConfig, PreTrainedConfig

from toyworld.pictures.tower import tower_config
from toyworld.smol.processor import N_IMAGE
from toyworld.stages import cosine


@dataclass(frozen=True)
class SmolSchedule:
    """A LLaVA whose language model is taken as it is."""

    name: str = "smol-vlm"
    seed: int = 0
    language_model: str = "smollm2-135m"
    tower: str = "tiny-vlm"  # the built-in model whose image tower it begins with
    seen_layers: int = 4  # of that tower, which that model reads; they learn on at `slow_pace`
    vision_layers: int = 6
    vision_width: int = 128
    vision_heads: int = 8
    aligning_steps: int = 1000  # of the first part, in which no language model runs
    aligning_batch: int = 96  # fresh pictures
    aligning_rate: float = 1.5e-3
    # Sorts of pictures and their shares, beside pictures of any sort: of the first part, the second
    more_aligned: tuple[tuple[str, float], ...] = (("scene", 0.5),)
    more_spoken: tuple[tuple[str, float], ...] = (("scene", 0.25), ("textures", 0.125))
    steps: int = 4060  # of the second part, through the language model
    averaged: tuple[int, ...] = ()  # steps of both parts whose weights' mean is kept
    batch: int = 4  # fresh pictures
    captions: int = 2  # a picture
    questions: int = 6  # a picture
    learning_rate: float = 1e-3
    slow_pace: float = 0.3  # learning rate of `seen_layers`, as a multiple of the others'
    beside: int = 12  # further pictures a step whose tokens are aligned as in the first part
    beside_weight: float = 0.3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warm_up: int = 15  # steps
    clip: float = 1.0  # gradient norm

    def config(self, text: PreTrainedConfig, image_token: int) -> LlavaConfig:
        """The joined model's shape, as transformers wants it."""
        vision = tower_config(self.vision_layers, self.vision_width, self.vision_heads)
        return LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=image_token,
            image_seq_length=N_IMAGE,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            tie_word_embeddings=True,
        )

    def pace(self, step: int, n_steps: int) -> float:
        """Of a part's learning rate: a warm-up, then a cosine down to a twentieth."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, n_steps - self.warm_up)
        return cosine(min(1.0, done))


SMOL_SCHEDULES: dict[str, SmolSchedule] = {"smol-vlm": SmolSchedule()}
