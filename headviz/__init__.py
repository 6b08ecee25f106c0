"""See and steer what attention heads do.

>>> import headviz
>>> ranking = headviz.rank("tiny-lm", "colors")
>>> edit = headviz.Edit.of(ranking.top(2), factor=-1)
>>> result = headviz.compare("tiny-lm", "Question: ...", edit, ranking.words)

These three functions and `spectrum` share one Session; make your own for other devices or caches.
"""

from collections.abc import Sequence
from functools import cache

from headviz.comparison import Comparison, last_of
from headviz.concepts import Concept, find_concept
from headviz.criteria import Options
from headviz.edits import Edit
from headviz.errors import HeadvizError
from headviz.generation import Sampling
from headviz.heads import Head
from headviz.probes import ProbeSet, find_probes
from headviz.ranking import Ranking
from headviz.session import Session
from headviz.spectrum import Spectrum

__all__ = [
    "Comparison",
    "Concept",
    "Edit",
    "Head",
    "HeadvizError",
    "Options",
    "ProbeSet",
    "Ranking",
    "Sampling",
    "Session",
    "Spectrum",
    "compare",
    "default_session",
    "rank",
    "spectrum",
]


@cache
def default_session() -> Session:
    """The session that the functions below share."""
    return Session()


def rank(
    model: str,
    concept: str | Sequence[str],
    probes: str | None = None,
    criterion: str = "somp",
    options: Options | None = None,
) -> Ranking:
    """All heads of a model, ranked for a concept.

    Args:
        model: a built-in model, a folder, or a name on the hub.
        concept: a preset's name, or a list of words.
        probes: texts to read the heads on: a built-in set, a file, or None for the model's own.
        criterion: one of headviz.criteria.CRITERIA.
        options: choices that the score depends on.
    """
    found = find_concept(concept) if isinstance(concept, str) else find_concept(None, concept)
    return default_session().rank(model, found, find_probes(probes, model), criterion, options)


def spectrum(
    model: str,
    head: str | Head,
    probes: str | None = None,
    steps: int = 20,
    options: Options | None = None,
) -> Spectrum:
    """What a head talks about: tokens in order, its strongest samples, its logit lens."""
    head = Head.parse(head) if isinstance(head, str) else head
    return default_session().spectrum(model, head, find_probes(probes, model), steps, options)


def compare(
    model: str,
    prompt: str,
    edit: Edit,
    words: Sequence[str] = (),
    sampling: Sampling | None = None,
) -> Comparison:
    """Original, edited and random control from one batch, with the concept's words counted."""
    session = default_session()
    return last_of(session.compare(model, prompt, edit, tuple(words), True, sampling))
