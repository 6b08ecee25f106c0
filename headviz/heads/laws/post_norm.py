"""How much of a head's write survives a norm that follows the attention.

Such a norm (Gemma 2 and 3, OLMo 2, GLM 4) gives what all heads of a layer write together one size,
so that what one head loses the others gain: α means less there. The measured share says how much
is left: turned off, a head changes the residual stream by N(o - w) - N(o), where o is the attention
output, w the head's part of it and N the norm; at the norm's scale before, by -γ∘w/rms(o) instead.
The share is the part of the second that is found in the first, over all heads and positions.
"""

from dataclasses import replace

import torch

from headviz.base.shapes import Float, Tensor
from headviz.heads.laws.fixture import Fixture
from headviz.models.families import output_weight
from headviz.models.loaded import LoadedModel
from headviz.models.norms import Norm, read_norm


@torch.inference_mode()
def surviving_share(model: LoadedModel) -> float:
    """The share of a head's write that arrives where it is turned off alone, on a short text.

    1 where no norm follows the attention: all of it arrives.
    """
    if model.family.norm_after is None:
        return 1.0
    found = expected = 0.0
    for layer, call in Fixture.of(model).calls.items():
        module = model.norm_after(layer)
        assert module is not None
        signals, output = call.at_projection()
        z = signals[0].float().unflatten(-1, (model.n_heads, model.d_head))
        weight = output_weight(call.projection).detach().float()
        blocks = weight.T.reshape(model.n_heads, model.d_head, -1)
        writes = torch.einsum("phk,hkd->hpd", z, blocks)
        along, size = _part_found(read_norm(module), output[0].float(), writes)
        found, expected = found + along, expected + size
    return found / expected if expected else 1.0


def _part_found(
    norm: Norm,
    output: Float[Tensor, "position d_model"],
    writes: Float[Tensor, "head position d_model"],
) -> tuple[float, float]:
    """⟨change, linear change⟩ and ‖linear change‖², summed over heads and positions."""
    linear = norm.centred(-writes) * norm.scale(output)[:, None] * norm.gain
    change = _applied(norm, output - writes) - _applied(norm, output)
    return float((change * linear).sum()), float(linear.square().sum())


def _applied(norm: Norm, x: Float[Tensor, "*axis d_model"]) -> Float[Tensor, "*axis d_model"]:
    return norm.centred(x) * norm.scale(x)[..., None] * norm.gain


def with_notes(model: LoadedModel) -> LoadedModel:
    """The model with what a person should know of its family."""
    if model.family.norm_after is None:
        return model
    share = surviving_share(model)
    told = (
        "A norm follows the attention and evens out what the heads of a layer write together, so "
        f"that α means less here: turned off alone, a head takes {share:.0%} of its write along "
        "(measured on a short text), and all heads of a layer scaled alike change nothing."
    )
    return replace(model, note=" ".join(filter(None, [model.note, told])))
