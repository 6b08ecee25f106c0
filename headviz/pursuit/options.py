"""The choices that a score depends on, kept in every result.

The paper leaves some of them open; the defaults are ours.
"""

from dataclasses import asdict, dataclass
from typing import Any

from headviz.base.errors import OptionError


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
    """One of capture.POOLINGS."""
    pieces: str = "single"
    """One of concepts.PIECES."""

    def __post_init__(self) -> None:
        """Raise OptionError for a number of steps out of range."""
        if not 1 <= self.steps <= 1000:
            raise OptionError(f"steps is {self.steps}; choose 1 to 1000.")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and cache keys."""
        return asdict(self)
