"""Panel: the question, the three answers and the knob that turns the heads.

The browser holds the ask (state.js, bench.js) and sends the whole of it; here it becomes answers.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from headviz.editing.compare import Comparison
from headviz.heads.edits import Edit
from headviz.inputs.images import Picture
from headviz.page import html
from headviz.page.ask import Ask
from headviz.page.captioning import Waits, stream
from headviz.page.errors import told_stream
from headviz.page.shared import ANSWER_QUEUE, QUIET, Result, Scene, Shared, Updates

LOADING_STOPPED = "The loading was stopped, so there is no new answer."
STOPPED = "Stopped here. Change something, or press Again, for a new answer."
KIND = "answers"
PATIENCE = 0.8
"""Seconds after which a visitor who waits hears the place in the queue, and again. Whether the tab
is still there is noticed then; gradio makes anew every part of the page that such an update leaves
out, so that in a crowd it costs more than a token of all texts."""
_SCRIPT = "headviz.{part}({{ element, trigger, props, watch }}, {events});"


def script(part: str, *events: str) -> str:
    """What starts a part of the page in the browser; gradio reads the names of its events here."""
    return _SCRIPT.format(part=part, events=[*events])


def wire(shared: Shared) -> None:
    """Let an ask become answers, and let a visitor stop that."""
    parts = shared.parts

    def run(
        event: gr.EventData, request: gr.Request, scene: Scene, pictures: tuple[Picture, ...]
    ) -> Iterator[Updates]:
        is_last = shared.work.begin(request, KIND)
        shared.work.turn(request, KIND, int(event.number), None)  # what came before is of before
        steps = _run(shared, request, is_last, event.ask, scene, pictures)
        yield from shared.work.until_next(request, KIND, is_last, steps)

    def missed(
        event: gr.EventData, request: gr.Request, scene: Scene, pictures: tuple[Picture, ...]
    ) -> Iterator[Updates]:
        """The browser waits and hears nothing: gradio can lose what it was sent, or the answer.

        That it asked at all has gradio hand over what lies there; else the answer is made anew.
        """
        if not shared.work.is_going(request, KIND):
            yield from run(event, request, scene, pictures)

    for asked, answer in ((parts.bench.run, run), (parts.bench.missed, missed)):
        asked(
            told_stream(parts.said, answer),
            [shared.scene, shared.pictures],
            [parts.said, parts.answers, shared.result],
            trigger_mode="multiple",
            api_visibility="private",
            show_progress="hidden",
            **ANSWER_QUEUE,
        )

    def turn(event: gr.EventData, request: gr.Request) -> None:
        """The knob was moved while the answer is written: it goes on under the new factors."""
        shared.work.turn(request, KIND, int(event.number), Ask.from_dict(event.ask).edit)

    parts.bench.turn(turn, None, None, queue=False, trigger_mode="multiple", **QUIET)
    parts.bench.stop(shared.work.stopper(KIND), None, None, queue=False, api_visibility="private")
    # Through the queue, which opens a stream of messages: see state.js.
    parts.bench.pulse(lambda: None, None, None, trigger_mode="multiple", **QUIET)


def _run(
    shared: Shared,
    request: gr.Request,
    is_last: Callable[[], bool],
    data: Mapping[str, Any],
    scene: Scene,
    pictures: tuple[Picture, ...],
) -> Iterator[Updates]:
    """The answers as they come, and at the end what was answered."""
    parts, seen = shared.parts, pictures if scene.model.has_vision else ()
    ask = replace(Ask.from_dict(data), pictures=tuple(picture.digest for picture in seen))
    waiting = shared.work.watched(
        request,
        KIND,
        lambda report: shared.session.model(ask.model, report),
        LOADING_STOPPED,
        is_last,
    )
    for status in waiting:
        yield {parts.said: html.progress(status)}

    def knob() -> Edit | None:
        turned: Edit | None = shared.work.turned(request, KIND)
        return turned

    results: list[Any] = []
    shown: Updates = {}
    told = time.monotonic()
    for drawn in stream(shared, ask, seen, results, knob):
        if isinstance(drawn, Waits):
            if time.monotonic() >= told + PATIENCE:
                told = time.monotonic()
                yield {parts.said: html.note(_in_line(drawn.place))}
            continue
        shown = {parts.answers: drawn}
        if shared.work.stopped(request, KIND):
            yield {parts.answers: _stopped(str(drawn)), parts.said: html.note(STOPPED)}
            return
        yield {**shown, parts.said: ""}
    if len(results) == 1 and isinstance(results[0], Comparison):
        ask = ask.under(results[0])
    yield {**shown, parts.said: "", shared.result: Result(ask, tuple(results))}


def _in_line(place: int) -> str:
    """Of a visitor whose answer is not yet written."""
    if place == 1:
        return "You are next: other visitors are being answered."
    before = "1 visitor is" if place == 2 else f"{place - 1} visitors are"
    return f"{before} before you."


def _stopped(drawn: str) -> str:
    """The answers as far as they came, without a sign that they go on."""
    ended = drawn.replace('data-state="running"', 'data-state="stopped"', 1)
    return ended.replace('<i class="hv-caret"></i>', "")
