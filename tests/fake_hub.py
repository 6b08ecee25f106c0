"""The Hugging Face hub as its client sees it, on 127.0.0.1: listings, files, refusals, a slow line.

It answers as the hub does (status, X-Error-Code, ETag, ranges), and what it refuses it quotes the
caller's token in, so that a test can see whether anybody repeats it. A test file takes the fixtures
with `pytest_plugins = ["fake_hub"]`.
"""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from headviz.base.errors import Cancelled

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAD = 25 * 2**20  # bytes beside the tiny weights, so that a download has a middle
STALLS_AT = 12 * 2**20  # bytes; the hub's client writes what it gets every 10 MiB


class FakeHub(ThreadingHTTPServer):
    """Repositories by name: a folder, and what is peculiar to each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.parameters: dict[str, dict[str, int]] = {}
        self.stall = threading.Event()
        """While set, large files stop coming after STALLS_AT bytes, until `go_on`."""
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.asked: list[tuple[str, str, str]] = []
        """Path, range and authorization of every request for a file."""
        self.unavailable = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running() -> Iterator[FakeHub]:
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield hub
    hub.go_on.set()
    hub.shutdown()
    hub.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/") and not path.startswith(("/api/models/", "/api/datasets/")):
            return self.refuse(404, "", "the client asks for other things as well")
        if self.server.unavailable:
            return self.refuse(503, "", "down")
        if match := re.fullmatch(r"/api/models/(\w+/[\w-]+)(/revision/\w+|/tree/\w+)?", path):
            return self.listing(match[1], "/tree/" in path)
        if match := re.fullmatch(r"/api/(datasets/\w+/[\w-]+)(/revision/\w+|/tree/\w+)?", path):
            return self.listing(match[1], "/tree/" in path)
        match = re.fullmatch(r"/((?:datasets/)?\w+/[\w-]+)/resolve/\w+/(.+)", path)
        assert match, path
        self.file(match[1], match[2])

    def listing(self, name: str, as_tree: bool) -> None:
        folder = self.server.folders.get(name)
        if folder is None:
            return self.refuse(401, "RepoNotFound", "Repository not found")
        below = sorted(file for file in folder.rglob("*") if file.is_file())
        files = {file.relative_to(folder).as_posix(): file.stat().st_size for file in below}
        if as_tree:
            found = [
                {"type": "file", "path": path, "size": size, "oid": etag(path)}
                for path, size in files.items()
            ]
            return self.reply(json.dumps(found).encode())
        info = {
            "id": name.removeprefix("datasets/"),
            "sha": COMMIT,
            "private": False,
            "gated": name in self.server.gated,
        }
        info["siblings"] = [{"rfilename": path, "size": size} for path, size in files.items()]
        if name in self.server.parameters:
            counted = self.server.parameters[name]
            info["safetensors"] = {"parameters": counted, "total": sum(counted.values())}
        self.reply(json.dumps(info).encode())

    def file(self, name: str, path: str) -> None:
        given = self.headers.get("Range", "")
        self.server.asked.append((path, given, self.headers.get("Authorization", "")))
        if name in self.server.gated:
            status = 403 if "Authorization" in self.headers else 401
            return self.refuse(status, "GatedRepo", f"Access to model {name} is restricted.")
        file = self.server.folders[name] / path
        if not file.is_file():
            return self.refuse(404, "EntryNotFound", "Entry not found")
        content = file.read_bytes()
        first = int(given.removeprefix("bytes=").partition("-")[0]) if given else 0
        self.reply(content[first:], {"ETag": f'"{etag(path)}"', "X-Repo-Commit": COMMIT}, first)

    def refuse(self, status: int, code: str, message: str) -> None:
        quoted = f"{message} You sent {self.headers.get('Authorization', 'no token')}."
        headers = {"X-Error-Message": quoted, **({"X-Error-Code": code} if code else {})}
        self.reply(quoted.encode(), headers, status=status)

    def reply(
        self, body: bytes, headers: dict[str, str] | None = None, first: int = 0, status: int = 0
    ) -> None:
        self.send_response(status or (206 if first else 200))
        whole = first + len(body)
        ranged = {"Content-Range": f"bytes {first}-{whole - 1}/{whole}"} if first else {}
        for key, value in {**(headers or {}), **ranged}.items():
            self.send_header(key, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.stall.is_set() and first + len(body) > STALLS_AT:
            self.wfile.write(body[:STALLS_AT])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.go_on.wait(60)
            body = body[STALLS_AT:]
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


def stopping(told: list[tuple[float, str]]) -> Callable[[float, str], None]:
    """A Progress that notes what it is told and stops a download past three tenths."""

    def stop(share: float, what: str) -> None:
        told.append((share, what))
        if what.startswith("downloading") and share > 0.3:
            raise Cancelled("enough")

    return stop


def etag(path: str) -> str:
    return sha1(path.encode()).hexdigest()


@pytest.fixture
def hub(monkeypatch, tmp_path, tiny_model_folder):
    """The hub, with the tiny Llama as tiny/llama, and a client that knows no other."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        hosts = constants.HF_URL_HOSTS | {"127.0.0.1"}
        monkeypatch.setattr(constants, "HF_URL_HOSTS", hosts)
        server.folders["tiny/llama"] = tiny_model_folder("llama")
        yield server


@pytest.fixture
def heavy(hub, tmp_path, tiny_model_folder):
    """tiny/heavy: the same with a weight that no model has, 25 MiB of it; its line stalls."""
    folder = Path(shutil.copytree(tiny_model_folder("llama"), tmp_path / "heavy"))
    weights = load_file(folder / "model.safetensors")
    weights["padding"] = torch.zeros(PAD // 4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    hub.folders["tiny/heavy"] = folder
    hub.stall.set()
    return folder
