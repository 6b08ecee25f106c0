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

from headviz import capture as capturing
from headviz.capture import capture, encode_prompt, projection_inputs
from headviz.edits import NO_EDIT, Edit, applied, bake, factor_table
from headviz.generation import Sampling, Streams, generate
from headviz.heads import Head
from headviz.probes import ProbeSet

pytest_plugins = ["loaded"]

LONG = "a horse saw two green goat in the house of a fish and the bird was black"
PROMPTS = (LONG, "one", "the cat is red and the dog is blue")
EDIT = Edit({Head(0, 1): -1.0, Head(1, 3): 0.0, Head(2, 2): 4.0})
OTHER = Edit({Head(0, 0): 5.0, Head(1, 1): -1.0})
SHORT = Sampling(max_new_tokens=8)


def tokens(model, text):
    return torch.tensor([encode_prompt(model, text).ids])


def attention_of(model, layer):
    """The layer's attention module, found without headviz's table of families."""
    gpt2 = model.model.config.model_type == "gpt2"
    base = model.model.base_model
    return base.h[layer].attn if gpt2 else base.layers[layer].self_attn


def projection_of(model, layer):
    attention = attention_of(model, layer)
    return attention.c_proj if hasattr(attention, "c_proj") else attention.o_proj


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
    """(logits, each layer's signals, each layer's attention output) of one forward pass."""
    layers = range(model.n_layers)
    signals, outputs = {}, {}
    with (
        applied(model, table) if table is not None else nullcontext(),
        listening(
            [projection_of(model, n) for n in layers], lambda n, i, o: signals.update({n: i[0]})
        ),
        listening([attention_of(model, n) for n in layers], lambda n, i, o: outputs.update({n: o})),
    ):
        logits = model.model(input_ids=ids).logits
    return logits, signals, outputs


def logits_of(model, ids, edit=NO_EDIT):
    return run(model, ids, factor_table(model, [edit]))[0]


def writes(model, signals, layer):
    """What each head of the layer writes: (head, position, d_model)."""
    z = signals[layer][0].view(-1, model.n_heads, model.d_head)
    return torch.einsum("phk,hkd->hpd", z, model.head_weights(layer))


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


def test_the_heads_writes_plus_the_bias_are_the_attention_output(model):
    _, signals, outputs = run(model, tokens(model, LONG))
    for layer in range(model.n_layers):
        bias = getattr(projection_of(model, layer), "bias", None)
        total = writes(model, signals, layer).sum(0) + (0 if bias is None else bias)
        torch.testing.assert_close(total, outputs[layer][0], rtol=1e-4, atol=1e-5)


def test_the_seam_is_the_input_of_each_layers_projection(model):
    ids, seen = tokens(model, LONG), {}
    with projection_inputs(model, lambda layer, z: seen.update({layer: z})):
        _, signals, _ = run(model, ids)
    assert list(seen) == list(range(model.n_layers))
    for layer, z in seen.items():
        assert torch.equal(z, signals[layer])


# What an edit does.


def test_factors_of_1_give_the_same_logits_bit_for_bit(model):
    ids = tokens(model, LONG)
    untouched, _, _ = run(model, ids)
    ones = Edit({Head(layer, 0): 1.0 for layer in range(model.n_layers)})
    assert torch.equal(logits_of(model, ids, ones), untouched)


def test_a_row_of_ones_beside_an_edited_row_is_the_same_bit_for_bit(model):
    ids = tokens(model, LONG).repeat(2, 1)
    untouched, _, _ = run(model, ids)
    beside, _, _ = run(model, ids, factor_table(model, [NO_EDIT, EDIT]))
    assert torch.equal(beside[0], untouched[0])
    assert (beside[1] - untouched[1]).abs().max() > 0.1


