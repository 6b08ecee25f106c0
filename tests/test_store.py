"""What is kept on the disk is what was put there, or nothing; where it fails nothing is lost."""

import errno
import json
import multiprocessing
import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from headviz.base.errors import CacheError
from headviz.base.store import Store, key_of
from headviz.session.session import Session

pytest_plugins = ["loaded"]

TENSORS = {"z": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), "n": torch.arange(5)}
NOTES = {"n_positions": 7, "what": "α"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def entries(folder):
    return sorted(path for path in folder.iterdir() if path.suffix == ".safetensors")


def leftovers(folder):
    return [path for path in folder.iterdir() if path.suffix != ".safetensors"]


def test_what_was_put_comes_back(store):
    assert store.get("key") is None
    store.put("key", TENSORS, NOTES)
    tensors, notes = store.get("key")
    assert notes == NOTES
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert not leftovers(store.folder)


def test_strided_half_and_empty_tensors_come_back(store):
    odd = {
        "strided": torch.arange(12.0).view(3, 4).T,
        "half": torch.ones(3).bfloat16(),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
    }
    store.put("key", odd, {})
    tensors, _ = store.get("key")
    for name, tensor in odd.items():
        assert torch.equal(tensors[name], tensor), name


def test_a_second_put_replaces_the_first_and_what_was_read_stays(store):
    store.put("key", {"z": torch.zeros(1000)}, {})
    before, _ = store.get("key")
    store.put("key", {"z": torch.ones(1000)}, {})
    assert store.get("key")[0]["z"].eq(1).all()
    assert before["z"].eq(0).all()


def test_the_key_changes_with_every_part(monkeypatch):
    parts = {"model": "a", "prompt_set": "b", "pooling": "prompt"}
    keys = {key_of(**parts), key_of(**dict(reversed(parts.items())))}
    assert len(keys) == 1
    for name in parts:
        keys.add(key_of(**{**parts, name: "other"}))
    keys.add(key_of(**parts, more=1))
    monkeypatch.setattr("headviz.base.store.FORMAT", 10**6)
    keys.add(key_of(**parts))
    assert len(keys) == 6


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def flip_a_byte_of_the_notes(path):
    path.write_bytes(path.read_bytes().replace(b"n_positions", b"n_positionz"))


DAMAGE = {
    "a flipped byte": flip_a_byte,
    "changed notes": flip_a_byte_of_the_notes,
    "a truncated file": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "a truncated header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "an empty file": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x80garbage" * 100),
    "text": lambda path: path.write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_noticed_removed_and_made_again(tmp_path, llama, texts, damage):
    def read():
        session = Session(Store(tmp_path), device="cpu")
        return session, session.activations(llama.name, texts)

    _, fresh = read()
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    DAMAGE[damage](path)
    assert Store(tmp_path).get(path.stem) is None
    assert not path.exists()
    path.write_bytes(whole)
    DAMAGE[damage](path)
    session, again = read()
    assert torch.equal(again.z, fresh.z)
    assert torch.equal(Store(tmp_path).get(path.stem)[0]["z"], fresh.z)
    assert session.notices == []


def test_a_kept_result_equals_a_fresh_one(tmp_path, llama, texts, monkeypatch):
    fresh = Session(Store(tmp_path), device="cpu").activations(llama.name, texts)
    monkeypatch.setattr("headviz.heads.capture.pool", None)  # nothing may be read again
    kept = Session(Store(tmp_path), device="cpu").activations(llama.name, texts)
    assert torch.equal(kept.z, fresh.z)
    for name in ("texts", "model", "revision", "prompt_set", "pooling", "n_positions"):
        assert getattr(kept, name) == getattr(fresh, name)


def test_beyond_its_size_the_least_recently_used_entries_go(tmp_path):
    Store(tmp_path).put("a", {"z": torch.zeros(250)}, {})
    size = (tmp_path / "a.safetensors").stat().st_size
    store = Store(tmp_path, max_bytes=3 * size)
    for age, key in enumerate("abc"):
        store.put(key, {"z": torch.zeros(250)}, {})
        then = time.time() - 100 + age
        os.utime(tmp_path / f"{key}.safetensors", (then, then))
    assert store.get("a") is not None  # used just now
    store.put("d", {"z": torch.zeros(250)}, {})
    assert [path.stem for path in entries(tmp_path)] == ["a", "c", "d"]


def test_an_entry_larger_than_the_store_is_kept_until_the_next(tmp_path):
    store = Store(tmp_path, max_bytes=10)
    store.put("a", {"z": torch.zeros(250)}, {})
    assert store.get("a") is not None
    time.sleep(0.02)
    store.put("b", {"z": torch.zeros(250)}, {})
    assert [path.stem for path in entries(tmp_path)] == ["b"]


def test_an_entry_dropped_while_it_is_read_is_not_made_an_empty_file(store, monkeypatch):
    store.put("key", TENSORS, NOTES)
    (path,) = entries(store.folder)

    @contextmanager
    def dropped_meanwhile(*given, **named):
        with safe_open(*given, **named) as file:
            yield file
        path.unlink()

    monkeypatch.setattr("headviz.base.store.safe_open", dropped_meanwhile)
    assert store.get("key") is not None
    assert not path.exists()


# A disk that does not take it.


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["pathlib.Path.mkdir", "pathlib.Path.replace"])
def test_where_the_system_refuses_the_result_is_not_lost(session, llama, texts, monkeypatch, call):
    with monkeypatch.context() as patched:
        patched.setattr(call, no_space)
        activations = session.activations(llama.name, texts)
    assert activations.z.isfinite().all()
    (notice,) = session.notices
    assert notice.startswith("The result was not kept in the cache (No space left on device)")
    assert "\n" not in notice
    if session.store.folder.exists():
        assert not list(session.store.folder.iterdir())


