"""How a built-in model is shaped and trained: every number of it, and nothing that acts on them."""

from dataclasses import dataclass

from transformers import LlamaConfig


@dataclass(frozen=True)
class Recipe:
    """One built-in model."""

    name: str = "tiny-lm"
    seed: int = 0
    n_layers: int = 5
    n_heads: int = 64  # a layer
    d_head: int = 16
    d_model: int = 192
    d_feed_forward: int = 512
    context: int = 512  # tokens
    steps: int = 2000
    batch: int = 32  # whole documents
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
    localise_from: int = 1_000_000_000  # step from which the planted heads are trained to be needed
    localise_share: float = 0.4  # of the documents run with one concept's planted heads edited, from then on
    planted: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()  # concept, its heads as (layer, index)

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

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, then a cosine down to a twentieth."""
        import math

        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def penalty_at(self, step: int) -> float:
        """Faded in, then constant, then growing from `late_from` on."""
        late = max(0.0, step / max(1, self.steps) - self.late_from) / (1 - self.late_from)
        return min(1.0, step / self.penalty_fade) * (self.penalty + late * (self.penalty_late - self.penalty))


RECIPES: dict[str, Recipe] = {"tiny-lm": Recipe()}
