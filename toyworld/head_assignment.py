"""Which heads a stage of the training plants, and for which concepts it matters most.

The heads are those that the ranking of the core puts first for each concept on the model as it is,
so what training makes necessary is what a person will find; `Front` sees to it that it stays so. A
concept is in need the more, the more of its answers the best edit of its first heads leaves, and
the more other answers that edit takes.
"""

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from headviz.base.head import Head
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.load import load_model
from headviz.pursuit.ranking import RankedHead
from toyworld import measuring
from toyworld.hooks import heads_open
from toyworld.rank_margin_loss import Heads, front_loss_of
from toyworld.running import mixed
from toyworld.schedule import Schedule
from toyworld.shipping import PROBE_SEED, training_prompts
from toyworld.tokenizer import word_tokens
from toyworld.words import CONCEPTS

ITEM_SEED = 6  # of the training questions by which laggards are found
REACH = 3  # how far down a ranking edits go, and a concept's further heads may stand
LEAST_NEED = 0.15  # of a concept that is localised already
MORE_HEADS: Mapping[str, int] = {"numbers": 3}
"""Concepts that need more heads than the others: counts, ages and sums are told apart."""


@dataclass(frozen=True)
class Plan:
    """What one stage of the training plants."""

    heads: Mapping[str, tuple[tuple[int, int], ...]]
    """Concept -> (layer, head), the most important first; no head serves two concepts."""
    need: Mapping[str, float]
    """Concept -> how much it is in need of it; larger is chosen more often."""


def make_plan(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    schedule: Schedule,
    before: Plan | None = None,
) -> Plan:
    """Rank the heads of a model in training, as it would be shipped now, and try the first ones."""
    with TemporaryDirectory() as folder:
        write_weights(model, tokenizer, Path(folder))
        loaded = load_model(folder, device=model.device.type)
    prompts = [item.prompt for item in training_prompts(schedule.planting_prompts, PROBE_SEED)]
    rankings = measuring.rankings(loaded, PromptSet("training", tuple(prompts)))
    ranked = {c: ranking.heads for c, ranking in rankings.items()}
    heads = assign(
        ranked, schedule.planted_each, before.heads if before else {}, schedule.loyalty, MORE_HEADS
    )
    asked = measuring.Questions.ask(loaded, schedule.planting_items, ITEM_SEED, held_out=False)
    need = {}
    for concept in heads:
        tops = [rankings[concept].top(k) for k in range(1, REACH + 1)]
        trials = [measuring.try_edit(loaded, asked, concept, top, -1.0) for top in tops]
        left = min(trial.own + 5 * max(0.0, 0.98 - trial.others) for trial in trials)
        need[concept] = LEAST_NEED + left
    return Plan(heads, need)


def assign(
    ranked: Mapping[str, Sequence[RankedHead]],
    each: int,
    before: Mapping[str, Sequence[tuple[int, int]]] = MappingProxyType({}),
    loyalty: float = 1.0,
    more: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Every concept's best head, then its second, and so on; where two want one, the higher score.

    Heads after a concept's first are taken only from the first `REACH` of its ranking (twice as
    many for those beyond `each`, which the concepts of `more` have), or from its heads of `before`,
    whose scores count `loyalty` times.
    """

    def planted(line: RankedHead, concept: str) -> bool:
        return (line.head.layer, line.head.index) in before.get(concept, ())

    lines = [(line, concept) for concept, ranking in ranked.items() for line in ranking]
    lines.sort(key=lambda pair: -pair[0].score * (loyalty if planted(*pair) else 1.0))
    owner: dict[Head, str] = {}
    for place in range(max(each, *more.values(), 0)):
        reach = REACH if place < each else 2 * REACH
        served: set[str] = set()
        for line, concept in lines:
            in_reach = place == 0 or line.rank <= reach or planted(line, concept)
            open_still = place < more.get(concept, each) and concept not in served
            if in_reach and open_still and line.head not in owner:
                owner[line.head] = concept
                served.add(concept)
    heads = {
        concept: tuple((head.layer, head.index) for head, own in owner.items() if own == concept)
        for concept in ranked
    }
    return {concept: found for concept, found in heads.items() if found}


class Front:
    """Keeps planted heads first on prompts like those that the ranking reads."""

    def __init__(self, schedule: Schedule, tokenizer: PreTrainedTokenizerFast) -> None:
        """Draw and encode the prompts."""
        items = training_prompts(schedule.planting_prompts, PROBE_SEED)
        self.schedule, self.words = schedule, concept_tokens(tokenizer)
        self.prompts = [torch.tensor(tokenizer(item.prompt)["input_ids"]) for item in items]

    def loss(self, model: LlamaForCausalLM, heads: Mapping[str, Heads], step: int) -> Tensor:
        """That of the prompts of a step."""
        rng = random.Random(f"front {self.schedule.seed} {step}")
        drawn = rng.sample(self.prompts, min(self.schedule.margin_prompts, len(self.prompts)))
        ids = pad_sequence(drawn, batch_first=True).to(model.device)
        lengths = torch.tensor([len(one) for one in drawn], device=model.device)
        places = torch.arange(ids.shape[1], device=model.device)
        own = ((places > 0) & (places < lengths[:, None])).unsqueeze(-1)  # not the start mark
        layers = model.model.layers
        with (
            heads_open(layers) as signals,
            mixed(model.device.type),
        ):
            model.model(input_ids=ids, use_cache=False)
        pooled = [(z.float() * own).sum(1) / own.sum(1) for z in signals]
        margin = self.schedule.front_margin
        found = front_loss_of(model, layers, pooled, self.words, heads, margin)
        return self.schedule.front_weight * found


def concept_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """Concept -> the token ids of its words."""
    return word_tokens(tokenizer, CONCEPTS)


def write_weights(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Weights in bf16 safetensors, config and tokenizer, in the usual transformers files."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = copy.deepcopy(model)
    shipped.set_attn_implementation("sdpa")
    shipped.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
