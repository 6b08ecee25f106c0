"""What one visitor is looking at: small plain data that the panels share.

The results themselves stay in the session; a View says which ones.
"""

from dataclasses import dataclass
from functools import lru_cache

from headviz.base.head import Head
from headviz.heads.chat import can_think
from headviz.inputs.concepts import Concept
from headviz.inputs.prompt_sets import PromptSet, find_prompt_set
from headviz.models.known import known_models
from headviz.models.places import chat_template_here
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session.rankings import rank
from headviz.session.session import Session
from headviz.session.shipped import SPECTRUM_STEPS, Shipped, load_shipped

TOP = 64


@dataclass(frozen=True)
class ModelShown:
    """What the panels must know of the chosen model."""

    name: str
    has_vision: bool = False
    """Whether it reads pictures."""
    writes: bool = True
    """Whether it writes text; a CLIP model only chooses among classes."""
    prompts: tuple[str, ...] = ()
    """The paper's, where it sees and writes, the first for captions; empty until it is loaded."""
    template: bool | None = None
    """Whether a prompt is set inside a chat template; None until it is known."""
    thinks: bool = False
    """Whether its template can be told to let it think first."""


@dataclass(frozen=True)
class View:
    """A ranking on the page."""

    model: str
    prompt_set: PromptSet
    concept: Concept
    criterion: str
    options: Options
    n_layers: int
    n_heads: int
    total_heads: int
    """Heads of all layers that have any."""
    top: tuple[Head, ...]
    """The first heads of the ranking, at most TOP."""
    shipped: bool
    """Whether the results came with the model instead of being computed here."""
    n_positions: int | None = None
    """Token positions read, over all samples; None where not kept."""

    @property
    def has_vision(self) -> bool:
        """Whether heads were read on pictures."""
        return bool(self.prompt_set.pictures)


@lru_cache(maxsize=8)
def shipped_of(model: str) -> Shipped | None:
    """What ships with the model, read once."""
    return load_shipped(model)


def shown_before(name: str) -> ModelShown:
    """The model as far as it is known before its weights are read."""
    shipped, template = shipped_of(name), chat_template_here(name)
    known = known_models().get(name)
    return ModelShown(
        name,
        (shipped is not None and shipped.sees) or (known is not None and known.sees),
        template=None if template is None else bool(template),
        thinks=can_think(template or ""),
    )


def view_of(ranking: Ranking, prompt_set: PromptSet, shipped: bool = False) -> View:
    """The view of this ranking."""
    n_layers, n_heads = ranking.scores.shape
    return View(
        model=ranking.model,
        prompt_set=prompt_set,
        concept=ranking.tokens.concept,
        criterion=ranking.criterion,
        options=ranking.options,
        n_layers=n_layers,
        n_heads=n_heads,
        total_heads=ranking.total_heads,
        top=ranking.preselected(TOP),
        shipped=shipped,
        n_positions=ranking.n_positions,
    )


def first_view(model: str, concept: str) -> View | None:
    """What the page shows before any model is loaded, or None where nothing is shipped."""
    shipped = shipped_of(model)
    if shipped is None or concept not in shipped.concepts:
        return None
    prompt_set = find_prompt_set(shipped.data["prompt_set"], model, shipped.sees)
    return view_of(shipped.ranking(concept), prompt_set, True)


def find_ranking(session: Session, view: View) -> Ranking:
    """The ranking of the view: shipped, remembered, or computed anew."""
    shipped = shipped_of(view.model) if view.shipped else None
    if shipped is not None:
        return shipped.ranking(view.concept.name)
    return rank(session, view.model, view.concept, view.prompt_set, view.criterion, view.options)


def find_spectrum(session: Session, view: View, head: Head) -> Spectrum:
    """The spectrum of one head of the view."""
    shipped = shipped_of(view.model) if view.shipped else None
    if shipped is not None:
        return shipped.spectrum(head)
    return session.spectrum(view.model, head, view.prompt_set, SPECTRUM_STEPS, view.options)
