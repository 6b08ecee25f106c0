"""The laws of heads on open_clip's image towers."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from baking import bake
from PIL import Image
from tiny_clips import KINDS, REFUSED, make_clip

pytest.importorskip("open_clip")

from headviz.base.errors import ConceptError, ModelError, OptionError, PromptError
from headviz.base.head import Head
from headviz.clip.embed import WORD_TEMPLATES, embed_images, embed_texts
from headviz.clip.load import load_clip
from headviz.clip.open_tower import open_tower
from headviz.clip.word_vocabulary import capture_images, pixels_of, tower_model
from headviz.clip.zero_shot import ZeroShotRequest, zero_shot
from headviz.editing.control import control_of
from headviz.heads.edits import NO_EDIT, Edit, applied, factor_table
from headviz.inputs.concepts import make_concept, tokenize_concept
from headviz.pursuit.all_spectra import all_spectra
from headviz.pursuit.dictionary import vocabulary_atoms
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import rank_heads
from headviz.pursuit.spectrum import head_spectrum

torch.set_num_threads(1)
WORDS = ("red", "blue", "green", "circle", "square", "star", "happy", "sad", "one", "two", "large")
EDIT = Edit({Head(0, 1): -1.0, Head(1, 2): 4.0})


def picture(seed, side=24):
    rng = random.Random(seed)
    return Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side))


@pytest.fixture(scope="module", params=sorted(KINDS))
def clip(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / request.param
    return load_clip(str(make_clip(folder, **KINDS[request.param])), device="cpu")


@pytest.fixture(scope="module")
def tower(clip):
    return tower_model(clip, WORDS)


@pytest.fixture(scope="module")
def images():
    return [picture(seed) for seed in range(6)]


@torch.inference_mode()
def run(clip, tower, images, edits=None):
    """Features, and per layer the heads' signals (edited ones) and the attention's output."""
    pixels = pixels_of(clip, images)
    outputs, handles = [], []
    for block in tower.model.visual.transformer.resblocks:
        projection = block.attn.out_proj
        handles.append(projection.register_forward_hook(lambda m, a, o: outputs.append((a[0], o))))
    try:
        with applied(tower, factor_table(tower, edits or [NO_EDIT])):
            features = tower.model.visual(pixels)
    finally:
        for handle in handles:
            handle.remove()
    signals = [z.unflatten(2, (tower.n_heads, -1)) for z, _ in outputs]
    return features, signals, [o for _, o in outputs]


def hooks_on(tower):
    modules = list(tower.model.visual.modules())
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in modules)


@torch.inference_mode()
def test_the_opened_tower_computes_what_the_closed_one_does(clip, tower, images):
    pixels = pixels_of(clip, images)
    opened = tower.model.visual(pixels)
    torch.testing.assert_close(opened, clip.model.visual(pixels), rtol=1e-5, atol=1e-5)
    # Bit for bit where torch takes its own long way instead of the fused kernel.
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert torch.equal(opened, clip.model.visual(pixels))
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def test_the_opened_tower_shares_its_weights_and_leaves_the_closed_one_alone(clip, tower):
    own = {p.data_ptr() for p in clip.model.visual.parameters()}
    assert {p.data_ptr() for p in tower.model.visual.parameters()} == own
    opened = open_tower(clip.model.visual, "again")
    blocks = zip(clip.model.visual.transformer.resblocks, opened.transformer.resblocks, strict=True)
    assert all(closed.attn is not other.attn for closed, other in blocks)
    kinds = {type(b.attn).__name__ for b in clip.model.visual.transformer.resblocks}
    assert kinds <= {"MultiheadAttention", "Attention"}


def test_the_heads_writes_and_the_bias_sum_to_the_attention_output(clip, tower, images):
    _, signals, outputs = run(clip, tower, images)
    for layer in range(tower.n_layers):
        writes = torch.einsum("rphk,hkd->rpd", signals[layer], tower.head_weights(layer))
        bias = tower.projections[layer].bias
        torch.testing.assert_close(writes + bias, outputs[layer], rtol=1e-4, atol=1e-5)


def test_factor_1_changes_nothing_bit_for_bit(clip, tower, images):
    pixels = pixels_of(clip, images)
    with torch.inference_mode():
        plain = tower.model.visual(pixels)
    ones = Edit.of([Head(0, 0), Head(1, 3)], 1.0)
    assert torch.equal(run(clip, tower, images, [ones])[0], plain)


@pytest.mark.parametrize("factor", [0.0, -1.0, 3.0])
def test_a_factor_changes_exactly_that_heads_share(clip, tower, images, factor):
    _, signals, before = run(clip, tower, images)
    for layer in range(tower.n_layers):
        _, _, after = run(clip, tower, images, [Edit.of([Head(layer, 1)], factor)])
        share = signals[layer][:, :, 1] @ tower.head_weights(layer)[1]
        expected = before[layer] + (factor - 1) * share
        torch.testing.assert_close(after[layer], expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_factor_0_is_the_tower_without_those_columns_and_so_are_baked_weights(clip, tower, images):
    pixels, edit = pixels_of(clip, images), Edit.of([Head(1, 2)], 0.0)
    without = copy.deepcopy(clip.model.visual)
    width = tower.d_head
    without.transformer.resblocks[1].attn.out_proj.weight[:, 2 * width : 3 * width] = 0
    edited = run(clip, tower, images, [edit])[0]
    torch.testing.assert_close(edited, without(pixels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bake(tower, edit).visual(pixels), edited, rtol=1e-4, atol=1e-5)
    assert (edited - clip.model.visual(pixels)).abs().max() > 1e-3


def test_a_row_of_a_batch_gives_what_it_gives_alone(clip, tower, images):
    edits = [NO_EDIT, EDIT, Edit.of([Head(0, 3)], 2.0)]
    together = run(clip, tower, images[:3], edits)[0]
    for row, edit in enumerate(edits):
        alone = run(clip, tower, [images[row]], [edit])[0]
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["edit", "capture"])
def test_a_run_that_breaks_leaves_no_hook(clip, tower, images, monkeypatch, where):
    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tower.model.visual.transformer.resblocks[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        if where == "edit":
            zero_shot(clip, tower, ZeroShotRequest(images, WORDS[:3], EDIT))
        else:
            capture_images(clip, tower, images)
    assert hooks_on(tower) == 0


def test_signals_captured_are_those_of_the_positions_that_the_output_is_read_from(
    clip, tower, images
):
    _, signals, _ = run(clip, tower, images)
    raw = capture_images(clip, tower, images, frozen_norm=False)
    first = tower.model.visual.pool_type == "tok"
    places = slice(0, 1) if first else slice(1, None)
    for layer in range(tower.n_layers):
        expected = signals[layer][:, places].mean(1).transpose(0, 1)
        torch.testing.assert_close(raw.z[layer], expected, rtol=1e-4, atol=1e-6)
    assert raw.n_positions == len(images) * (1 if first else 9)
    patches = capture_images(clip, tower, images, pooling="patches", frozen_norm=False)
    assert patches.n_positions == len(images) * 9
    if first:
        assert (patches.z - raw.z).abs().max() > 1e-3


def test_with_the_frozen_norm_a_heads_write_is_its_exact_share_of_the_answer(clip, tower, images):
    """What a last layer's head adds to ⟨output, word⟩, with σ as it was (Gandelsman et al.)."""
    activations = capture_images(clip, tower, images)
    atoms = vocabulary_atoms(tower, normalise=False)
    visual, layer = tower.model.visual, tower.n_layers - 1
    shares = torch.einsum("hsk,hkd,wd->hsw", activations.z[layer], tower.head_weights(layer), atoms)
    inputs = []
    handle = visual.ln_post.register_forward_pre_hook(lambda m, a: inputs.append(a[0]))
    _, signals, _ = run(clip, tower, images)
    handle.remove()
    h = inputs[0]
    sigma = (h.var(-1, unbiased=False, keepdim=True) + visual.ln_post.eps).sqrt()
    texts = embed_texts(clip, WORDS, WORD_TEMPLATES)
    for head in range(tower.n_heads):
        write = signals[layer][:, :, head] @ tower.head_weights(layer)[head]
        if h.ndim == 2:
            write = write[:, 1:].mean(1)
        share = (write - write.mean(-1, keepdim=True)) / sigma * visual.ln_post.weight @ visual.proj
        if h.ndim == 3:
            share = share[:, 0] if visual.pool_type == "tok" else share[:, 1:].mean(1)
        torch.testing.assert_close(shares[head], share @ texts.T, rtol=1e-3, atol=1e-5)


