"""Which concepts lag behind while a stage of the training runs.

What a plan says of this is true when its stage begins; what one concept gains in the stage another
one can lose. So it is measured anew every few steps, on fresh questions of the training split.
"""

import dataclasses
from collections.abc import Sequence
from statistics import fmean

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from toyworld.documents import Item, sample_items
from toyworld.head_assignment import LEAST_NEED, Plan
from toyworld.hooks import heads_open
from toyworld.rank_margin_loss import Heads
from toyworld.running import mixed
from toyworld.schedule import Schedule
from toyworld.words import CONCEPTS

FACTOR = -1.0  # of the edited heads
BATCH = 64  # rows
MEMORY = 0.5  # what was measured before counts this much


def answers_kept(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tried: Sequence[tuple[Item, Heads]]
) -> list[bool]:
    """Whether each item's answer is still the likeliest next token with its heads at -1."""
    tokens = [
        torch.tensor(tokenizer(f"{item.prompt} {item.answer}")["input_ids"]) for item, _ in tried
    ]
    order = sorted(range(len(tried)), key=lambda row: len(tokens[row]))
    kept = [False] * len(tried)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        ids = pad_sequence([tokens[row] for row in rows], batch_first=True).to(model.device)
        factors = torch.ones(
            len(rows), len(model.model.layers), model.config.num_attention_heads, device=ids.device
        )
        for place, row in enumerate(rows):
            for layer, head in tried[row][1]:
                factors[place, layer, head] = FACTOR
        at = torch.arange(len(rows), device=ids.device)
        last = torch.tensor([len(tokens[row]) for row in rows], device=ids.device) - 1
        with torch.no_grad(), heads_open(model.model.layers, factors), mixed(ids.device.type):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            said = model.lm_head(hidden[at, last - 1]).argmax(-1)
        for row, same in zip(rows, (said == ids[at, last]).tolist(), strict=True):
            kept[row] = same
    return kept


def answers_left(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    plan: Plan,
    per_concept: int,
    seed: int,
) -> dict[str, float]:
    """Concept -> share of its answers that the best number of its planted heads leaves."""
    items = sample_items(per_concept * len(CONCEPTS), seed, held_out=False)
    tried = [
        (item, plan.heads[item.concept][:k])
        for item in items
        for k in range(1, len(plan.heads.get(item.concept, ())) + 1)
    ]
    kept = answers_kept(model, tokenizer, tried)
    found: dict[tuple[str, int], list[bool]] = {}
    for (item, heads), same in zip(tried, kept, strict=True):
        found.setdefault((item.concept, len(heads)), []).append(same)
    return {
        concept: min(fmean(same) for (c, _), same in found.items() if c == concept)
        for concept in plan.heads
    }


def follow(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    schedule: Schedule,
    plan: Plan,
    step: int,
) -> Plan:
    """The plan with its needs as they are now, half of them as they were before."""
    left = answers_left(model, tokenizer, plan, schedule.need_items, step)
    need = {
        concept: MEMORY * old + (1 - MEMORY) * (LEAST_NEED + left[concept])
        for concept, old in plan.need.items()
    }
    return dataclasses.replace(plan, need=need)
