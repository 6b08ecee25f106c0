"""Where what was computed is kept: where somebody says, beside the program, or with the user."""

import sys
from pathlib import Path

import pytest

from headviz.base import cache_folder as module
from headviz.base.cache_folder import cache_folder
from headviz.base.store import Store


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository that this headviz runs from, for a user whose home is `tmp_path/home`."""
    for name in ("HEADVIZ_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    return tmp_path


def test_a_named_folder_wins(checkout, monkeypatch):
    (checkout / "cache").mkdir()
    monkeypatch.setenv("HEADVIZ_CACHE", "~/mine")
    assert cache_folder() == checkout / "home" / "mine"
    assert Store().folder == cache_folder() / "activations"


def test_a_checkout_keeps_its_own_whether_the_folder_is_there_or_was_emptied_away(checkout):
    assert cache_folder() == checkout / "cache"
    (checkout / "cache").mkdir()
    assert cache_folder() == checkout / "cache"


def test_a_checkout_that_cannot_be_written_leaves_it_to_the_user(checkout, monkeypatch):
    # Not by the folder's mode: it stops no administrator, and tests are run as one.
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == checkout / "home" / ".cache" / "headviz"


@pytest.mark.parametrize(
    ("platform", "variable", "named", "expected"),
    [
        ("linux", "", "", "home/.cache/headviz"),
        ("linux", "XDG_CACHE_HOME", "{}/xdg", "xdg/headviz"),
        ("linux", "XDG_CACHE_HOME", "relative", "home/.cache/headviz"),
        ("darwin", "", "", "home/Library/Caches/headviz"),
        ("win32", "LOCALAPPDATA", "{}/local", "local/headviz"),
        ("win32", "", "", "home/AppData/Local/headviz"),
    ],
)
def test_every_system_s_rule_is_followed(
    checkout, monkeypatch, platform, variable, named, expected
):
    monkeypatch.setattr(module, "CHECKOUT", None)
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, named.format(checkout))
    assert cache_folder() == checkout / expected