def test_ranking_and_spectra_of_language_models_take_the_tower(clip, tower, images):
    activations = capture_images(clip, tower, images)
    tokens = tokenize_concept(make_concept("colors", ["red", "blue", "umpteen"]), tower.tokenizer)
    assert [w.word for w in tokens.kept] == ["red", "blue"]
    ranking = rank_heads(tower, activations, tokens, lists=2)
    assert ranking.scores.shape == (2, 4)
    assert ranking.scores.min() > 0 and ranking.scores.max() <= 1 + 1e-5
    spectrum = head_spectrum(tower, activations, Head(1, 0), steps=3)
    assert {atom.token.strip() for atom in spectrum.atoms} <= set(WORDS)
    every = all_spectra(tower, activations, steps=3, options=Options())
    assert [a.token for a in every[Head(1, 0)].atoms] == [a.token for a in spectrum.atoms]
    assert {s.text for s in spectrum.samples} <= {f"image {n}" for n in range(1, 7)}


def test_a_planted_head_is_ranked_first_for_its_word(clip, tower, images):
    """A head whose signal runs along one word's atom is explained by that word whole."""
    activations = capture_images(clip, tower, images)
    atom = vocabulary_atoms(tower)[WORDS.index("star")]
    w_o = tower.head_weights(1)[2]
    # z whose write lies as near to the atom as this head can write
    direction = torch.linalg.lstsq(w_o.T, atom[:, None]).solution[:, 0]
    z = activations.z.clone()
    z[1, 2] = torch.linspace(-1, 1, 6)[:, None] * direction
    activations = replace(activations, z=z)
    tokens = tokenize_concept(make_concept("stars", ["star"]), tower.tokenizer)
    # Random lists are drawn from a handful of words here: a chance level of them says nothing.
    raw = Options(pooling=activations.pooling, order="raw")
    assert rank_heads(tower, activations, tokens, options=raw, lists=1).top(1) == (Head(1, 2),)


