"""GGUF files open like any model: converted once, whole or not there, refused in one sentence."""

import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest
import torch
from tiny_gguf import CHAT, source, write_gguf

from headviz.base.errors import Cancelled, ModelError
from headviz.models import gguf as converting
from headviz.models.gguf_header import read_header
from headviz.models.gguf_process import errno_of
from headviz.session.open_model import check_laws, open_model

pytest_plugins = ["loaded", "fake_hub", "tiny_gguf"]

PAGE = b"\n<!DOCTYPE html><html><body>Log in to the network</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 98362432\n"


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """The folder of converted models, this test's own."""
    monkeypatch.setenv("HEADVIZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def converted(models: Path) -> list[Path]:
    """What stands there as a model."""
    return sorted(path for path in models.glob("*") if path.suffix != ".lock" and path.is_dir())


def own(models: Path) -> list[str]:
    return [path.name for path in converted(models) if path.name != "contents"]


def refused(name: Path | str) -> str:
    with pytest.raises(ModelError) as raised:
        open_model(str(name), "cpu")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.model.named_parameters())


@pytest.mark.parametrize(("kind", "within"), [("F32", 0.0), ("F16", 1e-3), ("Q8_0", 5e-3)])
def test_the_model_has_the_weights_that_were_written(tmp_path, kind, within):
    """Of 8 bits, within half a step; of 32, bit for bit."""
    model = open_model(str(write_gguf(tmp_path / "tiny.gguf", kind)), "cpu")
    assert (model.n_layers, model.n_heads, model.d_head) == (3, 4, 8)
    assert model.dtype == torch.float32
    for name, weight in source().named_parameters():
        assert (weights(model)[name] - weight).abs().max() <= within, name


def test_tied_embeddings_stay_tied(tmp_path):
    model = open_model(str(write_gguf(tmp_path / "tiny.gguf", tied=True)), "cpu").model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight.equal(source(True).get_input_embeddings().weight)


def test_words_template_and_special_tokens_come_along(gguf_file):
    tokenizer = open_model(str(gguf_file), "cpu").tokenizer
    assert tokenizer.decode(tokenizer(" cat is red")["input_ids"]) == " cat is red"
    assert len(tokenizer(" cat is red")["input_ids"]) == 3
    assert tokenizer.chat_template == CHAT
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<bos>", "<eos>")


def test_the_laws_hold(gguf_file):
    report = check_laws(open_model(str(gguf_file), "cpu"))
    assert report.as_dict()["passed"], str(report)


def test_a_file_is_converted_once_for_its_content(gguf_file, tmp_path, models):
    told = []
    first = open_model(str(gguf_file), "cpu", progress=lambda share, what: told.append(what))
    assert any(what.startswith("converting tiny.Q8_0.gguf: weights") for what in told)
    (name,) = own(models)
    made = (models / name).stat()
    other = shutil.copy(gguf_file, tmp_path / "other name.gguf")
    told.clear()
    for same in (gguf_file, other, gguf_file):
        again = open_model(str(same), "cpu", progress=lambda share, what: told.append(what))
        assert again.revision == first.revision
    assert not [what for what in told if what.startswith("converting")]
    assert own(models) == [name]
    assert (models / name).stat().st_ino == made.st_ino


def test_a_file_that_is_read_again_is_not_hashed_again(gguf_file):
    told = []
    open_model(str(gguf_file), "cpu")
    open_model(str(gguf_file), "cpu", progress=lambda share, what: told.append(what))
    assert not [what for what in told if what.startswith("looking at")]


def test_a_changed_byte_is_another_model(gguf_file, tmp_path, models):
    file = Path(shutil.copy(gguf_file, tmp_path / "flipped.gguf"))
    before = open_model(str(file), "cpu").revision
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    assert open_model(str(file), "cpu").revision != before
    assert len(own(models)) == 2


def test_a_folder_with_one_file_is_that_file(gguf_file, tmp_path):
    shutil.copy(gguf_file, tmp_path / "a.gguf")
    assert open_model(str(tmp_path), "cpu").total_heads == 12
    shutil.copy(gguf_file, tmp_path / "b.gguf")
    assert "has several models; name one: a.gguf, b.gguf." in refused(tmp_path)


