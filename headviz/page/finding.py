"""Panel: find an edit. The search goes on in the background, is watched live, and can be stopped.

What it found becomes the page's edit like any other; beside it stands what other choices of as many
heads do, on texts that no search has seen. The browser draws (find.js).
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from headviz.base.errors import Cancelled, OptionError
from headviz.editing.find import Found, Judged, Search, Step
from headviz.heads.edits import Edit
from headviz.page.ask import MOST_HEADS
from headviz.page.bench import script
from headviz.page.causes import AS_READ, QUEUE, texts_of
from headviz.page.errors import sentence, told_stream
from headviz.page.shared import Scene, Shared, Updates
from headviz.page.view import View
from headviz.page.work import Status, Superseded
from headviz.session.snippets import find_snippet

KIND = "find"
STOPPED = "Stopped."
_DIGITS = 4


def build(shared: Shared) -> None:
    """Lay the panel out and wire it."""
    panel = gr.HTML(
        {"stamp": 0},
        html_template='<div class="hv-find"></div>',
        js_on_load=script("find", "find", "end"),
        elem_id="find",
    )

    def find(event: gr.EventData, request: gr.Request, scene: Scene) -> Iterator[Updates]:
        yield from ({panel: shown} for shown in search_on(shared, event, request, scene.view))

    panel.find(
        told_stream(shared.parts.said, find),
        [shared.scene],
        [panel, shared.parts.said],
        trigger_mode="multiple",
        api_visibility="private",
        show_progress="hidden",
        **QUEUE,
    )
    panel.end(shared.work.stopper(KIND), None, None, queue=False, api_visibility="private")


def search_on(
    shared: Shared, event: gr.EventData, request: gr.Request, view: View | None
) -> Iterator[dict[str, Any]]:
    """What the panel shows while the search runs and after it, whichever way it ends."""
    heard: list[Step | Found] = []
    try:
        if view is None:
            raise OptionError("There is no concept yet. Choose one and rank heads first.")
        asked, chosen = search_of(event), str(event.texts)

        def step(report: Any) -> None:
            shared.session.model(view.model, report)
            texts = texts_of(shared.causes, view, chosen)
            for one in shared.causes.find(view.model, view.concept, asked, texts, report):
                heard.append(one)

        about = {
            "key": key_of(view),
            "search": _search(asked),
            "code": code_of(view, asked, chosen),
        }
        steps, before = shared.work.watched(request, KIND, step, STOPPED), None
        while True:
            try:
                status = next(steps)
            except StopIteration:
                yield {**about, **drawn(heard)}
                return
            now = (len(heard), status.what, status.stopping)
            if now != before:  # to draw the same again takes time from the search
                yield {**about, **drawn(heard, status)}
            before = now
    except Superseded:
        return
    except Cancelled:
        yield {**about, **drawn(heard), "stopped": True}
    except Exception as error:
        yield {**drawn([]), "failed": sentence(error)}


def search_of(event: gr.EventData) -> Search:
    """The search that the panel's fields ask for. Raises OptionError for what cannot be."""
    heads, side = event.heads, event.side_effects
    if not isinstance(heads, int) or not 1 <= heads <= MOST_HEADS:
        raise OptionError(f"Give a number of heads from 1 to {MOST_HEADS}: the page turns so many.")
    if not isinstance(side, int | float):
        raise OptionError("Say how much side effect is allowed, in nats: .1 is little.")
    return Search(str(event.towards), heads, float(side))


def drawn(heard: Sequence[Step | Found], status: Status | None = None) -> dict[str, Any]:
    """How far a search is; without a status it has ended."""
    steps = [one for one in list(heard) if isinstance(one, Step)]
    ends = [one for one in heard if isinstance(one, Found)]
    edit = ends[-1].found.edit if ends else steps[-1].edit if steps else Edit()
    return {
        "stamp": time.time_ns(),
        "running": status is not None,
        "stopping": bool(status and status.stopping),
        "what": status.what if status else "",
        "share": status.share if status else 1.0,
        "left": status.seconds_left if status else None,
        "curve": [[_round(step.gain), _round(step.side)] for step in steps],
        "edit": _factors(edit),
        "found": _found(ends[-1]) if ends else None,
    }


def _found(found: Found) -> dict[str, Any]:
    gain = found.search.gain
    return {
        "rows": [_row("found", found.found), *(_row(*rival) for rival in found.rivals.items())],
        "random": [[_round(gain(effect.need)), _round(effect.side)] for effect in found.random],
        "random_gain": _round(gain(found.random_need)),
        "random_side": _round(found.random_side),
        "places": found.found.effect.n_positions,
    }


def _row(name: str, one: Judged) -> dict[str, Any]:
    effect = one.effect
    return {
        "name": name,
        "edit": _factors(one.edit),
        "need": [_round(value) for value in (effect.need, effect.need_low, effect.need_high)],
        "side": [_round(value) for value in (effect.side, effect.side_low, effect.side_high)],
    }


def _search(search: Search) -> dict[str, Any]:
    return {
        "towards": search.towards,
        "heads": search.heads,
        "side_effects": search.side_effects,
        "factor": search.factor,
    }


def key_of(view: View) -> str:
    """What a search is for: an edit that was found for another model or concept is not taken."""
    return json.dumps([view.model, view.concept.name, list(view.concept.words)])


def code_of(view: View, search: Search, chosen: str) -> str:
    """The Python that searches for the same."""
    texts = view.prompt_set if chosen == AS_READ else chosen
    return find_snippet(view.model, view.concept, search, texts)


def _factors(edit: Edit) -> dict[str, float]:
    return {str(head): factor for head, factor in edit.factors.items()}


def _round(value: float) -> float:
    return round(float(value), _DIGITS)
