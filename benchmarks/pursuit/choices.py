"""What the energy rule and the number formats do to picks and rankings, counted.

On heads with a few strong directions, as trained ones have, over atoms that share directions, as
words do: random heads over random atoms would make every choice look harmless.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.pursuit.machine import seconds
from headviz.base.shapes import Float, Tensor
from headviz.pursuit.engine.precomputed import PrecomputedHeads, precompute_heads
from headviz.pursuit.engine.somp import How, pursue_precomputed

HEADS, SAMPLES, D_HEAD, D_MODEL = 64, 400, 64, 1024
VOCABULARY, CONCEPT, STEPS = 8000, 200, 20


@dataclass(frozen=True)
class Choice:
    """A rule or number format against the default: l1 in float32."""

    choice: str
    first_pick: float
    """Share of heads whose first pick is the same."""
    same_set: float
    """Share of the default's picks that are among the choice's, whatever their order."""
    rank_agreement: float
    """Spearman correlation of the heads' scores for a concept."""
    explained_off: float
    """Mean relative difference of the variance explained by a spectrum."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def structured(device: torch.device) -> tuple[PrecomputedHeads, Float[Tensor, "atom d_model"]]:
    """Heads with falling spectra and heavy-tailed samples; atoms with shared directions."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    fall = torch.arange(1, D_HEAD + 1, device=device).pow(-0.7)
    strength = normal(HEADS, SAMPLES, 1).exp()
    z = normal(HEADS, SAMPLES, D_HEAD) * fall * strength
    w_o = normal(HEADS, D_HEAD, D_MODEL) / D_MODEL**0.5
    shared = normal(VOCABULARY, 128) @ normal(128, D_MODEL) / 128**0.5
    atoms = shared + normal(VOCABULARY, D_MODEL)
    return precompute_heads(z, [w_o]), atoms / atoms.norm(dim=1, keepdim=True)


def compare_choices(device: torch.device) -> list[Choice]:
    """Every rule and number format against the default."""
    heads, atoms = structured(device)
    concept = atoms[:CONCEPT]
    spectrum = pursue_precomputed(heads, atoms, STEPS)
    scores = pursue_precomputed(heads, concept, STEPS).explained[:, -1]
    choices = []
    for name in ("l1 float32", "l1 float64", "l1 bfloat16", "energy float32"):
        rule, precision = name.split()

        def run(over: Tensor, rule: str = rule, precision: str = precision) -> Any:
            return pursue_precomputed(heads, over, STEPS, How(rule, precision=precision))

        found, other = run(atoms), run(concept).explained[:, -1]
        shared = (found.picks[:, :, None] == spectrum.picks[:, None, :]).any(1).float().mean()
        off = (found.explained[:, -1] / spectrum.explained[:, -1] - 1).abs().mean()
        first = (found.picks[:, 0] == spectrum.picks[:, 0]).float().mean()
        taken = seconds(lambda run=run: run(atoms), device, 1)  # type: ignore[misc]
        agreement = _spearman(scores.float(), other.float())
        choices.append(Choice(name, float(first), float(shared), agreement, float(off), taken))
    return choices


def _spearman(a: Float[Tensor, " head"], b: Float[Tensor, " head"]) -> float:
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).float()
    return float(torch.corrcoef(ranks)[0, 1])
