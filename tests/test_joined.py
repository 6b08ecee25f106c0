"""A model of two parts: joined, not one number of either has changed; other weights are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_vision import make_vision_model
from transformers import LlavaForConditionalGeneration

from headviz.base import assets
from headviz.base.errors import ModelError
from headviz.models.converted import converted_folder
from headviz.models.joined import FRONT, KIND, TRAINED_WITH, Parts, join_into, parts_of
from headviz.models.known import KnownModel, known_models, offered_models
from headviz.models.load import fetch_model
from headviz.models.places import chat_template_here, locate, revision_here

NAME = "smol-vlm"
SMALL = ("config.json", "generation_config.json", "processor_config.json", "chat_template.jinja")


@pytest.fixture
def whole(tmp_path) -> Path:
    """The folder of a tiny model that sees."""
    return make_vision_model("llava", tmp_path / "whole")


@pytest.fixture
def language_model(tmp_path, whole) -> Path:
    """Its language model as a folder of its own."""
    folder = tmp_path / "language-model"
    folder.mkdir()
    weights = load_file(whole / "model.safetensors")
    inside = {
        name.removeprefix("language_model."): w
        for name, w in weights.items()
        if name.startswith("language_model.")
    }
    save_file(inside, folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(whole / name, folder / name)
    return folder


@pytest.fixture
def parts(tmp_path, whole, monkeypatch) -> Parts:
    """The rest of it, as assets hold it."""
    folder = tmp_path / "assets" / NAME / "parts"
    folder.mkdir(parents=True)
    weights = load_file(whole / "model.safetensors")
    front = {n: w for n, w in weights.items() if not n.startswith("language_model.")}
    save_file(front, folder / FRONT)
    for name in SMALL:
        if (whole / name).is_file():
            shutil.copyfile(whole / name, folder / name)
        else:
            (folder / name).write_text("{}")
    (folder / TRAINED_WITH).write_text(json.dumps({"name": "smollm2-135m", "sha256": "1" * 64}))
    shutil.copyfile(assets.ASSETS / "models.json", tmp_path / "assets" / "models.json")
    monkeypatch.setattr("headviz.base.assets.ASSETS", tmp_path / "assets")
    monkeypatch.setenv("HEADVIZ_CACHE", str(tmp_path / "cache"))
    found = parts_of(NAME)
    assert found is not None
    return found


@pytest.fixture
def target(parts) -> Path:
    folder = converted_folder(parts.content, KIND)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def test_joined_is_the_whole_again_bit_for_bit(whole, language_model, parts, target):
    join_into(target, parts, language_model)
    joined, before = (load_file(f / "model.safetensors") for f in (target, whole))
    assert joined.keys() == before.keys()
    assert all(torch.equal(joined[name], before[name]) for name in before)
    model = LlavaForConditionalGeneration.from_pretrained(target, local_files_only=True)
    assert sum(w.numel() for w in model.parameters()) == sum(w.numel() for w in before.values())


def test_it_is_joined_once_and_anew_where_the_disk_has_turned_a_bit(language_model, parts, target):
    join_into(target, parts, language_model)
    made = (target / "model.safetensors").stat().st_mtime_ns
    join_into(target, parts, language_model)
    assert (target / "model.safetensors").stat().st_mtime_ns == made
    content = bytearray((target / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (target / "model.safetensors").write_bytes(content)
    join_into(target, parts, language_model)
    assert (target / "model.safetensors").read_bytes() != bytes(content)
    assert [p.name for p in target.parent.glob("*joined*") if p.is_dir()] == [target.name]


def test_a_language_model_of_another_file_is_refused_in_one_sentence(parts):
    with pytest.raises(ModelError, match=r"trained with smollm2-135m of the sha256 1111") as raised:
        fetch_model(NAME)
    assert "\n" not in str(raised.value)


def trained_with(parts: Parts, sha256: str) -> None:
    told = {"name": "smollm2-135m", "sha256": sha256}
    (parts.folder / TRAINED_WITH).write_text(json.dumps(told))


def test_without_a_network_one_sentence_says_what_is_missing(parts):
    trained_with(parts, known_models()["smollm2-135m"].package.sha256)
    with pytest.raises(
        ModelError, match=r"needs the language model smollm2-135m, .* get smol-vlm`"
    ):
        fetch_model(NAME)
    assert not row().is_here and NAME not in offered_models()
    assert chat_template_here(NAME) is None


def row() -> KnownModel:
    return known_models()[NAME]


def test_it_is_here_and_offered_as_soon_as_its_language_model_is(parts, language_model):
    sha256 = known_models()["smollm2-135m"].package.sha256
    trained_with(parts, sha256)
    shutil.copytree(language_model, converted_folder(sha256))
    assert row().is_here and NAME in offered_models()
    folder, revision = fetch_model(NAME)
    assert (folder / "model.safetensors").is_file() and revision == revision_here(NAME)
    shutil.rmtree(converted_folder(sha256))
    assert row().is_here  # joined already
    assert fetch_model(NAME) == (folder, revision)


def test_another_connector_is_another_revision(parts):
    before = parts.content
    weights = load_file(parts.folder / FRONT)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, parts.folder / FRONT)
    assert parts.content != before


def test_without_its_parts_it_is_said_what_makes_them(parts):
    shutil.rmtree(parts.folder)
    with pytest.raises(ModelError, match="toyworld train smol-vlm"):
        locate(NAME)
