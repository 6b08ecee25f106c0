"""What the built-in vision-language models' study data offers: pictures with captions or classes.

Each has captions and questions in words that it was trained on. Selection pictures come from the
side of the split that training saw, the judged ones are held out.
"""

from headviz.studies.built_in import (
    PICTURE_MODEL,
    SMOL_MODEL,
    STOPS,
    USUAL,
    check_built_in,
    class_names,
    shown_rows,
)
from headviz.studies.request import Request, filled
from headviz.studies.samples import Material, Sample, StudyError


def captioned_pictures(request: Request, prompt: str) -> Material:
    """The model's pictures, each with five captions that leave different things out.

    Raises StudyError where fewer ship than were asked for.
    """
    check_built_in(request, PICTURE_MODEL, SMOL_MODEL)
    parts = {"selection": request.selection, "evaluation": request.limit or USUAL}
    selection, evaluation = (
        _samples(request, f"captions/{part}", n, prompt) for part, n in parts.items()
    )
    return _apart(f"{request.model}'s pictures", selection, evaluation)


def classed_pictures(request: Request, template: str) -> tuple[Material, tuple[str, ...]]:
    """The model's pictures of one class each, and other questions about some as the outside part.

    Raises StudyError for an unknown data set, and where fewer ship than were asked for.
    """
    check_built_in(request, PICTURE_MODEL, SMOL_MODEL)
    known = class_names(request.model)
    name = request.data or next(iter(known))
    if name not in known:
        raise StudyError(
            f"There is no folder {request.data!r}. Name one, or drawn pictures of "
            f"{', '.join(known)}."
        )
    n = request.limit or USUAL
    prompt = filled(template, classes=", ".join(known[name]), what=name.removesuffix("s"))
    selection = _samples(request, f"{name}/selection", request.selection, prompt)
    inside = _samples(request, f"{name}/evaluation", n - n // 3, prompt)
    outside = _samples(request, f"{name}/other", n // 3)
    return _apart(f"{request.model}'s {name}", selection, [*inside, *outside]), known[name]


def _samples(request: Request, part: str, n: int, prompt: str = "") -> list[Sample]:
    """`n` samples of a part; those that bring a prompt of their own are outside the concept.

    A model that knows no list of classes has its own question about them in each row.
    """
    return [
        Sample(
            row.get("prompt") or (not request.prompt and row.get("question")) or prompt,
            tuple(row["answers"]),
            "prompt" not in row,
            (picture,),
        )
        for picture, row in shown_rows(part, n, request.seed, request.model)
    ]


def _apart(name: str, selection: list[Sample], evaluation: list[Sample]) -> Material:
    """Each picture once, and none of the selection's among the judged ones."""
    picked = {sample.key: sample for sample in selection}
    judged = {s.key: s for s in evaluation if s.key not in picked}
    return Material(name, tuple(picked.values()), tuple(judged.values()), stops=STOPS)
