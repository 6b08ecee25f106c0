"""The laws that hold in every family: what a head is, what an edit does, and that nothing is left.

What they are compared with are hooks of these tests' own on the attention modules, weights changed
by hand, and transformers' own generation.
"""

import copy
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import zip_longest

import pytest
import torch
from anatomy import attention_in, layers_of, projection_in, stream_after_attention
from baking import bake
from tiny_models import CONFIGS

from headviz.base.head import Head
from headviz.editing.generate import Sampling, Streams, generate
from headviz.heads import pooling as poolings
from headviz.heads.capture import capture, encode_prompt
from headviz.heads.edits import NO_EDIT, Edit, applied, factor_table
from headviz.heads.hooks import projection_inputs
from headviz.heads.laws.laws import apart, has_experts
from headviz.inputs.prompt_sets import PromptSet

pytest_plugins = ["loaded"]


@pytest.fixture(scope="session", params=CONFIGS)
def family(request):
    """Every family in turn."""
    return request.param


LONG = "a horse saw two green goat in the house of a fish and the bird was black"
PROMPTS = (LONG, "one", "the cat is red and the dog is blue")
SHORT = Sampling(max_new_tokens=8)


def tokens(model, text):
    return torch.tensor([encode_prompt(model, text).ids])


def edit_of(model):
    """An edit of heads in the first, a middle and the last layer that has heads."""
    first, middle, last = (model.head_layers[n] for n in (0, len(model.head_layers) // 2, -1))
    return Edit({Head(first, 1): -1.0, Head(middle, 3): 0.0, Head(last, 2): 4.0})


def other_edit_of(model):
    first, last = model.head_layers[0], model.head_layers[-1]
    return Edit({Head(first, 0): 5.0, Head(last, 1): -1.0})


def projection_of(model, layer):
    return projection_in(layers_of(model.model)[layer])


@contextmanager
def listening(modules, record):
    """`record(number, inputs, output)` for every module, by hooks of the tests' own."""
    handles = [
        module.register_forward_hook(
            lambda _, inputs, output, n=number: record(
                n, inputs, output[0] if isinstance(output, tuple) else output
            )
        )
        for number, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def run(model, ids, table=None):
    """(logits, each layer's signals, what each layer's attention adds to the stream) of a pass."""
    signals, added = {}, {}
    found = {n: projection_in(layer) for n, layer in enumerate(layers_of(model.model))}
    found = {n: projection for n, projection in found.items() if projection is not None}
    numbers = list(found)
    with (
        applied(model, table) if table is not None else nullcontext(),
        listening(found.values(), lambda n, i, o: signals.update({numbers[n]: i[0]})),
        stream_after_attention(model.model, lambda n, change: added.update({n: change})),
    ):
        logits = model.model(input_ids=ids).logits
    return logits, signals, {n: added[n] for n in signals}


def logits_of(model, ids, edit=NO_EDIT):
    return run(model, ids, factor_table(model, [edit]))[0]


def writes(model, signals, layer):
    """What each head of the layer writes: (head, position, d_model)."""
    z = signals[layer]
    scale = model.write_scale(layer, z)
    z = z if scale is None else z * scale[..., None]
    heads = z[0].view(-1, model.n_heads, model.d_head)
    return torch.einsum("phk,hkd->hpd", heads, model.head_weights(layer))


def write_bias(model, signals, layer):
    scale = model.write_scale(layer, signals[layer])
    return model.write_bias(layer, None if scale is None else scale[0])


def close(found, expected, rtol=1e-4):
    """Equal but for the rounding of float32, which grows with the largest number of the tensor."""
    atol = 2e-6 * max(expected.abs().max().item(), 1.0) + 1e-5
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def hooks_on(model):
    """How many hooks there are on all modules."""
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks)
        for module in model.model.modules()
    )


def final(streams) -> Streams:
    *_, last = streams
    return last


# What a head is.


def test_the_heads_writes_plus_the_bias_are_what_attention_adds_to_the_residual_stream(model):
    _, signals, added = run(model, tokens(model, LONG))
    assert tuple(signals) == model.head_layers
    for layer in signals:
        total = writes(model, signals, layer).sum(0) + write_bias(model, signals, layer)
        close(total, added[layer][0])


def test_the_seam_is_the_input_of_each_layers_projection(model):
    ids, seen = tokens(model, LONG), {}
    with projection_inputs(model, lambda layer, z: seen.update({layer: z})):
        _, signals, _ = run(model, ids)
    assert tuple(seen) == model.head_layers
    for layer, z in seen.items():
        assert torch.equal(z, signals[layer])


# What an edit does.


def test_factors_of_1_give_the_same_logits_bit_for_bit(model):
    ids = tokens(model, LONG)
    untouched, _, _ = run(model, ids)
    ones = Edit({Head(layer, 0): 1.0 for layer in model.head_layers})
    assert torch.equal(logits_of(model, ids, ones), untouched)


def test_a_row_of_ones_beside_an_edited_row_is_the_same_bit_for_bit(model):
    ids = tokens(model, LONG).repeat(2, 1)
    untouched, _, _ = run(model, ids)
    beside, _, _ = run(model, ids, factor_table(model, [NO_EDIT, edit_of(model)]))
    if has_experts(model):  # a product of all rows' tokens: rounding depends on how many they are
        assert apart(beside[0], untouched[0]) < 1e-4
    else:
        assert torch.equal(beside[0], untouched[0])
    assert (beside[1] - untouched[1]).abs().max() > 0.1


@pytest.mark.parametrize("factor", [0.0, -1.0, 5.0])
def test_a_factor_changes_exactly_that_heads_share(model, factor):
    """Of what goes into a norm that follows; that norm then sees another scale."""
    ids = tokens(model, LONG)
    _, signals, before = run(model, ids)
    for layer in model.head_layers:
        table = factor_table(model, [Edit.of([Head(layer, 1)], factor)])
        _, _, after = run(model, ids, table)
        changed = edited_signals(model, signals[layer], 1, factor)
        scale = model.write_scale(layer, changed)
        share = (factor - 1) * writes(model, signals, layer)[1]
        expected = before[layer][0] + share
        if scale is not None:
            old = model.write_scale(layer, signals[layer])
            plain = model.write_bias(layer, torch.zeros_like(scale))[0]  # the norm's own bias
            expected = plain + (expected - plain) * (scale / old)[0, :, None]
        torch.testing.assert_close(after[layer][0], expected, rtol=1e-4, atol=1e-4)
        for earlier in [n for n in model.head_layers if n < layer]:
            assert torch.equal(after[earlier], before[earlier])


def edited_signals(model, signals, head, factor):
    changed = signals.clone()
    changed[..., head * model.d_head : (head + 1) * model.d_head] *= factor
    return changed


@torch.no_grad()
def test_factor_0_is_the_model_without_those_columns_of_w_o(model):
    ids, width = tokens(model, LONG), model.d_head
    without = replace(model, model=copy.deepcopy(model.model))
    removed = [Head(model.head_layers[0], 2), Head(model.head_layers[-1], 3)]
    for head in removed:
        weight = projection_of(without, head.layer).weight
        columns = slice(head.index * width, (head.index + 1) * width)
        if model.model.config.model_type == "gpt2":
            weight[columns] = 0
        else:
            weight[:, columns] = 0
    expected, _, _ = run(without, ids)
    edited = logits_of(model, ids, Edit.of(removed, 0.0))
    torch.testing.assert_close(edited, expected, rtol=1e-4, atol=1e-4)
    assert (edited - run(model, ids)[0]).abs().max() > 0.05


def test_hook_and_baked_weights_agree_and_the_original_keeps_its_own(model):
    ids = tokens(model, LONG)
    untouched, _, _ = run(model, ids)
    baked = bake(model, edit_of(model))
    with torch.inference_mode():
        from_weights = baked(input_ids=ids).logits
    torch.testing.assert_close(
        from_weights, logits_of(model, ids, edit_of(model)), rtol=1e-4, atol=1e-4
    )
    assert (from_weights - untouched).abs().max() > 0.1
    assert torch.equal(run(model, ids)[0], untouched)
    answer = baked.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=SHORT.max_new_tokens
    )
    assert (
        said(answer, ids, model) == final(generate(model, [LONG], [edit_of(model)], SHORT)).ids[0]
    )


