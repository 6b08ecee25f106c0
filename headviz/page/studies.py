"""The panel `studies`: the paper's studies with their controls, run from the page.

A study that is stopped, by a visitor or by the machine, goes on where it was when it is run again:
its finished cells lie in the cache folder, named by what was asked.
"""

import base64
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from headviz.base.errors import Cancelled, OptionError
from headviz.base.head import parse_factor
from headviz.base.progress import Progress
from headviz.base.store import key_of
from headviz.page import html
from headviz.page.errors import told_stream
from headviz.page.shared import MODEL_QUEUE, QUIET, Number, Shared, Updates
from headviz.session.session import Session
from headviz.studies.arms import ARMS
from headviz.studies.finding import Finding, find
from headviz.studies.presets import PRESETS
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from headviz.studies.study import Finished, Study, estimate_seconds, lay_out, run
from headviz.studies.summary import Row, rows_of
from headviz.studies.write import write_outcome

KIND = "study"
_NOT_CLEAR = "Not clear: what follows may be chance. More samples would tell."
_COLUMNS = {
    "arm": "how the heads were chosen",
    "heads": "how many",
    "α": "the factor that they were turned to",
    "measure": "what was measured",
    "÷ unedited": "the measure under the edit divided by the unedited model's",
    "95 % of draws": "where the ratio lies in 95 % of draws of the samples",
}
_HOW = {
    "pursuit": "what they write, over chance",
    "raw": "the same, chance not taken off",
    "logit-lens": "the paper's baseline",
    "attribution": "by the gradient",
    "ablation": "each left out in turn",
    "lift": "by the gradient, less that on shuffled words",
    "learnt": "by a search",
    "random": "drawn from the same layers",
}
"""What an arm does, beside its name, which the results are told by."""
_FIELDS = {
    "--limit": "“Samples”",
    "--k": "“Heads”",
    "--alpha": "“Factors α”",
    "--arms": "“Heads chosen by”",
    "--data": "“Data”",
}
_ABOUT = (
    "The paper's studies, at first on the built-in models: the ranking's heads against heads "
    "chosen in other ways and against random ones, with intervals. A study runs cell by cell; "
    "stopped, it goes on from there when it is run again."
)


@dataclass(frozen=True)
class _Form:
    """The fields."""

    preset: gr.Dropdown
    model: gr.Dropdown
    data: gr.Textbox | None
    """None where a path would be the server's."""
    concept: gr.Textbox
    ks: gr.Textbox
    alphas: gr.Textbox
    limit: gr.Number
    arms: gr.CheckboxGroup

    @property
    def all(self) -> set[Any]:
        """All of them."""
        return {one for field in fields(self) if (one := getattr(self, field.name)) is not None}

    def read(self, data: Mapping[Any, Any]) -> Request:
        """The request that the fields make. Raises HeadvizError for what cannot be read."""
        components = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {
            name: "" if one is None else data[one] for name, one in components.items()
        }
        return request_of(**chosen)


@dataclass(frozen=True)
class _Shown:
    """Where results go."""

    said: gr.HTML
    figures: gr.HTML
    files: gr.File


def offered(session: Session) -> list[str]:
    """Names of the presets whose model the page may load."""
    return [name for name, preset in PRESETS.items() if preset.model in session.model_names()]


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    names = offered(shared.session)
    with gr.Column(elem_id="studies-panel"):
        gr.HTML(Markup("<h2>Studies</h2>{}").format(html.note(_ABOUT)))
        if not names:
            gr.HTML(html.note("No study fits the models of this page."))
            return
        first = PRESETS[names[0]]
        with gr.Row():
            preset = gr.Dropdown(
                names, value=names[0], label="Study", info="what is asked", elem_id="study"
            )
            model = gr.Dropdown(
                [*shared.session.model_names()],
                value=first.model,
                label="Model",
                info="whose heads",
                allow_custom_value=shared.session.allowed is None,
                elem_id="study-model",
            )
            data = None
            if shared.session.allowed is None:
                data = gr.Textbox(
                    "",
                    label="Data",
                    info="a file, a folder, a name on the hub",
                    placeholder="if empty: the built-in model's",
                    elem_id="study-data",
                )
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
            alphas = gr.Textbox("-1", label="Factors α", info="one or more", elem_id="study-alphas")
            limit = gr.Number(
                40,
                label="Samples",
                info="to judge on: more tell more",
                precision=0,
                elem_id="study-limit",
            )
        arms = gr.CheckboxGroup(
            [(_arm_title(name), name) for name in ARMS],
            value=["pursuit", "logit-lens", "random"],
            label="Heads chosen by",
            elem_id="study-arms",
        )
        with gr.Row():
            estimating = gr.Button("Estimate", elem_id="study-estimate")
            running = gr.Button("Run", variant="primary", elem_id="study-run")
            stopping = gr.Button("Stop", elem_id="study-stop")
        said = gr.HTML(elem_id="study-said")
        figures = gr.HTML(elem_id="study-figures")
        files = gr.File(label="Results", visible=False, height=260, elem_id="study-files")
    form = _Form(preset, model, data, concept, ks, alphas, limit, arms)
    shows = _Shown(said, figures, files)
    _wire_estimate(shared, form, estimating, shows)
    _wire_run(shared, form, running, shows)
    stopping.click(shared.work.stopper(KIND), None, None, queue=False, api_visibility="private")

    def usual(name: str) -> Updates:
        found = PRESETS[name]
        return {
            model: found.model,
            concept: found.concept,
            ks: ",".join(found.ks),
            alphas: ",".join(f"{alpha:g}" for alpha in found.alphas),
        }

    preset.change(usual, preset, [model, concept, ks, alphas], **QUIET)


