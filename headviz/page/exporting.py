"""A row of buttons that saves what a panel shows, and the box with the Python that gives it.

The server makes the content, the browser makes the file: nothing is left on the server's disk.
Pictures of figures are drawn by the browser, with the plotly.js that plotly itself ships.
"""

import base64
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from headviz.base.errors import OptionError
from headviz.page.html import joined
from headviz.session.save import FORMATS, to_bytes

FIGURES = ("png", "svg", "html")
PLOTLY = Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js"  # type: ignore
"""Found without an import, which would cost the start of the page half a second."""
MAX_BYTES = 32 * 2**20
"""Of one file; larger ones are for the command line."""
_TITLES = {"safetensors": "safetensors", "recipe": "Recipe", "link": "Link"}
_HINTS = {
    "csv": "the table, for a spreadsheet",
    "json": "the table and all that it depends on",
    "safetensors": "all scores as arrays",
    "activations": "every head's signal on every sample, as safetensors",
    "png": "the figure as a picture",
    "svg": "the figure as a drawing that can be enlarged",
    "html": "the figure to point at, without a network",
    "recipe": "the edit as a file: load it here, on the command line or in Python",
    "link": "an address that opens the page with this edit",
}
Parcel = dict[str, Any]
"""What the browser makes a file of; see export.js."""


def serve_plotly() -> None:
    """Let the browser fetch plotly.js from this server when a figure is first saved."""
    gr.set_static_paths([PLOTLY])


def buttons(row: str, kinds: Sequence[str], label: str) -> Markup:
    """A row of buttons, one for each kind of file."""
    made = joined(
        Markup('<button type="button" data-row="{}" data-kind="{}" title="{}">{}</button>').format(
            row, kind, _HINTS[kind], _TITLES.get(kind, _label(kind))
        )
        for kind in kinds
    )
    return Markup(
        '<div class="hv-export" id="export-{}" role="group" aria-label="Save {}">'
        "<span>{}</span>{}</div>"
    ).format(row, label, label, made)


def _label(kind: str) -> str:
    return kind if kind == "activations" else kind.upper()


def code_box(elem_id: str, codes: dict[str, str]) -> tuple[gr.Code, ...]:
    """A closed box with a program a tab: title -> code."""
    with gr.Accordion("How do I do this in Python?", open=False, elem_id=elem_id):
        if len(codes) == 1:
            return (_code(*codes.values()),)
        boxes = []
        for title, code in codes.items():
            with gr.Tab(title):
                boxes.append(_code(code))
    return tuple(boxes)


def _code(code: str) -> gr.Code:
    return gr.Code(code, language="python", interactive=False, show_label=False, lines=3)


def file_parcel(name: str, content: bytes) -> Parcel:
    """A file with this content. Raises OptionError where it is too large for the page."""
    if len(content) > MAX_BYTES:
        raise OptionError(
            f"{name} has {len(content) / 2**20:.0f} MB, too much for the page. "
            "Save it on the command line or in Python: see docs/api.md."
        )
    return {"name": name, "content": base64.b64encode(content).decode()}


def result_parcel(result: Any, kind: str, *names: str) -> Parcel:
    """A result as a file of this kind, named after these."""
    assert kind in FORMATS[type(result)]
    return file_parcel(file_name(kind, *names), to_bytes(result, kind))


def figure_parcel(figure: Any, kind: str, *names: str) -> Parcel:
    """A figure, which the browser draws."""
    return {
        "name": file_name(kind, *names),
        "figure": figure.to_plotly_json() | {"kind": kind},
        "plotly": f"gradio_api/file={PLOTLY.as_posix()}",
    }


def file_name(kind: str, *names: str) -> str:
    """`headviz-tiny-lm-colors.csv`: what every file system takes."""
    folders = (name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] for name in names)
    parts = [re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] for name in folders]
    return f"{'-'.join(['headviz', *filter(None, parts)])}.{kind}"
