"""The laws of the hook point in every family that sees, and that pictures are encoded once.

What they are compared with are transformers' own forward pass and generation on the processor's own
output, hooks of these tests' own, and weights changed by hand.
"""

import copy
from dataclasses import replace

import pytest
import torch
from baking import bake

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.editing.compare import CompareRequest, compare, last_of
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.heads import pooling as poolings
from headviz.heads.capture import capture
from headviz.heads.edits import NO_EDIT, WHERE, Edit, applied, factor_table, places
from headviz.heads.forward import batch_of, likeliest
from headviz.heads.hooks import projection_inputs
from headviz.heads.laws.fixture import Fixture
from headviz.heads.laws.laws import cache_says_the_same
from headviz.heads.prompts import _with_pictures, encode_prompt
from headviz.models.vision import Vision

pytest_plugins = ["loaded", "seeing"]

PROMPT = "what color has the house"
EDIT = Edit({Head(0, 1): -1.0, Head(1, 3): 4.0})
OTHER = Edit({Head(0, 0): 5.0, Head(1, 1): -1.0})
SHORT = Sampling(max_new_tokens=6)


def final(streams):
    *_, last = streams
    return last


def processed(model, text, pictures):
    """What transformers' own processor hands to transformers' own model."""
    inputs = model.vision.process(_with_pictures(model.vision, text, len(pictures)), pictures)
    inputs.pop("labels", None)  # PaliGemma's, for training
    return inputs


def hooks_on(model):
    """Ours are pre-hooks; transformers itself keeps others on its vision towers."""
    return sum(len(module._forward_pre_hooks) for module in model.model.modules())


@torch.inference_mode()
def logits_of(model, pictures, *edits, text=PROMPT):
    """The logits of a batch of the same prompt under each edit."""
    prompt = encode_prompt(model, text, 0, pictures)
    batch = batch_of(model, [prompt] * len(edits), left=True)
    with applied(model, factor_table(model, edits), places(edits, batch)):
        return model.model(**batch.inputs()).logits


@torch.inference_mode()
def parts(model, pictures):
    """Per layer: signals, and what the attention block adds to the residual stream."""
    prompt = encode_prompt(model, PROMPT, 0, pictures)
    batch = batch_of(model, [prompt], left=True)
    signals, outputs, handles = {}, {}, []
    for number, layer in enumerate(model.model.get_decoder().layers):
        norm_after = hasattr(layer, "pre_feedforward_layernorm")
        module = layer.post_attention_layernorm if norm_after else layer.self_attn
        handles.append(
            module.register_forward_hook(
                lambda _, inputs, output, n=number: outputs.update(
                    {n: output[0] if isinstance(output, tuple) else output}
                )
            )
        )
    with projection_inputs(model, lambda layer, z: signals.update({layer: z})):
        model.model(**batch.inputs())
    for handle in handles:
        handle.remove()
    return signals, outputs


# What a head is, and what a picture is.


def test_the_heads_writes_are_what_attention_adds_to_the_residual_stream(seeing, pictures):
    signals, outputs = parts(seeing, pictures[:1])
    assert len(outputs) == seeing.n_layers == 2
    for layer, z in signals.items():
        scale = seeing.write_scale(layer, z)
        heads = z[0].view(-1, seeing.n_heads, seeing.d_head)
        total = torch.einsum("phk,hkd->pd", heads, seeing.head_weights(layer))
        total = total if scale is None else total * scale[0, :, None]
        torch.testing.assert_close(total, outputs[layer][0], rtol=1e-4, atol=1e-4)


def test_kept_features_give_the_logits_of_the_pixels_bit_for_bit(seeing, pictures):
    for picture in pictures:
        with torch.inference_mode():
            plain = seeing.model(**processed(seeing, PROMPT, [picture])).logits
        assert torch.equal(logits_of(seeing, [picture], NO_EDIT), plain)


