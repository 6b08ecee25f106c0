"""Ways to order all heads for a concept: a function and its line in ARMS.

An arm sees only the selection samples. `random` has no order of its own: it draws heads from the
same layers as the first arm's, and `unedited` is what everything is divided by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headviz.base.head import Head
from headviz.base.shapes import Float, Tensor
from headviz.editing.effect import Reader
from headviz.editing.find import Search, how_far, search_in_steps
from headviz.editing.passages import Passage, passage, shuffled
from headviz.heads.capture import Progress, no_progress
from headviz.inputs.concepts import Concept, in_sentence_ids
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import Ranking
from headviz.session.rankings import learnt_heads
from headviz.session.session import Session
from headviz.studies.causal import ablation, attribution
from headviz.studies.cells import RANDOM
from headviz.studies.samples import Sample, StudyError
from headviz.studies.teacher_forcing import force

SEARCHED = 24
"""Of these, those that lift and a search read."""
CAUSAL_SAMPLES = 100
"""Selection samples inside the concept that gradient and ablation read, at most."""


@dataclass(frozen=True, eq=False)
class Selecting:
    """What an arm may look at."""

    session: Session
    model: LoadedModel
    name: str
    """Of the model, as the session knows it."""
    concept: Concept
    samples: tuple[Sample, ...]
    """The selection part."""
    causal: tuple[Sample, ...]
    """Samples whose first answer should get less likely when the concept is lost."""
    progress: Progress = no_progress

    @property
    def prompt_set(self) -> PromptSet:
        """The selection samples as the ranking reads them."""
        texts = tuple(sample.prompt for sample in self.samples)
        pictures = tuple(s.pictures[0] for s in self.samples if s.pictures)
        return PromptSet("selection", texts, pictures)


Arm = Callable[[Selecting], Float[Tensor, "layer head"]]


def pursuit(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """How far the share of variance that the concept's tokens explain stands above chance."""
    return _ranked(selecting, "somp").over


def raw_pursuit(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """That share alone: the paper's method to the letter."""
    return _ranked(selecting, "somp").scores


def logit_lens(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """Mean logit that the head's write gives to the concept's tokens: the paper's baseline."""
    return _ranked(selecting, "logit-lens").scores


def by_gradient(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """Attribution patching: gradient × signal of the right answer's log-probability."""
    return attribution(selecting.model, _forced(selecting), selecting.progress)


def by_ablation(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """Exhaustive ablation: what leaving out each head takes from the right answer."""
    return ablation(selecting.model, _forced(selecting), selecting.progress)


def by_lift(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """Attribution on the answers less that on the same with the prompts' words shuffled."""
    model, words = selecting.model, selecting.concept.words
    own, _ = _passages(selecting)
    mixed = [shuffled(model, one) for one in own]
    real, noise = (Reader.of(model, texts, words, selecting.progress) for texts in (own, mixed))
    return real.estimate() - noise.estimate()


def by_search(selecting: Selecting) -> Float[Tensor, "layer head"]:
    """How far a search turns each head to take the answers away and leave the others."""
    own, others = _passages(selecting)
    words = selecting.concept.words
    reader = Reader.of(selecting.model, [*own, *others], words, selecting.progress)
    *_, last = search_in_steps(reader, Search(heads=learnt_heads(selecting.model)))
    return how_far(selecting.model, last.edit)


ARMS: Mapping[str, Arm | None] = {
    "pursuit": pursuit,
    "raw": raw_pursuit,
    "logit-lens": logit_lens,
    "attribution": by_gradient,
    "ablation": by_ablation,
    "lift": by_lift,
    "learnt": by_search,
    RANDOM: None,
}
"""Name -> scores, larger for heads that carry more. None: drawn, not scored."""
USUAL_ARMS = ("pursuit", "logit-lens", RANDOM)


def check_arms(names: tuple[str, ...]) -> None:
    """Raise StudyError for an unknown arm, or where there is none that random heads go with."""
    for name in names:
        if name not in ARMS:
            raise StudyError(f"Unknown arm {name!r}. Known: {', '.join(ARMS)}.")
    if not names or names[0] == RANDOM:
        raise StudyError(
            "The first arm has to be one that scores heads: random heads are matched to it. "
            f"Write e.g. --arms {','.join(USUAL_ARMS)}."
        )


def in_order(scores: Float[Tensor, "layer head"]) -> tuple[Head, ...]:
    """All heads, the highest score first."""
    n_heads = scores.shape[1]
    order = scores.flatten().argsort(descending=True, stable=True).tolist()
    return tuple(Head(number // n_heads, number % n_heads) for number in order)


def _ranked(selecting: Selecting, criterion: str) -> Ranking:
    return selecting.session.rank(
        selecting.name,
        selecting.concept,
        selecting.prompt_set,
        criterion,
        progress=selecting.progress,
    )


def _passages(selecting: Selecting) -> tuple[list[Passage], list[Passage]]:
    """Samples with answers of the concept, and selection samples with others."""
    _check_causal(selecting)
    others = [sample for sample in selecting.samples if not sample.inside and sample.answers]
    own, beside = (
        [
            passage(
                selecting.model,
                sample.prompt,
                in_sentence_ids(sample.answers[0], selecting.model.tokenizer),
                sample.pictures,
            )
            for sample in some
            if sample.answers
        ]
        for some in (selecting.causal[:SEARCHED], others[: SEARCHED // 2])
    )
    return own, beside


def _check_causal(selecting: Selecting) -> None:
    if not selecting.causal:
        raise StudyError(
            "Attribution, lift, ablation and learnt factors need selection samples whose answer "
            "belongs to the concept, and there is none. Leave these arms out, or give more data."
        )


def _forced(selecting: Selecting) -> list:
    _check_causal(selecting)
    return [force(selecting.model, sample) for sample in selecting.causal[:CAUSAL_SAMPLES]]
