"""What the panels share: the session, and the states that connect them."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.page.clips import Clips
from headviz.page.runs import Runs
from headviz.page.view import View
from headviz.session.session import Session

MODEL_QUEUE: Any = {"concurrency_id": "model", "concurrency_limit": 4}
"""Steps that run a model. Several visitors take turns at every token, so a few run at once."""

Number = int | float
"""A number of the page: JSON does not tell 1 from 1.0."""

QUIET: Any = {"show_progress": "hidden", "api_visibility": "private"}
"""Small steps that need no spinner and are no part of the page's API."""


@dataclass(frozen=True)
class Shared:
    """Handed to every panel's build. A panel writes a state; the others listen to its change."""

    page: gr.Blocks
    session: Session
    clips: Clips
    runs: Runs
    first: View | None
    """What the page opens with."""
    model: gr.State
    """The chosen model: a ModelShown."""
    view: gr.State
    """The ranking on the page: a View or None."""
    opened: gr.State
    """The head that is open: a Head or None."""
    chosen: gr.State
    """The heads that are edited: a tuple of Head."""
    given: gr.State
    """The recipe that was put onto the page: a Given or None."""
