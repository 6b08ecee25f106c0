"""Rankings on trial: the first heads of every ranking are turned, on texts that none has seen.

A subject is a relation, or a concept in free text: texts to search on, others to judge on, and a
way to rank heads. For every arm, number of heads and factor it is measured what the own words lose
and what else moves; the folder keeps each number as it comes, so that a killed run goes on. Knows
nothing of where texts come from, and draws no conclusions.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

from headviz.base.head import Head
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Float, Tensor
from headviz.base.store import key_of
from headviz.editing.control import control_of
from headviz.editing.effect import Reader
from headviz.editing.find import Search, learnt_edit
from headviz.heads.edits import NO_EDIT, Edit
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import Ranking
from headviz.studies.arms import in_order
from headviz.studies.cells import RANDOM, head_counts
from headviz.studies.folder import StudyFolder
from headviz.studies.samples import StudyError

LEARNT, PRUNED = "learnt", "pruned"
STEPS = 64
"""Steps of a search."""
POOL = 16
"""Heads over chance that `pruned` chooses from."""
TOGETHER = 8
"""Of those the best alone, which it tries together."""
PRUNED_FACTOR = -1.0
"""What they are turned to while it chooses."""
PRICE = 5.0
"""Nats that a nat of side effect has to bring `pruned`."""
ENOUGH = 5.0
"""Nats: what `pruned` takes beyond counts less and less, so that to break everything is no gain."""
LEARNT_DRAWS = 5
"""Random sets of the layers of the learnt edit, with its factors, at most."""


@dataclass(frozen=True)
class Trial:
    """What is asked for."""

    study: str
    model: str
    data: str = ""
    ks: tuple[str, ...] = ("1%", "3%", "6%")
    alphas: tuple[float, ...] = (-1.0, 0.0)
    arms: tuple[str, ...] = ()
    limit: int = 8
    """Texts of a subject to search on, and as many to judge on, at most."""
    draws: int = 30
    """Random sets of the layers of the first arm's heads."""

    def __post_init__(self) -> None:
        """Raise StudyError for an unknown arm or a number out of range."""
        for name in self.arms:
            if name not in (*ARMS, RANDOM):
                known = ", ".join([*ARMS, RANDOM])
                raise StudyError(f"Unknown arm {name!r}. Known: {known}.")
        if self.arms[:1] == (RANDOM,):
            raise StudyError("Random heads are matched to the first arm's: name another first.")
        if not self.ks or not self.alphas:
            raise StudyError("Give one number of heads (--k) and one factor (--alpha) or more.")
        if self.limit < 2 or self.draws < 1:
            raise StudyError("Give --limit 2 or more, and --draws 1 or more.")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The arms, all of them where none is named."""
        return self.arms or (*ARMS, RANDOM)


@dataclass(frozen=True, eq=False)
class Subject:
    """A relation or a concept, with all that its arms may look at."""

    name: str
    model: LoadedModel
    sizes: tuple[int, int]
    """Texts that choose heads, and texts that judge."""
    depends_on: Mapping[str, Any]
    """What its texts and rankings come from, for keys."""
    make_search: Callable[[], Reader]
    """Texts to choose heads on: those with own words, and others."""
    make_own: Callable[[], Reader]
    """Those of them alone that have own words, each once."""
    make_shuffled: Callable[[], Reader]
    """The same, the words of each in a drawn order."""
    make_judge: Callable[[], Reader]
    """Other texts; no arm reads them."""
    ranked: Callable[[str], Ranking]
    """Criterion -> the pursuit's ranking."""
    wanted: Search
    """What is learnt, but for the number of heads and of steps."""
    make_learning: Callable[[], Reader] | None = None
    """Texts to learn factors on, where they are others than those of the search."""
    learnt_on: str = ""
    """What these texts are, for keys."""

    @cached_property
    def search(self) -> Reader:
        """Texts to choose heads on, read."""
        return self.make_search()

    @cached_property
    def learning(self) -> Reader:
        """Texts to learn factors on, read."""
        return self.make_learning() if self.make_learning else self.search

    @cached_property
    def own(self) -> Reader:
        """The search's texts with own words, read."""
        return self.make_own()

    @cached_property
    def judge(self) -> Reader:
        """Texts that no arm has seen, read."""
        return self.make_judge()


