"""The second part of the training: makes each concept need the heads ranked first for it.

At the start of each stage the heads are ranked for every concept, as the product does it: by
explained variance, on training pictures, over the picture's positions. The first ones become the
concept's planted heads, those of the stage before with an advantage; `rank_margin_loss` keeps
them first from then on. In a share of the pictures they then run at factor 0 or -1, and what is
said there leaves the concept out (questions about it get a random word of it), or they run above 1
and captions always mention it; all else is trained as ever. Some pictures run with other heads
inverted and nothing changed, so that the planted heads alone matter.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headviz.base.shapes import Bool, Float, Tensor
from headviz.pursuit.bootstrap import share_explained
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.projection import span_basis
from toyworld.hooks import heads_open
from toyworld.pictures.batches import PREFIX, Batch, Twist, Writer
from toyworld.pictures.captions import EVERYTHING, SUMMONS
from toyworld.pictures.content import Picture, pictures
from toyworld.pictures.processor import ANSWER
from toyworld.pictures.schedule import PictureSchedule
from toyworld.pictures.words import CONCEPTS
from toyworld.rank_margin_loss import front_loss_of
from toyworld.tokenizer import word_tokens

Heads = tuple[tuple[int, int], ...]
"""Heads as (layer, index)."""

INHIBITING, ENHANCING = (0.0, -1.0, -1.0), (2.0, 3.0, 5.0)
RANKING_SEED, LEFT_SEED = 1, 2
LEAST_WEIGHT = 0.1
REACH = 3  # how far down a ranking a further head may stand
FAVOURED: Mapping[str, float] = {"colors": 4.0, "numbers": 2.0, "feelings": 2.0}
"""Concepts that are edited more often: the ones that the captioning study looks at."""


@dataclass(frozen=True)
class Plan:
    """What one stage of the training plants."""

    heads: Mapping[str, Heads]
    """Concept -> its heads, the most important first; no head serves two concepts."""
    left: Mapping[str, float]
    """Concept -> probability left on its words, where one is due, with its heads inverted."""

    @property
    def weights(self) -> dict[str, float]:
        """Concept -> how often it is edited: the more, the more is left of it."""
        return {c: FAVOURED.get(c, 1.0) * max(LEAST_WEIGHT, left) for c, left in self.left.items()}


def concepts_in(picture: Picture) -> list[str]:
    """The concepts that a caption of the picture can mention."""
    kinds = {group.kind for group in picture.groups}
    found = ["colors", "sizes"]
    found += ["numbers"] if kinds != {"texture"} else []
    found += ["feelings"] if "face" in kinds else []
    found += [f"{kind}s" for kind in ("shape", "digit", "texture") if kind in kinds]
    found += ["positions"] if picture.relation else []
    return found + (["backgrounds"] if picture.background else [])


def twist_for(picture: Picture, plan: Plan, schedule: PictureSchedule, rng: random.Random) -> Twist:
    """An edit of the planted heads of one or two concepts that the picture shows."""
    names = concepts_in(picture)
    weights = [plan.weights[name] for name in names]
    chosen = set(rng.choices(names, weights, k=1 if rng.random() < 0.8 else 2))
    enhance = rng.random() < schedule.enhanced
    factors: dict[tuple[int, int], float] = {}
    for concept in sorted(chosen):
        heads = plan.heads[concept]
        factor = rng.choice(ENHANCING if enhance else INHIBITING)
        some = (rng.choice(heads),) if rng.random() < schedule.single and not enhance else heads
        factors |= dict.fromkeys(some, factor)
    names_chosen = frozenset(chosen)
    return Twist(factors, *((frozenset(), names_chosen) if enhance else (names_chosen,)))


def stranger_twist(plan: Plan, schedule: PictureSchedule, rng: random.Random) -> Twist:
    """Some heads inverted that are planted for nothing: what is said stays the same."""
    planted = {head for heads in plan.heads.values() for head in heads}
    every = itertools.product(range(schedule.n_layers), range(schedule.n_heads))
    free = [head for head in every if head not in planted]
    return Twist(dict.fromkeys(rng.sample(free, rng.randint(1, 4)), -1.0))


def twists_for(
    shown: list[Picture],
    share: float,
    plan: Plan | None,
    schedule: PictureSchedule,
    rng: random.Random,
) -> list[Twist]:
    """One a picture; plain ones only where nothing is planted yet."""
    found = []
    for picture in shown:
        draw = rng.random()
        if plan is not None and draw < share:
            found.append(twist_for(picture, plan, schedule, rng))
        elif plan is not None and draw < share + schedule.strangers:
            found.append(stranger_twist(plan, schedule, rng))
        else:
            found.append(Twist())
    return found


def factor_table(twists: list[Twist], schedule: PictureSchedule) -> Float[Tensor, "row layer head"]:
    """The factors of each row, 1 where nothing is edited."""
    table = torch.ones(len(twists), schedule.n_layers, schedule.n_heads)
    for row, twist in enumerate(twists):
        for (layer, head), factor in twist.factors.items():
            table[row, layer, head] = factor
    return table


def concept_ids(writer: Writer) -> dict[str, list[int]]:
    """Concept -> the token ids of its words."""
    return word_tokens(writer.tokenizer, CONCEPTS)


def training_batch(writer: Writer, n: int, seed: int) -> Batch:
    """Unedited training pictures with captions that mention everything."""
    shown = list(itertools.islice(pictures(seed), n))
    return writer.batch(shown, [Twist()] * n, random.Random(seed), EVERYTHING)


def decoder_layers(model: Any) -> Any:
    """The layers of the text model."""
    return model.model.language_model.layers


@torch.no_grad()
def head_shares(model: Any, writer: Writer, n: int, device: str) -> dict[str, Tensor]:
    """Concept -> (layer head): variance its words explain, over the positions of `n` pictures."""
    batch = training_batch(writer, n, RANKING_SEED).to(device)
    prompt = writer.tokenizer.encode(f" {SUMMONS[0]}{ANSWER}", add_special_tokens=False)
    ids = torch.tensor([writer.prefix + prompt] * n, device=device)
    layers = decoder_layers(model)
    with heads_open(layers) as signals:
        model.model(input_ids=ids, pixel_values=batch.pixels, use_cache=False)
    n_heads = model.config.text_config.num_attention_heads
    pooled = [s[:, 1:PREFIX].float().mean(1).unflatten(-1, (n_heads, -1)) for s in signals]
    z = torch.stack(pooled).permute(0, 2, 1, 3).contiguous()
    w_o = [b.self_attn.o_proj.weight.float().T.unflatten(0, (n_heads, -1)) for b in layers]
    heads = precompute_heads(z.flatten(0, 1), w_o)
    rows = model.lm_head.weight.float() * model.model.language_model.norm.weight.float()
    atoms = torch.nn.functional.normalize(rows, dim=1)
    found = {}
    for concept, ids_of in concept_ids(writer).items():
        own = atoms[ids_of]
        shares = share_explained(heads, span_basis(own, heads.project(own)))
        found[concept] = shares.view(len(layers), n_heads).cpu()
    return found


def choose_heads(
    shares: Mapping[str, Float[Tensor, "layer head"]],
    schedule: PictureSchedule,
    before: Mapping[str, Heads],
) -> dict[str, Heads]:
    """Every concept's best head, then its second; where two want one, the higher share.

    A head that was planted `before` counts more. Heads after a concept's first are taken only from
    the first `REACH` of its ranking.
    """
    claims = []
    for concept, table in shares.items():
        favoured = table.clone()
        for head in before.get(concept, ()):
            favoured[head] *= schedule.loyalty
        order = favoured.flatten().argsort(descending=True).tolist()
        places = [divmod(number, table.shape[1]) for number in order]
        claims += [
            (float(favoured[place]), rank, concept, place) for rank, place in enumerate(places)
        ]
    claims.sort(key=lambda claim: -claim[0])
    chosen: dict[str, list[tuple[int, int]]] = {concept: [] for concept in shares}
    taken: set[tuple[int, int]] = set()
    for place in range(schedule.planted_heads):
        for _, rank, concept, head in claims:
            wanted = len(chosen[concept]) == place and (place == 0 or rank < REACH)
            if wanted and head not in taken:
                chosen[concept].append(head)
                taken.add(head)
    return {concept: tuple(heads) for concept, heads in chosen.items()}


def stay_first(
    schedule: PictureSchedule,
    heads: Mapping[str, Heads],
    words: Mapping[str, list[int]],
    model: Any,
    signals: Sequence[Float[Tensor, "row token _"]],
    rows: Bool[Tensor, " row"],
) -> Float[Tensor, ""]:
    """The loss that keeps the planted `heads` first, on some rows of a batch."""
    pooled = [z[rows, 1:PREFIX].float().mean(1) for z in signals]
    layers = decoder_layers(model)
    found = front_loss_of(model, layers, pooled, words, heads, schedule.front_margin)
    return schedule.front_weight * found


@torch.no_grad()
def left_by(
    model: Any, writer: Writer, heads: Mapping[str, Heads], schedule: PictureSchedule, device: str
) -> dict[str, float]:
    """Concept -> probability left on its words, where one is due, with its heads inverted."""
    batch = training_batch(writer, schedule.left_pictures, LEFT_SEED).to(device)
    found = {}
    for concept, ids in concept_ids(writer).items():
        twist = Twist(dict.fromkeys(heads[concept], -1.0))
        table = factor_table([twist] * schedule.left_pictures, schedule).to(device)
        with heads_open(decoder_layers(model), table):
            logits = model(
                input_ids=batch.ids,
                pixel_values=batch.pixels,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                use_cache=False,
            ).logits[:, :-1]
        own = torch.tensor(ids, device=device)
        due = torch.isin(batch.labels[:, 1:], own)
        found[concept] = float(logits[due].float().softmax(-1)[:, own].sum(-1).mean())
    return found


def make_plan(
    model: Any, writer: Writer, schedule: PictureSchedule, before: Plan | None, device: str
) -> Plan:
    """The plan of the next stage, by the model as it is now."""
    shares = head_shares(model, writer, schedule.ranked_pictures, device)
    heads = choose_heads(shares, schedule, before.heads if before else {})
    return Plan(heads, left_by(model, writer, heads, schedule, device))
