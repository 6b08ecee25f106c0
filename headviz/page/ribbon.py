"""Part of the page: the same sentence at every factor from −3 to 8, edit and control in one batch.

It shows from which factor on the answer changes, and whether random heads do it as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from headviz.base.errors import OptionError
from headviz.base.progress import Progress
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.heads.edits import Edit
from headviz.heads.prompts import question_of
from headviz.inputs.images import Picture
from headviz.page import html
from headviz.page.answers import words_marked
from headviz.page.ask import Ask
from headviz.page.bench import script
from headviz.page.captioning import seen_for
from headviz.page.errors import told_stream
from headviz.page.shared import MODEL_QUEUE, Scene, Shared, Updates
from headviz.session.session import Session

KIND = "ribbon"
ALPHAS = (-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
MOST_TOKENS = 24
"""Of a sentence: all are written at once."""
STOPPED = "Loading the model was stopped."


def build(shared: Shared) -> None:
    """Lay the table out; the browser asks for it with the whole ask."""
    table = gr.HTML("", js_on_load=script("ribbon", "ribbon"), elem_id="ribbon")
    session = shared.session

    def run(
        event: gr.EventData, request: gr.Request, scene: Scene, pictures: tuple[Picture, ...]
    ) -> Iterator[Updates]:
        ask = Ask.from_dict(event.ask)
        if (seen := seen_for(ask, scene, pictures)) is None:
            raise OptionError("The pictures have changed since; press Every α again.")
        is_last = shared.work.begin(request, KIND)
        waiting = shared.work.watched(
            request, KIND, lambda report: session.model(ask.model, report), STOPPED, is_last
        )
        for status in waiting:
            yield {table: html.progress(status)}
        drawings = session.there(steps, ask, seen)
        for drawn in shared.work.until_next(request, KIND, is_last, drawings):
            yield {table: drawn}

    table.ribbon(
        told_stream(table, run),
        [shared.scene, shared.pictures],
        [table],
        trigger_mode="multiple",
        api_visibility="private",
        show_progress="hidden",
        **MODEL_QUEUE,
    )


def steps(
    session: Session, progress: Progress, ask: Ask, pictures: tuple[Picture, ...] = ()
) -> Iterator[str]:
    """The table as it is written. Raises HeadvizError as `compare` does."""
    model = session.model(ask.model)
    edits = [Edit.of(ask.edit.factors, alpha, ask.edit.where) for alpha in ALPHAS]
    controls = [control_of(model, edit, ask.control_seed) for edit in edits]
    rows = [*edits, *controls]
    sampling: Sampling = replace(
        ask.sampling, max_new_tokens=min(ask.sampling.max_new_tokens, MOST_TOKENS)
    )
    prompts = [question_of(model, ask.prompt, pictures)] * len(rows)
    shown = [pictures] * len(rows) if pictures else []
    lock: Any = lambda: session.lock  # noqa: E731 (the same lock at every token)
    for stream in generate(model, prompts, rows, sampling, lock, shown, ask.chat):
        yield draw(ask, stream.texts)


def draw(ask: Ask, texts: Sequence[str]) -> Markup:
    """A row for each factor: what differs from the unedited text is marked."""
    n = len(ALPHAS)
    original = texts[ALPHAS.index(1.0)]
    rows = html.joined(
        Markup(
            '<tr{}><th scope="row"><button type="button" class="hv-open" data-alpha="{}">{}'
            "</button></th><td>{}</td><td>{}</td></tr>"
        ).format(
            Markup(' class="hv-as-is"') if alpha == 1 else "",
            f"{alpha:g}",
            f"{alpha:g}".replace("-", "−"),
            words_marked(texts[number].strip(), original.strip(), ask.words),
            words_marked(texts[n + number].strip(), original.strip(), ask.words),
        )
        for number, alpha in enumerate(ALPHAS)
    )
    return Markup(
        '<div class="hv-ribbon hv-text" data-ask="{}"><table class="hv-answers-table"><caption>'
        "The same heads at every α; a click sets the knob.</caption><thead><tr>"
        '<th scope="col">α</th><th scope="col">Edited</th><th scope="col">Random control</th></tr>'
        "</thead><tbody>{}</tbody></table></div>"
    ).format(ask.to_json(), rows)