# Batches and streams.


def said(answer, ids, model):
    """The new tokens of a transformers answer, up to the end of text."""
    new = answer[0, ids.shape[1] :].tolist()
    end = model.tokenizer.eos_token_id
    return tuple(new[: new.index(end)] if end in new else new)


def test_a_row_of_a_batch_says_what_it_says_alone(model):
    edits = (NO_EDIT, edit_of(model), other_edit_of(model))
    together = final(generate(model, PROMPTS, edits, SHORT))
    for row, (prompt, edit) in enumerate(zip(PROMPTS, edits, strict=True)):
        alone = final(generate(model, [prompt], [edit], SHORT))
        assert together.ids[row] == alone.ids[0]
        assert together.texts[row] == alone.texts[0]


def test_an_edit_in_a_batch_changes_its_own_row(model):
    plain = final(generate(model, [LONG, LONG], [NO_EDIT, NO_EDIT], SHORT))
    beside = final(generate(model, [LONG, LONG], [NO_EDIT, edit_of(model)], SHORT))
    assert plain.ids[0] == plain.ids[1] == beside.ids[0] != beside.ids[1]


@torch.inference_mode()
def test_the_logits_of_a_padded_row_are_those_of_the_row_alone(model):
    edits = (edit_of(model), NO_EDIT, other_edit_of(model))
    rows = [list(encode_prompt(model, prompt).ids) for prompt in PROMPTS]
    padded = model.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
    positions = (padded["attention_mask"].cumsum(1) - 1).clamp_min(0)
    with applied(model, factor_table(model, edits)):
        together = model.model(**padded, position_ids=positions).logits[:, -1]
    for row, edit in enumerate(edits):
        alone = logits_of(model, torch.tensor([rows[row]]), edit)[0, -1]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-4)


