"""CIDEr-D (Vedantam et al. 2015, section 3 and appendix): how well captions fit their references.

Cosines of the tf-idf weighted counts of one- to four-word runs, clipped at the reference's counts,
with a penalty on differing lengths; times ten, as it is usually given. How common a run is, is
counted over the references of all pictures that are judged. Words are split as a plain reader
would: lower case, punctuation left out; the public implementation asks a Java program for that, and
the two agree on plain captions.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 4
"""Words of a run."""
_SIGMA = 6.0
_WORD = re.compile(r"\w+(?:['-]\w+)*")

Run = tuple[str, ...]


@dataclass(frozen=True)
class _Weighted:
    """A caption's runs by length: weight of each, and the length of that vector."""

    weights: tuple[dict[Run, float], ...]
    norms: tuple[float, ...]
    n_words: int


class Cider:
    """Scores captions against the references of a fixed set of pictures."""

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """`references`: the reference captions of each picture of the whole set."""
        self._seen: Counter[Run] = Counter()
        for captions in references:
            self._seen.update({run for caption in captions for run in _runs(words(caption))})
        self._pictures = math.log(max(1, len(references)))

    def score(self, caption: str, references: Sequence[str]) -> float:
        """CIDEr-D of one caption, 0 to 10; its references are of one picture of the set."""
        if not references:
            return 0.0
        own = self._weighted(caption)
        total = sum(_similarity(own, self._weighted(reference)) for reference in references)
        return 10 * total / (LONGEST * len(references))

    def _weighted(self, caption: str) -> _Weighted:
        said = words(caption)
        weights: tuple[dict[Run, float], ...] = tuple({} for _ in range(LONGEST))
        for run, count in Counter(_runs(said)).items():
            rarity = self._pictures - math.log(max(1, self._seen[run]))
            weights[len(run) - 1][run] = count * rarity
        norms = tuple(math.sqrt(sum(w * w for w in own.values())) for own in weights)
        return _Weighted(weights, norms, len(said))


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case."""
    return _WORD.findall(caption.lower())


def _runs(said: Sequence[str]) -> list[Run]:
    return [
        tuple(said[start : start + size])
        for size in range(1, LONGEST + 1)
        for start in range(len(said) - size + 1)
    ]


def _similarity(own: _Weighted, reference: _Weighted) -> float:
    """Sum over lengths of runs of the clipped cosines."""
    total = 0.0
    for mine, theirs, norm, other in zip(
        own.weights, reference.weights, own.norms, reference.norms, strict=True
    ):
        if norm and other:
            clipped = sum(
                min(weight, theirs[run]) * theirs[run]
                for run, weight in mine.items()
                if run in theirs
            )
            total += clipped / (norm * other)
    apart = own.n_words - reference.n_words
    return total * math.exp(-(apart**2) / (2 * _SIGMA**2))
