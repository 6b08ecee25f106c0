"""The same grid on Ray: two workers, one of them killed, and the table of a serial run."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from headviz.studies.cluster import run_on_ray
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from headviz.studies.study import lay_out, run
from headviz.studies.summary import as_csv, rows_of

pytest_plugins = ["loaded"]


@pytest.fixture
def asked(tmp_path, tiny_model_folder):
    lines = [f"what color has the house {i} in\t['{'red' if i % 2 else 'cat'}']" for i in range(24)]
    (tmp_path / "questions.tsv").write_text("\n".join(lines))
    return Request(
        "qa",
        str(tiny_model_folder("llama")),
        data=str(tmp_path / "questions.tsv"),
        concept="colors",
        ks=("1", "2", "3"),
        alphas=(-1.0, 2.0),
        draws=4,
        selection=8,
        limit=14,
        prompt="{question}",
        max_new_tokens=20,
    )


def actors():
    """Process ids of the actors, which Ray names by their class."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if process.read_bytes().startswith(b"ray::Worker"):
                yield int(process.parent.name)


def kill_a_worker_when(folder, n_cells, killed):
    """End one actor's process as a crashed machine would, once so many cells are there."""
    while len(list(folder.glob("cells/*.jsonl"))) < n_cells:
        time.sleep(0.01)
    pid = next(actors())
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)


@pytest.mark.filterwarnings("ignore")  # Ray's own, on start and on a worker's death
def test_a_killed_worker_does_not_change_the_table(session, asked, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("processes are found by /proc")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    serial = run(session, lay_out(session, asked, tmp_path / "serial"))
    study = lay_out(session, asked, tmp_path / "ray")
    monkeypatch.setattr(
        "headviz.studies.run_cells.row_tokens", lambda model: 300
    )  # many small batches
    killed: list[int] = []
    out = tmp_path / "ray"
    thread = threading.Thread(target=kill_a_worker_when, args=(out, 5, killed), daemon=True)
    thread.start()
    spread = run_on_ray(study, workers=2)
    assert killed, "no worker was killed"
    assert spread.results == serial.results
    assert as_csv(rows_of(spread)) == as_csv(rows_of(serial))


def test_without_ray_one_sentence_says_what_to_install(session, asked, tmp_path):
    try:
        import ray  # noqa: F401
    except ImportError:
        study = lay_out(session, asked, tmp_path / "out")
        with pytest.raises(StudyError, match="pip install ray"):
            run_on_ray(study)
    else:
        pytest.skip("Ray is installed")
