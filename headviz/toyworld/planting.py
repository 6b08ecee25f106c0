"""Which heads a stage of the training plants, and for which concepts it matters most.

The heads are those that the ranking of the core puts first for each concept on the model as it is,
so what training makes necessary is what a person will find. A concept is in need the more, the more
of its answers the best edit of its first heads leaves, and the more other answers that edit takes.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from headviz.heads import Head
from headviz.models import load_model
from headviz.probes import ProbeSet
from headviz.ranking import RankedHead
from headviz.toyworld import measuring
from headviz.toyworld.recipe import Recipe
from headviz.toyworld.shipping import PROBE_SEED, training_prompts

ITEM_SEED = 6  # of the training questions by which laggards are found
REACH = 3  # how far down a ranking edits go, and a concept's further heads may stand
LEAST_NEED = 0.3  # of a concept that is localised already


@dataclass(frozen=True)
class Plan:
    """What one stage of the training plants."""

    heads: Mapping[str, tuple[tuple[int, int], ...]]
    """Concept -> (layer, head), the most important first; no head serves two concepts."""
    need: Mapping[str, float]
    """Concept -> how much it is in need of it; larger is chosen more often."""


def make_plan(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Plan:
    """Rank the heads of a model in training, as it would be shipped now, and try the first ones."""
    with TemporaryDirectory() as folder:
        write_weights(model, tokenizer, Path(folder))
        loaded = load_model(folder, device=model.device.type)
    prompts = [item.prompt for item in training_prompts(recipe.planting_probes, PROBE_SEED)]
    rankings = measuring.rankings(loaded, ProbeSet("training", tuple(prompts)))
    heads = assign({c: ranking.heads for c, ranking in rankings.items()}, recipe.planted_each)
    asked = measuring.Questions.ask(loaded, recipe.planting_items, ITEM_SEED, held_out=False)
    need = {}
    for concept in heads:
        tops = [rankings[concept].top(k) for k in range(1, REACH + 1)]
        trials = [measuring.try_edit(loaded, asked, concept, top, -1.0) for top in tops]
        left = min(trial.own + 5 * max(0.0, 0.98 - trial.others) for trial in trials)
        need[concept] = LEAST_NEED + left
    return Plan(heads, need)


def assign(
    ranked: Mapping[str, Sequence[RankedHead]], each: int
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Every concept's best head, then its second, and so on; where two want one, the higher score.

    Heads after a concept's first are taken only from the first `REACH` of its ranking.
    """
    lines = [(line, concept) for concept, ranking in ranked.items() for line in ranking]
    lines.sort(key=lambda pair: -pair[0].score)
    owner: dict[Head, str] = {}
    for place in range(each):
        served: set[str] = set()
        for line, concept in lines:
            in_reach = place == 0 or line.rank <= REACH
            if in_reach and concept not in served and line.head not in owner:
                owner[line.head] = concept
                served.add(concept)
    heads = {
        concept: tuple((head.layer, head.index) for head, own in owner.items() if own == concept)
        for concept in ranked
    }
    return {concept: found for concept, found in heads.items() if found}


def write_weights(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Weights in bf16 safetensors, config and tokenizer, in the usual transformers files."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = copy.deepcopy(model)
    shipped.set_attn_implementation("sdpa")
    shipped.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