def _wire_estimate(shared: Shared, form: _Form, button: gr.Button, shows: _Shown) -> None:
    def estimate(data: Mapping[Any, Any], visitor: gr.Request) -> Iterator[Updates]:
        request = form.read(data)

        def step(report: Progress) -> str:
            study = laid_out(shared.session, request, report)
            seconds = estimate_seconds(shared.session, study)
            return (
                f"{len(study.cells)} cells, {len(study.pending)} of them left: about "
                f"{seconds:.0f} s. What was timed is kept."
            )

        found = yield from _followed(shared, visitor, step, "Estimating was stopped.", shows)
        yield {shows.said: html.note(found)}

    button.click(
        told_stream(shows.said, estimate),
        form.all,
        [shows.said],
        api_visibility="private",
        show_progress="hidden",
        **MODEL_QUEUE,
    )


def _wire_run(shared: Shared, form: _Form, button: gr.Button, shows: _Shown) -> None:
    def start(data: Mapping[Any, Any], visitor: gr.Request) -> Iterator[Updates]:
        request = form.read(data)

        def step(report: Progress) -> Updates:
            study = laid_out(shared.session, request, report)
            try:
                finished = run(shared.session, study, report)
            except Cancelled:
                left = len(study.pending)
                raise Cancelled(
                    f"The study was stopped: {len(study.cells) - left} of {len(study.cells)} cells "
                    "are done and kept. Run goes on from there."
                ) from None
            return outcome(finished, shows)

        yield (yield from _followed(shared, visitor, step, "The study was stopped.", shows))

    button.click(
        told_stream(shows.said, start),
        form.all,
        [shows.said, shows.figures, shows.files],
        api_visibility="private",
        show_progress="hidden",
        **MODEL_QUEUE,
    )


def _followed(
    shared: Shared,
    visitor: gr.Request,
    step: Callable[[Progress], Any],
    stopped: str,
    shows: _Shown,
) -> Generator[Updates, None, Any]:
    """Run the step, telling how far it is; returns its result."""
    steps = shared.work.watched(visitor, KIND, step, stopped)
    while True:
        try:
            status = next(steps)
        except StopIteration as ended:
            return ended.value
        except (OptionError, StudyError) as error:
            raise OptionError(in_words(str(error))) from error
        yield {shows.said: html.progress(status)}


def in_words(text: str) -> str:
    """A sentence of a study in which the command line's options are the panel's fields."""
    for option, field in _FIELDS.items():
        text = re.sub(rf"(?<![\w-]){option}(?![\w-])", field, text)
    return text


def request_of(
    preset: str,
    model: str,
    data: str,
    concept: str,
    ks: str,
    alphas: str,
    limit: Number | None,
    arms: Sequence[str],
) -> Request:
    """The request that the panel's fields make. Raises HeadvizError for what cannot be read."""
    if not arms or not limit:
        raise OptionError("Tick one way of choosing heads or more, and say how many samples.")
    return replace(
        PRESETS[preset],
        model=model.strip(),
        data=data.strip(),
        concept=concept.strip(),
        ks=_parts(ks),
        alphas=tuple(parse_factor(part) for part in _parts(alphas)),
        limit=int(limit),
        # The page keeps the order in which boxes were ticked; the first arm is what random matches.
        arms=tuple(arm for arm in ARMS if arm in arms),
    )


def laid_out(session: Session, request: Request, progress: Progress) -> Study:
    """The study, begun or found in the cache folder."""
    key = key_of(kind="study", **request.as_dict())
    folder = session.store.folder.parent / "studies" / key
    return lay_out(session, request, folder, progress)


def outcome(finished: Finished, shows: _Shown) -> Updates:
    """Finding, figures with the table, and the files to download."""
    rows, finding = rows_of(finished), find(finished)
    names = write_outcome(finished, rows, finding)
    folder = finished.study.folder.path
    figures = html.joined(
        _figure(folder / name, finding.text) for name in names if name.endswith(".svg")
    )
    # The page hands out files of a temporary folder only, wherever the cache folder is.
    apart = tempfile.mkdtemp(prefix="headviz-study-")
    paths = [str(shutil.copy(folder / name, apart)) for name in names]
    return {
        shows.said: said(finding),
        shows.figures: Markup('<div class="hv-studies">{}</div>{}').format(
            figures, html.table(_COLUMNS, map(_cells, rows), "hv-answers-table")
        ),
        shows.files: gr.update(value=paths, visible=True),
    }


def said(finding: Finding) -> Markup:
    """The conclusion, after what limits it."""
    limits = "" if finding.clear else html.warning(_NOT_CLEAR)
    if finding.disagree:
        others = " and ".join(finding.disagree)
        limits = Markup(limits) + html.warning(f"Heads chosen by {others} do as much or more.")
    return Markup('{}<p role="status"><b>{}</b></p>').format(limits, finding.text)


def _figure(file: Path, about: str) -> Markup:
    """A picture of its own: inlined, the drawings of one page would share their inner names."""
    sent = base64.b64encode(file.read_bytes()).decode()
    return Markup(
        '<figure><img src="data:image/svg+xml;base64,{}" alt="{}: {} The table holds its numbers.">'
        "</figure>"
    ).format(sent, file.stem, about)


def _cells(row: Row) -> Sequence[str]:
    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
    interval = "" if row.ratio is None else f"{row.low:.2f} to {row.high:.2f}"
    return (row.arm, str(row.k), f"{row.alpha:g}", f"{row.measure} {row.part}", ratio, interval)


def _arm_title(name: str) -> str:
    return f"{name}: {_HOW[name]}" if name in _HOW else name


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise OptionError("Give one number of heads and one factor or more.")
    return parts
