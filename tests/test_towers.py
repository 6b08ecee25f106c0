"""CLIP models through a session: one name opens the tower's heads, and the same code ranks them."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_clips import make_clip

import headviz
from headviz.__main__ import main
from headviz.base.errors import OptionError, PromptError
from headviz.base.store import Store
from headviz.clip.tower import Tower, is_clip
from headviz.clip.zero_shot import ZeroShotRequest, zero_shot
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept
from headviz.inputs.images import open_picture
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


# Without anything named: the model's own abilities choose.


def test_a_clip_model_ranks_on_the_pictures_that_are_built_in(folder, pictures, tmp_path, assets):
    session, name = Session(Store(tmp_path / "cache"), device="cpu"), str(folder)
    with pytest.raises(PromptError, match=r"Nothing to read .* is built in\. It reads pictures"):
        session.prompt_set(name)
    scenes = assets / "seer" / "prompt_sets" / "scenes"
    scenes.mkdir(parents=True)
    for picture in pictures:
        (scenes / picture.name).write_bytes(picture.data)
    prompt_set = session.prompt_set(name)
    assert prompt_set.name == "scenes"
    assert session.activations(name, prompt_set).pooling == "output"
    words = find_concept(None, "red, blue, green")
    assert session.rank(name, words, prompt_set).options.pooling == "output"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("headviz.__main__.Session", partial(Session, Store(tmp_path / "cache")))

    def run(*arguments):
        status = main([*arguments, "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    return run


@pytest.fixture
def files(tmp_path, pictures):
    for picture in pictures:
        (tmp_path / picture.name).write_bytes(picture.data)
    return [str(tmp_path / picture.name) for picture in pictures]


@pytest.fixture
def library(session, monkeypatch):
    """`headviz`, with a session of its own."""
    monkeypatch.setattr(headviz, "default_session", lambda: session)
    return headviz


def shown(files):
    return [word for file in files for word in ("--image", file)]


def test_every_command_takes_a_clip_model(folder, command, files, tmp_path):
    asked = ("--model", str(folder), "--probes", str(tmp_path))
    status, ranking, _ = command("rank", *asked, "--words", "red, blue", "--top", "2")
    assert (status, ranking["options"]["pooling"]) == (0, "output")
    status, spectrum, _ = command("spectrum", *asked, "--head", ranking["heads"][0]["head"])
    assert status == 0 and spectrum["atoms"]
    assert command("check", str(folder))[1]["passed"]
    status, _, said = command("bake", *asked[:2], "--edit", "L0.H0=0", "--out", str(tmp_path / "b"))
    assert status == 2 and "only models that write text can be baked" in said


def test_generate_gives_the_zero_shot_answers_of_a_clip_model(
    folder, command, library, files, tmp_path
):
    """The command line, the library and the core give the same numbers."""
    asked = ("generate", "--model", str(folder), *shown(files), "--edit", "L0.H1=-3", "--control")
    classes = ["red", "blue"]
    out = ("--out", str(tmp_path / "answers.csv"))
    status, by_prompt, _ = command(*asked, "--prompt", "red, blue", *out)
    _, by_words, _ = command(*asked, "--words", "red, blue")
    assert status == 0
    edit = Edit.parse("L0.H1=-3")
    found = library.zero_shot(str(folder), files, classes, edit)
    tower = library.default_session().model(str(folder))
    images = [open_picture(file).image() for file in files]
    core = zero_shot(tower.clip, tower, ZeroShotRequest(images, classes, edit))
    for answer, other in zip(found.answers, core.answers, strict=True):
        torch.testing.assert_close(answer.probabilities, other.probabilities)
    names = [Path(file).name for file in files]
    expected = json.loads(json.dumps({**found.as_dict(), "pictures": names}))
    assert by_prompt == by_words == expected
    assert [answer["name"] for answer in by_prompt["answers"]] == ["original", "edited", "control"]
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 1 + 3 * len(files) * 2


def test_what_a_clip_model_cannot_answer_is_said_in_one_sentence(folder, command, library, files):
    asked = ("generate", "--model", str(folder))
    for more, sentence in [
        (("--prompt", "red, blue"), "No image given"),
        (shown(files), "Name at least two different classes"),
        ((*shown(files), "--prompt", "red, blue", "--where", "image"), "edit it everywhere"),
        ((*shown(files), "--prompt", "red, blue", "--edit", "L9.H0=1"), "There is no head L9.H0"),
    ]:
        status, result, said = command(*asked, *more)
        assert (status, result) == (2, None)
        assert sentence in said and said.count("\n") == 1
    with pytest.raises(OptionError, match=r"writes no text.*headviz\.zero_shot"):
        library.compare(str(folder), "red, blue", Edit(), images=files)


def test_a_language_model_chooses_no_class(llama, library, files):
    with pytest.raises(OptionError, match="is no CLIP model"):
        library.zero_shot(llama.name, files, ["red", "blue"])