def test_a_split_model_is_put_together(tmp_path, models):
    whole = open_model(str(write_gguf(tmp_path / "whole.gguf", "Q8_0")), "cpu")
    first = write_gguf(tmp_path / "parts.gguf", "Q8_0", n_parts=3)
    assert first.name == "parts-00001-of-00003.gguf"
    told = []
    for part in (first, first.with_name("parts-00002-of-00003.gguf")):
        model = open_model(str(part), "cpu", progress=lambda share, what: told.append(what))
        for name, weight in weights(whole).items():
            assert weights(model)[name].equal(weight), name
    assert "putting 3 parts together" in told
    assert len(own(models)) == 2
    first.with_name("parts-00003-of-00003.gguf").unlink()
    assert "Part 3 of 3 of this model is missing: parts-00003-of-00003.gguf." in refused(first)


def cut_in_the_head(content: bytes) -> bytes:
    return content[:3000]


def cut_in_the_weights(content: bytes) -> bytes:
    return content[:-100]


def of_version_9(content: bytes) -> bytes:
    return content[:4] + struct.pack("<I", 9) + content[8:]


def with_a_wild_count(content: bytes) -> bytes:
    return content[:8] + struct.pack("<Q", 2**62) + content[16:]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut_in_the_head, "is cut short: it ends after 3 kB"),
        (cut_in_the_weights, "is cut short"),
        (lambda content: b"", "is empty"),
        (lambda content: PAGE, "is a web page and not the file itself"),
        (lambda content: POINTER, "is a Git LFS pointer and not the file itself"),
        (lambda content: b"PK\x03\x04" + content, "is no GGUF file: it does not begin as one"),
        (of_version_9, "is GGUF of version 9; versions 2 and 3 are read"),
        (with_a_wild_count, "bad.gguf' "),
    ],
)
def test_a_file_that_is_not_whole_is_refused(gguf_file, tmp_path, models, damage, sentence):
    file = tmp_path / "bad.gguf"
    file.write_bytes(damage(gguf_file.read_bytes()))
    assert sentence in refused(file)
    assert own(models) == []


def test_damage_anywhere_in_the_head_is_refused_or_read_but_never_breaks(gguf_file, tmp_path):
    """A flipped bit in any of the first bytes: a ModelError, or a head like any other."""
    content = gguf_file.read_bytes()
    end = read_header(gguf_file).data_start
    file = tmp_path / "flipped.gguf"
    for place in range(4, end, 37):
        flipped = bytearray(content)
        flipped[place] ^= 0x40
        file.write_bytes(flipped)
        try:
            read_header(file)
        except ModelError as error:
            assert "\n" not in str(error)


def test_what_transformers_cannot_read_is_named_with_its_quantisation(tmp_path, models):
    file = write_gguf(tmp_path / "odd.gguf", "Q8_0", architecture="wavetower")
    sentence = refused(file)
    assert "does not read 'odd.gguf' (wavetower, Q8_0): " in sentence
    assert own(models) == []


def test_a_model_without_heads_is_refused_before_its_weights_are_read(tmp_path):
    told = []
    file = write_gguf(tmp_path / "t5.gguf", architecture="t5")
    with pytest.raises(ModelError, match="Models of type 't5' are not supported yet"):
        open_model(str(file), "cpu", progress=lambda share, what: told.append(what))


def test_a_vocabulary_that_does_not_match_is_refused(tmp_path):
    file = write_gguf(tmp_path / "more.gguf", extra_tokens=2)
    assert "does not match its weights: 359 tokens and 357 rows" in refused(file)


def test_weights_that_are_not_finite_are_refused(tmp_path, models):
    file = write_gguf(tmp_path / "nan.gguf", broken=float("nan"))
    assert "holds numbers that are not finite" in refused(file)
    assert own(models) == []


def test_what_is_no_language_model_is_refused(tmp_path):
    file = tmp_path / "adapter.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tensor("blk.0.attn_q.weight", torch.zeros(32, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "(llama, F32) holds no language model: it has no token embeddings" in refused(file)


