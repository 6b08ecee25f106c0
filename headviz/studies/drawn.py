"""What the drawn world offers the studies: pictures with captions, and pictures with classes.

Selection pictures come from the side of the split that training saw, the judged ones are held out.
"""

import itertools
import random
from collections.abc import Iterator

from headviz.inputs import images
from headviz.studies.built_in import PICTURE_MODEL, STOPS, USUAL, check_built_in
from headviz.studies.request import Request, filled
from headviz.studies.samples import Material, Sample, StudyError
from toyworld.pictures.captions import RATES, caption
from toyworld.pictures.content import Picture, pictures
from toyworld.pictures.drawing import SIDE, draw
from toyworld.pictures.questions import NAMED, questions

N_REFERENCES = 5
CLASSES = ("digits", "textures", "shapes", "backgrounds")
_ALONE = {"digits": "digits", "textures": "textures", "shapes": "scene"}


def drawn_captions(request: Request, prompt: str) -> Material:
    """Drawn pictures, each with five captions that leave different things out."""
    check_built_in(request, PICTURE_MODEL)
    n = request.limit or USUAL
    parts = [
        tuple(
            Sample(prompt, _references(shown), True, (_opened(shown),))
            for shown in itertools.islice(pictures(request.seed + 2, held_out), wanted)
        )
        for held_out, wanted in ((False, request.selection), (True, n))
    ]
    return Material(f"{PICTURE_MODEL}'s pictures", *_apart(*parts), stops=STOPS)


def drawn_classes(request: Request, template: str) -> tuple[Material, tuple[str, ...]]:
    """Drawn pictures of one class each, and other questions about them as the outside part."""
    check_built_in(request, PICTURE_MODEL)
    concept = request.data or CLASSES[0]
    if concept not in CLASSES:
        raise StudyError(
            f"There is no folder {request.data!r}. Name one, or drawn pictures of "
            f"{', '.join(CLASSES)}."
        )
    n = request.limit or USUAL
    prompt = filled(template, classes=", ".join(NAMED[concept]), what=concept.removesuffix("s"))
    inside = [
        list(itertools.islice(_asked(concept, prompt, request.seed, held_out), wanted))
        for held_out, wanted in ((False, request.selection), (True, n - n // 3))
    ]
    outside = itertools.islice(_other(concept, request.seed), n // 3)
    selection, evaluation = _apart(tuple(inside[0]), (*inside[1], *outside))
    material = Material(f"{PICTURE_MODEL}'s {concept}", selection, evaluation, stops=STOPS)
    return material, NAMED[concept]


def _asked(concept: str, prompt: str, seed: int, held_out: bool) -> Iterator[Sample]:
    """Pictures with one answer to the class question."""
    for shown in pictures(seed + 3, held_out, _ALONE.get(concept)):
        answer = shown.background
        if concept != "backgrounds":
            if len(shown.groups) != 1 or shown.groups[0].noun not in NAMED[concept]:
                continue
            answer = shown.groups[0].noun
        if answer:
            yield Sample(prompt, (answer,), True, (_opened(shown),))


def _other(concept: str, seed: int) -> Iterator[Sample]:
    """Held-out pictures of any sort with a question that is not about the classes."""
    rng = random.Random(f"other {seed}")
    for shown in pictures(seed + 4, True):
        fitting = [q for q in questions(shown, rng) if q.concept != concept]
        if fitting:
            question = rng.choice(fitting)
            yield Sample(question.text, (question.answer,), False, (_opened(shown),))


def _references(shown: Picture) -> tuple[str, ...]:
    rng = random.Random(shown.seed)
    return tuple(caption(shown, rng, RATES) for _ in range(N_REFERENCES))


def _opened(shown: Picture) -> images.Picture:
    return images.open_picture(draw(shown, SIDE))


def _apart(
    selection: tuple[Sample, ...], evaluation: tuple[Sample, ...]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Each picture once, and none of the selection's among the judged ones."""
    picked = {sample.key: sample for sample in selection}
    judged = {s.key: s for s in evaluation if s.key not in picked}
    return tuple(picked.values()), tuple(judged.values())
