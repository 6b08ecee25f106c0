"""Part of the page: how likely the word that matters is at every factor, for edit and control.

The word is the first in which the edited answer leaves the original. It is worked out in the
background for the answer on the page, once nothing else is going on, and drawn above the knob.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import gradio as gr

from headviz.base.errors import HeadvizError, OptionError
from headviz.base.progress import Progress
from headviz.editing.compare import CompareRequest, Comparison, compare, last_of
from headviz.editing.control import control_of
from headviz.editing.parting import parting, probabilities
from headviz.heads.edits import Edit
from headviz.heads.prompts import encode_prompt, question_of
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel
from headviz.page.ask import Ask
from headviz.page.bench import script
from headviz.page.captioning import seen_for
from headviz.page.errors import told_stream
from headviz.page.ribbon import ALPHAS
from headviz.page.shared import Result, Scene, Shared, Updates
from headviz.page.work import Superseded
from headviz.session.session import Session

KIND = "curve"
STOPPED = "The curve was stopped."
_DIGITS = 4
_MOST_OPERATIONS = 4e12
"""A minute of two processor cores."""
QUEUE: Any = {"concurrency_id": "curve", "concurrency_limit": 4}
"""Apart from the model's own queue: answers never wait here."""


def build(shared: Shared) -> None:
    """Lay out the sentence; the browser asks for the curve and draws it (curve.js)."""
    panel = gr.HTML(
        None,
        html_template='<p class="hv-note" id="curve-told"></p>',
        js_on_load=script("curve", "curve"),
        elem_id="curve",
    )
    session = shared.session

    def run(
        event: gr.EventData,
        request: gr.Request,
        result: Result | None,
        scene: Scene,
        pictures: tuple[Picture, ...],
    ) -> Iterator[Updates]:
        ask = Ask.from_dict(event.ask)
        if not session.has_loaded(ask.model):
            return  # nothing is loaded for this alone
        if (seen := seen_for(ask, scene, pictures)) is None:
            return  # of before the pictures were changed
        steps = shared.work.watched(
            request,
            KIND,
            lambda report: curve(session, ask, answered(result, ask), report, seen),
            STOPPED,
        )
        try:
            while True:
                next(steps)
        except StopIteration as ended:
            yield {panel: ended.value}
        except Superseded:
            raise
        except HeadvizError:  # told beside the answer, which was asked for as well
            yield {panel: {"ask": ask.as_dict(), "words": []}}

    panel.curve(
        told_stream(panel, run),
        [shared.result, shared.scene, shared.pictures],
        [panel],
        trigger_mode="multiple",
        api_visibility="private",
        show_progress="hidden",
        **QUEUE,
    )


def answered(result: Result | None, ask: Ask) -> Comparison | None:
    """The answer to this ask with its tokens, None where it is not at hand."""
    if result is None or result.ask != ask or len(result.results) != 1:
        return None
    found = result.results[0]
    has_tokens = isinstance(found, Comparison) and any(column.ids for column in found.columns)
    return found if has_tokens else None


def check_is_light(model: LoadedModel, n_tokens: int) -> None:
    """Raise OptionError where reading so many tokens once for every point takes a processor long.

    Nobody has asked for the curve, and who asks for an answer waits for a pass that is under way.
    """
    if model.device.type != "cpu":
        return
    weights = sum(p.numel() for layer in model.layers for p in layer.parameters())
    if 2 * weights * n_tokens * 2 * (len(ALPHAS) + 1) > _MOST_OPERATIONS:
        raise OptionError(f"{model.name} is too large for a curve without a GPU.")


def curve(
    session: Session,
    ask: Ask,
    shown: Comparison | None,
    progress: Progress,
    pictures: tuple[Picture, ...] = (),
) -> dict[str, Any]:
    """The probabilities as the browser draws them.

    `shown` is the answer to the ask; it is written anew where it is None. `pictures` are the ask's
    own, one at most. Whoever else runs the model goes first. Raises HeadvizError as `compare` does,
    and OptionError where it would keep a processor busy for minutes.
    """
    model = session.model(ask.model)
    question = question_of(model, ask.prompt, pictures)
    prompt = encode_prompt(model, question, 0, pictures, ask.chat)
    check_is_light(model, len(prompt.ids))

    def turn() -> AbstractContextManager[None]:
        progress(0.0, "how likely a word is")
        return session.lock.after_others()

    if shown is None:
        request = CompareRequest(
            prompt=ask.prompt,
            edit=ask.edit,
            control=False,
            sampling=ask.sampling,
            pictures=pictures,
            chat=ask.chat,
            earlier=ask.earlier,
        )
        shown = last_of(compare(model, request, turn))
    original, edited = shown.columns[:2]
    place = parting(model, original.ids, edited.ids)
    words = [word for word in (place.original, place.edited) if word is not None]
    edits = [Edit.of(ask.edit.factors, alpha, ask.edit.where) for alpha in ALPHAS]
    rows = [*edits, ask.edit]
    rows += [control_of(model, edit, ask.control_seed) for edit in rows]
    found = probabilities(
        model,
        prompt,
        place.said,
        [word.token for word in words],
        rows,
        turn,
    )
    table = [[round(value, _DIGITS) for value in row] for row in found.tolist()]
    n = len(rows) // 2
    return {
        "ask": ask.as_dict(),
        "words": [word.text for word in words],
        "alphas": ALPHAS,
        "edited": table[: n - 1],
        "control": table[n:-1],
        "now": [table[n - 1], table[-1]],
    }