# Zero-shot answers.


def test_zero_shot_is_the_softmax_of_scaled_cosines(clip, tower, images):
    found = zero_shot(clip, tower, ZeroShotRequest(images, WORDS[:3], EDIT))
    assert [a.name for a in found.answers] == ["original", "edited", "control"]
    texts = embed_texts(clip, WORDS[:3], ("a photo of {}",))
    scale = clip.model.logit_scale.exp().item()
    expected = (scale * embed_images(clip, images) @ texts.T).softmax(1)
    torch.testing.assert_close(found.answers[0].probabilities, expected, rtol=1e-3, atol=1e-4)
    for answer in found.answers[1:]:
        torch.testing.assert_close(answer.probabilities.sum(1), torch.ones(6))
        assert (answer.probabilities - expected).abs().max() > 1e-4


def test_each_answer_is_what_its_edit_gives_alone(clip, tower, images):
    found = zero_shot(clip, tower, ZeroShotRequest(images, WORDS[:3], EDIT, control_seed=4))
    again = zero_shot(
        clip, tower, ZeroShotRequest(images, WORDS[:3], control_of(tower, EDIT, 4), control=False)
    )
    torch.testing.assert_close(
        found.answers[2].probabilities, again.answers[1].probabilities, rtol=1e-4, atol=1e-5
    )
    assert found.answers[2].edit == again.answers[1].edit
    none = zero_shot(clip, tower, ZeroShotRequest(images, WORDS[:3]))
    assert torch.equal(none.answers[0].probabilities, none.answers[1].probabilities)


def test_accuracy_counts_the_likeliest_class(clip, tower, images):
    found = zero_shot(clip, tower, ZeroShotRequest(images, WORDS[:3], EDIT, control=False))
    likeliest = [WORDS[i] for i in found.answers[0].probabilities.argmax(1)]
    assert found.accuracy(likeliest)["original"] == 1.0
    wrong = [WORDS[(WORDS.index(name) + 1) % 3] for name in likeliest]
    assert found.accuracy(wrong)["original"] == 0.0
    assert found.as_dict()["answers"][1]["edit"] == str(EDIT)


# What is refused.


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_tower_whose_heads_cannot_be_opened_is_refused_in_one_sentence(tmp_path, kind):
    clip = load_clip(str(make_clip(tmp_path / kind, **REFUSED[kind])), device="cpu")
    with pytest.raises(ModelError, match=r"heads of .* cannot be opened: its image tower \w+"):
        tower_model(clip, WORDS)
    assert embed_images(clip, [picture(0)]).shape == (1, 16)


def test_what_cannot_be_read_is_said(clip, tower, images):
    with pytest.raises(PromptError, match="No image given"):
        capture_images(clip, tower, [])
    with pytest.raises(OptionError, match=r"Unknown pooling 'last'\. Known: output, patches"):
        capture_images(clip, tower, images, pooling="last")
    with pytest.raises(ConceptError, match="knows none of the words"):
        tower_model(clip, ["New York", " "])
    with pytest.raises(ConceptError, match="at least two different classes"):
        zero_shot(clip, tower, ZeroShotRequest(images, ["red", "red"]))
    with pytest.raises(PromptError, match="No image given"):
        zero_shot(clip, tower, ZeroShotRequest([], ["red", "blue"]))
    with pytest.raises(OptionError, match="edit it everywhere"):
        zero_shot(
            clip,
            tower,
            ZeroShotRequest(images, ["red", "blue"], Edit.of([Head(0, 0)], 0.0, "prompt")),
        )
    with pytest.raises(OptionError, match=r"no head L2\.H0"):
        zero_shot(clip, tower, ZeroShotRequest(images, ["red", "blue"], Edit.of([Head(2, 0)], 0.0)))
