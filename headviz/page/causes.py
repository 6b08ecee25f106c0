"""Panel: what every head writes against what the model loses without it, and the table of heads.

Estimated for all heads by one backward pass; then those that matter for the view are really turned,
in the background, and fill the page as they come. The browser draws (causes.js) and says which
heads it looks at.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import gradio as gr
from torch import Tensor

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.base.progress import Progress
from headviz.editing.effect import Effect
from headviz.inputs.prompt_sets import PromptSet, known_prompt_sets
from headviz.page import html
from headviz.page.bench import script
from headviz.page.errors import notice, told_stream
from headviz.page.exporting import FIGURES, Parcel, figure_parcel, file_name, file_parcel
from headviz.page.shared import Number, Scene, Shared, Updates
from headviz.page.view import ModelShown, View, find_ranking, shipped_of
from headviz.page.work import Superseded
from headviz.session import causal
from headviz.session.causal import Causes, heads_that_matter, usual_texts
from headviz.session.rankings import find_way
from headviz.session.session import Session
from headviz.session.tables import effects_table

KIND = "effects"
WRITES = 0.03
"""Over chance, from which on the page says that a head writes the concept."""
NEEDED = 0.05
"""Nats, from which on it says that the model needs the head: its words become 5 % less likely."""
AS_READ = "the texts that the heads were read on"
STOPPED = "Stopped; what was measured stays."
_DIGITS = 5
QUEUE: Any = {"concurrency_id": "effects", "concurrency_limit": 8}
"""Apart from the model's own queue: answers never wait here."""


@dataclass(eq=False)
class Known:
    """What is known of a view's heads so far. One thread fills it while another shows it."""

    estimate: Tensor | None = None
    measured: dict[Head, Effect] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the browser: numbers of five digits, heads by name."""
        rows = None if self.estimate is None else self.estimate.tolist()
        return {
            "estimate": rows and [[_number(value) for value in row] for row in rows],
            "measured": {
                str(head): [_number(value) for value in astuple(effect)]
                for head, effect in list(self.measured.items())
            },
        }


def build(session: Session, scene: Scene) -> tuple[gr.HTML, gr.HTML]:
    """Lay out the panel and the line that tells how far it is."""
    panel = gr.HTML(
        value(session, scene),
        html_template='<div class="hv-causes"></div>',
        js_on_load=script("causes", "measure", "halt"),
        elem_id="causes",
    )
    said = gr.HTML("", elem_id="causes-said", js_on_load="")
    return panel, said


def wire(shared: Shared, said: gr.HTML) -> None:
    """Let the browser ask for heads to be measured, and stop that."""
    panel = shared.parts.causes

    def measure(event: gr.EventData, request: gr.Request, scene: Scene) -> Iterator[Updates]:
        view, chosen = scene.view, str(event.texts)
        if view is None or str(event.key) != key_of(view):
            return  # asked for before another ranking came
        looked_at = [head for name in event.heads if fits(view, head := Head.parse(str(name)))]
        known = kept(shared, view, chosen)

        def step(report: Progress) -> str:
            return fill(shared.causes, view, chosen, looked_at, known, report)

        steps, shown, before = shared.work.watched(request, KIND, step, STOPPED), -1, None
        try:
            while True:
                try:
                    status = next(steps)
                except StopIteration as ended:
                    last = update(view, chosen, known, False)
                    yield {panel: {**last, "told": ended.value}, said: ""}
                    return
                now = len(known.measured) + (known.estimate is not None)
                drawn = {panel: update(view, chosen, known, True)} if now != shown else {}
                if drawn or status != before:
                    yield {said: html.progress(status), **drawn}
                shown, before = now, status
        except Superseded:
            return
        except Exception as error:
            yield {panel: update(view, chosen, known, False, True), said: notice(error)}

    panel.measure(
        told_stream(said, measure),
        [shared.scene],
        [panel, said],
        trigger_mode="multiple",
        api_visibility="private",
        show_progress="hidden",
        **QUEUE,
    )
    panel.halt(shared.work.stopper(KIND), None, None, queue=False, api_visibility="private")


def fill(
    causes: Causes,
    view: View,
    chosen: str,
    looked_at: Iterable[Head],
    known: Known,
    report: Progress,
) -> str:
    """Estimate all heads, then measure those that matter; returns what that was done on.

    Raises PromptError where the texts never say the concept, OptionError for a CLIP model.
    """
    session, name, concept = causes.session, view.model, view.concept
    session.model(name, report)
    texts = texts_of(causes, view, chosen)
    if known.estimate is None:
        known.estimate = causes.estimate(name, concept, texts, report)
    wanted = [*looked_at, *heads_that_matter(find_ranking(session, view), known.estimate)]
    missing = [head for head in dict.fromkeys(wanted) if head not in known.measured]
    for head, effect in causes.effects(name, concept, texts, missing, progress=report):
        known.measured[head] = effect
    return told_on(bool(texts.pictures), chosen, known.measured)


def told_on(pictures: bool, chosen: str, measured: Mapping[Head, Effect]) -> str:
    """What the heads were measured on, in a sentence."""
    words = next((effect.n_positions for effect in measured.values()), 0)
    texts = chosen if chosen == AS_READ else f"the {chosen}"
    kind = "captions of its own" if pictures else f"what the model itself says to {texts}"
    return f"Measured on {kind}: {words} words of the concept."


def texts_of(causes: Causes, view: View, chosen: str) -> PromptSet:
    """What the model answers, so that its own words can be looked at."""
    return causes.prompt_set(view.model, view.prompt_set if chosen == AS_READ else chosen or None)


def kept(shared: Shared, view: View, chosen: str) -> Known:
    """What is known of the view's heads on these texts, whoever asked for it."""
    return shared.known.find_or_make((key_of(view), chosen), lambda: known_of(view, chosen))


