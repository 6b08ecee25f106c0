"""A model is loaded from its name or folder, or refused in one sentence that says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import CONTEXT

from headviz.base.assets import TRAINED_HERE
from headviz.base.errors import ModelError, OptionError
from headviz.models.devices import choose_device
from headviz.models.places import model_revision
from headviz.session.open_model import open_model
from toyworld.__main__ import MAKERS

pytest_plugins = ["loaded"]


@pytest.fixture
def folder(tmp_path, tiny_model_folder) -> Path:
    """A copy of the tiny Llama's folder, to be broken."""
    return Path(shutil.copytree(tiny_model_folder("llama"), tmp_path / "llama"))


def test_a_models_layout_is_read_from_its_projections(model):
    gpt2 = model.model.config.model_type == "gpt2"
    assert (model.n_layers, model.n_heads, model.d_model) == (3, 4, 24)
    assert model.d_head == (6 if gpt2 else 8)
    assert model.total_heads == len(model.projections) * model.n_heads == 12
    assert model.context == CONTEXT
    assert model.head_weights(0).shape == (4, model.d_head, 24)
    assert model.unembedding.dtype == torch.float32
    assert not model.model.training
    assert model.summary.startswith("12 heads (3 layers × 4, d_head ")


def test_a_built_in_model_goes_by_its_name(assets):
    assert open_model(" toy ").name == "toy"
    assert open_model("toy").revision == open_model(str(assets / "toy")).revision


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_a_model_without_its_weights_is_answered_with_what_makes_them(assets, name):
    assert set(TRAINED_HERE) == set(MAKERS)
    with pytest.raises(ModelError, match=rf"toyworld train {name}`") as raised:
        open_model(name)
    assert "\n" not in str(raised.value)


def test_weights_may_be_read_in_half_precision(tiny_model_folder):
    model = open_model(str(tiny_model_folder("llama")), "cpu", "bfloat16")
    assert model.dtype == model.model.dtype == torch.bfloat16
    assert model.head_weights(0).dtype == torch.float32
    assert "bfloat16 as asked" in model.summary


@pytest.mark.parametrize(
    "name", ["nope", "no/such-model", "~nobody-here/model", "a" * 5000, "bad name!", "../..", "."]
)
def test_an_unknown_model_is_refused_with_the_built_in_ones(assets, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as raised:
        open_model(name)
    assert "\n" not in str(raised.value)
    assert "toy" in str(raised.value) or "has no config.json" in str(raised.value)


def test_no_name_is_answered_with_the_built_in_ones(assets):
    with pytest.raises(ModelError, match=r"No model named\. Built in: toy\."):
        open_model(" ")


def without_config(folder):
    (folder / "config.json").unlink()


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def with_pickled_weights_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_broken_config(folder):
    (folder / "config.json").write_text("{oops")


def with_empty_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")


def with_half_the_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def of_another_size(folder):
    change_config(folder, hidden_size=48)


def of_another_family(folder):
    change_config(folder, model_type="bloom")


def of_no_family(folder):
    change_config(folder, model_type="nonsense")


def with_code_of_its_own(folder):
    change_config(folder, model_type="evil", auto_map={"AutoConfig": "evil.EvilConfig"})
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")


def without_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


BROKEN = {
    without_config: "has no config.json: it is no model folder",
    without_weights: r"has no \.safetensors weights, the only format headviz loads",
    with_pickled_weights_only: r"has no \.safetensors weights",
    with_broken_config: "could not be loaded",
    with_empty_weights: "could not be loaded",
    with_half_the_weights: "could not be loaded",
    of_another_size: "could not be loaded",
    of_another_family: "The weights of .* lack",
    of_no_family: "could not be loaded",
    with_code_of_its_own: "could not be loaded",
    without_tokenizer: "could not be loaded",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda f: f.__name__)
def test_a_broken_folder_is_refused_in_one_sentence(folder, broken):
    broken(folder)
    with pytest.raises(ModelError, match=BROKEN[broken]) as raised:
        open_model(str(folder))
    assert "\n" not in str(raised.value)


def test_weights_that_lack_a_part_are_refused(folder):
    """transformers would make the missing part up at random, and every score with it."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack .*lm_head\.weight"):
        open_model(str(folder))


def test_the_revision_changes_with_weights_config_and_tokenizer_alone(folder):
    seen = {model_revision(folder)}
    (folder / "README.md").write_text("other words")
    seen.add(model_revision(folder))
    assert len(seen) == 1
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        content = bytearray((folder / name).read_bytes())
        content[-2] ^= 1
        (folder / name).write_bytes(content)
        seen.add(model_revision(folder))
    assert len(seen) == 4


def test_the_revision_of_a_very_large_file_changes_with_its_ends_and_time(folder):
    large = folder / "model.safetensors"
    with large.open("ab") as file:
        file.truncate(2**28 + 100)  # of which the disk holds next to nothing
    before = model_revision(folder)
    assert model_revision(folder) == before
    with large.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"x")
    assert model_revision(folder) != before


@pytest.mark.parametrize("device", ["gpu", "meta", "xpu", "cpu:x", ""])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(OptionError, match=r"Unknown device .* Use auto, cpu, .* or spread\."):
        choose_device(device, "auto")


def test_a_missing_gpu_is_refused_and_auto_does_without(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for device in ("cuda", "cuda:1", "mps"):
        with pytest.raises(OptionError, match=f"Device '{device}' was asked for"):
            choose_device(device, "auto")
    where, number_format, why = choose_device("auto", "auto")
    assert (where.type, number_format) == ("cpu", torch.float32)
    assert why == "no GPU found; float32 is exact on a CPU"


def test_an_unknown_dtype_lists_the_known_ones():
    known = "auto, float32, float16, bfloat16, int8, int4"
    with pytest.raises(OptionError, match=rf"'int2'\. Known: {known}"):
        choose_device("cpu", "int2")
