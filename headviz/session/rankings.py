"""All ways to rank heads, in one table that command line, page, library and studies read.

The pursuit's criteria read what heads write on some texts. The others ask what the model's own
words lose: they need texts with continuations and a gradient, or a search. Both give a Ranking: a
score a head, and a level beside it that stands for nothing. None proves anything: `editing.effect`
measures, with heads really turned.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch

from headviz.base.errors import CacheError, OptionError
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Float, Tensor
from headviz.base.store import key_of
from headviz.editing.find import Search, Step, how_far, search_in_steps
from headviz.inputs.concepts import Concept, tokenize_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.pursuit.bootstrap import Spread, draw_counts, spread_of
from headviz.pursuit.criteria import CRITERIA
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.session.causal import ROUNDS, SAID, SEARCH, Causes, chat_of
from headviz.session.session import Session


@dataclass(frozen=True, eq=False)
class Scored:
    """What a way that reads continuations found."""

    scores: Float[Tensor, "layer head"]
    beside: Float[Tensor, "layer head"]
    """The level that stands for nothing, as `Ranking.chance`."""
    spread: Spread | None
    n_texts: int


Ask = Callable[[Causes, str, Concept, PromptSet, Progress], Scored]


@dataclass(frozen=True)
class Way:
    """A way to rank heads, and how its scores are read."""

    title: str
    """A few words for people."""
    is_share: bool
    """Whether a score is a share, 0 to 1, and so told in per cent."""
    score_is: str
    """What a score says, as the page's hover tells it."""
    chance_is: str
    """The same of the level beside it."""
    source: str
    blind: str
    """What it cannot show, as a sentence."""
    ask: Ask | None = None
    """For a way that reads what the model says itself; None for a criterion of the pursuit."""


def attribution(
    causes: Causes, name: str, concept: Concept, texts: PromptSet, progress: Progress
) -> Scored:
    """The loss on the concept's words without each head, to first order, in nats."""
    slopes, counts = causes.reader(name, concept, texts, SEARCH, progress).slopes(progress)
    drawn = _drawn(slopes, counts, 0)
    scores = slopes.sum(0) / counts.sum()
    return Scored(scores, torch.zeros_like(scores), spread_of(drawn, drawn), len(counts))


def lift(
    causes: Causes, name: str, concept: Concept, texts: PromptSet, progress: Progress
) -> Scored:
    """The same, beside what it is on the same texts with their words in a drawn order."""
    real = causes.reader(name, concept, texts, SEARCH, progress)
    mixed = causes.reader(name, concept, texts, SEARCH, progress, is_shuffled=True)
    slopes, counts = real.slopes(progress)
    others, other_counts = mixed.slopes(progress)
    drawn = _drawn(slopes, counts, 0) - _drawn(others, other_counts, 1)
    return Scored(
        slopes.sum(0) / counts.sum(),
        others.sum(0) / other_counts.sum(),
        spread_of(drawn, drawn),
        len(counts),
    )


def learnt(
    causes: Causes, name: str, concept: Concept, texts: PromptSet, progress: Progress
) -> Scored:
    """How far from 1 the factors are that a search learns to take the concept away."""
    reader = causes.reader(name, concept, texts, SEARCH, progress)
    model = reader.model
    search = Search(heads=learnt_heads(model))
    last: Step | None = None
    for last in search_in_steps(reader, search):
        progress(last.share, "searching")
    assert last is not None, "a search has steps"
    scores = how_far(model, last.edit)
    return Scored(scores, torch.zeros_like(scores), None, sum(p.n_texts for p in reader.parts))


def learnt_heads(model: LoadedModel) -> int:
    """How many heads may differ from 1 in a search that ranks, 6 %; the others score 0."""
    return min(256, max(8, round(0.06 * model.total_heads)))


_WRITES = "Whether anything in the model reads what a head writes."
_SHARE = "share of the head's own variance that the concept's words explain"
_LOGIT = "mean logit that what the head writes gives to the concept's words"
_LISTS = "the same for random word lists of the same size: what any list would get"
_LOST = "nats that the concept's words would lose without the head, by the gradient"
RANKINGS: Mapping[str, Way] = {
    **{
        name: Way(
            one.title,
            one.is_share,
            _SHARE if one.is_share else _LOGIT,
            _LISTS,
            one.source,
            _WRITES,
        )
        for name, one in CRITERIA.items()
    },
    "attribution": Way(
        "attribution: loss without the head, by the gradient",
        False,
        _LOST,
        "nothing is taken off",
        "attribution patching (Nanda 2023; Syed et al. 2023)",
        "What happens far from the model as it is: heads that stand in for one another, factors "
        "below 0. It also prefers heads that raise any word.",
        attribution,
    ),
    "lift": Way(
        "lift: attribution on real less on shuffled words",
        False,
        _LOST,
        "the same on the same texts with their words in a drawn order",
        "attribution patching, less the same on word-shuffled texts (ours)",
        "As attribution; and a head that needs no order of words, such as one that repeats a word, "
        "is taken off with what raises anything.",
        lift,
    ),
    "learnt": Way(
        "learnt: how far a search turns the head",
        False,
        "how far from 1 a search turned the head to take the concept away; 0 for most heads",
        "nothing is taken off",
        "soft gates a head (Causal Head Gating, NeurIPS 2025) with iterative hard thresholding",
        "Heads beyond the few that the search keeps, and which of two sets that do the same it "
        "might have kept; its heads count together, not one by one.",
        learnt,
    ),
}
"""Name -> way: all that there are."""


