"""Where the models, texts and concepts that ship with headviz are.

In a checkout they lie beside the package, where people add their own; an installed headviz has them
inside it. Knows names and folders; reads no file in them.
"""

from pathlib import Path

from headviz.base.errors import ModelError

_PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT: Path | None = None if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent
"""The repository that this headviz runs from, None where it is installed."""
ASSETS = (CHECKOUT or _PACKAGE) / "assets"
TRAINED_HERE = ("tiny-lm", "tiny-vlm", "tiny-clip", "smol-vlm")
"""Models that this repository trains; without their weights they are not built in."""
DEFAULT_MODEL = "tiny-lm"
"""The model where none is named."""


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