def test_two_pictures_of_one_prompt_are_seen_as_transformers_sees_them(seeing, pictures):
    with torch.inference_mode():
        plain = seeing.model(**processed(seeing, PROMPT, pictures[:2])).logits
    ours = logits_of(seeing, pictures[:2], NO_EDIT)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_image_positions_are_as_many_as_the_features_put_there(seeing, pictures):
    for given in (pictures[:1], pictures[1:2], pictures):
        prompt = encode_prompt(seeing, PROMPT, 0, given)
        seen = [feature for p in given for feature in seeing.vision.see(p, len(given) > 1).features]
        assert sum(prompt.image) == sum(f.numel() // f.shape[-1] for f in seen) > 0


def test_the_prompts_own_words_are_found_between_pictures_and_template(seeing, pictures):
    for given in (pictures[:1], pictures):
        prompt = encode_prompt(seeing, PROMPT, 0, given)
        own = [i for i, mine in zip(prompt.ids, prompt.own, strict=True) if mine]
        assert seeing.tokenizer.decode(own).strip() == PROMPT
        assert not any(a and b for a, b in zip(prompt.own, prompt.image, strict=True))


# What an edit does.


def test_factors_of_1_give_the_same_logits_bit_for_bit(seeing, pictures):
    ones = Edit({Head(layer, 0): 1.0 for layer in range(seeing.n_layers)})
    untouched = logits_of(seeing, pictures[:1], NO_EDIT, NO_EDIT)
    assert torch.equal(logits_of(seeing, pictures[:1], ones, ones), untouched)
    beside = logits_of(seeing, pictures[:1], NO_EDIT, EDIT)
    assert torch.equal(beside[0], untouched[0])
    assert (beside[1] - untouched[1]).abs().max() > 0.01


@torch.no_grad()
def test_factor_0_is_the_model_without_those_columns_of_w_o(seeing, pictures):
    without = replace(seeing, model=copy.deepcopy(seeing.model))
    weight = without.model.get_decoder().layers[1].self_attn.o_proj.weight
    weight[:, 2 * seeing.d_head : 3 * seeing.d_head] = 0
    edited = logits_of(seeing, pictures[:1], Edit.of([Head(1, 2)], 0.0))
    torch.testing.assert_close(
        edited, logits_of(without, pictures[:1], NO_EDIT), rtol=1e-4, atol=1e-4
    )
    assert (edited - logits_of(seeing, pictures[:1], NO_EDIT)).abs().max() > 1e-3


def test_hook_and_baked_weights_agree(seeing, pictures):
    baked = replace(seeing, model=bake(seeing, EDIT))
    torch.testing.assert_close(
        logits_of(baked, pictures[:1], NO_EDIT),
        logits_of(seeing, pictures[:1], EDIT),
        rtol=1e-3,
        atol=1e-3,
    )


# Batches and streams.


def test_the_unedited_row_says_what_transformers_generates(seeing, pictures):
    inputs = processed(seeing, PROMPT, pictures[:1])
    answer = seeing.model.generate(
        **inputs,
        max_new_tokens=SHORT.max_new_tokens,
        do_sample=False,
        suppress_tokens=list(seeing.vision.placeholders),
    )
    new = tuple(answer[0, inputs["input_ids"].shape[1] :].tolist())
    rows = [pictures[:1]] * 2
    end = final(generate(seeing, [PROMPT] * 2, [NO_EDIT, EDIT], SHORT, pictures=rows))
    assert end.ids[0] == new[: len(end.ids[0])]
    assert end.ids[0] != end.ids[1]


def test_a_row_of_a_batch_says_what_it_says_alone(seeing, pictures):
    prompts, edits = ("one", PROMPT, "a dog saw"), (NO_EDIT, EDIT, OTHER)
    rows = (pictures[1:2], pictures[:2], pictures[2:])
    together = final(generate(seeing, prompts, edits, SHORT, pictures=rows))
    for row, (prompt, edit, seen) in enumerate(zip(prompts, edits, rows, strict=True)):
        alone = final(generate(seeing, [prompt], [edit], SHORT, pictures=[seen]))
        assert together.ids[row] == alone.ids[0]


@pytest.mark.parametrize("where", WHERE)
def test_the_cache_of_keys_says_what_reading_all_anew_says(seeing, pictures, where):
    """Also where an edit holds in one place only: what was generated stays edited or not."""
    edit = replace(EDIT, where=where)
    said = final(generate(seeing, [PROMPT], [edit], SHORT, pictures=[pictures[:1]])).ids[0]
    prompt = encode_prompt(seeing, PROMPT, 0, pictures[:1])
    vision_spec, table = seeing.family.vision_spec, factor_table(seeing, [edit])
    anew: list[int] = []
    for _ in said:
        batch = batch_of(seeing, [prompt.continued(anew, vision_spec.answer_type)], left=True)
        answer = torch.zeros_like(batch.prompt)
        answer[:, len(prompt.ids) :] = True
        batch = replace(batch, prompt=batch.prompt & ~answer, generated=answer)
        with torch.inference_mode(), applied(seeing, table, places([edit], batch)):
            logits = seeing.model(**batch.inputs()).logits[0, -1]
            logits[list(seeing.vision.placeholders)] = -torch.inf
        anew.append(int(logits.argmax()))
    assert tuple(anew) == said


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_placeholder_of_a_picture_is_never_said_however_likely(llava, pictures, temperature):
    """What was said is read again, and a placeholder in it would ask for another picture."""
    silent = llava.vision.placeholders
    assert silent == (llava.tokenizer.convert_tokens_to_ids("<image>"),)
    ids, sampling = torch.tensor(silent), Sampling(5, temperature)
    prompt = encode_prompt(llava, PROMPT, 0, pictures[:1])
    unembedding = llava.model.get_output_embeddings()
    handle = unembedding.register_forward_hook(lambda _, args, out: out.index_fill(2, ids, 1e4))
    try:
        streams = compare(
            llava, CompareRequest(PROMPT, EDIT, sampling=sampling, pictures=pictures[:1])
        )
        said = [column.ids for column in last_of(streams).columns]
        said.append(tuple(likeliest(llava, [prompt], 5)[0]))
        assert cache_says_the_same(Fixture(llava, pictures)) <= 1e-4
    finally:
        handle.remove()
    assert all(said) and not {i for row in said for i in row} & {*silent}


# Where an edit holds.


def test_places_share_out_every_position_once(seeing, pictures):
    prompt = encode_prompt(seeing, PROMPT, 0, pictures[:2])
    short = encode_prompt(seeing, "one", 0, pictures[1:2])
    batch = batch_of(seeing, [prompt, short], left=True)
    following = batch.following(torch.tensor([5, 6]))
    for passed, kinds in ((batch, batch.attention.bool()), (following, torch.ones(2, 1).bool())):
        each = torch.stack([passed.image, passed.prompt, passed.generated])
        assert torch.equal(each.sum(0).bool(), kinds)
        assert each.sum(0).max() == 1


def test_an_edit_in_places_leaves_what_comes_before_them(llava, pictures):
    untouched = logits_of(llava, pictures[:1], NO_EDIT)[0]
    image = encode_prompt(llava, PROMPT, 0, pictures[:1]).image
    first, last = image.index(True), len(image) - image[::-1].index(True)
    picture, prompt, answer = (
        logits_of(llava, pictures[:1], replace(EDIT, where=where))[0]
        for where in ("image", "prompt", "generated")
    )
    assert torch.equal(answer, untouched)
    assert torch.equal(picture[:first], untouched[:first])
    assert (picture[last:] - untouched[last:]).abs().max() > 0.01
    assert (prompt[:first] - untouched[:first]).abs().max() > 0.01
    assert not torch.equal(picture[last:], prompt[last:])


def test_an_edit_everywhere_is_the_edit_in_all_places_bit_for_bit(llava, pictures):
    prompt = encode_prompt(llava, PROMPT, 0, pictures[:1])
    batch, table = batch_of(llava, [prompt], left=True), factor_table(llava, [EDIT])
    with torch.inference_mode(), applied(llava, table, batch.image | batch.prompt):
        in_places = llava.model(**batch.inputs()).logits
    assert torch.equal(in_places, logits_of(llava, pictures[:1], EDIT))


def test_rows_of_a_batch_have_places_of_their_own(llava, pictures):
    edits = [replace(EDIT, where=where) for where in WHERE]
    together = final(generate(llava, [PROMPT] * 4, edits, SHORT, pictures=[pictures[:1]] * 4))
    for row, edit in enumerate(edits):
        alone = final(generate(llava, [PROMPT], [edit], SHORT, pictures=[pictures[:1]]))
        assert together.ids[row] == alone.ids[0]
    assert control_of(llava, edits[1]).where == "image"


def test_an_edit_in_places_of_a_language_model(llama):
    edits = [replace(EDIT, where=where) for where in ("everywhere", "prompt", "generated")]
    ends = final(generate(llama, ["the cat is red and"] * 3, edits, Sampling(12))).ids
    plain = final(generate(llama, ["the cat is red and"], [NO_EDIT], Sampling(12))).ids[0]
    assert ends[0][0] == ends[1][0], "the prompt alone decides the first word"
    assert ends[2][0] == plain[0]
    assert len({*ends, plain}) == 4


def test_places_that_cannot_be_are_refused(llama, llava):
    with pytest.raises(OptionError, match="there is no picture in the prompt"):
        generate(llama, ["a dog"], [replace(EDIT, where="image")])
    with pytest.raises(OptionError, match=r"Unknown place 'sky'.*Known: everywhere, image"):
        Edit(where="sky")


# Pictures are encoded once.


def test_the_vision_tower_runs_once_a_picture_however_often_the_sliders_move(llava, pictures):
    seen = llava.vision
    fresh = replace(
        llava, vision=Vision(llava.model, seen.processor, seen.vision_spec, llava.device)
    )
    runs = []
    handle = llava.model.model.vision_tower.register_forward_hook(lambda *_: runs.append(1))
    try:
        for factor in (-1.0, 0.0, 3.0):
            edit = Edit.of([Head(0, 1)], factor)
            last_of(
                compare(fresh, CompareRequest(PROMPT, edit, sampling=SHORT, pictures=pictures[:2]))
            )
        assert len(runs) == fresh.vision.n_encoded == 2
        compare(fresh, CompareRequest(PROMPT, EDIT, sampling=SHORT, pictures=pictures[2:]))
        assert len(runs) == 2, "nothing is encoded before the first token is asked for"
    finally:
        handle.remove()


def test_features_are_dropped_when_they_take_too_much_memory(llava, pictures, monkeypatch):
    monkeypatch.setattr("headviz.models.vision.KEPT_BYTES", 1)
    before = llava.vision.n_encoded
    for picture in (*pictures, *pictures):
        llava.vision.see(picture)
    assert llava.vision.n_encoded - before >= 5


# What is read.


@torch.inference_mode()
def read_alone(model, prompt, pooling):
    """A sample's pooled signals, of that sample alone, by hooks of the test's own."""
    n = len(prompt.ids)
    if pooling == "generated":
        sampling = Sampling(max_new_tokens=poolings.GENERATED_TOKENS)
        said = final(generate(model, [PROMPT], [NO_EDIT], sampling, pictures=[prompt.pictures]))
        ended = len(said.ids[0]) < sampling.max_new_tokens
        ids = (*said.ids[0], *[model.tokenizer.eos_token_id] * ended)  # the end is read as well
        prompt = prompt.continued(ids, model.family.vision_spec.answer_type)
    chosen = {
        "image": [p for p, there in enumerate(prompt.image) if there],
        "prompt": [p for p, mine in enumerate(prompt.own) if mine],
        "last": [n - 1],
        "generated": list(range(n, len(prompt.ids))),
    }[pooling]
    signals = {}
    batch = batch_of(model, [prompt], left=True)
    with projection_inputs(model, lambda layer, z: signals.update({layer: z})):
        model.model(**batch.inputs())
    pooled = []
    for layer, z in signals.items():
        scale = model.write_scale(layer, z)
        writes = z if scale is None else z * scale[:, :, None]
        pooled.append(writes[0, chosen].mean(0).view(model.n_heads, model.d_head))
    return torch.stack(pooled), len(chosen)


@pytest.mark.parametrize("pooling", poolings.POOLINGS)
def test_what_is_read_in_padded_batches_is_what_each_sample_gives_alone(
    seeing, image_folder, pooling, monkeypatch
):
    monkeypatch.setattr(poolings, "GENERATED_TOKENS", 3)
    activations = capture(seeing, image_folder, pooling)
    n_positions = 0
    for sample, picture in enumerate(image_folder.pictures):
        prompt = encode_prompt(seeing, PROMPT, 0, [picture])
        expected, n = read_alone(seeing, prompt, pooling)
        n_positions += n
        torch.testing.assert_close(activations.z[:, :, sample], expected, rtol=1e-4, atol=1e-4)
    assert activations.n_positions == n_positions
    assert hooks_on(seeing) == 0


def test_a_run_that_breaks_leaves_no_hook(seeing, pictures, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(seeing.model.get_decoder().layers[-1].self_attn, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        final(generate(seeing, [PROMPT], [EDIT], SHORT, pictures=[pictures[:1]]))
    assert hooks_on(seeing) == 0
