"""A baked checkpoint says what the hooked model says, in a process without headviz."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from safetensors.torch import load_file
from tiny_vision import make_vision_model, noise
from transformers import AutoModelForCausalLM

from headviz.base.assets import built_in_models
from headviz.base.errors import CheckpointError, OptionError
from headviz.base.head import Head
from headviz.editing.bake import RECIPE_FILE, write_checkpoint
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit, applied, factor_table
from headviz.heads.forward import batch_of
from headviz.heads.prompts import encode_prompt
from headviz.inputs.images import open_picture
from headviz.models.layout import describe
from headviz.session.open_model import open_model

pytest_plugins = ["loaded"]

TEXT = "the cat is red and the dog is blue"
EDIT = Edit({Head(0, 1): -1.0, Head(1, 2): 0.3, Head(1, 0): 4.0})
PLAIN = """
import json, sys, torch, transformers
assert "headviz" not in sys.modules
torch.set_num_threads(1)
folder, kind, inputs = sys.argv[1:]
model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32)
reader = "AutoProcessor" if kind.endswith("ToText") else "AutoTokenizer"
reader = getattr(transformers, reader).from_pretrained(folder)
inputs = torch.load(inputs)
if text := inputs.pop("text", None):
    inputs = reader(text, return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits[0, -1]
print(json.dumps(logits.tolist()))
"""


def hooked_logits(model, encoded, edit):
    """The last position's, of the model with hooks."""
    with torch.inference_mode(), applied(model, factor_table(model, [edit])):
        return model.model(**batch_of(model, [encoded], left=True).inputs()).logits[0, -1]


def plain_logits(folder, kind, inputs, tmp_path):
    """The same of the folder, in a process that knows transformers alone."""
    torch.save(inputs, tmp_path / "inputs.pt")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), kind, str(tmp_path / "inputs.pt")],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return torch.tensor(json.loads(done.stdout))


@cache
def tiny_lm():
    return open_model("tiny-lm", device="cpu")


@pytest.fixture(params=["stories260K", "tiny-lm"])
def real(request):
    """A pretrained model, and prompts that it knows."""
    if request.param == "tiny-lm":
        if "tiny-lm" not in built_in_models():
            pytest.skip("tiny-lm is not trained yet")
        return tiny_lm()
    return open_model(str(request.getfixturevalue("shared_data") / "stories260K"), device="cpu")


def test_a_fresh_process_gives_the_logits_of_the_hooked_model(real, tmp_path):
    recipe = Recipe(real.name, real.revision, EDIT)
    done = write_checkpoint(real, recipe, tmp_path / "baked")
    text = "Once upon a time there was a red ball"
    encoded = encode_prompt(real, text)
    expected = hooked_logits(real, encoded, EDIT)
    plain = hooked_logits(real, encoded, Edit())
    found = plain_logits(done.folder, "AutoModelForCausalLM", {"text": text}, tmp_path)
    assert (expected - plain).abs().max() > 0.05
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def test_a_vision_language_model_is_baked_with_its_processor(tmp_path):
    model = open_model(str(make_vision_model("llava", tmp_path / "llava")), device="cpu")
    edit = Edit({Head(0, 1): -1.0, Head(1, 2): 3.0})
    done = write_checkpoint(model, Recipe(model.name, model.revision, edit), tmp_path / "baked")
    picture = open_picture(noise(20, 16), "noise")
    encoded = encode_prompt(model, "what is this", 0, [picture])
    inputs = {
        "input_ids": torch.tensor([encoded.ids]),
        "pixel_values": model.vision.processor.image_processor(
            picture.image(), return_tensors="pt"
        )["pixel_values"],
    }
    expected = hooked_logits(model, encoded, edit)
    found = plain_logits(done.folder, "AutoModelForImageTextToText", inputs, tmp_path)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    assert "image-text-to-text" in (done.folder / "README.md").read_text()


def test_every_family_s_baked_folder_loads_and_agrees_with_its_hook(model, tmp_path):
    recipe = Recipe(model.name, model.revision, EDIT)
    baked = open_model(str(write_checkpoint(model, recipe, tmp_path / "b").folder), device="cpu")
    encoded = encode_prompt(model, TEXT)
    torch.testing.assert_close(
        hooked_logits(baked, encoded, Edit()), hooked_logits(model, encoded, EDIT)
    )


