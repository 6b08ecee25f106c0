"""A loaded model as the `Speaker` that measuring wants: pictures drawn, asked about, read back.

Goes through the public functions of the core alone, as a person's session does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headviz.editing.generate import Sampling, generate
from headviz.heads.capture import HeadActivations, capture
from headviz.heads.edits import NO_EDIT, Edit
from headviz.inputs.concepts import find_concept, tokenize_concept
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking, rank_heads
from toyworld.pictures.content import Picture
from toyworld.pictures.drawing import draw
from toyworld.pictures.shipping import N_PROBES, PROBE_SIDE, training_pictures

BATCH = 60
SAMPLED_BATCH = 6  # rows of a batch share their noise: few of them, so that captions vary
MOST_TOKENS = 32
POOLING = "image"


@dataclass(frozen=True, eq=False)
class CoreSpeaker:
    """A vision-language model, and its heads as read on training pictures."""

    model: LoadedModel
    activations: HeadActivations

    @classmethod
    def of(cls, model: LoadedModel, n: int = N_PROBES) -> "CoreSpeaker":
        """Reads the heads on the first `n` of the pictures that ship as its prompt set."""
        seen = tuple(open_picture(draw(p, PROBE_SIDE)) for p in training_pictures(n))
        prompt_set = PromptSet("pictures", ("",) * len(seen), seen)
        return cls(model, capture(model, prompt_set, POOLING))

    @property
    def n_layers(self) -> int:
        """Of the text model."""
        return self.model.n_layers

    @property
    def n_heads(self) -> int:
        """Of a layer."""
        return self.model.n_heads

    def rank(self, concept: str) -> Ranking:
        """Heads ranked with the default options."""
        tokens = tokenize_concept(find_concept(concept), self.model.tokenizer)
        return rank_heads(self.model, self.activations, tokens, options=Options(pooling=POOLING))

    def say(
        self,
        shown: Sequence[Picture],
        prompts: Sequence[str],
        edit: Edit = NO_EDIT,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """What is said about each picture."""
        size = SAMPLED_BATCH if temperature else BATCH
        said: list[str] = []
        for start in range(0, len(shown), size):
            rows = slice(start, start + size)
            sampling = Sampling(MOST_TOKENS, temperature, seed * 10_000 + start)
            seen = [(open_picture(draw(picture)),) for picture in shown[rows]]
            edits = [edit] * len(seen)
            *_, last = generate(self.model, prompts[rows], edits, sampling, pictures=seen)
            said += last.texts
        return said
