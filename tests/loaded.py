"""Fixtures of the core's tests: tiny models in memory, texts, sessions, an assets folder.

A test file takes them with `pytest_plugins = ["loaded"]`.
"""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_models import WORDS

from headviz.base.store import Store
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.session.open_model import open_model
from headviz.session.session import Session

# Models this small gain nothing from threads, and on a busy machine threads wait for each other.
torch.set_num_threads(1)

TEXTS = (
    "the cat is red and the dog is blue",
    "a horse saw two green goat in the house of a fish and the bird was black",
    "one",
    "what color has the house",
    "seven white fish, eight brown bird and an umpteen of zebras: 7 × α.",
    "the dog was yellow",
)
"""Of very different lengths, some longer than Mistral's window; two fall into pieces."""

GENERAL_TEXTS = ("what color is the dog", "the horse saw seven fish", "one bird")
"""For a model that has no texts of its own."""


@pytest.fixture(scope="session")
def load(tiny_model_folder) -> Callable[[str], LoadedModel]:
    """`load("gpt2")` is the tiny model of that family, loaded once. Leave its weights alone."""
    return cache(lambda family: open_model(str(tiny_model_folder(family)), device="cpu"))


@pytest.fixture(scope="module")  # no longer: some files have families of their own
def model(load, family) -> LoadedModel:
    """The tiny model of each `family` in turn."""
    return load(family)


@pytest.fixture(scope="session")
def llama(load) -> LoadedModel:
    """The tiny model where one family is enough."""
    return load("llama")


@pytest.fixture(scope="session")
def texts() -> PromptSet:
    """The texts that heads are read on."""
    return PromptSet("texts", TEXTS)


@pytest.fixture(scope="session")
def general_texts() -> PromptSet:
    """The texts of a model that has none of its own, in the folder of `assets`."""
    return PromptSet("questions", GENERAL_TEXTS)


@pytest.fixture
def session(tmp_path) -> Session:
    """A session whose cache is its own."""
    return Session(Store(tmp_path / "cache"), device="cpu")


@pytest.fixture
def assets(tmp_path, tiny_model_folder, monkeypatch) -> Path:
    """An assets folder: the built-in model `toy`, its prompt set, a general one, two concepts."""
    folder = tmp_path / "assets"
    shutil.copytree(tiny_model_folder("llama"), folder / "toy")
    (folder / "toy" / "prompt_sets").mkdir()
    lines = "".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS)
    (folder / "toy" / "prompt_sets" / "questions.jsonl").write_text(lines, encoding="utf-8")
    (folder / "prompt_sets").mkdir()
    lines = "".join(json.dumps({"prompt": text}) + "\n" for text in GENERAL_TEXTS)
    (folder / "prompt_sets" / "questions.jsonl").write_text(lines, encoding="utf-8")
    (folder / "concepts").mkdir()
    for name in ("colors", "numbers"):
        content = "\n".join([f"Names of {name}", *WORDS[name], "umpteen"])
        (folder / "concepts" / f"{name}.txt").write_text(content, encoding="utf-8")
    monkeypatch.setattr("headviz.base.assets.ASSETS", folder)
    return folder
