"""The second part of the training: makes each concept need its planted heads, and nothing else.

A share of the documents runs with the planted heads of some concepts at factor 0 or -1. There, the
concepts' answers are trained towards random words of the concept (without its heads, the model
shall not know), their other words are not trained, and everything else is trained as ever (all the
rest must do without these heads). The idea of localising on purpose is that of gradient routing
(arXiv 2410.04332); here the intervention is an edit instead of a stopped gradient. Documents in
which no head is edited are trained as before.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from headviz.toyworld.recipe import Recipe, Stage
from headviz.toyworld.words import CONCEPTS

FACTORS = (0.0, -1.0)


def concept_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """Concept -> the token ids of its words."""
    return {
        concept: [tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in words]
        for concept, words in CONCEPTS.items()
    }


class Localiser:
    """Chooses which documents of a batch run edited, and changes their targets."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        """Look up the concepts' tokens once."""
        self.recipe = recipe
        self.planted = dict(recipe.planted)
        self.tokens = concept_tokens(tokenizer)
        self.concept_of = {token: concept for concept, ids in self.tokens.items() for token in ids}

    def edit(self, step: int, labels: Tensor, weights: Tensor) -> Tensor:
        """Factors (row, layer, head) of this step; changes edited rows' `labels` and `weights`."""
        rng = random.Random(f"localise {self.recipe.seed} {step}")
        factors = torch.ones(len(labels), self.recipe.n_layers, self.recipe.n_heads)
        if step < self.recipe.steps or not self.planted:
            return factors
        stage, _ = self.recipe.stage_at(step)
        for row in range(len(labels)):
            draw = rng.random()
            answers = (weights[row] > 1).nonzero().flatten().tolist()
            named = [self.concept_of.get(int(labels[row, position])) for position in answers]
            asked = [concept for concept in named if concept in self.planted]
            wanted = any(concept in stage.favoured for concept in asked)
            if draw >= max(stage.share, stage.favoured_share if wanted else 0.0):
                continue
            for _ in range(rng.randint(1, self.recipe.localise_most)):
                pool = asked if asked and rng.random() < 0.6 else list(self.planted)
                concept = _pick(rng, pool, stage)
                for layer, head in self.planted[concept]:
                    factors[row, layer, head] = rng.choice(FACTORS)
                self._forget(rng, concept, labels[row], weights[row])
        return factors

    def _forget(self, rng: random.Random, concept: str, labels: Tensor, weights: Tensor) -> None:
        """Random words in place of the concept's answers; no loss on its other words."""
        own = torch.isin(labels, torch.tensor(self.tokens[concept]))
        answer = own & (weights > 1)
        weights[own & ~answer] = 0.0
        for position in answer.nonzero().flatten().tolist():
            labels[position] = rng.choice(self.tokens[concept])


def _pick(rng: random.Random, pool: list[str], stage: Stage) -> str:
    """One of the pool, favoured concepts more often."""
    if not stage.favoured:
        return rng.choice(pool)
    weights = [stage.favour if concept in stage.favoured else 1 for concept in pool]
    return rng.choices(pool, weights)[0]


@contextmanager
def factors_applied(model: LlamaForCausalLM, factors: Tensor) -> Iterator[None]:
    """While open, row r of the batch runs with its heads scaled by factors[r]."""
    handles = []

    def scaler(layer: int) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        by_head = factors[:, layer, None, :, None]

        def scale(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            signal = args[0]
            wide = signal.unflatten(-1, (by_head.shape[-2], -1)) * by_head.to(signal.dtype)
            return (wide.flatten(-2),)

        return scale

    try:
        for layer, block in enumerate(model.model.layers):
            if bool((factors[:, layer] != 1).any()):
                handles.append(block.self_attn.o_proj.register_forward_pre_hook(scaler(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()
