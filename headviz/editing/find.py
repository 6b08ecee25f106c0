"""Find an edit: the few heads and factors that take a concept away and leave the rest alone.

Or that bring it forward. One factor a head is learnt by gradient descent on texts with
continuations: towards less (or more) probability for the concept's words, away from moving anything
else by more than is allowed. A penalty on |factor − 1| and a schedule that keeps ever fewer heads
leave at most the number asked for; then all are turned as far as is allowed, and what can be put
back without loss is put back. All of them ask the same of the texts: less where a word of the
concept stands, or more where one might. The result is learnt on one half of the texts and judged on
the other, which the search never sees. (Soft gates a head: Causal Head Gating, NeurIPS 2025;
keeping the largest and learning on: iterative hard thresholding.) Knows nothing of rankings: what
is held against the result is handed in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Bool, Float, Int, Tensor
from headviz.editing.control import control_of
from headviz.editing.effect import Effect, Part, Reader, likelihood, rows_of
from headviz.heads.edits import NO_EDIT, Edit, factor_table
from headviz.inputs.concepts import in_sentence_ids
from headviz.models.loaded import LoadedModel

RANDOM_SETS = 30
TOWARDS = ("weaker", "stronger")
LIMITS: Mapping[str, tuple[float, float]] = {"weaker": (-3.0, 3.0), "stronger": (-3.0, 8.0)}
"""Factors that a search may reach."""
_LEFT_ALONE = 0.4  # of the layers, the first ones: to turn their heads moves everything
_SHALLOW = 8  # a model of so few layers does in its first ones what others do late
_ENOUGH: Mapping[str, float] = {"weaker": 5.0, "stronger": 2.0}
"""Nats: what is gained beyond counts less and less."""
_RATE = 0.12  # of Adam, a step
_LASSO = 0.02  # nats for a factor that differs by 1
_DEARER = 1.15  # times the price of a side effect, after a step with too much of it
_DEAREST = 50.0  # nats for all the side effect that is allowed
_LOSS = 0.05  # of the effect: what putting heads back may cost
_FURTHER = (1.25, 1.6, 2.0, 2.5)
_BACK = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
"""Times the distance from 1, tried in this order at the end."""
_FEWER = ((0.3, None), (0.45, 8), (0.6, 4), (0.7, 2))
"""Up to this share of the steps so many times the heads asked for may differ from 1; None: all."""


@dataclass(frozen=True)
class Search:
    """What is looked for."""

    towards: str = "weaker"
    """One of TOWARDS."""
    heads: int = 8
    """At most so many."""
    side_effects: float = 0.1
    """Mean KL divergence elsewhere that is allowed, in nats."""
    steps: int = 48
    thrift: float = 0.05
    """Nats that all of the allowed side effect has to bring, where there is less of it."""
    cheaper: float = 0.87
    """Times the price of a side effect, after a step with less of it than is allowed."""

    def __post_init__(self) -> None:
        """Raise OptionError for what cannot be searched for."""
        if self.towards not in TOWARDS:
            raise OptionError(f"Unknown direction {self.towards!r}. Known: {', '.join(TOWARDS)}.")
        if not 1 <= self.heads <= 256:
            raise OptionError(f"heads is {self.heads}; choose 1 to 256.")
        if not 0 < self.side_effects <= 10:
            raise OptionError(f"side_effects is {self.side_effects}; choose above 0, at most 10.")
        if not 0 < self.thrift <= _DEAREST:
            raise OptionError(f"thrift is {self.thrift}; choose above 0, at most {_DEAREST:g}.")
        if not 0.5 <= self.cheaper <= 1:
            raise OptionError(f"cheaper is {self.cheaper}; choose 0.5 to 1.")
        if not 10 <= self.steps <= 1000:
            raise OptionError(f"steps is {self.steps}; choose 10 to 1000.")

    @property
    def factor(self) -> float:
        """What other ways to choose heads turn them to."""
        return -1.0 if self.towards == "weaker" else 3.0

    def gain(self, need: float) -> float:
        """What a loss is worth here, in nats: itself, or the rise."""
        return need if self.towards == "weaker" else -need

    def allowed(self, step: int) -> int | None:
        """How many heads may differ from 1 after this step; None for all."""
        done = (step + 1) / self.steps
        for share, times in _FEWER:
            if done < share:
                return None if times is None else self.heads * times
        return self.heads


@dataclass(frozen=True)
class Step:
    """How far a search has come."""

    share: float
    """0 to 1."""
    edit: Edit
    """The heads turned farthest so far, at most as many as were asked for."""
    gain: float
    """By how much the concept's words fell (or rose) on the batch just read, in nats."""
    side: float
    """KL elsewhere on it, in nats."""


@dataclass(frozen=True)
class Judged:
    """An edit and what it does on texts that no search has seen."""

    edit: Edit
    effect: Effect


