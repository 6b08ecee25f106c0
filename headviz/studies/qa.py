"""Question answering: do the heads of a concept carry its answers, and only those?

The paper's study on TriviaQA: token F1 of questions that are answered by a country against that of
all others. Here any concept, and any list of questions; built in are tiny-lm's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from headviz.base.progress import Progress, no_progress
from headviz.heads.prompts import TEXT_PROMPTS
from headviz.inputs.concepts import find_concept
from headviz.models.loaded import LoadedModel
from headviz.studies.built_in_texts import ordinary_stories, questions
from headviz.studies.formats import read_questions
from headviz.studies.hub_data import TEXT_SPLITS, located
from headviz.studies.request import PERPLEXITY, REPETITION, Measure, Plan, Request, filled
from headviz.studies.samples import Material, Sample, StudyError, belongs, split
from headviz.studies.scoring import exact_match, token_f1

CONCEPT = "countries"
NEW_TOKENS = 12
MEASURES = (
    Measure("f1", "inside", "token F1 of questions inside the concept"),
    Measure("f1", "outside", "token F1 of the other questions"),
    Measure("exact", "inside", "exact match inside the concept"),
    Measure("exact", "outside", "exact match of the other questions"),
    PERPLEXITY,
    REPETITION,
)


def score(samples: Sequence[Sample], texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
    """Token F1 and exact match of each answer."""
    pairs = list(zip(samples, texts, strict=True))
    return {
        "f1": [token_f1(text, sample.answers) for sample, text in pairs],
        "exact": [exact_match(text, sample.answers) for sample, text in pairs],
    }


def plan(request: Request, model: LoadedModel, progress: Progress = no_progress) -> Plan:
    """Questions inside and outside the concept, from the built-in model's world or a file."""
    concept = find_concept(request.concept or CONCEPT, request.words)
    if request.data:
        material, causal = _from_file(request, concept.words, progress)
    else:
        material, causal = questions(request, concept.words)
    if not 0 < material.n_inside < len(material.evaluation):
        side = "outside" if material.n_inside else "inside"
        raise StudyError(
            f"None of the {len(material.evaluation)} questions of {material.name} has an answer "
            f"{side} the concept {concept.name!r}. Name another concept, or other data."
        )
    return Plan(
        material=material,
        concept=concept,
        score=score,
        measures=MEASURES if material.ordinary else tuple(m for m in MEASURES if m != PERPLEXITY),
        max_new_tokens=request.max_new_tokens or NEW_TOKENS,
        causal=causal,
    )


def _from_file(
    request: Request, words: Sequence[str], progress: Progress
) -> tuple[Material, tuple[Sample, ...]]:
    path, name = located(request.data, TEXT_SPLITS, progress), Path(request.data).name
    template = request.prompt or TEXT_PROMPTS["question"]
    samples = [
        Sample(
            filled(template, question=found.question),
            found.answers,
            belongs(found.answers, words),
        )
        for found in read_questions(path)
    ]
    selection, evaluation = split(name, samples, request.selection, request.limit, request.seed)
    ordinary = ordinary_stories(request.model)
    material = Material(name, selection, evaluation, ordinary, stops=("\n",))
    judged = {sample.key for sample in evaluation}
    causal = tuple(s for s in samples if s.inside and s.key not in judged)
    return material, causal