def test_the_unedited_row_says_what_transformers_generates(model):
    for prompt in PROMPTS:
        ids = tokens(model, prompt)
        answer = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=SHORT.max_new_tokens,
            do_sample=False,
        )
        beside = final(generate(model, [prompt, LONG], [NO_EDIT, edit_of(model)], SHORT))
        assert beside.ids[0] == said(answer, ids, model)


def test_generation_with_the_cache_of_keys_equals_generation_without(model):
    ids = tokens(model, LONG)
    for _ in range(SHORT.max_new_tokens):
        best = logits_of(model, ids, edit_of(model))[:, -1].argmax(1, keepdim=True)
        ids = torch.cat([ids, best], 1)
    expected = said(ids, tokens(model, LONG), model)
    assert final(generate(model, [LONG], [edit_of(model)], SHORT)).ids[0] == expected


def test_mistrals_window_is_shorter_than_these_prompts_and_matters(load):
    model = load("mistral")
    ids = tokens(model, LONG)
    window = model.model.config.sliding_window
    assert ids.shape[1] > 2 * window
    wide = replace(model, model=copy.deepcopy(model.model))
    wide.model.config.sliding_window = None
    difference = (logits_of(wide, ids) - logits_of(model, ids))[0].abs().amax(1)
    assert (difference[:window] == 0).all()
    assert (difference[window:] > 1e-3).all()


def test_streams_interleaved_are_what_each_is_alone(model):
    """Two visitors of one model, each taking a token in turn."""
    alone = [
        final(generate(model, [LONG], [edit], SHORT)).ids
        for edit in (edit_of(model), other_edit_of(model))
    ]
    first, second = (
        generate(model, [LONG], [edit], SHORT) for edit in (edit_of(model), other_edit_of(model))
    )
    turns = list(zip_longest(first, second))
    ends = [final(filter(None, stream)) for stream in zip(*turns, strict=True)]
    assert [end.ids for end in ends] == alone


# What is read.


def read_alone(model, text, pooling):
    """A text's pooled signals by a hook of the test's own on a run of that text alone."""
    ids = tokens(model, text)
    n_prompt = ids.shape[1]
    own = torch.tensor(encode_prompt(model, text).own).nonzero().flatten()
    chosen = {"prompt": own, "last": slice(n_prompt - 1, n_prompt)}
    if pooling == "generated":
        ids = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=poolings.GENERATED_TOKENS,
            do_sample=False,
        )
    _, signals, _ = run(model, ids)
    read = torch.zeros(model.n_layers, model.n_heads, model.d_head)
    for layer, z in signals.items():
        scale = model.write_scale(layer, z)
        written = z if scale is None else z * scale[..., None]
        mean = written[0, chosen.get(pooling, slice(n_prompt, None))].mean(0)
        read[layer] = mean.view(model.n_heads, model.d_head)
    return read