@dataclass(frozen=True)
class Found:
    """What a search found, beside what else could have been chosen."""

    search: Search
    found: Judged
    rivals: Mapping[str, Judged]
    """Other ways to choose as many heads, by name."""
    random: tuple[Effect, ...]
    """The same factors on random heads of the same layers."""
    curve: tuple[tuple[float, float], ...]
    """Gain and side effect after every step, on the batch of texts that it read."""

    @property
    def random_need(self) -> float:
        """Median over the random sets of what they cost the concept, in nats."""
        return median([effect.need for effect in self.random])

    @property
    def random_side(self) -> float:
        """Median over the random sets of their side effects, in nats."""
        return median([effect.side for effect in self.random])

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        judged = {"found": self.found, **self.rivals}
        drawn = {"sets": len(self.random), "need": self.random_need, "side": self.random_side}
        return {
            "search": asdict(self.search),
            "edits": {
                name: {"edit": str(one.edit), **one.effect.as_dict()}
                for name, one in judged.items()
            },
            "random": drawn,
            "curve": [list(point) for point in self.curve],
        }


def aimed(reader: Reader, search: Search) -> Reader:
    """The texts as a search asks them: where a word of the concept stands, or where one might.

    Given answers are aimed at either way. Raises OptionError where no text leaves room for more.
    """
    if search.towards == "weaker" or not reader.words:
        return reader
    found = reader.where_likely(_concept_ids(reader.model, reader.words))
    if not found.batches():
        raise OptionError("No text leaves room for the concept to get stronger. Choose others.")
    return found


def search_in_steps(reader: Reader, search: Search) -> Iterator[Step]:
    """Search on these texts; the last step holds the result. Stop it by closing the iterator.

    Raises OptionError where no text leaves room for the concept to get stronger.
    """
    model = reader.model
    ids = _concept_ids(model, reader.words) if reader.words else None
    sign = 1.0 if search.towards == "weaker" else -1.0
    usable = [
        (part, _Aim.of(part, ids, sign)) for part in aimed(reader, search).parts if part.own.any()
    ]
    n_layers = len(model.head_layers)
    start = model.head_layers[int(_LEFT_ALONE * n_layers) if n_layers > _SHALLOW else 0]
    with torch.inference_mode(False):
        size = (1, model.n_layers, model.n_heads)
        table = torch.ones(size, device=model.device, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=_RATE, betas=(0.8, 0.99))
    may_differ = torch.zeros_like(table, dtype=torch.bool)
    may_differ[:, [layer for layer in model.head_layers if layer >= start]] = True
    enough, price = _ENOUGH[search.towards], max(1.0, search.thrift)
    for step in range(search.steps):
        part, aim = usable[step % len(usable)]
        # Nothing differs before the first layer that may: what was read there holds.
        start = int(may_differ[0].any(1).nonzero()[0])
        with reader.lock(), torch.inference_mode(False), torch.enable_grad():
            now = part.replay.logits(rows_of(table, part), part.at, start).log_softmax(1)
            gain, side = aim.gain(now), aim.side(part, now)
            loss = price * side / search.side_effects - enough * torch.tanh(gain / enough)
            loss = loss + _LASSO * (table - 1).abs().sum()
            (table.grad,) = torch.autograd.grad(loss, table)
            optimizer.step()
        with torch.no_grad():
            table.clamp_(*LIMITS[search.towards])
            table[~may_differ] = 1
            may_differ &= _farthest(table, search.allowed(step))
            table[~may_differ] = 1
        # The price of a side effect rises while there is too much of it, and falls else.
        price *= _DEARER if float(side.detach()) > search.side_effects else search.cheaper
        price = min(max(price, search.thrift), _DEAREST)
        best = _edit(table.detach(), search.heads)
        done = (step + 1) / search.steps
        yield Step(done, best, float(gain.detach()), float(side.detach()))


def how_far(model: LoadedModel, edit: Edit) -> Float[Tensor, "layer head"]:
    """How far from 1 the edit turns each head: a learnt edit read as a ranking."""
    return (factor_table(model, [edit])[0] - 1).abs().float().cpu()


def learnt_edit(reader: Reader, search: Search) -> Edit:
    """What a whole search on these texts ends with, turned as far as is allowed."""
    *_, last = search_in_steps(reader, search)
    return stretched(reader, last.edit, search)


def stretched(reader: Reader, edit: Edit, search: Search, progress: Progress = no_progress) -> Edit:
    """The edit with all its factors as far from 1 as the side effect allows, on all the texts.

    A search ends on one batch, some way above or below what is allowed. Further, as long as more
    is gained; back, until no more is moved elsewhere than is allowed. No edit, where nothing is
    gained.
    """
    reader = aimed(reader, search)
    low, high = LIMITS[search.towards]

    def turned(times: float) -> Edit:
        moved = {h: min(max(1 + times * (f - 1), low), high) for h, f in edit.factors.items()}
        return Edit({h: round(20 * f) / 20 for h, f in moved.items() if round(20 * f) != 20})

    def effect(tried: Edit) -> Effect:
        measured = reader.measure(
            tried, lambda *_: progress(0.8, "turning all heads further, or back")
        )
        return measured.effect()

    best, now = edit, effect(edit)
    if now.side > search.side_effects:
        for times in _BACK:
            best = turned(times)
            now = effect(best)
            if now.side <= search.side_effects:
                break
    else:
        for times in _FURTHER:
            tried = turned(times)
            then = effect(tried)
            if then.side > search.side_effects or search.gain(then.need) <= search.gain(now.need):
                break
            best, now = tried, then
    return best if search.gain(now.need) > 0 else NO_EDIT


