"""Image classification: do the heads of the class names carry the answer?

The paper's study on MNIST, SVHN, EuroSAT, RESISC45, DTD and GTSRB, in its words: the prompt lists
the classes, the answer has to be one of them exactly. Built in are the drawn world's digits,
textures, shapes and backgrounds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from headviz.base.progress import Progress, no_progress
from headviz.clip.load import load_clip
from headviz.clip.name_concept import name_concept, vocabulary_words
from headviz.heads.prompts import prompts_of
from headviz.inputs.concepts import Concept, find_concept, make_concept
from headviz.models.loaded import LoadedModel
from headviz.studies.built_in_pictures import classed_pictures
from headviz.studies.hub_data import PICTURE_SPLITS, is_on_hub, located
from headviz.studies.image_folders import read_labelled
from headviz.studies.request import REPETITION, Measure, Plan, Request, filled
from headviz.studies.samples import Material, Sample, StudyError, split
from headviz.studies.scoring import exact_match

NEW_TOKENS = 12
FROM_PICTURES = "from-pictures"
"""The concept whose words an open_clip model proposes."""
PICTURE_CLIP = "tiny-clip"
SHOWN, LEAST = 64, 10
"""Selection pictures that it looks at, at most, and words that it proposes, at least."""
MEASURES = (
    Measure("exact", "inside", "share of pictures whose class is named exactly"),
    Measure("exact", "outside", "share of right answers about other things"),
    Measure("class", "inside", "share of answers that are a class name at all"),
    REPETITION,
)


def plan(request: Request, model: LoadedModel, progress: Progress = no_progress) -> Plan:
    """Pictures with classes; the concept is the class names unless another one is named."""
    if not model.has_vision:
        raise StudyError(f"{model.name} reads no pictures: name a vision-language model (--model).")
    template = request.prompt or prompts_of(model)["class"]
    if request.data and (Path(request.data).exists() or is_on_hub(request.data)):
        material, classes = _from_folder(request, template, progress)
    else:
        material, classes = classed_pictures(request, template)
    if request.concept == FROM_PICTURES and request.words is None:
        concept = _proposed(request, model, material, len(classes), progress)
    elif request.concept or request.words is not None:
        concept = find_concept(request.concept or None, request.words)
    else:
        concept = make_concept("class names", classes)

    def score(samples: Sequence[Sample], texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
        pairs = list(zip(samples, texts, strict=True))
        return {
            "exact": [exact_match(text, sample.answers) for sample, text in pairs],
            "class": [exact_match(text, classes) for text in texts],
        }

    outside = material.n_inside < len(material.evaluation)
    return Plan(
        material=material,
        concept=concept,
        score=score,
        measures=tuple(m for m in MEASURES if outside or m.part != "outside"),
        max_new_tokens=request.max_new_tokens or NEW_TOKENS,
        causal=tuple(sample for sample in material.selection if sample.inside),
        depends_on={"classes": list(classes)},
    )


def _proposed(
    request: Request,
    model: LoadedModel,
    material: Material,
    n_classes: int,
    progress: Progress,
) -> Concept:
    """As many words as there are classes (or LEAST), that CLIP finds in the selection's pictures.

    They are words of the model's own vocabulary, so that none is dropped.
    """
    clip = load_clip(request.clip or PICTURE_CLIP, progress=progress)
    shown = [sample.pictures[0].image() for sample in material.selection[:SHOWN]]
    named = name_concept(clip, shown, candidates=vocabulary_words(model))
    return named.concept(max(n_classes, LEAST), f"words that {clip.name} finds in the pictures")


def _from_folder(
    request: Request, template: str, progress: Progress
) -> tuple[Material, tuple[str, ...]]:
    path, name = located(request.data, PICTURE_SPLITS, progress), Path(request.data).name
    wanted = request.selection + (request.limit or 200)
    shown, classes = read_labelled(path, wanted, request.seed)
    prompt = filled(template, classes=", ".join(classes), what="object")
    samples = [Sample(prompt, s.texts, True, (s.picture,)) for s in shown]
    selection, evaluation = split(name, samples, request.selection, request.limit, request.seed)
    return Material(name, selection, evaluation, stops=(".", "\n")), classes
