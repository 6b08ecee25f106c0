"""The second part of the training: makes each concept depend on its planted heads, and nothing else on them.

A share of the documents runs with the planted heads of one concept at factor 0 or -1. There, the concept's answers are
trained towards random words of the concept (without its heads, the model shall not know), its other words are not
trained, and everything else is trained as ever (all the rest must do without these heads). The idea of localising on
purpose is that of gradient routing (arXiv 2410.04332); here the intervention is an edit instead of a stopped gradient.
Documents in which no head is edited are trained as before.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from headviz.toyworld.recipe import Recipe
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
        """Factors (row, layer, head) of this step; `labels` and `weights` of edited rows are changed in place."""
        rng = random.Random(f"localise {self.recipe.seed} {step}")
        factors = torch.ones(len(labels), self.recipe.n_layers, self.recipe.n_heads)
        if step < self.recipe.steps or not self.planted:
            return factors
        for row in range(len(labels)):
            if rng.random() >= self.recipe.localise_share:
                continue
            answers = (weights[row] > 1).nonzero().flatten().tolist()
            asked = [c for p in answers if (c := self.concept_of.get(int(labels[row, p]))) in self.planted]
            for _ in range(rng.randint(1, self.recipe.localise_most)):
                concept = rng.choice(asked if asked and rng.random() < 0.6 else list(self.planted))
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


@contextmanager
def factors_applied(model: LlamaForCausalLM, factors: Tensor) -> Iterator[None]:
    """While open, row r of the batch runs with its heads scaled by factors[r]."""
    handles = []

    def scaler(layer: int):  # noqa: ANN202
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
