"""What a study asks and what would be right, in two parts that share nothing.

Heads are picked on the selection part and judged on the evaluation part; a sample is known by its
content, so that the same question in another row is the same sample. Knows no models and no files.
"""

import hashlib
import json
import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from headviz.base.errors import HeadvizError
from headviz.inputs.images import Picture

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


class StudyError(HeadvizError):
    """A study that cannot be run as asked."""


@dataclass(frozen=True)
class Sample:
    """One prompt, the answers that count as right, and whether it belongs to the concept."""

    prompt: str
    answers: tuple[str, ...] = ()
    """Right answers, a class name, or reference captions; the first is the one that is meant."""
    inside: bool = True
    """Whether the answer belongs to the concept."""
    pictures: tuple[Picture, ...] = ()

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits of what is asked: the same for the same prompt and pictures."""
        content = [self.prompt, [picture.digest for picture in self.pictures]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Material:
    """Everything that a study reads."""

    name: str
    selection: tuple[Sample, ...]
    """Heads are picked on these."""
    evaluation: tuple[Sample, ...]
    """Edits are judged on these; none of them is in the selection."""
    ordinary: tuple[Sample, ...] = ()
    """Ordinary texts, whose perplexity tells what an edit does to everything else: the prompt
    itself, or its first answer where it has one."""
    stops: tuple[str, ...] = ("\n",)
    """An answer ends at the first of these."""

    def __post_init__(self) -> None:
        """Raise StudyError where a sample is in both parts or one of them is empty."""
        for part, samples in (("select", self.selection), ("evaluate", self.evaluation)):
            if not samples:
                raise StudyError(f"{self.name} has no samples to {part} on. Give more data.")
        both = {s.key for s in self.selection} & {s.key for s in self.evaluation}
        if both:
            raise StudyError(
                f"{len(both)} samples of {self.name} would be both selected and evaluated on. "
                "Leave repetitions out of one of the two."
            )

    @property
    def n_inside(self) -> int:
        """Evaluation samples that belong to the concept."""
        return sum(sample.inside for sample in self.evaluation)


def normalised(text: str) -> str:
    """As SQuAD and TriviaQA compare answers: lower case, no punctuation, no articles."""
    bare = _ARTICLES.sub(" ", text.lower().translate(_MARKS))
    return " ".join(bare.split())


def belongs(answers: Iterable[str], words: Iterable[str]) -> bool:
    """Whether one of the accepted answers is a word of the concept."""
    own = _bare(tuple(words))
    return any(normalised(answer) in own for answer in answers)


@lru_cache(8)
def _bare(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(normalised(word) for word in words) - {""}


def split(
    name: str,
    samples: Iterable[Sample],
    n_selection: int,
    n_evaluation: int | None,
    seed: int = 0,
    most: int = 200,
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Selection samples as they come, and evaluation samples, half of them inside the concept.

    The parts are disjoint, and their order depends on content and seed alone. `n_evaluation` None
    takes what there is, up to `most`. Raises StudyError where there are fewer than asked for.
    """
    unique = {sample.key: sample for sample in samples}
    order = sorted(unique.values(), key=lambda s: _shuffled(s.key, seed))
    # Of few samples, half are set aside for the selection.
    n_aside = min(n_selection, len(order) // 2)
    selection, rest = order[:n_aside], order[n_aside:]
    evaluation = half_inside(rest, most if n_evaluation is None else n_evaluation)
    check_enough(name, evaluation, n_evaluation, f"{n_aside} of {len(order)} pick the heads")
    return tuple(selection), tuple(evaluation)


def check_enough(name: str, found: Sequence[Sample], wanted: int | None, why: str) -> None:
    """Raise StudyError where fewer samples were found than a person asked for."""
    if wanted is not None and len(found) < wanted:
        raise StudyError(
            f"{name} has {len(found)} samples to evaluate on, fewer than the {wanted} that were "
            f"asked for ({why}). Give more data, or a smaller --limit."
        )


def half_inside(samples: Sequence[Sample], n: int) -> list[Sample]:
    """`n` samples, as many inside the concept as outside while there are enough of both."""
    inside = [s for s in samples if s.inside]
    outside = [s for s in samples if not s.inside]
    n_inside = min(len(inside), max(n - n // 2, n - len(outside)))
    return inside[:n_inside] + outside[: n - n_inside]


def _shuffled(key: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()


def cut_at(stops: Sequence[str]) -> Callable[[str], str]:
    """A function that cuts a text at the first stop after its first word."""

    def cut(text: str) -> str:
        body = text.lstrip()
        ends = [at for stop in stops if (at := body.find(stop)) >= 0]
        return body[: min(ends, default=len(body))].strip()

    return cut