@pytest.mark.parametrize("factor", [0.0, -1.0, 5.0])
def test_a_factor_changes_exactly_that_heads_share(model, factor):
    ids = tokens(model, LONG)
    _, signals, before = run(model, ids)
    for layer in range(model.n_layers):
        table = factor_table(model, [Edit.of([Head(layer, 1)], factor)])
        _, _, after = run(model, ids, table)
        expected = before[layer][0] + (factor - 1) * writes(model, signals, layer)[1]
        torch.testing.assert_close(after[layer][0], expected, rtol=1e-4, atol=1e-4)
        for earlier in range(layer):
            assert torch.equal(after[earlier], before[earlier])


@torch.no_grad()
def test_factor_0_is_the_model_without_those_columns_of_w_o(model):
    ids, width = tokens(model, LONG), model.d_head
    without = replace(model, model=copy.deepcopy(model.model))
    for layer, head in ((0, 2), (2, 3)):
        weight = projection_of(without, layer).weight
        columns = slice(head * width, (head + 1) * width)
        if model.model.config.model_type == "gpt2":
            weight[columns] = 0
        else:
            weight[:, columns] = 0
    expected, _, _ = run(without, ids)
    edited = logits_of(model, ids, Edit.of([Head(0, 2), Head(2, 3)], 0.0))
    torch.testing.assert_close(edited, expected, rtol=1e-4, atol=1e-4)
    assert (edited - run(model, ids)[0]).abs().max() > 0.1


def test_hook_and_baked_weights_agree_and_the_original_keeps_its_own(model):
    ids = tokens(model, LONG)
    untouched, _, _ = run(model, ids)
    baked = bake(model, EDIT)
    with torch.inference_mode():
        from_weights = baked(input_ids=ids).logits
    torch.testing.assert_close(from_weights, logits_of(model, ids, EDIT), rtol=1e-4, atol=1e-4)
    assert (from_weights - untouched).abs().max() > 0.1
    assert torch.equal(run(model, ids)[0], untouched)
    answer = baked.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=SHORT.max_new_tokens
    )
    assert said(answer, ids, model) == final(generate(model, [LONG], [EDIT], SHORT)).ids[0]


# Batches and streams.


def said(answer, ids, model):
    """The new tokens of a transformers answer, up to the end of text."""
    new = answer[0, ids.shape[1] :].tolist()
    end = model.tokenizer.eos_token_id
    return tuple(new[: new.index(end)] if end in new else new)


def test_a_row_of_a_batch_says_what_it_says_alone(model):
    edits = (NO_EDIT, EDIT, OTHER)
    together = final(generate(model, PROMPTS, edits, SHORT))
    for row, (prompt, edit) in enumerate(zip(PROMPTS, edits, strict=True)):
        alone = final(generate(model, [prompt], [edit], SHORT))
        assert together.ids[row] == alone.ids[0]
        assert together.texts[row] == alone.texts[0]


def test_an_edit_in_a_batch_changes_its_own_row(model):
    plain = final(generate(model, [LONG, LONG], [NO_EDIT, NO_EDIT], SHORT))
    beside = final(generate(model, [LONG, LONG], [NO_EDIT, EDIT], SHORT))
    assert plain.ids[0] == plain.ids[1] == beside.ids[0] != beside.ids[1]


@torch.inference_mode()
def test_the_logits_of_a_padded_row_are_those_of_the_row_alone(model):
    edits = (EDIT, NO_EDIT, OTHER)
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
        beside = final(generate(model, [prompt, LONG], [NO_EDIT, EDIT], SHORT))
        assert beside.ids[0] == said(answer, ids, model)


