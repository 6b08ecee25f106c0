"""The first start of the page: the model that it opens on is fetched, once.

Says so, can be stopped, and goes on without the model where it does not come. Knows no page.
"""

import sys

from huggingface_hub import constants

from headviz.base.errors import HeadvizError
from headviz.cli.console import Console
from headviz.models.known import DEFAULT, known_models
from headviz.models.memory import size_text
from headviz.session.open_model import fetch_model


def bring_default() -> None:
    """Fetch the default model unless it is here, with a sentence on stderr where it does not come.

    Ctrl-C goes on without it. Without a network that takes seconds, behind one that swallows all
    at most a minute; with HF_HUB_OFFLINE nothing is asked.
    """
    default = known_models().get(DEFAULT)
    if default is None or default.is_here:
        return
    without = f"The page opens without {default.title}"
    later = f"{without}; `python -m headviz get {DEFAULT}` fetches it."
    if constants.HF_HUB_OFFLINE:
        _say(f"HF_HUB_OFFLINE is set. {later}")
        return
    _say(
        f"fetching {default.title}, once: {size_text(default.n_bytes)}, then a minute to convert "
        "it. Ctrl-C goes on without it."
    )
    console = Console()
    try:
        fetch_model(DEFAULT, progress=console)
        console.clear()
    except KeyboardInterrupt:
        console.clear()
        _say(f"stopped. {later}")
    except HeadvizError as error:
        console.clear()
        _say(f"{error} {without}.")


def _say(sentence: str) -> None:
    print(f"headviz: {sentence}", file=sys.stderr, flush=True)