def find_way(name: str) -> Way:
    """The way of that name. Raises OptionError with the known ones."""
    if name not in RANKINGS:
        raise OptionError(f"Unknown criterion {name!r}. Known: {', '.join(RANKINGS)}.")
    return RANKINGS[name]


def rank_stream(
    session: Session,
    name: str,
    concept: Concept,
    prompt_set: PromptSet,
    criterion: str,
    options: Options,
    progress: Progress = no_progress,
) -> Iterator[Ranking]:
    """What `rank` gives at last, and before it, for a criterion of the pursuit, the same soon."""
    if find_way(criterion).ask is None:
        yield from session.rank_stream(name, concept, prompt_set, criterion, options, progress)
    else:
        yield rank(session, name, concept, prompt_set, criterion, options, progress)


def rank(
    session: Session,
    name: str,
    concept: Concept,
    prompt_set: PromptSet | None = None,
    criterion: str = "somp",
    options: Options | None = None,
    progress: Progress = no_progress,
) -> Ranking:
    """Heads ranked for the concept, by any way of the table.

    `prompt_set` is what heads are read on, or what the model goes on from. Where it is None or the
    model's usual one, a way that reads continuations takes openings instead: its own words are in
    what it says to them. Raises OptionError, ConceptError, or PromptError where the model never
    says a word of the concept.
    """
    ask = find_way(criterion).ask
    usual = session.prompt_set(name)
    if ask is None:
        return session.rank(name, concept, prompt_set or usual, criterion, options, progress)
    model = session.model(name)
    if not model.writes:
        raise OptionError(
            f"{model.name} is a CLIP model and writes no text, which {criterion} reads. Choose "
            f"one of {', '.join(CRITERIA)}."
        )
    options = options or session.default_options(name)
    causes = Causes(session)
    is_usual = prompt_set is None or prompt_set.digest == usual.digest
    texts = causes.prompt_set(name, None if is_usual else prompt_set)
    tokens = tokenize_concept(concept, model.tokenizer, options.pieces, model.n_tokens)
    key = (model.name, model.revision, texts.digest, concept, criterion, options)

    def make() -> Ranking:
        found = _kept(causes, name, concept, texts, criterion, ask, progress)
        lacking = torch.ones_like(found.scores, dtype=torch.bool)
        lacking[list(model.head_layers)] = False
        return Ranking(
            model=model.name,
            revision=model.revision,
            tokens=tokens,
            criterion=criterion,
            options=options,
            prompt_set=texts.digest,
            n_samples=found.n_texts,
            scores=found.scores.masked_fill(lacking, torch.nan),
            chance=found.beside.masked_fill(lacking, torch.nan),
            spread=found.spread,
        )

    return session.keep_ranking(key, make)


def _kept(
    causes: Causes,
    name: str,
    concept: Concept,
    texts: PromptSet,
    criterion: str,
    ask: Ask,
    progress: Progress,
) -> Scored:
    """From the store, or asked now and kept there."""
    session = causes.session
    model = session.model(name)
    key = key_of(
        kind="ranking",
        model=model.name,
        revision=model.revision,
        dtype=model.number_format,
        prompt_set=texts.digest,
        said=asdict(SAID),
        rounds=ROUNDS,
        chat=asdict(chat_of(texts)),
        words=list(concept.words),
        criterion=criterion,
    )
    if (kept := session.store.get(key)) is not None:
        tensors, notes = kept
        names = ("low", "high", "best_rank", "worst_rank")
        spread = Spread(*(tensors[n] for n in names)) if "low" in tensors else None
        return Scored(tensors["scores"], tensors["beside"], spread, int(notes["n_texts"]))
    found = ask(causes, name, concept, texts, progress)
    tensors = {"scores": found.scores, "beside": found.beside}
    if found.spread is not None:
        tensors |= {
            "low": found.spread.low,
            "high": found.spread.high,
            "best_rank": found.spread.best_rank,
            "worst_rank": found.spread.worst_rank,
        }
    try:
        session.store.put(key, tensors, {"n_texts": found.n_texts})
    except CacheError as error:
        session.notices.append(str(error))
    return found


def _drawn(
    slopes: Float[Tensor, "text layer head"], counts: Float[Tensor, " text"], seed: int
) -> Float[Tensor, "draw layer head"]:
    """The mean a word in every draw of texts."""
    drawn = draw_counts(len(counts), seed=seed)
    total = torch.einsum("dt,tlh->dlh", drawn, slopes)
    return total / (drawn @ counts).clamp_min(1)[:, None, None]
