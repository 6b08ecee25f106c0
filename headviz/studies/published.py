"""What the paper found, as its tables have it: edited ÷ unedited, of far larger models.

Source: Head Pursuit (NeurIPS 2025, arXiv 2510.21518). Facts alone; what they mean for a study of
one's own is reading.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

KS = (8, 16, 32)
"""Heads that the paper edits, of the 1,024 of a model of 7 billion parameters."""


@dataclass(frozen=True)
class Published:
    """One line of the paper's tables."""

    what: str
    arm: str
    alpha: float
    ratios: tuple[float, float, float]
    """At 8, 16 and 32 heads."""


def _inhibited(what: str, *lines: tuple[float, float, float]) -> tuple[Published, ...]:
    arms = ("pursuit", "logit-lens", "random")
    return tuple(Published(what, a, -1.0, r) for a, r in zip(arms, lines, strict=True))


PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "qa": (),
    "toxicity": (
        *_inhibited(
            "RealToxicityPrompts, toxic generations",
            (0.83, 0.67, 0.66), (0.91, 0.79, 0.71), (1.02, 1.00, 1.13),
        ),
        *_inhibited(
            "RealToxicityPrompts, held-out toxic words",
            (1.00, 0.78, 0.72), (0.99, 0.92, 0.78), (1.02, 1.13, 1.21),
        ),
    ),
    "classification": (
        *_inhibited(
            "MNIST, accuracy", (0.69, 0.28, 0.12), (1.00, 0.73, 0.14), (1.00, 1.00, 0.99)
        ),
        *_inhibited("DTD, accuracy", (1.01, 0.94, 0.58), (0.97, 1.04, 1.02), (0.99, 0.99, 0.96)),
    ),
    "captioning": (
        Published("color words a caption", "pursuit", -1.0, (0.27, 0.18, 0.14)),
        Published("color words a caption", "pursuit", 5.0, (1.53, 1.39, 2.44)),
        Published("CIDEr, colors", "pursuit", -1.0, (0.96, 0.91, 0.80)),
        Published("CIDEr, colors", "pursuit", 5.0, (0.99, 0.92, 0.89)),
        Published("quantity words a caption", "pursuit", -1.0, (0.84, 0.10, 0.09)),
        Published("quantity words a caption", "pursuit", 5.0, (1.16, 1.50, 1.61)),
    ),
}  # fmt: skip
"""Study -> lines of its tables."""
SAID: Mapping[str, str] = {
    "qa": "The paper shows a figure, no table: from 8 of 1,024 heads on, F1 of questions answered "
    "by a country falls clearly faster than that of the others; logit-lens heads hurt both alike; "
    "random heads hurt neither.",
}
"""What it says of a study in words."""


def as_markdown(study: str) -> str:
    """The paper's lines for this study."""
    if not PUBLISHED[study]:
        return SAID[study]
    lines = [
        "| the paper | arm | α | " + " | ".join(f"k={k} ({k / 10.24:.1f} %)" for k in KS) + " |",
        "|---|---|---|" + "---|" * len(KS),
    ]
    for line in PUBLISHED[study]:
        ratios = " | ".join(f"{ratio:.2f}" for ratio in line.ratios)
        lines.append(f"| {line.what} | {line.arm} | {line.alpha:g} | {ratios} |")
    return "\n".join(lines)
