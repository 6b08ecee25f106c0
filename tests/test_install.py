"""A wheel is all of headviz: run from an empty folder, with no repository near."""

import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from headviz.base.assets import built_in_models

pytestmark = pytest.mark.skipif(
    "tiny-lm" not in built_in_models(), reason="tiny-lm is not trained yet"
)
SOURCES = ("pyproject.toml", "setup.py", "requirements.txt", "LICENSE", "README.md")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@pytest.fixture(scope="module")
def source(repo, tmp_path_factory) -> Path:
    """The files that the wheel is built from, where building may leave others beside them."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(repo / name, folder)
    for name in ("headviz", "assets"):
        shutil.copytree(repo / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder it is installed in, which nobody may write."""
    folder = tmp_path_factory.mktemp("site")
    done(*PIP, "install", "--no-deps", "--no-index", "--target", folder, wheel)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


@pytest.fixture
def elsewhere(installed, tmp_path) -> dict[str, str]:
    """The environment of somebody who installed headviz and has a home; `tmp_path` is empty."""
    env = {name: value for name, value in os.environ.items() if name != "HEADVIZ_CACHE"}
    env |= {"PYTHONPATH": str(installed), "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    return env | {"XDG_CACHE_HOME": str(tmp_path / "kept")}


def done(*command, env=None, cwd=None) -> str:
    """What the command prints; it must have ended well."""
    run = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_holds_every_file_of_the_package_and_of_assets_and_nothing_else(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {f"headviz/{name}" for name in files_of(source / "headviz")}
    assert held == package | {f"headviz/assets/{name}" for name in files_of(source / "assets")}


def test_an_installed_headviz_ranks_and_keeps_what_it_read_in_the_user_s_cache(
    installed, elsewhere, tmp_path
):
    before = files_of(installed)
    program = "import headviz as h; print(h.__file__, *h.rank('tiny-lm', 'colors').top(2))"
    where, *top = done(sys.executable, "-c", program, env=elsewhere, cwd=tmp_path).split()
    assert Path(where).is_relative_to(installed)
    kept = tmp_path / "kept" / "headviz" / "activations"
    read = files_of(kept)
    command = (sys.executable, installed / "bin" / "headviz", "rank", "--concept", "colors")
    printed = done(*command, "--top", "2", env=elsewhere, cwd=tmp_path)
    assert len(top) == 2 and set(top) <= set(printed.split())
    # and the second run found what the first had read
    assert read and files_of(kept) == read
    assert files_of(installed) == before
    assert {name.split("/")[0] for name in files_of(tmp_path)} == {"kept"}


def test_an_installed_headviz_runs_a_study(installed, elsewhere, tmp_path):
    command = ("study", "qa", "--limit", "4", "--selection", "8", "--draws", "2", "--k", "1")
    arms = ("--arms", "pursuit,random", "--max-new-tokens", "3")
    done(sys.executable, "-m", "headviz", *command, *arms, env=elsewhere, cwd=tmp_path)
    assert (tmp_path / "study-qa" / "report.md").is_file()


def test_an_installed_headviz_opens_its_page(installed, elsewhere, tmp_path, free_port):
    command = [sys.executable, "-m", "headviz", "page", "--port", str(free_port)]
    with subprocess.Popen(
        command, env=elsewhere, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as page:
        try:
            said = answer_of(f"http://127.0.0.1:{free_port}", page)
        finally:
            page.terminate()
    assert "hv-header" in said  # the header, and with it the page's own script


def answer_of(address: str, server: subprocess.Popen) -> str:
    """What the address answers, as soon as it does."""
    while server.poll() is None:
        try:
            with urlopen(address, timeout=10) as answer:
                return answer.read().decode()
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(server.stdout.read().decode())