def export(shared: Shared, view: View | None, chosen: str, kind: str) -> Parcel:
    """What is known of every head as a file. Raises OptionError where nothing is."""
    known = kept(shared, view, chosen) if view else Known()
    if view is None or known.estimate is None:
        raise OptionError("Nothing was measured yet. Press “Measure what the model needs”.")
    ranking, names = find_ranking(shared.session, view), (view.model, view.concept.name, "needed")
    if kind in FIGURES:
        from headviz.page.figures import cause_figure, on_paper  # plotly, for a file alone

        title = f"{view.concept.title} in {view.model}: what heads write, and what is needed"
        figure = cause_figure(ranking, known.estimate, known.measured)
        return figure_parcel(on_paper(figure, title), kind, *names)
    table = effects_table(ranking, known.estimate, known.measured)
    if kind == "csv":
        return file_parcel(file_name(kind, *names), table.to_csv().encode())
    about = {
        "model": ranking.model,
        "revision": ranking.revision,
        "concept": view.concept.name,
        "words": list(view.concept.words),
        "texts": chosen,
        "heads": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
    }
    content = json.dumps(about, ensure_ascii=False, indent=2)
    return file_parcel(file_name(kind, *names), content.encode())


def known_of(view: View, chosen: str) -> Known:
    """What ships with the model for the view, on these texts."""
    shipped = shipped_of(view.model) if view.shipped else None
    effects = shipped.effects(view.concept.name) if shipped else None
    if effects is None or effects.texts != chosen:
        return Known()
    return Known(effects.estimate, dict(effects.measured))


def key_of(view: View) -> str:
    """The view as the browser names it: another model, concept or ranking has another key."""
    parts = (view.model, view.concept.words, view.prompt_set.digest, view.criterion)
    return json.dumps([*parts, view.options.as_dict()])


def fits(view: View, head: Head) -> bool:
    """Whether the model has such a head."""
    return head.layer < view.n_layers and head.index < view.n_heads


def value(
    session: Session, scene: Scene, kept: Callable[[View, str], Known] = known_of
) -> dict[str, Any]:
    """Everything that the panel shows of a scene at first; `kept` says what is known."""
    view, model = scene.view, scene.model
    if view is None:
        return {"key": "", "whole": True, "stamp": time.time_ns()}
    ranking = find_ranking(session, view)
    names = choices(view, model)
    known = kept(view, names[0]) if names else Known()
    return {
        **update(view, names[0] if names else "", known, False),
        "whole": True,
        "model": view.model,
        "concept": view.concept.title,
        "share": find_way(view.criterion).is_share,
        "writes": WRITES,
        "needed": NEEDED,
        "first": causal.FIRST,
        "measurable": model.writes,
        # Pictures have to be described first, which encodes each: that is for the person to begin.
        "live": not view.shipped and not view.has_vision,
        "choices": names,
        "told": told_on(view.has_vision, names[0], known.measured)
        if known.measured and names
        else "",
        "heads": [
            [
                *(str(one.head), one.rank, *map(_number, (one.score, one.chance, one.over))),
                *(None if edge is None else _number(edge) for edge in (one.low, one.high)),
            ]
            for one in ranking.heads
        ],
    }


def update(
    view: View, chosen: str, known: Known, running: bool, failed: bool = False
) -> dict[str, Any]:
    """What has come to be known."""
    return {
        "key": key_of(view),
        "texts": chosen,
        "running": running,
        "failed": failed,
        "stamp": time.time_ns(),  # a value that is the same again would not arrive
        **known.as_dict(),
    }


def choices(view: View, model: ModelShown) -> list[str]:
    """Names of the sets that the model may answer, the usual one first."""
    if not model.writes:
        return []
    usual = usual_texts(view.model, model.has_vision)
    known = known_prompt_sets(view.model, model.has_vision)
    own = [] if view.prompt_set.name in known else [AS_READ]
    return [*dict.fromkeys([*([usual] if usual else []), *known, *own])]


def _number(value: Number) -> float | None:
    """A number as JSON has it."""
    return round(float(value), _DIGITS) if math.isfinite(value) else None
