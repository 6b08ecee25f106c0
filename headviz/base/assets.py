"""Where the models, texts and concepts that ship with headviz are, and where the cache is.

Knows names and folders; reads no file in them.
"""

import os
from pathlib import Path

from headviz.base.errors import ModelError

ASSETS = Path(__file__).resolve().parents[2] / "assets"
TRAINED_HERE = ("tiny-lm", "tiny-vlm", "tiny-clip")
"""Models that this repository trains; without their weights they are not built in."""


def cache_folder() -> Path:
    """Where results and converted models are kept; HEADVIZ_CACHE names another place."""
    return Path(os.environ.get("HEADVIZ_CACHE") or Path(__file__).resolve().parents[2] / "cache")


def built_in_models() -> dict[str, Path]:
    """Name -> folder of the models that ship in assets/."""
    return {f.parent.name: f.parent for f in sorted(ASSETS.glob("*/config.json"))}


def check_trained(name: str) -> None:
    """Raise ModelError, saying how to make them, where `name` is trained here and has no weights.

    For a name that was found neither among the built-in models nor as a folder.
    """
    if name in TRAINED_HERE:
        raise ModelError(
            f"The weights of {name} are not here yet. Make them with "
            f"`python -m toyworld train {name}`, or name another model."
        )
