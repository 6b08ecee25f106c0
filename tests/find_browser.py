"""Finds a Chromium that the tests can drive: the system's, else the one Playwright installed.

`scripts/test` runs this file (status 1: there is none), tests/conftest.py imports it: one answer.
"""

import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Path of the first Chromium that starts, or None."""
    return next((path for path in _candidates() if _starts(path)), None)


def _candidates():
    yield from filter(None, map(shutil.which, NAMES))
    # Playwright's answer is read in a process of its own: its event loop would stay in this one.
    ask = (
        "from playwright.sync_api import sync_playwright as s\n"
        "with s() as p: print(p.chromium.executable_path)"
    )
    answer = _run(sys.executable, "-c", ask)
    if answer is not None and Path(answer).is_file():
        yield answer


def _starts(path: str) -> bool:
    # Ubuntu's chromium-browser may be a stub that only asks for a snap.
    return _run(path, "--version") is not None


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    found = find_browser()
    print(found or "no Chromium found")
    sys.exit(found is None)
