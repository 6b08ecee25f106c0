"""CLIP models through a session: one name opens the tower's heads, and the same code ranks them."""

import pytest
import torch
from tiny_clips import make_clip

from headviz.base.errors import PromptError
from headviz.base.store import Store
from headviz.clip.tower import Tower, is_clip
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import PromptSet, picture_prompt_set
from headviz.session.session import Session

pytest_plugins = ["loaded", "seeing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "clip")


def test_a_clip_model_is_known_by_its_name(folder, tmp_path):
    assert is_clip(str(folder))
    assert is_clip("ViT-B-32:laion2b_s34b_b79k")
    assert is_clip("hf-hub:someone/something")
    assert not is_clip("tiny-lm")
    assert not is_clip(str(tmp_path))
    assert not is_clip("someone/something")


def test_a_session_ranks_and_opens_the_heads_of_a_clip_model(folder, pictures, tmp_path):
    session, name = Session(Store(tmp_path)), str(folder)
    prompt_set = picture_prompt_set("three", pictures)
    tower = session.model(name)
    assert isinstance(tower, Tower)
    ranking = session.rank(name, find_concept(None, "red, blue, green"), prompt_set)
    assert ranking.scores.shape == (tower.n_layers, tower.n_heads)
    assert ranking.n_positions == len(prompt_set)
    spectrum = session.spectrum(name, ranking.top(1)[0], prompt_set)
    assert {sample.picture for sample in spectrum.samples} == {p.name for p in pictures}
    assert len(spectrum.atoms) > 0


def test_signals_of_a_clip_model_are_kept_on_the_disk(folder, pictures, tmp_path):
    prompt_set = picture_prompt_set("three", pictures)
    fresh, kept = (
        Session(Store(tmp_path)).activations(str(folder), prompt_set, "output") for _ in range(2)
    )
    torch.testing.assert_close(kept.z, fresh.z, rtol=0, atol=0)
    assert kept.pictures == fresh.pictures


def test_a_clip_model_reads_no_texts(folder, tmp_path):
    with pytest.raises(PromptError, match="Choose pictures"):
        Session(Store(tmp_path)).activations(str(folder), PromptSet("texts", ("one",)), "output")
