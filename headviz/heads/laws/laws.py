"""The laws of heads, measured on any model in memory by a few short forward passes.

The tests run them on every family, `python -m headviz check` on a model that a person names, and
`discovery` before it trusts what it has guessed. A measured number is a largest deviation, as a
share of the largest number that it deviates from, so that one limit fits all models.
Where only a layer is asked, it is called alone on what the model gives it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from headviz.base.head import Head
from headviz.base.shapes import Tensor
from headviz.heads.edits import NO_EDIT, Edit, applied, factor_table
from headviz.heads.forward import batch_of, read_on, sayable
from headviz.heads.hooks import projection_inputs
from headviz.heads.laws.fixture import N_CACHED, Fixture, NotMeasurable, weights_scaled
from headviz.heads.laws.instrument import Replay, silenced_head
from headviz.models.families import output_bias, output_weight
from headviz.models.loaded import LoadedModel
from headviz.models.norms import read_norm

ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-6, torch.float16: 1e-2, torch.bfloat16: 0.1}
"""How far two ways to work out the same may lie apart."""


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected number."""
    difference = (found.float() - expected.float()).abs().max()
    return float(difference / expected.float().abs().max().clamp_min(1e-12))


def one_head_a_slice(fixture: Fixture) -> float:
    """A head silenced in the attention function silences its slice of the signals, and no other."""
    worst = 0.0
    for place, (layer, call) in enumerate(fixture.calls.items()):
        head = fixture.model.n_heads - 1 - place % fixture.model.n_heads
        before = call.signals()
        with silenced_head(head, fixture.model.n_heads) as silencer:
            after = call.signals()
        if not silencer.found:
            raise NotMeasurable(
                f"layer {layer} works its attention out where it cannot be listened to"
            )
        width = fixture.model.d_head
        expected = before.clone()
        expected[..., head * width : (head + 1) * width] = 0
        worst = max(worst, apart(after, expected))
    return worst


def heads_sum_up(fixture: Fixture) -> float:
    """The heads' writes and the bias sum to what attention writes, behind a norm that follows."""
    model, worst = fixture.model, 0.0
    for layer, call in fixture.calls.items():
        signals, output = call.at_projection()
        scale = model.write_scale(layer, signals)
        heads = signals[0].float().unflatten(-1, (model.n_heads, model.d_head))
        total = torch.einsum("phk,hkd->pd", heads, model.head_weights(layer))
        total = total if scale is None else total * scale[0, :, None]
        total = total + model.write_bias(layer, None if scale is None else scale[0])
        worst = max(worst, apart(total, written(model, layer, output)[0]))
    return worst


def written(model: LoadedModel, layer: int, output: Tensor) -> Tensor:
    """What reaches the residual stream of the projection's output, by the model's own modules."""
    norm, multiplier = model.norm_after(layer), model.multiplier(layer)
    return (output if norm is None else norm(output)).float() * multiplier


def writes_reach_the_stream(fixture: Fixture) -> float:
    """A head that is turned up changes the layer's output by what it writes more, and by no more.

    Whatever runs after the attention, but a norm on its way to the stream, is held at what it gave.
    """
    model, worst = fixture.model, 0.0
    for layer, call in fixture.calls.items():
        norm = model.norm_after(layer)
        replay = Replay(call, keep=() if norm is None else (norm,))
        before, signals, output = replay.record()
        write, columns = _loudest_write(model, call.projection, signals)
        # As much as the stream holds: less would drown in its rounding.
        more = float(before.abs().max() / write.abs().max().clamp_min(1e-12))
        turned_up = signals.clone()
        turned_up[..., columns] *= 1 + more
        after = replay.run(turned_up)
        expected = written(model, layer, output + more * write) - written(model, layer, output)
        worst = max(worst, apart(after.float() - before.float(), expected))
    return worst


def _loudest_write(
    model: LoadedModel, projection: nn.Module, signals: Tensor
) -> tuple[Tensor, slice]:
    """What the head that writes most gives to the projection's output, and its columns."""
    weight, width = output_weight(projection).detach(), model.d_head
    slices = [slice(h * width, (h + 1) * width) for h in range(model.n_heads)]
    found = [(signals[..., s] @ weight[:, s].T, s) for s in slices]
    return max(found, key=lambda one: float(one[0].abs().max()))


def ones_change_nothing(fixture: Fixture) -> float:
    """A row whose factors are all 1, beside an edited one, has the logits of no hook."""
    rows = [fixture.prompts[0]] * 2
    beside = fixture.logits(rows, [NO_EDIT, fixture.edit])[0]
    alone = fixture.logits(rows)[0]
    # An expert takes its tokens of all rows in one product, whose rounding may depend on how many
    # they are: an edit that sends the other row to other experts is not to blame for that.
    if has_experts(fixture.model) and apart(beside, alone) < ROUNDING[fixture.model.dtype]:
        return 0.0
    return float((beside - alone).abs().max())


def has_experts(model: LoadedModel) -> bool:
    """Whether the model sends tokens to experts."""
    if not isinstance(config := getattr(model.model, "config", None), PretrainedConfig):
        return False
    config = config.get_text_config()
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any((getattr(config, name, None) or 1) > 1 for name in names)


