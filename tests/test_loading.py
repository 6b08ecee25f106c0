"""Loading tells what it takes before it starts, moves on, stops when asked, and keeps no secret.

The hub is one of these tests' own on 127.0.0.1 (fake_hub.py): the client, the download and its
process are the real ones.
"""

import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
import weakref
from pathlib import Path

import pytest
import torch
from fake_hub import COMMIT, PAD, stopping
from huggingface_hub import constants

from headviz.base.errors import Cancelled, ModelError, OptionError
from headviz.base.store import Store
from headviz.cli.console import Console
from headviz.models import memory_plan as plans
from headviz.models import read_weights as reading
from headviz.models.hub import without_token
from headviz.models.memory import memory_left, size_text
from headviz.session.open_model import open_model
from headviz.session.session import Session

pytest_plugins = ["loaded", "fake_hub"]

TOKEN = "hf_FaKeToKeNoFaTeSt0123456789"


def weights_asked(hub):
    return [(given, who) for path, given, who in hub.asked if path == "model.safetensors"]


def refused(name, **options):
    """The sentence with which a model is refused, and all that an error could show of it."""
    with pytest.raises(ModelError) as raised:
        open_model(name, device="cpu", **options)
    assert "\n" not in str(raised.value)
    return str(raised.value), "".join(traceback.format_exception(raised.value))


def test_a_model_of_the_hub_is_fetched_once_and_told_with_its_sizes(hub, tiny_model_folder):
    told = []
    model = open_model("tiny/llama", "cpu", progress=lambda share, what: told.append(what))
    whole = open_model(str(tiny_model_folder("llama")), "cpu")
    assert model.revision == COMMIT
    assert model.unembedding.equal(whole.unembedding)
    n_bytes = (tiny_model_folder("llama") / "model.safetensors").stat().st_size
    assert f"to download, {size_text(n_bytes)} of weights" in told[0]
    assert told[0].endswith("left on cpu") and told[-1] == "tiny/llama is loaded"
    asked = len(weights_asked(hub))
    assert open_model("tiny/llama", "cpu").revision == COMMIT
    assert len(weights_asked(hub)) == asked
    hub.unavailable = True  # what is here is used while the hub is not
    assert open_model("tiny/llama", "cpu").revision == COMMIT


def test_only_weights_and_small_files_are_fetched(hub, tmp_path, tiny_model_folder):
    folder = Path(shutil.copytree(tiny_model_folder("llama"), tmp_path / "more"))
    for name in ("pytorch_model.bin", "evil.py", "consolidated.safetensors", "picture.png"):
        (folder / name).write_bytes(b"0")
    hub.folders["tiny/more"] = folder
    open_model("tiny/more", "cpu")
    fetched = {path for path, _, _ in hub.asked}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= fetched
    assert fetched <= {path.name for path in tiny_model_folder("llama").iterdir()}


def test_a_download_shows_how_far_it_is_stops_when_asked_and_leaves_nothing(hub, heavy):
    told = []
    with pytest.raises(Cancelled):
        open_model("tiny/heavy", "cpu", progress=stopping(told))
    assert hub.stalled.is_set() and not hub.go_on.is_set()  # it did not wait for the rest
    kept = Path(constants.HF_HUB_CACHE) / "models--tiny--heavy" / "blobs"
    assert not list(kept.glob("*.incomplete"))
    assert told[-1][0] < 0.6 and "MB of 26 MB" in told[-1][1]
    hub.stall.clear()
    hub.go_on.set()
    assert open_model("tiny/heavy", "cpu").revision == COMMIT
    assert sum(f.stat().st_size for f in kept.iterdir()) < PAD + 2**20


def test_reading_shows_how_far_it_is_and_stops_when_asked(tiny_model_folder):
    shares = []

    def stop(share, what):
        if what.startswith("reading"):
            shares.append(share)
            if share > 0.5:
                raise Cancelled("enough")

    name = str(tiny_model_folder("llama"))
    with pytest.raises(Cancelled):
        open_model(name, "cpu", progress=stop)
    assert shares == sorted(shares) and len(shares) > 10 and 0.5 < shares[-1] < 0.6
    assert open_model(name, "cpu").total_heads == 12


def test_a_model_that_does_not_fit_is_refused_before_a_weight_is_fetched(hub, monkeypatch):
    hub.parameters["tiny/llama"] = {"BF16": 70 * 10**9}
    monkeypatch.setattr(plans, "memory_left", lambda device: 16 * 10**9)
    sentence, _ = refused("tiny/llama")
    assert "needs 308.0 GB of memory and 16.0 GB are left on cpu" in sentence
    sentence, _ = refused("tiny/llama", dtype="bfloat16")
    assert "needs 154.0 GB" in sentence
    assert weights_asked(hub) == []


def test_a_model_that_does_not_fit_the_disk_is_refused(hub, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    sentence, _ = refused("tiny/llama")
    assert "to download, and the disk of the hub's cache has 1 kB left" in sentence


def test_a_family_that_is_not_supported_is_refused_before_a_weight_is_fetched(
    hub, tmp_path, tiny_model_folder
):
    folder = Path(shutil.copytree(tiny_model_folder("llama"), tmp_path / "odd"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "pix2struct"}))
    hub.folders["tiny/odd"] = folder
    assert "pix2struct" in refused("tiny/odd")[0]
    assert weights_asked(hub) == []


