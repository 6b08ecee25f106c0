"""Captioning: do the heads of a concept decide how much of it a caption tells?

The paper's study on Flickr30k: concept words a caption, with CIDEr for its quality. Beside it stand
the length and, where a CLIP model is named, the similarity of caption and picture.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from headviz.base.progress import Progress, no_progress
from headviz.clip.embed import similarity
from headviz.clip.load import load_clip
from headviz.editing.measures import concept_spans
from headviz.heads.prompts import prompts_of
from headviz.inputs.concepts import find_concept
from headviz.models.loaded import LoadedModel
from headviz.studies.built_in_pictures import captioned_pictures
from headviz.studies.cider import Cider
from headviz.studies.hub_data import CAPTION_SPLITS, located
from headviz.studies.image_folders import Shown, read_captioned
from headviz.studies.request import REPETITION, Measure, Plan, Request
from headviz.studies.samples import Material, Sample, StudyError, split
from headviz.studies.scoring import length, word_count

CONCEPT = "colors"
NEW_TOKENS = 40
FITS = Measure("clip", "all", "CLIP similarity of caption and picture")
MEASURES = (
    Measure("words", "all", "number of concept words a caption"),
    Measure("cider", "all", "CIDEr of the captions"),
    Measure("length", "all", "length of a caption"),
    REPETITION,
)


def plan(request: Request, model: LoadedModel, progress: Progress = no_progress) -> Plan:
    """Pictures with reference captions, the built-in model's or a file's."""
    if not model.has_vision:
        raise StudyError(f"{model.name} reads no pictures: name a vision-language model (--model).")
    concept = find_concept(request.concept or CONCEPT, request.words)
    prompt = request.prompt or prompts_of(model)["caption"]
    material = (
        _from_file(request, prompt, progress)
        if request.data
        else captioned_pictures(request, prompt)
    )
    cider = Cider([sample.answers for sample in material.evaluation])
    clip = load_clip(request.clip, progress=progress) if request.clip else None

    def score(samples: Sequence[Sample], texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
        pairs = list(zip(samples, texts, strict=True))
        found = {
            "words": [word_count(text, concept.words) for text in texts],
            "cider": [cider.score(text, sample.answers) for sample, text in pairs],
            "length": [length(text) for text in texts],
        }
        if clip is not None:
            images = [sample.pictures[0].image() for sample in samples]
            found["clip"] = similarity(clip, images, texts).tolist()
        return found

    return Plan(
        material=material,
        concept=concept,
        score=score,
        measures=MEASURES + ((FITS,) if clip else ()),
        max_new_tokens=request.max_new_tokens or NEW_TOKENS,
        causal=_telling(material.selection, concept.words),
        depends_on={
            "words": list(concept.words),
            # CIDEr weighs by all references that are judged.
            "judged": [sample.key for sample in material.evaluation],
            "clip": [clip.name, clip.revision] if clip else [],
        },
    )


def _telling(samples: Sequence[Sample], words: Sequence[str]) -> tuple[Sample, ...]:
    """Selection samples with the concept in a caption; the answer is that caption up to there."""
    found = []
    for sample in samples:
        for caption in sample.answers:
            spans = concept_spans(caption, words)
            if spans:
                answer = caption[: spans[0].stop]
                found.append(Sample(sample.prompt, (answer,), True, sample.pictures))
                break
    return tuple(found)


def _from_file(request: Request, prompt: str, progress: Progress) -> Material:
    path, name = located(request.data, CAPTION_SPLITS, progress), Path(request.data).name
    wanted = request.selection + (request.limit or 200)
    samples = [_sample(shown, prompt) for shown in read_captioned(path, wanted, request.seed)]
    selection, evaluation = split(name, samples, request.selection, request.limit, request.seed)
    return Material(name, selection, evaluation)


def _sample(shown: Shown, prompt: str) -> Sample:
    return Sample(prompt, shown.texts, True, (shown.picture,))