def test_only_the_columns_of_edited_heads_change_and_nothing_is_added(tmp_path):
    source = built_in_models().get("tiny-lm")
    if source is None:
        pytest.skip("tiny-lm is not trained yet")
    model = tiny_lm()
    edit = Edit({Head(0, 3): -1.0, Head(2, 5): 0.0})
    done = write_checkpoint(model, Recipe("tiny-lm", model.revision, edit), tmp_path / "baked")
    before = load_file(source / "model.safetensors")
    after = load_file(done.folder / "model.safetensors")
    assert done.dtype == "bfloat16"
    assert after.keys() == before.keys()
    d = model.d_head
    for name, weight in before.items():
        expected = weight.clone()
        if name == "model.layers.0.self_attn.o_proj.weight":
            expected[:, 3 * d : 4 * d] *= -1
        if name == "model.layers.2.self_attn.o_proj.weight":
            expected[:, 5 * d : 6 * d] *= 0
        assert after[name].equal(expected), name
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        here, there = (json.loads((f / name).read_text()) for f in (done.folder, source))
        for config in (here, there):
            config.pop("transformers_version", None)  # of the library that wrote it
        assert here == there


def test_the_folder_names_its_edit_and_no_place_of_this_machine(llama, tmp_path):
    recipe = Recipe(llama.name, llama.revision, EDIT)
    folder = write_checkpoint(llama, recipe, tmp_path / "baked").folder
    card = (folder / "README.md").read_text()
    assert "| L1.H2 | 0.3 |" in card
    assert "AutoModelForCausalLM" in card
    assert Recipe.load(folder / RECIPE_FILE).edit == EDIT
    texts = [p for p in folder.iterdir() if p.suffix != ".safetensors" and p.name != RECIPE_FILE]
    assert len(texts) >= 5
    for path in texts:
        assert str(tmp_path.parent.parent) not in path.read_text(), path.name


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Edit(EDIT.factors, "generated"), r"holds only in places \(generated\)"),
        (Edit({Head(0, 0): 1.0}), "nothing to bake"),
        (Edit(), "nothing to bake"),
        (Edit({Head(9, 9): 0.0}), "no head L9.H9"),
    ],
)
def test_an_edit_that_weights_cannot_hold_is_refused(llama, tmp_path, edit, sentence):
    with pytest.raises(OptionError, match=sentence):
        write_checkpoint(llama, Recipe(llama.name, llama.revision, edit), tmp_path / "baked")
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_holds_something_is_left_alone(llama, tmp_path):
    recipe = Recipe(llama.name, llama.revision, EDIT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(CheckpointError, match="is not an empty folder"):
            write_checkpoint(llama, recipe, taken)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "notes.txt"]
    (tmp_path / "empty").mkdir()
    assert write_checkpoint(llama, recipe, tmp_path / "empty").n_bytes > 1000


def test_a_full_disk_is_one_sentence_and_leaves_nothing(llama, tmp_path):
    """A recipe of a megabyte, on a file system that has no room for it."""
    limit = (
        "import resource, sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "from headviz.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = ["bake", "--model", llama.name, "--edit", "L0.H1=-1", "--out", str(tmp_path / "b")]
    done = subprocess.run(
        [sys.executable, "-c", limit, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("headviz: The checkpoint b cannot be written")
    assert len(done.stderr.strip().splitlines()) == 1
    assert [*tmp_path.iterdir()] == []


def test_a_quantised_model_is_refused(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(llama.model, "hf_quantizer", object(), raising=False)
    with pytest.raises(OptionError, match="quantised"):
        write_checkpoint(llama, Recipe(llama.name, "", EDIT), tmp_path / "baked")


@pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules")
@pytest.mark.filterwarnings("ignore:Current model requires")
def test_a_model_that_lies_partly_on_the_disk_is_baked_too(llama, tmp_path):
    places = {name: "cpu" for name, _ in llama.model.model.named_children() if name != "layers"}
    places = {f"model.{name}": device for name, device in places.items()} | {"lm_head": "cpu"}
    for layer in range(llama.n_layers):
        places[f"model.layers.{layer}"] = "disk" if layer == 1 else "cpu"
    split = AutoModelForCausalLM.from_pretrained(
        llama.name, device_map=places, offload_folder=tmp_path / "offload", dtype=torch.float32
    )
    assert split.model.layers[1].self_attn.o_proj.weight.is_meta
    whole = write_checkpoint(llama, Recipe(llama.name, "", EDIT), tmp_path / "whole")
    model = describe(
        llama.name, "", split, llama.tokenizer, llama.family, llama.device, llama.dtype, ""
    )
    done = write_checkpoint(model, Recipe(llama.name, "", EDIT), tmp_path / "split")
    expected = load_file(whole.folder / "model.safetensors")
    found = load_file(done.folder / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert found[name].equal(weight), name


def test_the_shared_model_is_as_it_was(llama, tmp_path):
    before = {name: w.clone() for name, w in llama.model.state_dict().items()}
    write_checkpoint(llama, replace(Recipe(llama.name, "", EDIT)), tmp_path / "baked")
    for name, weight in llama.model.state_dict().items():
        assert weight.equal(before[name]), name
