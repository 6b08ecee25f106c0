"""How right an answer is, one number a sample: token F1, exact match, words, repetition.

The answers are compared as in SQuAD and TriviaQA (Joshi et al. 2017): lower case, punctuation and
articles left out, the best of the accepted answers counts. Knows no models.
"""

from collections import Counter
from collections.abc import Sequence

from headviz.editing.measures import concept_spans
from headviz.studies.samples import normalised


def token_f1(text: str, answers: Sequence[str]) -> float:
    """Harmonic mean of the shares of common words, 0 to 1, for the best accepted answer."""
    return max((_f1(normalised(text).split(), normalised(a).split()) for a in answers), default=0.0)


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    if not said or not right:
        return float(list(said) == list(right))
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))


def exact_match(text: str, answers: Sequence[str]) -> float:
    """1 where the text is one of the accepted answers, 0 elsewhere."""
    said = normalised(text)
    return float(any(said == normalised(answer) for answer in answers))


def word_count(text: str, words: Sequence[str]) -> float:
    """How many of the concept's words the text says."""
    return float(len(concept_spans(text, words)))


def length(text: str) -> float:
    """Words of the text."""
    return float(len(text.split()))
