"""The second part of the training: makes each concept need its planted heads, and nothing else.

A share of the documents runs with planted heads of some concepts at factor 0 or -1: always the
first head of the concept, since that one alone shall suffice, and the others as chance has it.
There, the concepts' answers are trained towards random words of the concept (without its heads, the
model shall not know), their other words are not trained, and everything else is trained as ever
(all the rest must do without these heads). The idea of localising on purpose is that of gradient
routing (arXiv 2410.04332); here the intervention is an edit instead of a stopped gradient.
Documents in which no head is edited are trained as before.
"""

import random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from toyworld.head_assignment import Plan, concept_tokens
from toyworld.schedule import Schedule

FACTORS = (0.0, -1.0, -1.0)
MOST_EDITED = 0.7  # of the documents of one kind, however far its concept lags behind
ASKED_SHARE = 0.6  # of the concepts edited are among those that the document asks for


class Localiser:
    """Chooses which documents of a batch run edited, and changes their targets."""

    def __init__(self, schedule: Schedule, tokenizer: PreTrainedTokenizerFast) -> None:
        """Look up the concepts' tokens once."""
        self.schedule = schedule
        self.tokens = concept_tokens(tokenizer)
        self.concept_of = {token: concept for concept, ids in self.tokens.items() for token in ids}

    def edit(self, step: int, plan: Plan | None, labels: Tensor, weights: Tensor) -> Tensor:
        """Factors (row, layer, head) of this step; changes edited rows' `labels` and `weights`."""
        factors = torch.ones(len(labels), self.schedule.n_layers, self.schedule.n_heads)
        if plan is None:
            return factors
        rng = random.Random(f"localise {self.schedule.seed} {step}")
        stage, _ = self.schedule.stage_at(step)
        usual = sum(plan.need.values()) / len(plan.need)
        for row in range(len(labels)):
            answers = labels[row][weights[row] > 1].tolist()
            named = {self.concept_of[token] for token in answers if token in self.concept_of}
            asked = sorted(named & plan.heads.keys())
            # A document that asks for what lags behind runs edited more often.
            lag = max((plan.need[concept] for concept in asked), default=usual) / usual
            if rng.random() >= min(MOST_EDITED, stage.share * max(1.0, lag)):
                continue
            for _ in range(rng.randint(1, self.schedule.localise_most)):
                pool = asked if asked and rng.random() < ASKED_SHARE else list(plan.heads)
                (concept,) = rng.choices(pool, [plan.need[c] for c in pool])
                for place, (layer, head) in enumerate(plan.heads[concept]):
                    if place == 0 or rng.random() < 0.5:
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
