"""The studies: a name, what it asks, and how its plan is made. A study is a row in EXPERIMENTS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headviz.base.errors import UnknownName
from headviz.base.progress import Progress
from headviz.models.loaded import LoadedModel
from headviz.studies import captioning, classification, qa, toxicity
from headviz.studies.request import Plan, Request


@dataclass(frozen=True)
class Experiment:
    """One of the paper's studies."""

    title: str
    model: str
    """The built-in model that it runs on."""
    concept: str
    """The usual concept; empty where it comes from the data."""
    plan: Callable[[Request, LoadedModel, Progress], Plan]


EXPERIMENTS: Mapping[str, Experiment] = {
    "qa": Experiment("question answering", "tiny-lm", qa.CONCEPT, qa.plan),
    "toxicity": Experiment("toxicity", "tiny-lm", toxicity.CONCEPT, toxicity.plan),
    "classification": Experiment("image classification", "tiny-vlm", "", classification.plan),
    "captioning": Experiment("captioning", "tiny-vlm", captioning.CONCEPT, captioning.plan),
}


def find_experiment(name: str) -> Experiment:
    """The study of that name. Raises UnknownName."""
    if name not in EXPERIMENTS:
        raise UnknownName("study", name, EXPERIMENTS)
    return EXPERIMENTS[name]