def zero_removes_one_head(fixture: Fixture) -> float:
    """Factor 0 takes the head's share from the projection's output, and no other."""
    model, worst = fixture.model, 0.0
    for layer, call in fixture.calls.items():
        head = layer % model.n_heads
        signals, output = call.at_projection()
        with torch.inference_mode(), applied(model, factor_table(model, [_without(layer, head)])):
            _, after = call.at_projection()
        z = signals.float().unflatten(-1, (model.n_heads, model.d_head))
        z[..., head, :] = 0
        weight = output_weight(call.projection).detach().float()
        expected = z.flatten(-2) @ weight.T + output_bias(call.projection)
        # As a share of the output: one head of one may leave nothing.
        worst = max(worst, apart(after - expected + output, output))
    return worst


def _without(layer: int, head: int) -> Edit:
    return Edit({Head(layer, head): 0.0})


def hook_is_baked(fixture: Fixture) -> float:
    """The hooked model has the logits of one whose weights hold the edit."""
    model, rows = fixture.model, fixture.prompts[:1]
    hooked = fixture.logits(rows, [fixture.edit])
    with weights_scaled(model, fixture.edit):
        return apart(fixture.logits(rows), hooked)


def rows_are_alone(fixture: Fixture) -> float:
    """Three prompts under three edits in one padded batch have the logits that each has alone."""
    edits = [fixture.edit, NO_EDIT, _without(fixture.model.head_layers[-1], 0)]
    together = fixture.logits(fixture.prompts, edits)[:, -1]
    alone = [
        fixture.logits([prompt], [edit])[0, -1]
        for prompt, edit in zip(fixture.prompts, edits, strict=True)
    ]
    return apart(together, torch.stack(alone))


@torch.inference_mode()
def cache_says_the_same(fixture: Fixture) -> float:
    """Tokens said one by one with the cache of keys have the logits of reading all anew."""
    model, worst = fixture.model, 0.0
    prompt = fixture.prompts[0]
    batch, cache, said = batch_of(model, [prompt], left=True), None, list[int]()
    vision_spec = model.family.vision_spec
    with applied(model, factor_table(model, [fixture.edit])):
        for _ in range(N_CACHED):
            logits, cache = read_on(model, batch, cache)
            anew = prompt.continued(said, 0 if vision_spec is None else vision_spec.answer_type)
            whole = model.model(**batch_of(model, [anew], left=True).inputs(), use_cache=False)
            worst = max(worst, apart(logits, whole.logits[:, -1]))
            chosen = sayable(model, whole.logits[:, -1]).argmax(1)
            said += chosen.tolist()
            batch = batch.following(chosen)
    return worst


@torch.inference_mode()
def unembedding_reads_the_stream(fixture: Fixture) -> float:
    """A token's logit grows with ⟨its atom, the residual stream⟩: atoms are directions of logits.

    Up to what all tokens share: the final norm's scale, a factor on the logits, a soft cap.
    """
    model = fixture.model
    seen: dict[str, Tensor] = {}
    handle = model.final_norm.register_forward_pre_hook(
        lambda _, args: seen.update({"stream": args[0]})
    )
    try:
        logits = fixture.logits(fixture.prompts[:1])[0, -1]
    finally:
        handle.remove()
    norm, output = read_norm(model.final_norm), model.model.get_output_embeddings()
    rows = model.unembedding
    shift = rows @ norm.bias
    if isinstance(bias := getattr(output, "bias", None), Tensor):
        shift = shift + bias.float()
    stream = seen["stream"][0, -1].float()
    lens = norm.direction(rows) @ stream * norm.scale(stream) + shift
    ordered = logits[lens.argsort()]
    back = (ordered.cummax(0).values - ordered).max()
    return float(back / (ordered[-1] - ordered[0]).abs().clamp_min(1e-12))


def no_hook_is_left(fixture: Fixture) -> float:
    """No hook is left after a pass that broke."""
    model = fixture.model

    def broken(layer: int, signals: Tensor) -> Tensor:
        raise ZeroDivisionError

    def hooks() -> int:
        return sum(len(p._forward_pre_hooks) for p in model.projections.values())

    before = hooks()
    try:
        with projection_inputs(model, broken):
            fixture.logits(fixture.prompts[:1])
    except ZeroDivisionError:
        pass
    return float(hooks() - before)


@dataclass(frozen=True)
class Law:
    """A law and how it is measured."""

    measure: Callable[[Any], float]
    """Of a Trial: the largest deviation."""
    exact: bool = False
    """Whether nothing may be lost to rounding: the limit is 0."""

    @property
    def sentence(self) -> str:
        """The law in a sentence."""
        return (self.measure.__doc__ or "").split("\n")[0]

    def limit(self, dtype: torch.dtype) -> float:
        """What may be measured at most in this number format."""
        return 0.0 if self.exact else ROUNDING[dtype]


LAWS: Mapping[str, Law] = {
    "slices": Law(one_head_a_slice),
    "sum": Law(heads_sum_up),
    "stream": Law(writes_reach_the_stream),
    "ones": Law(ones_change_nothing, exact=True),
    "zero": Law(zero_removes_one_head),
    "baked": Law(hook_is_baked),
    "rows": Law(rows_are_alone),
    "cache": Law(cache_says_the_same),
    "unembedding": Law(unembedding_reads_the_stream),
    "hooks": Law(no_hook_is_left, exact=True),
}
"""Name -> law, in the order in which they build on each other."""