def test_what_the_hub_refuses_is_said_with_what_to_do(hub, tmp_path, monkeypatch):
    sentence, _ = refused("tiny/none")
    assert "the hub does not have it, or only for those with a token" in sentence
    hub.gated.add("tiny/llama")
    sentence, _ = refused("tiny/llama")
    assert f"accept its licence at {hub.url}/tiny/llama and set the environment" in sentence
    assert "HF_TOKEN or run `hf auth login`" in sentence
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    sentence, _ = refused("tiny/llama")
    assert "see that the token in use is of the account that was given access" in sentence
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"0")
    hub.folders["tiny/pickled"] = tmp_path / "pickled"
    assert "has no .safetensors weights on the hub" in refused("tiny/pickled")[0]
    hub.unavailable = True
    assert "the hub cannot be reached" in refused("tiny/other")[0]


@pytest.mark.parametrize("token", [TOKEN, "secret\x01word", "hf_Zeilen\numbruch"])
def test_a_token_is_sent_to_the_hub_and_shown_nowhere(hub, monkeypatch, caplog, capfd, token):
    """The hub of these tests quotes it in every refusal; a client may quote it where it is odd."""
    monkeypatch.setenv("HF_TOKEN", token)
    shown = ""
    for break_it in (
        lambda: hub.gated.add("tiny/llama"),
        lambda: (hub.gated.clear(), hub.folders["tiny/llama"]),
        lambda: setattr(hub, "unavailable", True),
    ):
        break_it()
        for name in ("tiny/none", "tiny/llama"):
            try:
                open_model(name, "cpu")
            except ModelError as error:
                shown += "".join(traceback.format_exception(error))
    shown += caplog.text + "".join(capfd.readouterr())
    assert "tiny/none" in shown and "tiny/llama" in shown
    for form in (token, repr(token)[1:-1], token[:9]):
        assert form not in shown
    if token == TOKEN:
        assert any(who == f"Bearer {TOKEN}" for _, who in weights_asked(hub))


def test_what_looks_like_a_token_is_blotted_out():
    assert without_token("Bearer abc.def and hf_abcDEF123, done") == "Bearer … and …, done"


def test_the_model_before_is_freed_before_the_next_one_is_read(
    tiny_model_folder, tmp_path, texts, monkeypatch
):
    names = [str(tiny_model_folder(family)) for family in ("llama", "gpt2")]
    session = Session(Store(tmp_path / "cache"), device="cpu")
    first = weakref.ref(session.model(names[0]).model)
    session.activations(names[0], texts)
    seen = []
    read = reading.read_model

    def watched(*given):
        gc.collect()
        seen.append(first())
        return read(*given)

    monkeypatch.setattr("headviz.models.load.read_model", watched)
    with pytest.raises(ModelError):
        session.model(str(tmp_path))  # refused: nothing is freed for it
    assert first() is not None
    session.model(names[1])
    assert seen == [None]


def test_room_is_counted_with_what_will_be_freed(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "memory_left", lambda device: 20_000)
    names = [str(tiny_model_folder(family)) for family in ("llama", "gpt2")]
    session = Session(Store(tmp_path / "cache"), device="cpu")
    with pytest.raises(ModelError, match="20 kB are left"):
        session.model(names[0])
    monkeypatch.setattr(plans, "memory_left", lambda device: 150_000)
    session.model(names[0])
    monkeypatch.setattr(plans, "memory_left", lambda device: 20_000)
    assert session.model(names[1]).name == names[1]


def test_the_memory_that_is_left_is_less_than_the_machine_has():
    left, whole = memory_left(torch.device("cpu")), os.sysconf("SC_PHYS_PAGES")
    assert left is not None and 0 < left < whole * os.sysconf("SC_PAGE_SIZE")


def test_a_terminal_sees_one_line_and_a_file_few():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen, log, now = Terminal(), io.StringIO(), [0.0]
    shown, written = Console(screen), Console(log, lambda: now[0])
    for share in range(10):
        now[0] += 3
        shown(share / 10, "reading")
        written(share / 10, "reading")
    shown(1.0, "read")
    assert screen.getvalue().count("\n") == 0 and screen.getvalue().endswith("\r\x1b[K")
    assert "headviz: reading (50%)" in screen.getvalue()
    assert log.getvalue() == "headviz: reading (40%)\nheadviz: reading (80%)\n"


def test_control_c_ends_a_download_with_130_and_nothing_is_broken(hub, heavy, repo, tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_TOKEN": TOKEN,
        "PYTHONPATH": str(repo),
    }
    # Whoever runs the tests in the background may have the signal ignored.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from headviz.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    asked = ["generate", "--model", "tiny/heavy", "--prompt", "a"]
    command = [sys.executable, "-c", program, *asked]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert hub.stalled.wait(240)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "headviz: stopped.\n"
    hub.stall.clear()
    hub.go_on.set()
    assert open_model("tiny/heavy", "cpu").revision == COMMIT


def test_weights_of_8_bits_need_a_gpu_or_are_asked_for_by_name(tiny_model_folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptionError, match=r"int8 weights need a CUDA GPU.*--dtype bfloat16"):
        open_model(str(tiny_model_folder("llama")), dtype="int8")
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"int4 weights need bitsandbytes: .*'headviz\[large\]'"):
        open_model(str(tiny_model_folder("llama")), "cpu", "int4")
