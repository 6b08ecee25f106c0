"""Panel: short lessons, each a look, a guess, a turn of the knob and an explanation.

A lesson is a file in assets/lessons that a teacher can write; any state of the page becomes one by
a link that carries a question, and its answers stay hidden until somebody has guessed. What was
done is remembered by the browser alone; nothing is sent anywhere.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from headviz.base import assets
from headviz.base.errors import RecipeError
from headviz.base.head import Head
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.page import html
from headviz.page.arriving import Arrival
from headviz.page.ask import Ask
from headviz.page.bench import script
from headviz.page.scene import Opening, opening
from headviz.page.shared import Scene
from headviz.page.view import first_view, shown_before
from headviz.session.session import Session

_ABOUT = (
    "Six short lessons on a small model that ships with headviz. Guess before you look: that is "
    "how it stays."
)


MAX_LINK = 4000  # characters of a link's question
MOST_OPTIONS = 6
_FORM = Markup(
    '<details><summary>Make a lesson of this</summary><p class="hv-note">A link that opens on what '
    "the page shows now and asks your question first: edited text and control are hidden until "
    'somebody has guessed.</p><div class="hv-fields">'
    '<label>Question<input id="teach-question" maxlength="300" '
    'value="What does the model answer with these heads turned?"></label>'
    '<label>Right answer<input id="teach-right" maxlength="200"></label>'
    '<label>Wrong answers, one a line<textarea id="teach-wrong" rows="2" maxlength="600">'
    "</textarea></label><label>Said after the guess"
    '<textarea id="teach-explain" rows="2" maxlength="1000">'
    '</textarea></label></div><button type="button" class="hv-small" id="teach-link">Make the link'
    '</button> <span class="hv-note" id="teach-told" role="status"></span></details>'
)


@dataclass(frozen=True)
class Guess:
    """A question that is answered before one looks."""

    question: str
    options: tuple[str, ...]
    """To choose from."""
    answer: int
    """The number of the right one, from 0."""
    explain: str = ""
    """What is said after the guess."""

    @classmethod
    def from_link(cls, token: str) -> "Guess":
        """The question of a link. Raises RecipeError where it is cut off or not one of ours."""
        broken = RecipeError("The link's question cannot be read: it is cut off or none of ours.")
        if len(token) > MAX_LINK:
            raise broken
        try:
            padded = token + "=" * (-len(token) % 4)
            data = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            made = cls(
                str(data["question"]),
                tuple(map(str, data["options"])),
                int(data["answer"]),
                str(data.get("explain", "")),
            )
        except (binascii.Error, ValueError, LookupError, TypeError, AttributeError):
            raise broken from None
        if not 2 <= len(made.options) <= MOST_OPTIONS or not 0 <= made.answer < len(made.options):
            raise broken
        return made

    def draw(self, after: str = "") -> Markup:
        """The question; what comes after the guess is hidden until one is made (lessons.js)."""
        options = html.joined(
            Markup('<button type="button" data-option="{}" data-right="{}">{}</button>').format(
                n, str(n == self.answer).lower(), option
            )
            for n, option in enumerate(self.options)
        )
        return Markup(
            '<div class="hv-guess"><p class="hv-question">{}</p><div class="hv-options" '
            'role="group" aria-label="Your guess">{}</div><p class="hv-verdict" role="status"></p>'
            '<div class="hv-after" hidden>{}<p>{}</p></div></div>'
        ).format(self.question, options, after, self.explain)


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


def lessons() -> tuple[Lesson, ...]:
    """All lessons, in the order of their files' names."""
    return _lessons_in(assets.ASSETS)


@cache
def _lessons_in(folder: Path) -> tuple[Lesson, ...]:
    found = []
    for path in sorted(folder.glob("lessons/*.json")):
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
    """A lesson, folded away."""
    asked = Guess(lesson.question, lesson.options, lesson.answer, lesson.explain)
    turn = Markup(
        '<p>{}</p><button type="button" class="hv-small" data-open="{}">Open it on the page'
        "</button>"
    ).format(lesson.turn, number)
    return Markup(
        '<details class="hv-lesson" data-lesson="{}" data-title="{}"><summary><b>{}. {}</b> '
        '<span class="hv-done"></span></summary><p>{}</p>{}</details>'
    ).format(number, lesson.title, number + 1, lesson.title, lesson.look, asked.draw(turn))


def build_prediction() -> None:
    """Lay out the question which of three heads the model needs (lessons.js)."""
    gr.HTML("", js_on_load=script("predict"), elem_id="predict")


def build_form() -> None:
    """Lay out what makes a lesson of the state of the page: a link with a question (lessons.js)."""
    gr.HTML(_FORM, js_on_load=script("teach"), elem_id="teach")


def asked_first(found: Arrival, token: str) -> Arrival:
    """The same page under a link's question. Raises RecipeError."""
    asked, scene = Guess.from_link(token), found.scene
    about = scene.view.concept.title if scene.view else scene.model.name
    banner = Markup(
        '<div class="hv-banner" role="status"><p>A lesson on {}. Guess before you look.</p>{}</div>'
    ).format(about, asked.draw())
    return replace(found, banner=banner)


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
    recipe: Recipe | None = known if same else None
    banner = _banner(number, lesson, len(offered))
    return Arrival(scene, Opening(ask, recipe), Head.parse(lesson.head), banner)


def _banner(number: int, lesson: Lesson, n_lessons: int) -> Markup:
    """What to do on the page, what to see there, and the way on (lessons.js)."""
    last = number + 1 == n_lessons
    return Markup(
        '<div class="hv-banner" role="status"><p><b>Lesson {}: {}.</b> {}</p>'
        "<details><summary>What there is to see</summary><p>{}</p></details>"
        '<button type="button" class="hv-small" data-next="{}">{}</button></div>'
    ).format(
        number + 1,
        lesson.title,
        lesson.turn,
        lesson.explain,
        "" if last else number + 1,
        "All lessons" if last else f"Lesson {number + 2}",
    )