Kept = Callable[[str, Callable[[], Mapping[str, Any]]], Mapping[str, Any]]
"""(what, how it is made) -> it, from the folder or made now."""


@dataclass(frozen=True)
class Outcome:
    """What one edit did to a subject's held-out texts."""

    subject: str
    arm: str
    k: int
    alpha: float | None
    """None for learnt factors."""
    draw: int
    edit: str
    own: float
    """Share of the own words that are still the likeliest, of those that were."""
    others: float
    """The same at all other places."""
    need: float
    """Fall of the own words' log-probability, nats."""
    side: float
    """KL elsewhere, nats."""


@dataclass(frozen=True)
class HeadRole:
    """One head: what it writes, what is lost without it, and what that makes it."""

    head: str
    over: float
    writes: bool
    need: float
    low: float
    high: float
    role: str


def pursuit(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """How far the share of variance that the words explain stands above chance."""
    return subject.ranked("somp").over


def raw(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """That share alone: the paper's method to the letter."""
    return subject.ranked("somp").scores


def logit_lens(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """Mean logit that the head's write gives to the words."""
    return subject.ranked("logit-lens").scores


def attribution(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """The loss without each head, to first order."""
    return _table(kept("attribution", lambda: {"t": subject.own.estimate().tolist()}), "t")


def lift(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """Attribution on real texts less that on the same words in a drawn order."""
    made = kept("shuffled", lambda: {"t": subject.make_shuffled().estimate().tolist()})
    return attribution(subject, kept) - _table(made, "t")


def ablation(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """The loss without each head, measured one by one."""
    return needs(subject, kept)[0]


def pruned(subject: Subject, kept: Kept) -> Float[Tensor, "layer head"]:
    """Of the first heads over chance those that together take most for what else they move.

    Measured: the best TOGETHER alone, then one at a time, each beside those before it, all turned
    to PRUNED_FACTOR. What is best without any more of them is left; all other heads have no score.
    """
    over = pursuit(subject, kept)

    def worth(*heads: Head) -> float:
        effect = subject.search.measure(Edit.of(heads, PRUNED_FACTOR)).effect()
        return ENOUGH * math.tanh(effect.need / ENOUGH) - PRICE * effect.side

    def make() -> Mapping[str, Any]:
        pool = [head for head in scored_heads(over)[:POOL] if over[head.layer, head.index] > 0]
        alone = {head: worth(head) for head in pool}
        left = sorted(pool, key=alone.__getitem__, reverse=True)[:TOGETHER]
        chosen = left[:1]
        worths = [alone[head] for head in chosen]
        while left := [head for head in left if head not in chosen]:
            together = {head: worth(*chosen, head) for head in left}
            chosen.append(max(left, key=together.__getitem__))
            worths.append(together[chosen[-1]])
        return {"heads": [str(head) for head in chosen], "worths": worths}

    made = kept("pruned together, up to enough", make)
    best = max(range(len(made["heads"])), key=made["worths"].__getitem__, default=-1)
    scores = torch.full_like(over, -torch.inf)
    for place, head in enumerate(map(Head.parse, made["heads"][: best + 1])):
        scores[head.layer, head.index] = -place
    return scores


ARMS: Mapping[str, Callable[[Subject, Kept], Float[Tensor, "layer head"]] | None] = {
    "pursuit": pursuit,
    "raw": raw,
    "logit-lens": logit_lens,
    "attribution": attribution,
    "lift": lift,
    "ablation": ablation,
    PRUNED: pruned,
    LEARNT: None,
}
"""Name -> scores of all heads, larger for those that are turned first; None: an edit is learnt.

Heads that are never turned have -inf.
"""


def needs(subject: Subject, kept: Kept) -> Float[Tensor, "number layer head"]:
    """What is lost without each head, measured on the search texts; with its interval's ends."""

    def make(layer: int) -> Mapping[str, Any]:
        heads = [Head(layer, index) for index in range(subject.model.n_heads)]
        effects = [subject.own.measure(Edit({head: 0.0})).effect() for head in heads]
        return {"t": [[one.need, one.need_low, one.need_high] for one in effects]}

    table = torch.zeros(3, subject.model.n_layers, subject.model.n_heads)
    for layer in subject.model.head_layers:
        table[:, layer] = _table(kept(f"ablation of layer {layer}", partial(make, layer)), "t").T
    return table


@dataclass(frozen=True, eq=False)
class Ladder:
    """One trial over its subjects, in a folder."""

    trial: Trial
    model: LoadedModel
    subjects: tuple[Subject, ...]
    folder: StudyFolder

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of heads, the smallest first."""
        return tuple(sorted(head_counts(self.trial.ks, self.model.total_heads)))

    def kept(self, subject: Subject) -> Kept:
        """From the folder, or made now and kept."""

        def find(what: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
            key = key_of(
                kind="trial",
                study=self.trial.study,
                model=self.model.name,
                revision=self.model.revision,
                dtype=str(self.model.dtype),
                subject=subject.name,
                depends_on=dict(subject.depends_on),
                what=what,
            )
            found = self.folder.read(key)
            if found is None:
                found = dict(make())
                self.folder.write(key, found)
            return found

        return find

    def run(self, progress: Progress = no_progress) -> Iterator[tuple[Subject, list[Outcome]]]:
        """Subject by subject, all its outcomes. `progress` may raise Cancelled: what is done stays.

        Raises StudyError where the disk is full.
        """
        start = time.monotonic()
        for number, subject in enumerate(self.subjects):
            told = f"{subject.name}, {number + 1} of {len(self.subjects)}"
            if number:
                left = (time.monotonic() - start) / number * (len(self.subjects) - number)
                told += f", about {left / 60:.0f} min left"
            progress(number / len(self.subjects), told)
            done = list(self._outcomes(subject, progress, number / len(self.subjects)))
            # What was read of it is not needed again.
            for name in ("search", "learning", "own", "judge"):
                subject.__dict__.pop(name, None)
            yield subject, done

    def _outcomes(self, subject: Subject, progress: Progress, share: float) -> Iterator[Outcome]:
        kept = self.kept(subject)
        for arm, k, alpha, draw, edit in self.settings(subject):
            progress(share, f"{subject.name}: {arm}, {k} heads")
            made = kept(f"judged {edit}", partial(_judged, subject, edit))
            yield Outcome(subject.name, arm, k, alpha, draw, str(edit), **made)

    def settings(self, subject: Subject) -> Iterator[tuple[str, int, float | None, int, Edit]]:
        """Arm, number of heads, factor, draw and edit of everything that is tried."""
        kept = self.kept(subject)
        first = self.trial.chosen[0]
        for arm in self.trial.chosen:
            if arm == LEARNT:
                learnt = learnt_edits(subject, self.ks, kept)
                for k, edit in learnt.items():
                    yield LEARNT, k, None, 0, edit
                for draw in range(min(LEARNT_DRAWS, self.trial.draws)):
                    for k, edit in learnt.items():
                        yield f"{LEARNT} random", k, None, draw, control_of(self.model, edit, draw)
                continue
            function = ARMS[first if arm == RANDOM else arm]
            assert function is not None, "a learnt edit has no order"
            order = scored_heads(function(subject, kept))
            for k in self.ks:
                for alpha in self.trial.alphas:
                    edit = Edit.of(order[:k], alpha)
                    if arm != RANDOM:
                        yield arm, k, alpha, 0, edit
                        continue
                    for draw in range(self.trial.draws):
                        yield RANDOM, k, alpha, draw, control_of(self.model, edit, draw)


def learnt_edits(subject: Subject, ks: Sequence[int], kept: Kept) -> dict[int, Edit]:
    """The search's edits, a search for each number of heads."""

    def make(k: int) -> Mapping[str, Any]:
        search = replace(subject.wanted, heads=k, steps=STEPS)
        return {"edit": str(learnt_edit(subject.learning, search))}

    wanted = subject.wanted
    price = f"{wanted.thrift:g}, {wanted.cheaper:g} times"
    what = f"learnt in {STEPS} steps, stretched, side effects {wanted.side_effects:g} at {price}"
    if subject.learnt_on:
        what += f", on {subject.learnt_on}"
    made = {k: kept(f"{what}: {k}", partial(make, k))["edit"] for k in ks}
    return {k: Edit.parse(text) if text else NO_EDIT for k, text in made.items()}


def _judged(subject: Subject, edit: Edit) -> dict[str, float]:
    return judged(subject.judge, edit)


def judged(reader: Reader, edit: Edit) -> dict[str, float]:
    """What the edit does: `own`, `others`, `need`, `side` of an Outcome."""
    hits = {True: [0, 0], False: [0, 0]}
    lost = moved = n_own = n_others = 0.0
    for part, now in reader.under(edit):
        was = part.base.argmax(1) == part.tokens
        now_right = now.argmax(1) == part.tokens
        for own in (True, False):
            at = (part.own == own) & was
            hits[own][0] += int((now_right & at).sum())
            hits[own][1] += int(at.sum())
        chosen = part.tokens[:, None]
        fall = (part.base.gather(1, chosen) - now.gather(1, chosen))[:, 0]
        apart = (part.base.exp() * (part.base - now)).sum(1).clamp_min(0)
        lost += float(fall[part.own].sum())
        moved += float(apart[~part.own].sum())
        n_own += int(part.own.sum())
        n_others += int((~part.own).sum())
    return {
        "own": round(hits[True][0] / max(1, hits[True][1]), 4),
        "others": round(hits[False][0] / max(1, hits[False][1]), 4),
        "need": round(lost / max(1, n_own), 4),
        "side": round(moved / max(1, n_others), 5),
    }


SURE = 0.05
"""Nats that a head must cost, or give, to count as more than nothing."""


def roles(subject: Subject, kept: Kept) -> list[HeadRole]:
    """Every head under the names of arXiv 2606.05378, by what it writes and what it costs.

    Writes: surely above chance (95 %). Needed: without it the own words lose at least SURE nats,
    and the 95 % interval over texts lies above 0. primary: both; secondary: needed alone;
    correlate: writes alone; interferer: the words gain as much without it, surely; null: none.
    """
    ranking = subject.ranked("somp")
    need, low, high = needs(subject, kept).unbind(0)
    found = []
    for ranked in ranking.heads:
        at = ranked.head.layer, ranked.head.index
        is_needed = float(low[at]) > 0 and float(need[at]) >= SURE
        hinders = float(high[at]) < 0 and float(need[at]) <= -SURE
        writes = ranked.above_chance
        role = (
            "interferer"
            if hinders
            else ("primary" if writes else "secondary")
            if is_needed
            else ("correlate" if writes else "null")
        )
        cost, least, most = (round(float(t[at]), 4) for t in (need, low, high))
        over = round(ranked.over, 4)
        found.append(HeadRole(str(ranked.head), over, writes, cost, least, most, role))
    return found


def scored_heads(scores: Float[Tensor, "layer head"]) -> list[Head]:
    """The heads that have a score, the highest first: nan and -inf are none."""
    scores = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return [head for head in in_order(scores) if scores[head.layer, head.index] > -torch.inf]


def _table(kept: Mapping[str, Any], name: str) -> Tensor:
    return torch.tensor(kept[name])
