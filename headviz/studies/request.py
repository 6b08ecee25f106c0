"""What a study is asked to do, and what it makes of that: samples, measures, a way to score.

Plain data. How each study fills it in is in its own module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headviz.inputs.concepts import Concept
from headviz.studies.arms import USUAL_ARMS, check_arms
from headviz.studies.run_cells import Score
from headviz.studies.samples import Material, Sample, StudyError

PARTS = ("inside", "outside", "all")


@dataclass(frozen=True)
class Request:
    """A study as a person asks for it. Empty or None: the study's own default."""

    study: str
    model: str
    data: str = ""
    """A file or folder in one of the published formats; empty for the model's built-in data."""
    concept: str = ""
    words: str | None = None
    """Own words, separated by commas."""
    ks: tuple[str, ...] = ("1%", "2%", "5%")
    """Numbers of heads, or percent of all."""
    alphas: tuple[float, ...] = (-1.0,)
    arms: tuple[str, ...] = USUAL_ARMS
    limit: int | None = None
    """Samples to evaluate on; None for up to 200."""
    selection: int = 240
    """Samples to pick heads on."""
    draws: int = 10
    """Of random heads."""
    seed: int = 0
    """Of the order in which samples are taken."""
    prompt: str = ""
    """With {question}, {prompt} or {classes} in it; empty for the paper's."""
    max_new_tokens: int | None = None
    classifier: str = ""
    """A transformers text classifier, by name or folder, that says what is toxic."""
    clip: str = ""
    """An open_clip model, by name or folder, that says whether a caption fits its picture, or
    proposes the words of a classification."""

    def __post_init__(self) -> None:
        """Raise StudyError for a number out of range or an arm that is not known."""
        check_arms(self.arms)
        bounds = {
            "--limit": (self.limit, 2),
            "--selection": (self.selection, 2),
            "--draws": (self.draws, 1),
        }
        for name, (value, least) in bounds.items():
            if value is not None and value < least:
                raise StudyError(f"{name} is {value}; give {least} or more.")
        if not self.ks or not self.alphas:
            raise StudyError("Give one number of heads (--k) and one factor (--alpha) or more.")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Measure:
    """A number a sample that is averaged and divided by the unedited model's."""

    name: str
    part: str
    """One of PARTS."""
    what: str
    """A sentence's part: what a ratio of this is."""
    task: str = "answers"
    logarithmic: bool = False
    """The values are nats; the ratio is that of their exponentials."""

    @property
    def column(self) -> str:
        """What it is called in tables."""
        return "perplexity" if self.logarithmic else self.name


PERPLEXITY = Measure("surprise", "all", "perplexity of ordinary text", "ordinary", True)
REPETITION = Measure("repetition", "all", "share of repeated three-word runs")


@dataclass(frozen=True, eq=False)
class Plan:
    """What a study runs."""

    material: Material
    concept: Concept
    """What heads are ranked for."""
    score: Score
    measures: tuple[Measure, ...]
    """The first is what the study is about, the second what should stay."""
    max_new_tokens: int
    causal: tuple[Sample, ...] = ()
    """None of them is evaluated on; attribution and ablation read their first answers."""
    depends_on: Mapping[str, Any] = field(default_factory=dict)
    """What scores depend on beside the samples, e.g. the classifier's revision."""
    notes: tuple[str, ...] = ()
    """Sentences for the report."""


def filled(template: str, **fields: str) -> str:
    """The template with its fields. Raises StudyError where it names none of them."""
    if not any(f"{{{name}}}" in template for name in fields):
        names = " or ".join(f"{{{name}}}" for name in fields)
        raise StudyError(f"The prompt {template[:40]!r} has no {names} in it. Put it in.")
    for name, value in fields.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def of_part(samples: Sequence[Sample], part: str) -> list[bool]:
    """Which samples a measure is over."""
    return [part == "all" or sample.inside == (part == "inside") for sample in samples]
