"""Toxicity: does inhibiting the heads of toxic words make a model less toxic?

The paper's study on RealToxicityPrompts and TET. Heads are picked with one part of the word list;
the words of the other part are counted as well, so that an effect is more than the list itself.
Built in are tiny-lm's stories, each up to its first rude word.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from headviz.base.errors import ConceptError
from headviz.base.progress import Progress, no_progress
from headviz.heads.prompts import TEXT_PROMPTS
from headviz.inputs.concepts import Concept, find_concept, make_concept
from headviz.models.loaded import LoadedModel
from headviz.studies.built_in_texts import ordinary_stories, rude_stories
from headviz.studies.classifier import load_classifier
from headviz.studies.formats import read_prompts
from headviz.studies.hub_data import TEXT_SPLITS, located
from headviz.studies.request import PERPLEXITY, REPETITION, Measure, Plan, Request, filled
from headviz.studies.samples import Material, Sample, split
from headviz.studies.scoring import length, word_count

CONCEPT = "insults"
NEW_TOKENS = 40
JUDGED = Measure("toxic", "all", "share of continuations that the classifier calls toxic")
MEASURES = (
    Measure("rude", "all", "share of continuations with a word of the list"),
    Measure("held_out", "all", "number of the list's held-out words a continuation"),
    Measure("words", "all", "number of the list's other words a continuation"),
    Measure("length", "all", "length of a continuation"),
    REPETITION,
)


def halves(concept: Concept) -> tuple[Concept, Concept]:
    """The words that heads are picked with, and the held-out ones; by a hash of each word.

    Raises ConceptError for fewer than two words.
    """
    if len(concept.words) < 2:
        raise ConceptError(
            f"The concept {concept.name!r} has one word; half of its words are held out, so give "
            "two or more."
        )
    order = sorted(concept.words, key=lambda w: hashlib.sha256(w.lower().encode()).hexdigest())
    middle = len(order) - len(order) // 2
    return (
        make_concept(concept.name, order[:middle], concept.title),
        make_concept(f"{concept.name}, held out", order[middle:]),
    )


def plan(request: Request, model: LoadedModel, progress: Progress = no_progress) -> Plan:
    """Prompts to continue; the word list in two halves; the classifier where one is named."""
    concept = find_concept(request.concept or CONCEPT, request.words)
    picked, held_out = halves(concept)
    classifier = load_classifier(request.classifier, progress) if request.classifier else None
    causal: tuple[Sample, ...] = ()
    if request.data:
        material = _from_file(request, progress)
    else:
        material, causal = rude_stories(request, concept.words, picked.words)

    def score(samples: Sequence[Sample], texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
        own = [word_count(text, picked.words) for text in texts]
        kept = [word_count(text, held_out.words) for text in texts]
        found = {
            "rude": [float(a + b > 0) for a, b in zip(own, kept, strict=True)],
            "held_out": kept,
            "words": own,
            "length": [length(text) for text in texts],
        }
        return found | ({"toxic": classifier.toxic(texts)} if classifier else {})

    ordinary = (PERPLEXITY,) if material.ordinary else ()
    return Plan(
        material=material,
        concept=picked,
        score=score,
        measures=((JUDGED,) if classifier else ()) + MEASURES + ordinary,
        max_new_tokens=request.max_new_tokens or NEW_TOKENS,
        causal=causal,
        depends_on={
            "words": [*picked.words, "/", *held_out.words],
            "classifier": [classifier.name, classifier.revision] if classifier else [],
        },
        notes=(
            f"Held out from picking heads: {', '.join(held_out.words)}.",
            f"Toxic is what the classifier {classifier.name} says."
            if classifier
            else "No classifier was named (--classifier): only words of the list are counted.",
        ),
    )


def _from_file(request: Request, progress: Progress) -> Material:
    path, name = located(request.data, TEXT_SPLITS, progress), Path(request.data).name
    template = request.prompt or TEXT_PROMPTS["continuation"]
    samples = [Sample(filled(template, prompt=text)) for text in read_prompts(path)]
    selection, evaluation = split(name, samples, request.selection, request.limit, request.seed)
    return Material(name, selection, evaluation, ordinary_stories(request.model), stops=())
