"""The panel `studies`: the paper's studies with their controls, run from the page.

A study that is stopped, by a visitor or by the machine, goes on where it was when it is run again:
its finished cells lie in the cache folder, named by what was asked.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from headviz.base.errors import Cancelled, OptionError
from headviz.base.head import parse_factor
from headviz.base.store import key_of
from headviz.page.errors import shown
from headviz.page.shared import MODEL_QUEUE, QUIET, Number, Shared
from headviz.session.session import Session
from headviz.studies.arms import ARMS
from headviz.studies.finding import find
from headviz.studies.presets import PRESETS
from headviz.studies.raster import left_out
from headviz.studies.request import Request
from headviz.studies.study import Finished, Study, estimate_seconds, lay_out, run
from headviz.studies.summary import Row, rows_of
from headviz.studies.write import write_outcome

TITLE = "Studies"
_ABOUT = (
    "The paper's studies on the built-in models: the ranking's heads against heads chosen in other "
    "ways and against random ones, with intervals. A study runs cell by cell; stopped, it goes on "
    "from there when it is run again."
)


class _Form(NamedTuple):
    """The fields, in the order of `request_of`."""

    preset: gr.Dropdown
    concept: gr.Textbox
    ks: gr.Textbox
    alphas: gr.Textbox
    limit: gr.Number
    arms: gr.CheckboxGroup


def offered(session: Session) -> list[str]:
    """Names of the presets whose model the page may load."""
    return [name for name, preset in PRESETS.items() if preset.model in session.model_names()]


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    names = offered(shared.session)
    with gr.Accordion("Run one of the paper's studies", open=False, elem_id="studies"):
        gr.Markdown(_ABOUT, elem_classes="hv-note")
        if not names:
            gr.Markdown("No study fits the models of this page.", elem_classes="hv-note")
            return
        first = PRESETS[names[0]]
        with gr.Row():
            preset = gr.Dropdown(names, value=names[0], label="Study", elem_id="study")
            concept = gr.Textbox(
                first.concept,
                label="Concept",
                info="empty: the class names",
                elem_id="study-concept",
            )
            ks = gr.Textbox(
                ",".join(first.ks),
                label="Heads",
                info="counts, or percent",
                elem_id="study-ks",
            )
            alphas = gr.Textbox("-1", label="Factors α", elem_id="study-alphas")
            limit = gr.Number(40, label="Samples to judge on", precision=0, elem_id="study-limit")
        arms = gr.CheckboxGroup(
            list(ARMS),
            value=["pursuit", "logit-lens", "random"],
            label="Heads chosen by",
            elem_id="study-arms",
        )
        with gr.Row():
            estimating = gr.Button("Estimate", elem_id="study-estimate")
            running = gr.Button("Run", variant="primary", elem_id="study-run")
            stopping = gr.Button("Stop", elem_id="study-stop")
        said = gr.Markdown(elem_id="study-said")
        figures = gr.HTML(elem_id="study-figures")
        files = gr.File(label="Results", visible=False, height=260, elem_id="study-files")
    _wire(
        shared,
        _Form(preset, concept, ks, alphas, limit, arms),
        (estimating, running, stopping),
        (said, figures, files),
    )


def _wire(
    shared: Shared,
    asked: _Form,
    buttons: tuple[gr.Button, gr.Button, gr.Button],
    shows: tuple[gr.Markdown, gr.HTML, gr.File],
) -> None:
    estimating, running, stopping = buttons

    @shown
    def estimate(
        request: gr.Request,
        *values: Any,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> str:
        study = laid_out(shared, request, values, bar)
        seconds = estimate_seconds(shared.session, study)
        return (
            f"{len(study.cells)} cells, {len(study.pending)} of them left: about {seconds:.0f} s. "
            "What was timed is kept."
        )

    @shown
    def start(
        request: gr.Request,
        *values: Any,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        report = shared.runs.progress(request, bar)
        study = laid_out(shared, request, values, bar)
        try:
            finished = run(shared.session, study, report)
        except Cancelled:
            left = len(study.pending)
            raise Cancelled(
                f"The study was stopped: {len(study.cells) - left} of {len(study.cells)} cells are "
                "done and kept. Run goes on from there."
            ) from None
        return outcome(finished)

    estimating.click(estimate, list(asked), shows[0], api_visibility="private", **MODEL_QUEUE)
    running.click(start, list(asked), list(shows), api_visibility="private", **MODEL_QUEUE)
    stopping.click(shared.runs.stop, None, None, queue=False, api_visibility="private")
    asked.preset.change(usual, asked.preset, [asked.concept, asked.ks, asked.alphas], **QUIET)


def usual(name: str) -> tuple[str, str, str]:
    """The preset's own concept, numbers of heads and factors."""
    found = PRESETS[name]
    return found.concept, ",".join(found.ks), ",".join(f"{alpha:g}" for alpha in found.alphas)


def request_of(
    name: str, concept: str, ks: str, alphas: str, limit: Number | None, arms: Sequence[str]
) -> Request:
    """The request that the panel's fields make. Raises HeadvizError for what cannot be read."""
    if not arms or not limit:
        raise OptionError("Tick one way of choosing heads or more, and say how many samples.")
    return replace(
        PRESETS[name],
        concept=concept.strip(),
        ks=_parts(ks),
        alphas=tuple(parse_factor(part) for part in _parts(alphas)),
        limit=int(limit),
        # The page keeps the order in which boxes were ticked; the first arm is what random matches.
        arms=tuple(arm for arm in ARMS if arm in arms),
    )


def laid_out(shared: Shared, visitor: gr.Request, values: Sequence[Any], bar: gr.Progress) -> Study:
    """The study, begun or found in the cache folder."""
    request = request_of(*values)
    key = key_of(kind="study", **request.as_dict())
    folder = shared.session.store.folder.parent / "studies" / key
    return lay_out(shared.session, request, folder, shared.runs.progress(visitor, bar))


def outcome(finished: Finished) -> tuple[Any, ...]:
    """Finding, figures with the table, and the files to download."""
    rows, finding = rows_of(finished), find(finished)
    names = write_outcome(finished, rows, finding)
    folder, missing = finished.study.folder.path, left_out()
    drawn = [(folder / name).read_text("utf-8") for name in names if name.endswith(".svg")]
    figures = "".join(f"<figure>{svg}</figure>" for svg in drawn)
    # The page hands out files of a temporary folder only, wherever the cache folder is.
    apart = tempfile.mkdtemp(prefix="headviz-study-")
    paths = [str(shutil.copy(folder / name, apart)) for name in names]
    return (
        f"**{escape(finding.text)}**",
        f'<div class="hv-studies">{figures}</div>'
        + "".join(_lines(rows))
        + (f"<p class='hv-note'>{escape(missing)}</p>" if missing else ""),
        gr.update(value=paths, visible=True),
    )


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table of all ratios."""
    head = ("arm", "heads", "α", "measure", "÷ unedited", "95 % of draws")
    yield "<table class='hv-answers'><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>"
    for row in rows:
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
        interval = "" if row.ratio is None else f"{row.low:.2f} to {row.high:.2f}"
        cells = (row.arm, row.k, f"{row.alpha:g}", f"{row.measure} {row.part}", ratio, interval)
        yield "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise OptionError("Give one number of heads and one factor or more.")
    return parts