def test_memory_and_disk_are_looked_at_first(gguf_file, models, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(converting, "memory_left", lambda device: 10**8)
        assert "Converting 'tiny.Q8_0.gguf' needs 500 MB of memory and 100 MB are left" in refused(
            gguf_file
        )
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert "of the disk of the cache folder, which has 1 kB left" in refused(gguf_file)
    assert own(models) == []


OPEN = """
import resource, sys
from headviz.base.errors import HeadvizError
from headviz.session.open_model import open_model

def tell(share, what):
    print(what, flush=True)

if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    print("revision", open_model(sys.argv[1], "cpu", progress=tell).revision)
except HeadvizError as error:
    print("refused", error)
"""


def start(repo: Path, *arguments: str) -> subprocess.Popen:
    """A process of its own that opens the model and tells how far it is."""
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, *arguments],
        env={**os.environ, "PYTHONPATH": str(repo)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_is_known_by_what_a_library_in_rust_says_of_it():
    """What tokenizers and safetensors raise are plain Exceptions, which do not tell it else."""
    assert errno_of(OSError(errno.ENOSPC, "No space left on device")) == errno.ENOSPC
    assert errno_of(Exception("No space left on device (os error 28)")) == errno.ENOSPC
    assert errno_of(ValueError("unknown architecture")) is None


def test_a_disk_that_is_full_in_the_middle_is_told_and_nothing_stays(gguf_file, repo, models):
    """No file may grow beyond 20 kB in that process: writing fails as on a full disk."""
    with start(repo, str(gguf_file), "20000") as process:
        out, _ = process.communicate(timeout=200)
    assert "refused The cache folder does not take" in out
    assert own(models) == []
    assert open_model(str(gguf_file), "cpu").total_heads == 12


def test_of_two_processes_one_converts(gguf_file, repo, models):
    with start(repo, str(gguf_file)) as one, start(repo, str(gguf_file)) as other:
        said = [process.communicate(timeout=250)[0] for process in (one, other)]
    revisions = {text.strip().splitlines()[-1] for text in said}
    assert len(revisions) == 1 and revisions.pop().startswith("revision ")
    assert sorted("converting tiny" in text for text in said) == [False, True]
    assert len(own(models)) == 1


def test_a_conversion_that_is_stopped_leaves_nothing(gguf_file, models):
    def stop(share, what):
        if what.startswith("converting") and "starting" not in what:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        open_model(str(gguf_file), "cpu", progress=stop)
    assert own(models) == []
    assert open_model(str(gguf_file), "cpu").total_heads == 12


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills so here")
def test_a_conversion_that_is_killed_is_never_read_and_is_tidied_up(gguf_file, repo, models):
    with start(repo, str(gguf_file)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "converting" in line and "starting" not in line:
                process.kill()
                break
    assert [name for name in own(models) if not name.startswith(".")] == []
    deadline = time.monotonic() + 30
    while (left := [*models.glob(".gguf-*")]) and time.monotonic() < deadline:
        before = sorted(path.name for folder in left for path in folder.rglob("*"))
        time.sleep(1)  # whoever still writes there has ended
        if before == sorted(path.name for folder in left for path in folder.rglob("*")):
            break
    assert open_model(str(gguf_file), "cpu").total_heads == 12
    assert len(own(models)) == 1 and not [*models.glob(".gguf-*")]


def test_a_file_of_the_hub_is_fetched_converted_and_opens_while_the_hub_is_away(
    hub, gguf_file, tmp_path, models
):
    folder = tmp_path / "repo"
    (folder / "quants").mkdir(parents=True)
    shutil.copy(gguf_file, folder / "tiny.Q8_0.gguf")
    write_gguf(folder / "quants" / "tiny.gguf", "F32", n_parts=2)
    hub.folders["tiny/quants"] = folder
    local = open_model(str(gguf_file), "cpu")
    told = []
    name = "tiny/quants/tiny.Q8_0.gguf"
    model = open_model(name, "cpu", progress=lambda share, what: told.append(what))
    assert (model.name, model.revision) == (name, local.revision)
    assert any(what.startswith("downloading tiny/quants") for what in told)
    split = open_model("tiny/quants/quants/tiny-00001-of-00002.gguf", "cpu")
    assert weights(split)["lm_head.weight"].equal(source().lm_head.weight)
    hub.unavailable = True
    assert open_model(name, "cpu").revision == local.revision


def test_what_the_hub_does_not_have_is_said_with_what_it_has(hub, gguf_file, tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    shutil.copy(gguf_file, folder / "tiny.Q8_0.gguf")
    hub.folders["tiny/quants"] = folder
    assert "has no other.gguf. Its .gguf: tiny.Q8_0.gguf." in refused("tiny/quants/other.gguf")
    assert "name one, as tiny/quants/tiny.Q8_0.gguf." in refused("tiny/quants")
    assert "the hub does not have tiny/none" in refused("tiny/none/other.gguf")
    assert "is not here; on the hub, name owner/name/file.gguf" in refused("missing.gguf")
    hub.unavailable = True
    assert "the hub cannot be reached" in refused("tiny/quants/tiny.Q8_0.gguf")