def trimmed(reader: Reader, edit: Edit, search: Search, progress: Progress = no_progress) -> Edit:
    """The edit without the heads that can be put back at next to no loss of its effect.

    The loss adds up: all that are put back together may cost no more than one may.
    """
    reader = aimed(reader, search)

    def gain(tried: Edit) -> float:
        measured = reader.measure(
            tried, lambda *_: progress(0.8, "putting back heads that are not needed")
        )
        return search.gain(measured.effect().need)

    least = (1 - _LOSS) * gain(edit)
    by_size = sorted(edit.factors, key=lambda head: abs(edit.factors[head] - 1))
    for head in by_size[:-1]:
        fewer = Edit({h: f for h, f in edit.factors.items() if h != head})
        if gain(fewer) >= least:
            edit = fewer
    return edit


def judged(
    judge: Reader,
    search: Search,
    edit: Edit,
    rivals: Mapping[str, Edit],
    curve: tuple[tuple[float, float], ...],
    progress: Progress = no_progress,
) -> Found:
    """The edit on texts that the search has not seen, beside other edits and random heads.

    Each random set is measured on a batch of the texts, all batches in turn: only the median over
    the sets is told, which as many sets on all texts would not make surer.
    """
    judge = aimed(judge, search)
    drawn, batches = [], judge.batches()
    for seed in range(RANDOM_SETS):
        progress(0.85 + 0.15 * seed / RANDOM_SETS, f"random heads, set {seed + 1} of {RANDOM_SETS}")
        batch = batches[seed % len(batches)]
        drawn.append(batch.measure(control_of(judge.model, edit, seed)).effect())
    measured = {
        name: Judged(one, judge.measure(one).effect())
        for name, one in {"found": edit, **rivals}.items()
        if one.factors
    }
    return Found(search, measured.pop("found"), measured, tuple(drawn), curve)


@dataclass(frozen=True, eq=False)
class _Aim:
    """Where in one batch the concept is to change, and from what."""

    places: Int[Tensor, " own"]
    ids: Int[Tensor, " word"] | None
    """All words of the concept; None where each place's own token is what is aimed at."""
    tokens: Int[Tensor, " own"]
    base: Float[Tensor, " own"]
    """Log-probability of what is aimed at, unedited."""
    sign: float

    @classmethod
    def of(cls, part: Part, ids: Int[Tensor, " word"] | None, sign: float) -> "_Aim":
        """All own places of a batch."""
        places = part.own.nonzero().flatten()
        tokens = part.tokens[places]
        return cls(places, ids, tokens, likelihood(part.base[places], ids, tokens), sign)

    def gain(self, now: Float[Tensor, "scored vocab"]) -> Float[Tensor, ""]:
        """Mean fall (or rise) of the log-probability of what is aimed at, in nats."""
        return self.sign * (self.base - likelihood(now[self.places], self.ids, self.tokens)).mean()

    def side(self, part: Part, now: Float[Tensor, "scored vocab"]) -> Float[Tensor, ""]:
        """Mean KL elsewhere."""
        base, other = part.base[~part.own], now[~part.own]
        return (base.exp() * (base - other)).sum() / max(1, len(base))


def _concept_ids(model: LoadedModel, words: Sequence[str]) -> Int[Tensor, " word"]:
    """Tokens that are a whole word of the concept, in either case."""
    found: dict[int, None] = {}
    for word in words:
        for written in (word, word.lower(), word.capitalize()):
            ids = in_sentence_ids(written, model.tokenizer)
            if len(ids) == 1 and ids[0] < model.n_tokens:
                found[ids[0]] = None
    if not found:
        raise OptionError(
            "No word of the concept is a single token of this model, so that there is nothing to "
            "aim at. Choose other words."
        )
    return torch.tensor(list(found), device=model.device)


def _farthest(table: Float[Tensor, "1 layer head"], n: int | None) -> Bool[Tensor, "1 layer head"]:
    """The n heads whose factors are farthest from 1; all for None."""
    apart = (table - 1).abs().flatten()
    kept = torch.ones_like(apart, dtype=torch.bool)
    if n is not None and n < len(apart):
        kept[:] = False
        kept[apart.topk(n).indices] = True
    return kept.view_as(table)


def _edit(table: Float[Tensor, "1 layer head"], n: int) -> Edit:
    """The n heads that differ most from 1, with factors as a person writes them."""
    rounded = (table[0].cpu() * 20).round() / 20
    apart = (rounded - 1).abs()
    order = apart.flatten().argsort(descending=True, stable=True)[:n].tolist()
    heads = [Head(number // apart.shape[1], number % apart.shape[1]) for number in order]
    kept = [head for head in heads if apart[head.layer, head.index] > 0]
    return Edit({head: round(float(rounded[head.layer, head.index]), 2) for head in kept})
