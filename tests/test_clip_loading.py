"""CLIP models of the hub tell what they take before they are fetched, and a download is stopped.

The hub is one of these tests' own on 127.0.0.1 (fake_hub.py); open_clip, its client, the download
and its process are the real ones.
"""

import json
import shutil
from pathlib import Path

import pytest
from fake_hub import stopping
from huggingface_hub import constants
from tiny_clips import make_clip

pytest.importorskip("open_clip")

from headviz.__main__ import main
from headviz.base.errors import Cancelled, ModelError
from headviz.clip.load import load_clip
from headviz.models import memory_plan as plans
from headviz.models.memory import size_text
from headviz.session.open_model import open_model

pytest_plugins = ["loaded", "fake_hub"]

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def clip_folder(hub, tmp_path):
    """A repository with the files that open_clip's own have, and some that nobody asked for."""
    folder = make_clip(tmp_path / "clip")
    for name in ("open_clip_pytorch_model.bin", "evil.py", "pytorch_model.bin", "photo.png"):
        (folder / name).write_bytes(b"0")
    hub.folders["tiny/clip"] = folder
    return folder


@pytest.fixture
def heavy_clip(hub, tmp_path):
    """The same, large enough for its download to have a middle, on a line that stalls."""
    folder = make_clip(tmp_path / "heavy-clip", width=512, head_width=64)
    hub.folders["tiny/heavy"] = folder
    hub.stall.set()
    return folder


@pytest.fixture
def known(monkeypatch, clip_folder, tmp_path):
    """An architecture and a tag that open_clip knows, whose weights are in the repository."""
    import open_clip

    config = json.loads((clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-known.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-known.json")
    tags = {"here": open_clip.pretrained._pcfg(hf_hub="tiny/clip/")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-known", tags)
    return "tiny-known:here"


def paths(hub):
    return {path for path, _, _ in hub.asked}


def fetched(hub):
    """How often the weights were asked for."""
    return sum(1 for path, _, _ in hub.asked if path == WEIGHTS)


def test_a_clip_model_of_the_hub_is_told_with_its_sizes_and_fetched_once(hub, clip_folder):
    told = []
    clip = load_clip("hf-hub:tiny/clip", "cpu", lambda share, what: told.append((share, what)))
    assert clip.revision == load_clip(str(clip_folder), "cpu").revision
    n_bytes = (clip_folder / WEIGHTS).stat().st_size
    sentence = next(what for _, what in told if "to download" in what)
    assert f"{size_text(n_bytes)} of weights" in sentence and sentence.endswith("left on cpu")
    assert told[-1] == (1.0, "hf-hub:tiny/clip is loaded")
    assert paths(hub) == {WEIGHTS, "open_clip_config.json"}
    shutil.rmtree(clip_folder)
    clip_folder.mkdir()
    hub.unavailable = True  # what is here is used while the hub is not
    assert load_clip("hf-hub:tiny/clip", "cpu").revision == clip.revision


def test_a_tag_of_open_clip_is_fetched_the_same_way(hub, known, clip_folder):
    told = []
    clip = load_clip(known, "cpu", lambda share, what: told.append(what))
    assert clip.revision == load_clip(str(clip_folder), "cpu").revision
    assert any("to download" in what for what in told)
    assert any(what.startswith("downloading tiny/clip: ") for what in told)
    assert paths(hub) == {WEIGHTS}


def test_pickled_weights_are_fetched_where_there_are_no_others(hub, clip_folder, known):
    (clip_folder / WEIGHTS).unlink()
    told = []
    with pytest.raises(ModelError, match="could not be loaded"):  # one byte is no model
        load_clip(known, "cpu", lambda share, what: told.append(what))
    assert "open_clip_pytorch_model.bin" in paths(hub)
    assert any("0 kB to download" in what for what in told)


def test_a_clip_download_shows_how_far_it_is_stops_when_asked_and_leaves_nothing(hub, heavy_clip):
    told = []
    with pytest.raises(Cancelled):
        load_clip("hf-hub:tiny/heavy", "cpu", stopping(told))
    assert hub.stalled.is_set() and not hub.go_on.is_set()  # it did not wait for the rest
    kept = Path(constants.HF_HUB_CACHE) / "models--tiny--heavy" / "blobs"
    assert not list(kept.glob("*.incomplete"))
    assert 0.3 < told[-1][0] < 0.6
    hub.stall.clear()
    hub.go_on.set()
    assert load_clip("hf-hub:tiny/heavy", "cpu").model.visual is not None


def test_a_clip_model_that_does_not_fit_is_refused_before_a_weight_is_fetched(
    hub, known, clip_folder, monkeypatch, capsys
):
    monkeypatch.setattr(plans, "memory_left", lambda device: 10**5)
    for name in (known, "hf-hub:tiny/clip", str(clip_folder)):
        freed = []
        with pytest.raises(ModelError) as raised:
            open_model(name, "cpu", "auto", make_room=lambda: freed.append(True))  # noqa: B023
        assert "of memory and 100 kB are left on cpu. Choose a smaller model." in str(raised.value)
        assert not freed, "the model before is kept where the next one is refused"
    assert fetched(hub) == 0
    assert main(["rank", "--model", "hf-hub:tiny/clip", "--concept", "colors"]) == 2
    assert "Choose a smaller model." in capsys.readouterr().err


def test_the_model_before_is_freed_when_all_is_well(hub, clip_folder):
    freed = []
    open_model("hf-hub:tiny/clip", "cpu", "auto", make_room=lambda: freed.append(fetched(hub)))
    assert freed and freed[0] > 0, "after the download and before the weights are read"


def test_what_the_hub_does_not_have_is_said(hub, clip_folder):
    with pytest.raises(ModelError, match="the hub does not have 'tiny/none'"):
        load_clip("hf-hub:tiny/none", "cpu")
    hub.gated.add("tiny/clip")
    with pytest.raises(ModelError, match="accept its licence"):
        load_clip("hf-hub:tiny/clip", "cpu")
