"""Scores -> the heads in order, by how far each stands above its chance level.

Chance is the same score for random word lists of equal size and like token frequency: a head that
explains any list of words as well as the concept's carries nothing of the concept. In real models
heads of the first layers explain any list well, so the score alone orders nothing.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from headviz.base.head import Head
from headviz.base.shapes import Float, Tensor
from headviz.heads.capture import HeadActivations, Progress, no_progress
from headviz.inputs.concepts import ConceptTokens
from headviz.models.loaded import LoadedModel
from headviz.pursuit.bootstrap import Spread, draw_counts, draw_lists, spread_of
from headviz.pursuit.criteria import find_criterion, precompute_model
from headviz.pursuit.dictionary import TokenAtoms, concept_dictionary, token_dictionary
from headviz.pursuit.engine.precomputed import PrecomputedHeads
from headviz.pursuit.options import Options

CHANCE_LISTS = 10
"""Random word lists that the chance level is the mean of. Lists differ by a standard deviation of
.002 to .006 of the variance (SmolLM2-135M, 400 questions), so that this mean is known to .002; the
tenth head for a concept stands .01 to .07 above it."""
CHANCE_LISTS_PURSUED = 5
"""Where a list has more words than the pursuit may pick: each then costs a pursuit of its own."""
_word_tokens: WeakKeyDictionary[LoadedModel, tuple[int, ...]] = WeakKeyDictionary()
_LIKE_FREQUENT = 40  # words on either side, in the order of the vocabulary, that count as like


@dataclass(frozen=True)
class RankedHead:
    """One line of the ranked table."""

    rank: int
    """From 1."""
    head: Head
    score: float
    chance: float
    """Mean score of random word lists."""
    low: float | None = None
    """`over` lies between `low` and `high` in 95 % of bootstrap draws of samples and lists."""
    high: float | None = None
    best_rank: int | None = None
    """So does the rank between `best_rank` and `worst_rank`."""
    worst_rank: int | None = None

    @property
    def over(self) -> float:
        """How far the score stands above its chance level."""
        return self.score - self.chance

    @property
    def above_chance(self) -> bool:
        """Whether it surely does: its interval, where there is one, ends above 0."""
        return (self.over if self.low is None else self.low) > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        told = {"over": self.over, "above_chance": self.above_chance}
        return {**asdict(self), "head": str(self.head), **told}


@dataclass(frozen=True, eq=False)
class Ranking:
    """Every head's score for a concept, and all that it depends on."""

    model: str
    revision: str
    tokens: ConceptTokens
    criterion: str
    options: Options
    prompt_set: str
    """Hash of the texts and pictures."""
    n_samples: int
    scores: Float[Tensor, "layer head"]
    """NaN in layers without heads, as is all that follows."""
    chance: Float[Tensor, "layer head"]
    spread: Spread | None = None
    """How scores and ranks move with the samples; None where it was not worked out."""
    n_positions: int | None = None
    """Token positions that the heads were read at, over all samples; None where not kept."""

    @property
    def heads(self) -> tuple[RankedHead, ...]:
        """All heads, in the order that the options name."""
        n_heads = self.scores.shape[1]
        flat = (self.over if self.options.order == "over-chance" else self.scores).flatten()
        flat = flat.nan_to_num(nan=-torch.inf)
        order = flat.argsort(descending=True, stable=True).tolist()[: self.total_heads]
        columns = [self.scores, self.chance]
        if self.spread is not None:
            spread = self.spread
            columns += [spread.low, spread.high, spread.best_rank, spread.worst_rank]
        values = list(zip(*(column.flatten().tolist() for column in columns), strict=True))
        return tuple(
            RankedHead(rank, Head(number // n_heads, number % n_heads), *values[number])
            for rank, number in enumerate(order, 1)
        )

    @property
    def over(self) -> Float[Tensor, "layer head"]:
        """How far each score stands above its chance level."""
        return self.scores - self.chance

    @property
    def total_heads(self) -> int:
        """Heads of all layers that have any."""
        return int((~self.scores.isnan()).sum())

    @property
    def words(self) -> tuple[str, ...]:
        """All words of the concept, dropped ones too: what is counted in texts."""
        return self.tokens.concept.words

    def top(self, k: int) -> tuple[Head, ...]:
        """The k first heads."""
        return tuple(ranked.head for ranked in self.heads[:k])

    def preselected(self, k: int) -> tuple[Head, ...]:
        """The k first heads less those that do not surely stand above chance."""
        return tuple(ranked.head for ranked in self.heads[:k] if ranked.above_chance)

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain data for JSON; `heads` holds the first `top`."""
        return {
            "model": self.model,
            "revision": self.revision,
            "concept": self.tokens.concept.name,
            "criterion": self.criterion,
            "options": self.options.as_dict(),
            "words": [w.word for w in self.tokens.kept],
            "dropped": {w.word: w.why for w in self.tokens.words if not w.kept},
            "prompt_set": self.prompt_set,
            "n_samples": self.n_samples,
            "n_positions": self.n_positions,
            "n_heads": self.total_heads,
            "heads": [h.as_dict() for h in self.heads[:top]],
        }


def rank_heads(
    model: LoadedModel,
    activations: HeadActivations,
    tokens: ConceptTokens,
    criterion: str = "somp",
    options: Options | None = None,
    lists: int | None = None,
    progress: Progress = no_progress,
    precomputed: PrecomputedHeads | None = None,
) -> Ranking:
    """Score every head for the concept and for random word lists of the same size.

    `lists` says how many; CHANCE_LISTS or CHANCE_LISTS_PURSUED if it is not given.
    `precomputed` is `precompute_model(model, activations, options.centre)`, where the caller has
    it: a second concept then costs little.
    """
    options = options or Options(pooling=activations.pooling, pieces=tokens.policy)
    score = find_criterion(criterion).score
    atoms = TokenAtoms(model, options.normalise, options.fold_norm)
    dictionaries = [concept_dictionary(atoms, tokens, options.normalise)]
    draw_ids = _like_tokens(model, tokens, len(dictionaries[0].labels))
    if lists is None:
        pursued = len(dictionaries[0].labels) > options.steps
        lists = CHANCE_LISTS_PURSUED if pursued else CHANCE_LISTS
    for draw in range(lists):
        ids = draw_ids(random.Random(draw))
        dictionaries.append(token_dictionary(atoms, ids, [str(i) for i in ids]))
    progress(0.0, "scoring the concept")
    heads = precomputed or precompute_model(model, activations, options.centre)
    found = score(model, activations, heads, dictionaries, options)
    scores = next(found)
    by_lists, mean = [], torch.zeros_like(scores.linear)
    for number, by_chance in enumerate(found, 1):
        progress(number / (lists + 1), f"chance level, word list {number} of {lists}")
        by_lists.append(by_chance.values)
        mean += by_chance.linear / lists
    chance = torch.stack(by_lists)
    counts = draw_counts(activations.n_samples, device=model.home)
    drawn = scores.draw(scores.linear, counts)
    over = drawn - scores.draw(mean, counts) - draw_lists(chance)
    spread = spread_of(over, over if options.order == "over-chance" else drawn)
    return Ranking(
        model=model.name,
        revision=model.revision,
        tokens=tokens,
        criterion=criterion,
        options=options,
        prompt_set=activations.prompt_set,
        n_samples=activations.n_samples,
        scores=scores.values.cpu(),
        chance=chance.mean(0).cpu(),
        spread=spread,
        n_positions=activations.n_positions,
    )


def _like_tokens(
    model: LoadedModel, tokens: ConceptTokens, size: int
) -> Callable[[random.Random], list[int]]:
    """A function that draws `size` word tokens, each near one of the concept's in the vocabulary.

    Vocabularies are ordered by frequency (byte-pair merges and unigram scores both are), so
    nearness in the order stands for like frequency.
    """
    own = set(tokens.token_ids)
    words = [i for i in word_tokens(model) if i not in own]
    # Where a concept takes up the vocabulary's words, chance has to make do with its pieces.
    others = sorted(set(range(known_tokens(model))) - own - set(words))
    near = [bisect_left(words, i) for i in tokens.token_ids[:size]]
    near += [len(words) // 2] * (size - len(near))

    def draw(generator: random.Random) -> list[int]:
        ids: dict[int, None] = {}
        for centre in near:
            like = words[max(0, centre - _LIKE_FREQUENT) : centre + _LIKE_FREQUENT]
            for pool in (like, words, others):
                # One more than are taken: one of them is free, if any is.
                few = generator.sample(pool, min(len(pool), len(ids) + 1))
                free = [i for i in few if i not in ids]
                if free:
                    ids[free[0]] = None
                    break
        return list(ids)

    return draw


def word_tokens(model: LoadedModel) -> Sequence[int]:
    """Ids of the tokens that begin a word of letters, in the order of the vocabulary."""
    if model not in _word_tokens:
        names = model.tokenizer.convert_ids_to_tokens(list(range(known_tokens(model))))
        _word_tokens[model] = tuple(
            i
            for i, name in enumerate(names)
            if name and name[0] in "▁Ġ" and len(name) > 2 and name[1:].isalpha()
        )
    return _word_tokens[model]


def known_tokens(model: LoadedModel) -> int:
    """How many token ids have both a name and a row of the unembedding."""
    return min(len(model.tokenizer), model.n_tokens)
