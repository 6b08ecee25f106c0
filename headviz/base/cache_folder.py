"""Where what was computed is kept. Knows the folder; nothing of what lies in it."""

import os
import sys
import tempfile
from pathlib import Path

from headviz.base.assets import CHECKOUT


def cache_folder() -> Path:
    """HEADVIZ_CACHE where it is set, else cache/ of the checkout, else the user's cache folder.

    A checkout that cannot be written, and an installed headviz, have only the user's. The folder
    need not be there yet.
    """
    if named := os.environ.get("HEADVIZ_CACHE"):
        return Path(named).expanduser()
    if CHECKOUT is not None:
        own = CHECKOUT / "cache"
        if os.access(own if own.is_dir() else CHECKOUT, os.W_OK):
            return own
    return user_cache_folder()


def user_cache_folder() -> Path:
    """Headviz's folder among the caches of this user, as the system wants it named."""
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a name
        return Path(tempfile.gettempdir()) / "headviz"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "headviz"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "headviz"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one is to be ignored
    return (named if named.is_absolute() else home / ".cache") / "headviz"
