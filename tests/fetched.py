"""A known model itself, as its package brings it: fetched once for a machine, not for a run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from conftest import USUAL_CACHE

from headviz.session.session import Session

PATIENCE = 240  # seconds


@cache
def reason_to_skip(name: str, repo: str) -> str:
    """Fetch it into the usual cache; nothing where it is there, else why not."""
    environment = {
        **os.environ,  # with the usual cache
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",  # the hub's weights are others
        "PYTHONPATH": repo,
    }
    command = [sys.executable, "-m", "headviz", "get", name]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{name} did not come within {PATIENCE} s"
    return done.stderr.strip() if done.returncode else ""


@contextmanager
def session_with(name: str, repo: str) -> Iterator[Session]:
    """A session over the usual cache's models, and results of its own; skips where it is not."""
    session = Session(device="cpu")  # its results are kept in the cache of this run
    with pytest.MonkeyPatch.context() as patched:
        if USUAL_CACHE is None:
            patched.delenv("HEADVIZ_CACHE")
        else:
            patched.setenv("HEADVIZ_CACHE", USUAL_CACHE)
        if reason := reason_to_skip(name, repo):
            pytest.skip(reason)
        yield session
