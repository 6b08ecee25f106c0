"""A model split over memory and disk gives what it gives in one piece, to the last bit."""

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS

from headviz.base.errors import ModelError
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.bake import write_checkpoint
from headviz.editing.generate import Sampling, generate
from headviz.editing.recipe import Recipe
from headviz.heads.capture import capture
from headviz.heads.edits import Edit
from headviz.heads.patch_map import head_map
from headviz.inputs.concepts import make_concept
from headviz.models import memory_plan as plans
from headviz.pursuit.spectrum import head_spectrum
from headviz.session.open_model import open_model
from headviz.session.session import Session

pytest_plugins = ["loaded", "seeing"]

COLORS = make_concept("colors", WORDS["colors"])
EDIT = Edit({Head(0, 1): -1.0, Head(1, 3): 4.0})
EVERY_LAYER = Edit({**EDIT.factors, Head(2, 0): 3.0})
PROMPT = "the cat is red and the dog is"
SHORT = Sampling(max_new_tokens=6)
FAMILIES = ("llama", "gpt2", "qwen3")
"""Plain; Conv1D with biases; tied embeddings."""


@pytest.fixture
def split(monkeypatch):
    """`split(whole)` is the same model with room for about half of it in memory."""

    def load(whole, share=0.55):
        total = sum(weight.nbytes for weight in whole.model.parameters())
        layer = sum(weight.nbytes for weight in whole.layers[0].parameters())
        room = {"cpu": int((share * total + layer) / 0.9)}
        monkeypatch.setattr(plans, "devices_left", lambda: dict(room))
        return open_model(whole.name, device="spread")

    return load


def on_disk(model):
    return [name for name, p in model.model.named_parameters() if p.device.type == "meta"]


@pytest.fixture(params=FAMILIES)
def pair(request, load, split):
    whole = load(request.param)
    halves = split(whole)
    assert not whole.is_split and halves.is_split
    assert 0 < len(on_disk(halves)) < len(list(halves.model.parameters()))
    assert any("o_proj.weight" in n or "attn.c_proj.weight" in n for n in on_disk(halves))
    return whole, halves


def test_weights_on_the_disk_are_read_as_they_are(pair):
    whole, halves = pair
    for layer in range(whole.n_layers):
        assert halves.head_weights(layer).equal(whole.head_weights(layer))
    assert halves.unembedding.equal(whole.unembedding)
    assert "split" in halves.summary and "spread over main memory, the disk" in halves.summary
    assert (halves.device.type, halves.home.type) == ("cpu", "cpu")


def test_reading_heads_on_a_split_model_gives_the_same_signals(pair, texts):
    whole, halves = pair
    for pooling in ("prompt", "generated"):
        assert capture(halves, texts, pooling).z.equal(capture(whole, texts, pooling).z)


def test_a_split_model_says_the_same_under_the_same_edit(pair):
    whole, halves = pair
    rows = [PROMPT] * 3
    edits = [Edit(), EDIT, Edit(EDIT.factors, "generated")]
    (*_, there), (*_, here) = (generate(m, rows, edits, SHORT) for m in (halves, whole))
    assert there == here
    assert here.ids[0] != here.ids[1], "the edit does nothing: nothing is compared"


def test_a_split_model_is_ranked_and_opened_the_same(pair, texts, tmp_path):
    whole, halves = pair
    (ranked, opened), other = (
        (
            session.rank(whole.name, COLORS, texts),
            head_spectrum(model, capture(model, texts), Head(2, 1)),
        )
        for model, session in (
            (whole, Session(Store(tmp_path / "one"), device="cpu")),
            (halves, Session(Store(tmp_path / "two"), device="spread")),
        )
    )
    assert other[0].scores.equal(ranked.scores) and other[0].chance.equal(ranked.chance)
    assert other[1] == opened


def test_a_split_model_leaves_no_hook_of_ours(pair):
    _, halves = pair
    (*_,) = generate(halves, [PROMPT], [EDIT], SHORT)
    assert not any(p._forward_pre_hooks for p in halves.projections.values())


@pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules")
def test_a_split_model_is_baked_as_in_one_piece(pair, tmp_path):
    """A head's columns of weights in memory, and of weights on the disk."""
    baked = []
    for model, name in zip(pair, ("whole", "halves"), strict=True):
        recipe = Recipe(model.name, model.revision, EVERY_LAYER)
        done = write_checkpoint(model, recipe, tmp_path / name)
        baked.append(load_file(done.folder / "model.safetensors"))
    whole, halves = baked
    assert halves.keys() == whole.keys()
    for name, weight in whole.items():
        assert halves[name].equal(weight), name
    (*_, hooked) = generate(pair[0], [PROMPT], [EVERY_LAYER], SHORT)
    (*_, plain) = generate(open_model(str(tmp_path / "halves"), "cpu"), [PROMPT], [Edit()], SHORT)
    assert plain.ids == hooked.ids


@pytest.mark.parametrize("family", ["llava", "gemma3"])
def test_a_split_model_sees_the_same(load_seeing, split, image_folder, pictures, family):
    """Gemma 3 has a norm after attention, whose share is worked out with weights on the disk."""
    whole = load_seeing(family)
    halves = split(whole, 0.6)
    assert on_disk(halves)
    assert capture(halves, image_folder, "image").z.equal(capture(whole, image_folder, "image").z)
    seen = [[pictures[0]]]
    (*_, there), (*_, here) = (
        generate(m, [PROMPT], [EDIT], SHORT, pictures=seen) for m in (halves, whole)
    )
    assert there == here
    maps = [head_map(m, pictures[1], Head(1, 1)).strength for m in (halves, whole)]
    assert maps[0].equal(maps[1])


def test_what_does_not_fit_is_spread_by_itself_and_says_so(load, monkeypatch):
    whole = load("llama")
    monkeypatch.setattr(plans, "memory_left", lambda device: 100_000)
    monkeypatch.setattr(plans, "devices_left", lambda: {"cpu": 100_000})
    told = []
    model = open_model(whole.name, progress=lambda share, what: told.append(what))
    assert model.is_split
    assert "145 kB of memory of 100 kB left on cpu, spread over devices and disk" in told[0]


def test_what_does_not_fit_where_it_was_asked_for_is_refused(load, monkeypatch):
    monkeypatch.setattr(plans, "memory_left", lambda device: 100_000)
    with pytest.raises(ModelError) as raised:
        open_model(load("llama").name, device="cpu")
    message = str(raised.value)
    assert "needs 145 kB of memory and 100 kB are left on cpu" in message
    assert "--device spread" in message


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_model_on_two_gpus_says_the_same_as_on_one(load, texts, monkeypatch):
    name = load("llama").name
    one = open_model(name, device="cuda", dtype="float32")
    monkeypatch.setattr(plans, "devices_left", lambda: {0: 90_000, 1: 10**9})
    two = open_model(name, device="spread", dtype="float32")
    assert len(set(two.places.values())) > 1
    assert capture(two, texts).z.allclose(capture(one, texts).z.cpu(), atol=1e-5)
    (*_, there), (*_, here) = (generate(m, [PROMPT], [EDIT], SHORT) for m in (two, one))
    assert there == here
