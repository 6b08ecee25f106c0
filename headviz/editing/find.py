"""Find an edit: the few heads and factors that take a concept away, or bring it forward, and leave
the rest alone.

One factor a head is learnt by gradient descent on texts with continuations: towards less (or more)
probability for the concept's words, away from moving anything else by more than is allowed; a
penalty on |factor − 1| and a schedule that keeps ever fewer heads leave at most the number asked
for. Then a head that can be put back without loss is put back. What comes out was learnt on one
half of the texts and is judged on the other, which the search never sees. (Soft gates a head:
Causal Head Gating, NeurIPS 2025; keeping the largest and learning on: iterative hard thresholding.)
Knows nothing of rankings; what is held against the result is handed in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.base.shapes import Float, Int, Tensor
from headviz.editing.effect import Reader, _Part, _rows
from headviz.heads.edits import Edit
from headviz.inputs.concepts import in_sentence_ids
from headviz.models.loaded import LoadedModel

TOWARDS = ("weaker", "stronger")
LIMITS = {"weaker": (-3.0, 3.0), "stronger": (-3.0, 8.0)}
"""Factors that a search may reach."""
_CANDIDATES = 0.35  # of the layers at least: where the search may begin to turn heads
_ENOUGH = {"weaker": 5.0, "stronger": 2.0}  # nats: what is beyond it counts less and less
_RATE = 0.12  # of Adam, a step
_LASSO = 0.02  # nats for a factor that differs by 1
_LIKELY = 0.01  # from this probability of the concept's words on a position can be strengthened
_LOSS = 0.05  # of the effect: what putting a head back may cost


@dataclass(frozen=True)
class Search:
    """What is looked for."""

    towards: str = "weaker"
    """One of TOWARDS."""
    heads: int = 8
    """At most so many."""
    side_effects: float = 0.1
    """Mean KL divergence elsewhere that is allowed, in nats."""
    steps: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise OptionError for what cannot be searched for."""
        if self.towards not in TOWARDS:
            raise OptionError(f"Unknown direction {self.towards!r}. Known: {', '.join(TOWARDS)}.")
        if not 1 <= self.heads <= 256:
            raise OptionError(f"heads is {self.heads}; choose 1 to 256.")
        if not 0 < self.side_effects <= 10:
            raise OptionError(f"side_effects is {self.side_effects}; choose above 0, at most 10.")
        if not 10 <= self.steps <= 1000:
            raise OptionError(f"steps is {self.steps}; choose 10 to 1000.")


@dataclass(frozen=True)
class Step:
    """How far a search has come."""

    share: float
    """0 to 1."""
    edit: Edit
    """The best so far, of at most the heads asked for."""
    gain: float
    """By how much the concept's words fell (or rose) on the batch just read, in nats."""
    side: float
    """KL elsewhere on it."""


def find_edit(reader: Reader, search: Search) -> Iterator[Step]:
    """Search on these texts; the last step holds the result. Stop it by closing the iterator."""
    model = reader.model
    start = model.head_layers[int(_CANDIDATES * len(model.head_layers))]
    ids = _concept_ids(model, reader.words)
    aims = [_Aim.of(part, ids, search.towards) for part in reader.parts]
    usable = [(part, aim) for part, aim in zip(reader.parts, aims, strict=True) if aim.n]
    if not usable:
        raise OptionError("No text leaves room for the concept to get stronger. Choose others.")
    table = torch.ones(1, model.n_layers, model.n_heads, device=model.device)
    open_heads = torch.zeros_like(table, dtype=torch.bool)
    for layer in model.head_layers:
        open_heads[:, layer] = layer >= start
    table.requires_grad_(True)
    optimizer = torch.optim.Adam([table], lr=_RATE, betas=(0.8, 0.99))
    weight = 1.0
    low, high = LIMITS[search.towards]
    for step in range(search.steps):
        part, aim = usable[step % len(usable)]
        with torch.inference_mode(False), torch.enable_grad():
            now = part.replay.logits(_rows(table, part), part.at, start).log_softmax(1)
            gain, side = aim.gain(now), aim.side(part, now)
            enough = _ENOUGH[search.towards]
            loss = -enough * torch.tanh(gain / enough) + weight * side / search.side_effects
            loss = loss + _LASSO * (table - 1).abs().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            table.clamp_(low, high)
            table[~open_heads] = 1
            open_heads &= _largest(table, _allowed(step, search))
            table[~open_heads] = 1
        # The price of a side effect rises while there is too much of it, and falls else.
        weight *= 1.15 if float(side) > search.side_effects else 0.92
        weight = min(max(weight, 0.05), 50.0)
        edit = _edit(table, min(search.heads, _allowed(step, search)))
        yield Step((step + 1) / search.steps, edit, float(gain), float(side))