@pytest.fixture
def mounted(tmp_path):
    """`mounted(options)` is a small disk of its own; the test skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "headviz-test", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip("only root may mount a small disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """The files that now take up the disk; none where it takes none."""
    with suppress(OSError), (folder / "other").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return list(folder.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=16k", "No space left on device"), ("size=16k,ro", "Read-only file system")],
    ids=["full", "read-only"],
)
def test_on_a_real_disk_that_takes_no_more_the_result_is_not_lost(
    mounted, llama, texts, options, reason
):
    folder = mounted(options)
    before = fill(folder)
    session = Session(Store(folder), device="cpu")
    activations = session.activations(llama.name, texts)
    assert activations.n_samples == len(texts)
    (notice,) = session.notices
    assert reason in notice
    assert list(folder.iterdir()) == before, "no half-written file stays"


def test_a_cache_folder_that_is_a_file_is_named_and_the_result_is_not_lost(tmp_path, llama, texts):
    (tmp_path / "file").write_text("in the way")
    session = Session(Store(tmp_path / "file" / "cache"), device="cpu")
    assert session.activations(llama.name, texts).n_samples == len(texts)
    (notice,) = session.notices
    assert "Not a directory" in notice or "File exists" in notice


def test_what_cannot_be_kept_is_said_in_one_sentence(store, monkeypatch):
    monkeypatch.setattr("pathlib.Path.open", no_space)
    with pytest.raises(CacheError, match="Free some space in the cache folder"):
        store.put("key", TENSORS, NOTES)


# Two processes.


def write_and_read(folder: Path, number: int, ready, answers) -> None:
    """Puts and gets the same few keys as another process does; reports what it saw wrong."""
    store = Store(folder)
    wrong = []
    ready.wait(60)
    for turn in range(50):
        key = f"key{turn % 3}"
        value = float(turn % 3)
        store.put(key, {"z": torch.full((20_000,), value)}, {"by": number})
        found = store.get(key)
        if found is None:
            wrong.append(f"turn {turn}: nothing or a broken entry")
        elif not found[0]["z"].eq(value).all():
            wrong.append(f"turn {turn}: another's content")
    answers.put(json.dumps(wrong))


def test_two_processes_that_write_and_read_the_same_keys_see_whole_entries(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready, answers = spawn.Barrier(2), spawn.Queue()
    workers = [
        spawn.Process(target=write_and_read, args=(tmp_path, number, ready, answers))
        for number in range(2)
    ]
    for worker in workers:
        worker.start()
    seen = [json.loads(answers.get(timeout=120)) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert seen == [[], []]
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(entries(tmp_path)) == 3
    assert not leftovers(tmp_path)


def test_what_a_killed_process_left_is_removed_and_a_running_one_s_is_not(store):
    store.put("key", TENSORS, NOTES)
    dead, alive = store.folder / ".writing-dead", store.folder / ".writing-alive"
    for path in (dead, alive):
        path.write_bytes(b"half")
    long_ago = time.time() - 7200
    os.utime(dead, (long_ago, long_ago))
    store.put("other", TENSORS, NOTES)
    assert leftovers(store.folder) == [alive]
