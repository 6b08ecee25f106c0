"""The choices that a score depends on, kept in every result.

The paper leaves some of them open; the defaults are ours.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headviz.base.errors import OptionError
from headviz.heads.chat import Chat

MOST_STEPS = 1000
ORDERS: Mapping[str, str] = {
    "over-chance": "how far the score stands above its chance level",
    "raw": "the score alone, as in the paper: in real models heads of the first layers, which "
    "explain any list of words, come first",
}


@dataclass(frozen=True)
class Options:
    """Choices that a score depends on; kept in every result."""

    steps: int = 50
    """Atoms that the pursuit may pick (the paper: typically 50)."""
    centre: bool = True
    """Explain the variance about the mean over samples, not the raw energy."""
    normalise: bool = True
    """Atoms of unit length."""
    fold_norm: bool = True
    """Fold the final norm's gain into the atoms."""
    pooling: str = "prompt"
    """One of heads.pooling.POOLINGS, or of clip.word_vocabulary.CLIP_POOLINGS."""
    pieces: str = "single"
    """One of inputs.concepts.PIECES."""
    order: str = "over-chance"
    """One of ORDERS: what the heads are ranked by."""
    template: bool = True
    """Texts are set inside the model's chat template, where it has one."""
    system: str | None = None
    """The system prompt before each; None for the template's own."""
    thinking: bool = False
    """Whether a model that can think first does."""

    def __post_init__(self) -> None:
        """Raise OptionError for a number of steps out of range or an unknown order."""
        if not 1 <= self.steps <= MOST_STEPS:
            raise OptionError(f"steps is {self.steps}; choose 1 to {MOST_STEPS}.")
        if self.order not in ORDERS:
            raise OptionError(f"Unknown order {self.order!r}. Known: {', '.join(ORDERS)}.")
        _ = self.chat  # which refuses a system prompt without a template

    @property
    def chat(self) -> Chat:
        """How texts are put to the model."""
        return Chat(self.template, self.system, self.thinking)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and cache keys."""
        return asdict(self)