def trimmed(reader: Reader, edit: Edit, search: Search) -> Edit:
    """The edit without the heads that can be put back at next to no loss of its effect."""
    sign = 1 if search.towards == "weaker" else -1
    whole = sign * reader.measure(edit).effect().need
    by_size = sorted(edit.factors, key=lambda head: abs(edit.factors[head] - 1))
    for head in by_size:
        if len(edit.factors) == 1:
            break
        fewer = Edit({h: f for h, f in edit.factors.items() if h != head})
        if sign * reader.measure(fewer).effect().need >= (1 - _LOSS) * whole:
            edit = fewer
    return edit


@dataclass(frozen=True, eq=False)
class _Aim:
    """Where in one batch the concept is to change, and from what."""

    places: Int[Tensor, " own"]
    ids: Int[Tensor, " word"]
    base: Float[Tensor, " own"]
    """Log-probability of all words of the concept together, unedited."""
    sign: float

    @property
    def n(self) -> int:
        """How many places."""
        return len(self.places)

    @classmethod
    def of(cls, part: _Part, ids: Int[Tensor, " word"], towards: str) -> "_Aim":
        """Weaker where a word of the concept stands; stronger where one might."""
        mass = part.base[:, ids].logsumexp(1)
        if towards == "weaker":
            chosen = part.own
        else:
            chosen = (mass.exp() > _LIKELY) & (mass.exp() < 1 - _LIKELY)
        places = chosen.nonzero().flatten()
        return cls(places, ids, mass[places], 1.0 if towards == "weaker" else -1.0)

    def gain(self, now: Float[Tensor, "scored vocab"]) -> Float[Tensor, ""]:
        """Mean fall (or rise) of the log-probability of the concept's words, in nats."""
        mass = now[self.places][:, self.ids].logsumexp(1)
        return self.sign * (self.base - mass).mean()

    def side(self, part: _Part, now: Float[Tensor, "scored vocab"]) -> Float[Tensor, ""]:
        """Mean KL elsewhere."""
        elsewhere = ~part.own
        elsewhere[self.places] = False
        base, other = part.base[elsewhere], now[elsewhere]
        return (base.exp() * (base - other)).sum(1).mean()


def _concept_ids(model: LoadedModel, words: Sequence[str]) -> Int[Tensor, " word"]:
    """Tokens that are a whole word of the concept, in either case."""
    found: dict[int, None] = {}
    for word in words:
        for written in (word, word.lower(), word.capitalize()):
            ids = in_sentence_ids(written, model.tokenizer)
            if len(ids) == 1:
                found[ids[0]] = None
    return torch.tensor(list(found), device=model.device, dtype=torch.long)


def _allowed(step: int, search: Search) -> int:
    """How many heads may differ from 1 after this step: ever fewer, from half of the search on."""
    done = (step + 1) / search.steps
    for share, times in ((0.3, 0), (0.45, 8), (0.6, 4), (0.7, 2)):
        if done < share:
            return search.heads * times if times else 10**9
    return search.heads


def _largest(table: Float[Tensor, "1 layer head"], n: int) -> Tensor:
    apart = (table - 1).abs().flatten()
    if n >= len(apart):
        return torch.ones_like(table, dtype=torch.bool)
    kept = torch.zeros_like(apart, dtype=torch.bool)
    kept[apart.topk(n).indices] = True
    return kept.view_as(table)


def _edit(table: Float[Tensor, "1 layer head"], n: int) -> Edit:
    """The heads that differ most from 1, with factors as a person writes them."""
    with torch.no_grad():
        rounded = (table[0].detach().cpu() * 20).round() / 20
        apart = (rounded - 1).abs()
    order = apart.flatten().argsort(descending=True)[:n].tolist()
    heads = [Head(number // apart.shape[1], number % apart.shape[1]) for number in order]
    return Edit(
        {
            h: round(float(rounded[h.layer, h.index]), 2)
            for h in heads
            if apart[h.layer, h.index] > 0
        }
    )
