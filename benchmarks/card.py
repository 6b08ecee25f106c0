"""Measures what edits do to a model that ships results, and writes its card: assets/<model>/."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.card_text import render
from benchmarks.turning import CONCEPTS, Say, measure
from headviz.base.errors import ModelError
from headviz.base.write_whole import write_whole
from headviz.session.session import Session
from headviz.session.shipped import load_shipped, shipped_file


def write_card(session: Session, name: str, quick: bool, say: Say) -> tuple[dict[str, Any], str]:
    """card.json and README.md beside what ships; `quick` takes one concept and writes nothing.

    A run that was cut short is gone on with. Raises ModelError where nothing ships.
    """
    shipped = load_shipped(name)
    if shipped is None:
        raise ModelError(
            f"Nothing ships with {name!r}. Run `python -m headviz ship --model {name}` first."
        )
    folder = shipped_file(name).parent
    with TemporaryDirectory() as scratch:
        out = (Path(scratch) if quick else folder) / "card.json"
        results = measure(session, name, out, say, CONCEPTS[:1] if quick else CONCEPTS)
    text = render(results, shipped.left_out)
    if not quick:
        write_whole(folder / "README.md", text.encode())
    return json.loads(json.dumps(results)), text
