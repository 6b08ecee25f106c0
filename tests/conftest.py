"""What all tests share: no network, few threads, tiny models, real data, a real browser."""

import gc
import os

# Before anything imports transformers or gradio.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Several processes at a time (scripts/test) take a core each, and so do their own threads, which
# torch would else give all cores: those of many threads wait for one another in busy loops.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    # Two that look for a free port at the same moment would find the same one.
    _worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * _worker)

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from find_browser import find_browser
from tiny_models import FEW, make_model

# A test file that takes fixtures from it may also import from it.
pytest.register_assert_rewrite("fake_hub", "paging", "tiny_gguf")

REPO = Path(__file__).resolve().parent.parent
BROWSER_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_BROWSER = "no Chromium was found and none could be installed"

USUAL_CACHE = os.environ.get("HEADVIZ_CACHE")
"""The cache that whoever runs the tests has named, None where that is headviz's own affair."""

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
# The first example of a property loads models and compiles checks: its time says nothing.
hypothesis.settings.register_profile("headviz", deadline=None, derandomize=True)
hypothesis.settings.load_profile("headviz")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """The cache folder of this run: what this machine has fetched before is no test's affair."""
    folder: Path = tmp_path_factory.mktemp("cache")
    os.environ["HEADVIZ_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository's folder."""
    return REPO


@pytest.fixture
def free_port() -> int:
    """A port of this machine's own address that nobody serves on."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; the test skips where there is none."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data of ../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Callable[[str], Path]:
    """`tiny_model_folder("llama")` is the folder of a tiny random model; made once a session."""
    root = tmp_path_factory.mktemp("tiny-models")

    def folder_of(family: str) -> Path:
        folder = root / family
        return folder if folder.is_dir() else make_model(family, folder)

    return folder_of


@pytest.fixture(scope="session", params=FEW)
def family(request) -> str:
    """A few families in turn: a test that asks for it runs once for each."""
    return request.param


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A running Chromium (Playwright's sync API); the test skips where there is none."""
    path = find_browser()
    if path is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
        yield chromium
        chromium.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of the laws write the table of families (tests/family_table.py)."""
    parser.addoption("--write-families", action="store_true", help="write docs/families.md anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the browser, so that `-m "not browser"` needs no marks in the tests."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


def pytest_collection_finish() -> None:
    """What is imported by now stays: no search for garbage, one a model that goes, looks there."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """Say in one line that browser tests skipped, where they did."""
    skipped = terminalreporter.stats.get("skipped", [])
    n_tests = sum(NO_BROWSER in str(report.longrepr) for report in skipped)
    if n_tests:
        tests = "test" if n_tests == 1 else "tests"
        terminalreporter.write_line(
            f"{n_tests} browser {tests} skipped: {NO_BROWSER}.", yellow=True
        )