@pytest.mark.parametrize("pooling", [p for p in poolings.POOLINGS if p != "image"])
def test_what_is_read_in_padded_batches_is_what_each_text_gives_alone(
    model, texts, pooling, monkeypatch
):
    monkeypatch.setattr(poolings, "CPU_BATCH_TOKENS", 64)
    monkeypatch.setattr(poolings, "GENERATED_TOKENS", 4)
    activations = capture(model, texts, pooling)
    # Its gated delta rule divides by norms near 0, and a product rounds by its number of rows.
    atol = 1e-3 if model.model.config.model_type == "qwen3_next" else 1e-5
    for sample, text in enumerate(texts.texts):
        torch.testing.assert_close(
            activations.z[:, :, sample], read_alone(model, text, pooling), rtol=1e-4, atol=atol
        )


@pytest.mark.parametrize("pooling", [p for p in poolings.POOLINGS if p != "image"])
def test_a_beginning_read_once_for_all_prompts_changes_no_signal(
    model, texts, pooling, monkeypatch
):
    monkeypatch.setattr(poolings, "GENERATED_TOKENS", 4)
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = (
        "{{ bos_token }}the house of a bird {{ messages[0]['content'] }} was seven fish"
    )
    chatty = replace(model, tokenizer=tokenizer)
    activations = capture(chatty, texts, pooling)
    for sample, text in enumerate(texts.texts):
        torch.testing.assert_close(
            activations.z[:, :, sample], read_alone(chatty, text, pooling), rtol=1e-4, atol=1e-4
        )


# Nothing is left.


def breaking(model, monkeypatch):
    """The model breaks down in its last layer, after all but one of the hooks have run."""

    def broken(*_, **__):
        raise RuntimeError("out of memory")

    last = attention_in(layers_of(model.model)[model.head_layers[-1]])
    monkeypatch.setattr(last, "forward", broken)


@pytest.mark.parametrize("run_it", ["generate", "capture"])
def test_a_run_that_breaks_leaves_no_hook(model, texts, monkeypatch, run_it):
    breaking(model, monkeypatch)
    with pytest.raises(RuntimeError, match="out of memory"):
        if run_it == "generate":
            final(generate(model, [LONG], [edit_of(model)], SHORT))
        else:
            capture(model, texts)
    assert hooks_on(model) == 0


def test_a_stream_that_is_closed_leaves_no_hook_and_the_model_as_it_was(model):
    ids = tokens(model, LONG)
    untouched, _, _ = run(model, ids)
    stream = generate(model, [LONG], [edit_of(model)], SHORT)
    for _ in range(3):
        next(stream)
        assert hooks_on(model) == 0, "no hook stays while the consumer thinks"
        assert torch.equal(run(model, ids)[0], untouched)
    stream.close()
    assert hooks_on(model) == 0
    assert next(stream, None) is None


def test_an_edit_whose_body_raises_or_is_closed_leaves_no_hook(model):
    table = factor_table(model, [edit_of(model)])

    def inside():
        with applied(model, table):
            yield hooks_on(model)

    with pytest.raises(ZeroDivisionError), applied(model, table):
        raise ZeroDivisionError
    assert hooks_on(model) == 0
    suspended = inside()
    assert next(suspended) == len(model.head_layers)
    suspended.close()
    assert hooks_on(model) == 0


def test_a_hook_that_cannot_be_set_takes_those_before_it_along(llama):
    partial = replace(llama)
    partial.__dict__["projections"] = {0: llama.projections[0], 1: object()}
    with pytest.raises(AttributeError), projection_inputs(partial, lambda layer, z: None):
        pass
    assert hooks_on(llama) == 0


def test_a_progress_that_cancels_leaves_no_hook(model):
    class Stop(Exception):
        pass

    def progress(share, what):
        if share > 0:
            raise Stop

    with pytest.raises(Stop):
        capture(model, PromptSet("one", ("the cat",)), progress=progress)
    assert hooks_on(model) == 0
