"""What the panels share: the session, the states that connect them, and the parts they write to."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from headviz.base.lru import LRU
from headviz.page.ask import Ask
from headviz.page.clips import Clips
from headviz.page.view import ModelShown, View
from headviz.page.work import Work
from headviz.session.causal import Causes
from headviz.session.session import Session

MODEL_QUEUE: Any = {"concurrency_id": "model", "concurrency_limit": 4}
"""Steps that read with a model. Several visitors take turns at every pass: a few run at once."""

ANSWER_QUEUE: Any = {"concurrency_id": "answers", "concurrency_limit": 128}
"""Answers: those of all visitors are written side by side, and who finds no room in the batch is
told the place in the model's own queue (editing/crowd.py), which gradio's would hide."""
MAX_THREADS = 192
"""An answer takes one for as long as it waits for its next words."""

Number = int | float
"""A number of the page: JSON does not tell 1 from 1.0."""

QUIET: Any = {"show_progress": "hidden", "api_visibility": "private"}
"""Steps that need no spinner and are no part of the page's API."""

Updates = dict[Any, Any]
"""Component -> its new value."""


@dataclass(frozen=True)
class Scene:
    """What a visitor looks at: a model, and the ranking of its heads if there is one."""

    model: ModelShown
    view: View | None = None


class Result(NamedTuple):
    """What came of an ask: a result for each picture, or one.

    No dataclass, because gradio would take one apart that a gr.State begins with.
    """

    ask: Ask
    results: tuple[Any, ...]
    """Comparison, or ZeroShot where a CLIP model answered."""


@dataclass(frozen=True)
class Parts:
    """The components that more than one panel writes to."""

    banner: gr.HTML
    """Where the page was opened by a link: of what."""
    headline: gr.HTML
    said: gr.HTML
    """What is going on with the answers, and what went wrong."""
    answers: gr.HTML
    bench: gr.HTML
    """Its value is what the browser needs to know to ask."""
    heat_map: gr.HTML
    causes: gr.HTML
    """Its value is what the browser draws: see causes.js."""
    head: gr.HTML


@dataclass(frozen=True)
class Shared:
    """Handed to every panel's build."""

    page: gr.Blocks
    session: Session
    clips: Clips
    work: Work
    causes: Causes
    known: LRU[Any]
    """What is known of the heads of a view: see causes.py."""
    scene: gr.State
    """A Scene."""
    result: gr.State
    """What was answered last: a Result or None."""
    pictures: gr.State
    """To describe: a tuple of Picture."""
    data: gr.JSON
    """An event's, put in by the browser: see newest."""
    parts: Parts

    def newest(self, event: str, *inputs: gr.State) -> dict[str, Any]:
        """How to listen to an event that overtakes one before it that is still being answered.

        The handler's first argument is the event's data (hv.send in state.js), then the inputs'.
        gradio's "always_last" alone sends the data of the event *before* once more, and so answers
        what is no longer asked; its `js` runs when an event is really sent.
        """
        return {
            "inputs": [self.data, *inputs],
            "js": f"(_, ...rest) => [window.headviz.newest.{event}, ...rest]",
            "trigger_mode": "always_last",
            **QUIET,
        }