def test_generation_with_the_cache_of_keys_equals_generation_without(model):
    ids = tokens(model, LONG)
    for _ in range(SHORT.max_new_tokens):
        best = logits_of(model, ids, EDIT)[:, -1].argmax(1, keepdim=True)
        ids = torch.cat([ids, best], 1)
    expected = said(ids, tokens(model, LONG), model)
    assert final(generate(model, [LONG], [EDIT], SHORT)).ids[0] == expected


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
    alone = [final(generate(model, [LONG], [edit], SHORT)).ids for edit in (EDIT, OTHER)]
    first, second = (generate(model, [LONG], [edit], SHORT) for edit in (EDIT, OTHER))
    turns = list(zip_longest(first, second))
    ends = [final(filter(None, stream)) for stream in zip(*turns, strict=True)]
    assert [end.ids for end in ends] == alone


# What is read.


def read_alone(model, text, pooling):
    """A text's pooled signals by a hook of the test's own on a run of that text alone."""
    ids = tokens(model, text)
    n_prompt = ids.shape[1]
    first = 1 if ids[0, 0] == model.tokenizer.bos_token_id else 0
    chosen = {"prompt": slice(first, n_prompt), "last": slice(n_prompt - 1, n_prompt)}
    if pooling == "generated":
        ids = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=capturing.GENERATED_TOKENS,
            do_sample=False,
        )
    _, signals, _ = run(model, ids)
    mean = [signals[n][0, chosen.get(pooling, slice(n_prompt, None))].mean(0) for n in signals]
    return torch.stack(mean).view(model.n_layers, model.n_heads, model.d_head)


@pytest.mark.parametrize("pooling", [p for p in capturing.POOLINGS if p != "image"])
def test_what_is_read_in_padded_batches_is_what_each_text_gives_alone(
    model, texts, pooling, monkeypatch
):
    monkeypatch.setattr(capturing, "BATCH_TOKENS", 64)
    monkeypatch.setattr(capturing, "GENERATED_TOKENS", 4)
    activations = capture(model, texts, pooling)
    for sample, text in enumerate(texts.texts):
        torch.testing.assert_close(
            activations.z[:, :, sample], read_alone(model, text, pooling), rtol=1e-4, atol=1e-5
        )


# Nothing is left.


def breaking(model, monkeypatch):
    """The model breaks down in its last layer, after all but one of the hooks have run."""

    def broken(*_, **__):
        raise RuntimeError("out of memory")

    last = attention_of(model, model.n_layers - 1)
    monkeypatch.setattr(last, "forward", broken)


@pytest.mark.parametrize("run_it", ["generate", "capture"])
def test_a_run_that_breaks_leaves_no_hook(model, texts, monkeypatch, run_it):
    breaking(model, monkeypatch)
    with pytest.raises(RuntimeError, match="out of memory"):
        if run_it == "generate":
            final(generate(model, [LONG], [EDIT], SHORT))
        else:
            capture(model, texts)
    assert hooks_on(model) == 0


def test_a_stream_that_is_closed_leaves_no_hook_and_the_model_as_it_was(model):
    ids = tokens(model, LONG)
    untouched, _, _ = run(model, ids)
    stream = generate(model, [LONG], [EDIT], SHORT)
    for _ in range(3):
        next(stream)
        assert hooks_on(model) == 0, "no hook stays while the consumer thinks"
        assert torch.equal(run(model, ids)[0], untouched)
    stream.close()
    assert hooks_on(model) == 0
    assert next(stream, None) is None


def test_an_edit_whose_body_raises_or_is_closed_leaves_no_hook(model):
    table = factor_table(model, [EDIT])

    def inside():
        with applied(model, table):
            yield hooks_on(model)

    with pytest.raises(ZeroDivisionError), applied(model, table):
        raise ZeroDivisionError
    assert hooks_on(model) == 0
    suspended = inside()
    assert next(suspended) == model.n_layers
    suspended.close()
    assert hooks_on(model) == 0


def test_a_hook_that_cannot_be_set_takes_those_before_it_along(llama):
    partial = replace(llama)
    partial.__dict__["projections"] = [llama.projections[0], object()]
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
        capture(model, ProbeSet("one", ("the cat",)), progress=progress)
    assert hooks_on(model) == 0
