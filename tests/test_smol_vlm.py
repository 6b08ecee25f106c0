"""smol-vlm itself, joined with the language model as its package brings it: once for a machine.

Skips, and says why, where the package does not come or the model is not trained.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fetched import session_with
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from headviz.editing.compare import CompareRequest
from headviz.editing.generate import Sampling
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.converted import converted_folder
from headviz.models.joined import parts_of
from headviz.models.known import known_models
from headviz.models.load import fetch_model
from headviz.models.loaded import LoadedModel
from headviz.page.arriving import arrive
from headviz.session.open_model import check_laws
from headviz.session.session import Session
from toyworld.smol import measuring
from toyworld.smol.texts import SUMMONS

NAME = "smol-vlm"


@pytest.fixture(scope="module")
def session(repo) -> Iterator[Session]:
    if parts_of(NAME) is None:
        pytest.skip(f"{NAME} is not trained")
    with session_with(NAME, str(repo)) as session:
        yield session


@pytest.fixture(scope="module")
def model(session) -> LoadedModel:
    return session.model(NAME)


@pytest.fixture(scope="module")
def folder(model) -> Path:
    """Where it was joined."""
    return fetch_model(NAME)[0]


def test_it_is_the_model_of_the_table(session, model):
    row, parts = known_models()[NAME], parts_of(NAME)
    assert (model.n_layers, model.n_heads, model.d_head) == (row.layers, row.heads, 64)
    assert sum(weight.numel() for weight in model.model.parameters()) == row.parameters
    assert (parts.folder / "front.safetensors").stat().st_size == row.n_bytes < 12 * 10**6
    assert model.revision == parts.content[:12] and row.is_here
    assert model.has_vision and NAME in session.model_names()


def test_the_language_model_is_smollm2_bit_for_bit(folder):
    own = load_file(folder / "model.safetensors")
    theirs = load_file(converted_folder(parts_of(NAME).sha256) / "model.safetensors")
    inside = {name for name in own if name.startswith("language_model.")}
    assert inside == {f"language_model.{name}" for name in theirs}
    assert all(torch.equal(own[f"language_model.{name}"], theirs[name]) for name in theirs)


def test_all_laws_hold(model):
    report = check_laws(model)
    assert report.as_dict()["passed"], str(report)


def test_transformers_opens_it_and_says_the_same(session, folder):
    picture = measuring.held_out(1, 5)[0]
    image = measuring.draw(picture)
    opened = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    parts = [{"type": "image"}, {"type": "text", "text": SUMMONS[0]}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True
    )
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    said = opened.generate(**inputs, max_new_tokens=measuring.MOST_TOKENS, do_sample=False)
    own = processor.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert own == measuring.captions(session.model(NAME), [picture])[0] != ""


def test_it_says_what_is_there(model):
    shown = measuring.held_out(12, 6)
    lines = measuring.mark(measuring.captions(model, shown), shown)
    assert lines["colors"].claims > 8 and lines["colors"].claims_right > 0.7


def test_an_address_opens_the_page_on_it(session):
    """The page knows that it sees before any weight is read, and keeps the concept."""
    found = arrive(session, {"model": NAME, "concept": "shapes"})
    assert found.scene.model.has_vision and found.concept == find_concept("shapes")


def test_its_heads_are_ranked_on_pictures_and_an_edit_of_them_is_compared(session, model):
    prompt_set = session.prompt_set(NAME)
    few = PromptSet(prompt_set.name, prompt_set.texts[:6], prompt_set.pictures[:6])
    ranking = session.rank(NAME, find_concept("colors"), few)
    assert ranking.scores.shape == (30, 9) and ranking.options.pooling == "image"
    head = ranking.top(1)[0]
    asked = CompareRequest(
        SUMMONS[0],
        Edit({head: -1.0}),
        control=True,
        sampling=Sampling(max_new_tokens=8),
        pictures=few.pictures[:1],
    )
    *_, last = session.compare(NAME, asked)
    assert len(last.columns) == 3 and all(column.text for column in last.columns)
