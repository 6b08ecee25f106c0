"""Panel: short lessons, each a look, a guess, a turn of the knob and an explanation.

A lesson is a file in assets/lessons that a teacher can write. What was done is remembered by the
browser alone; nothing is sent anywhere.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import gradio as gr
from markupsafe import Markup

from headviz.base import assets
from headviz.base.head import Head
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.page import html
from headviz.page.arriving import Arrival, shown_before
from headviz.page.ask import Ask
from headviz.page.bench import script
from headviz.page.scene import Opening, opening
from headviz.page.shared import Scene
from headviz.page.view import first_view
from headviz.session.session import Session

_ABOUT = (
    "Six short lessons on a small model that ships with headviz. Guess before you look: that is "
    "how it stays."
)


@dataclass(frozen=True)
class Lesson:
    """One lesson, as its file has it."""

    title: str
    model: str
    concept: str
    """Name of a preset concept that ships with the model."""
    head: str
    """The head that is opened."""
    heads: Mapping[str, float]
    """Head -> factor that the page begins with."""
    look: str
    question: str
    options: tuple[str, ...]
    """To choose from."""
    answer: int
    """The number of the right one, from 0."""
    turn: str
    explain: str


@cache
def lessons() -> tuple[Lesson, ...]:
    """All lessons, in the order of their files' names."""
    found = []
    for path in sorted(assets.ASSETS.glob("lessons/*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        data["heads"] = {head: float(factor) for head, factor in data["heads"].items()}
        found.append(Lesson(**{**data, "options": tuple(data["options"])}))
    return tuple(found)


def build(session: Session) -> gr.HTML:
    """Lay the lessons out; the result's event `lesson` opens one on the page."""
    offered = [lesson for lesson in lessons() if lesson.model in session.model_names()]
    cards = html.joined(_card(number, lesson) for number, lesson in enumerate(offered))
    return gr.HTML(
        Markup("<h2>Lessons</h2>{}{}").format(html.note(_ABOUT), cards),
        js_on_load=script("lessons", "lesson"),
        elem_id="lessons",
    )


def _card(number: int, lesson: Lesson) -> Markup:
    """A lesson; what comes after the guess is hidden until one is made (lessons in bench.js)."""
    options = html.joined(
        Markup('<button type="button" data-option="{}" data-right="{}">{}</button>').format(
            n, str(n == lesson.answer).lower(), option
        )
        for n, option in enumerate(lesson.options)
    )
    return Markup(
        '<details class="hv-lesson" data-lesson="{number}" data-title="{title}"><summary>'
        '<b>{n}. {title}</b> <span class="hv-done"></span></summary><p>{look}</p>'
        '<p class="hv-question">{question}</p><div class="hv-options" role="group" '
        'aria-label="Your guess">{options}</div><div class="hv-after" hidden>'
        '<p class="hv-verdict" role="status"></p><p>{turn}</p>'
        '<button type="button" class="hv-small" data-open="{number}">Open it on the page</button>'
        "<p>{explain}</p></div></details>"
    ).format(
        number=number,
        n=number + 1,
        title=lesson.title,
        look=lesson.look,
        question=lesson.question,
        options=options,
        turn=lesson.turn,
        explain=lesson.explain,
    )


def arrival(session: Session, number: int) -> Arrival:
    """What a lesson opens the page on: its concept, its heads as they are turned, its head."""
    offered = [lesson for lesson in lessons() if lesson.model in session.model_names()]
    lesson = offered[number]
    view = first_view(lesson.model, lesson.concept)
    scene = Scene(shown_before(lesson.model), view)
    usual = opening(session, scene).ask
    edit = Edit({Head.parse(h): f for h, f in lesson.heads.items()})
    ask = Ask(lesson.model, usual.prompt, edit, usual.concept, usual.sampling)
    known = opening(session, scene).recipe
    same = known is not None and known.edit == edit
    banner = html.banner(f"Lesson {number + 1}: {lesson.title}. {lesson.turn}")
    recipe: Recipe | None = known if same else None
    return Arrival(scene, Opening(ask, recipe), Head.parse(lesson.head), banner)
