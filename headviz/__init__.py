"""See and steer what attention heads do.

>>> import headviz
>>> ranking = headviz.rank("tiny-lm", "colors")
>>> edit = headviz.Edit.of(ranking.top(2), factor=-1)
>>> result = headviz.compare("tiny-lm", "Question: ...", edit, ranking.words)

These three functions and `spectrum` share one Session; make your own for other devices or caches.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from headviz.albums import open_pictures
from headviz.comparison import Comparison, last_of
from headviz.concepts import Concept, find_concept
from headviz.criteria import Options
from headviz.edits import Edit
from headviz.errors import HeadvizError
from headviz.generation import Sampling
from headviz.heads import Head
from headviz.images import Picture, open_picture
from headviz.probes import ProbeSet, find_probes, picture_probes
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
    "Picture",
    "ProbeSet",
    "Ranking",
    "Sampling",
    "Session",
    "Spectrum",
    "compare",
    "default_session",
    "open_picture",
    "rank",
    "spectrum",
]

ImageLike = Path | str | bytes | Image.Image | Picture


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
    images: Sequence[ImageLike] = (),
    prompt: str = "",
) -> Ranking:
    """All heads of a model, ranked for a concept.

    Args:
        model: a built-in model, a folder, or a name on the hub.
        concept: a preset's name, or a list of words.
        probes: what to read the heads on: a built-in set, a file of texts, a folder or zip of
            pictures, or None for the model's own.
        criterion: one of headviz.criteria.CRITERIA.
        options: choices that the score depends on.
        images: pictures (files, bytes or PIL images) to read the heads on in place of `probes`.
        prompt: what is asked about each picture; empty for the model's usual prompt.
    """
    found = find_concept(concept) if isinstance(concept, str) else find_concept(None, concept)
    samples = _probes(model, probes, images, prompt)
    return default_session().rank(model, found, samples, criterion, options)


def spectrum(
    model: str,
    head: str | Head,
    probes: str | None = None,
    steps: int = 20,
    options: Options | None = None,
    images: Sequence[ImageLike] = (),
    prompt: str = "",
) -> Spectrum:
    """What a head talks about: tokens in order, its strongest samples, its logit lens."""
    head = Head.parse(head) if isinstance(head, str) else head
    samples = _probes(model, probes, images, prompt)
    return default_session().spectrum(model, head, samples, steps, options)


def compare(
    model: str,
    prompt: str,
    edit: Edit,
    words: Sequence[str] = (),
    sampling: Sampling | None = None,
    images: Sequence[ImageLike] = (),
) -> Comparison:
    """Original, edited and random control from one batch, with the concept's words counted.

    A vision-language model needs one or more `images`: files, bytes or PIL images.
    """
    pictures = open_pictures(images)
    streams = default_session().compare(
        model, prompt, edit, tuple(words), True, sampling, pictures=pictures
    )
    return last_of(streams)


def _probes(model: str, probes: str | None, images: Sequence[ImageLike], prompt: str) -> ProbeSet:
    if images:
        return picture_probes("images", open_pictures(images), prompt)
    return find_probes(probes, model, default_session().model(model).sees, prompt)
