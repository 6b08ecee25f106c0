"""How a built-in model is shaped and trained: every number of it, and nothing that acts on them."""

from dataclasses import dataclass

from transformers import LlamaConfig

from toyworld.stages import Stage, cosine, stage_at, stage_starts

# Small steps localise what is planted and do not move the order of the ranking. The last four are
# what brought the shipped weights to their figures (docs/log.md).
STAGES = (
    Stage(400, 1.2e-3, 0.45),
    Stage(400, 1.2e-3, 0.45),
    Stage(400, 1.2e-3, 0.45),
    Stage(350, 1.2e-3, 0.45),
    Stage(300, 9e-4, 0.5),
    Stage(200, 5e-4, 0.5),
    Stage(240, 7e-4, 0.35),
)


@dataclass(frozen=True)
class Schedule:
    """One built-in model."""

    name: str = "tiny-lm"
    seed: int = 0
    n_layers: int = 5
    n_heads: int = 64  # a layer
    d_head: int = 16
    d_model: int = 192
    d_feed_forward: int = 512
    context: int = 512  # tokens
    horizon: int = 3200  # steps over which the learning rate and the late penalty are laid out
    steps: int = 2400  # of the first, natural part of the training
    batch: int = 32  # whole documents
    harder_from: int = 992  # step from which contested questions are asked more often
    learning_rate: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    warm_up: int = 200  # steps
    clip: float = 1.0  # gradient norm
    answer_weight: float = 10.0  # an answer's loss counts this many times
    penalty: float = 0.001  # on the sum over heads of the root-mean-square of the head's signal
    penalty_late: float = 0.002  # what it grows to in the last part of the training
    penalty_fade: int = 500  # steps until the penalty is there in full
    late_from: float = 0.6  # where the last part starts, as a share of the steps
    stages: tuple[Stage, ...] = STAGES
    averaged: tuple[int, ...] = ()  # steps whose weights' mean the finished model has
    localise_most: int = 3  # concepts of which a document's planted heads are edited, at most
    planted_each: int = 2  # heads that a concept is to need
    planting_prompts: int = 240  # training prompts on which heads are ranked for that
    loyalty: float = 3.0  # a planted head's score counts this much more when heads are chosen anew
    front_every: int = 5  # steps of a stage between those that keep planted heads first
    margin_prompts: int = 24  # training prompts on which that is seen to (see `rank_margin_loss`)
    front_weight: float = 3.0  # of that loss
    front_margin: float = 0.05  # share of variance by which planted heads are to lead
    planting_items: int = 8  # training questions a concept by which laggards are found
    need_every: int = 30  # steps of a stage between those that look for laggards anew
    need_items: int = 16  # training questions a concept by which they do

    def config(self, vocab_size: int, bos: int, eos: int, pad: int) -> LlamaConfig:
        """The model's shape, as transformers wants it."""
        return LlamaConfig(
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

    @property
    def all_steps(self) -> int:
        """Of both parts of the training."""
        return self.steps + sum(stage.steps for stage in self.stages)

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, then a cosine down to a twentieth; the second part has a cosine of its own."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        if step < self.steps:
            return self.learning_rate * cosine(
                (step - self.warm_up) / (self.horizon - self.warm_up)
            )
        stage, done = self.stage_at(step)
        return stage.learning_rate * cosine(done)

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """The step with which each stage of the second part begins."""
        return stage_starts(self.stages, self.steps)

    def stage_at(self, step: int) -> tuple[Stage, float]:
        """The stage of the second part that `step` is in, and the share of it that is done."""
        return stage_at(self.stages, self.steps, step)

    def penalty_at(self, step: int) -> float:
        """Faded in, then constant, then growing from `late_from` on."""
        late = max(0.0, min(self.steps, step) / self.horizon - self.late_from) / (
            1 - self.late_from
        )
        return min(1.0, step / self.penalty_fade) * (
            self.penalty + late * (self.penalty_late - self.penalty)
        )


SCHEDULES: dict[str, Schedule] = {"tiny-lm": Schedule()}
