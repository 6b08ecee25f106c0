"""A scene as the page shows it: every part drawn from one model, one ranking and one ask.

Knows what goes where; nothing of how it came to be chosen.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from headviz.editing.generate import Sampling, usual_stop
from headviz.editing.recipe import Recipe
from headviz.heads.edits import WHERE, Edit
from headviz.inputs.concepts import Concept
from headviz.inputs.examples import Example, examples_of, named_pictures
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import general_items
from headviz.page import answers, causes, head, heat_map, html
from headviz.page.ask import Ask
from headviz.page.shared import Result, Scene, Shared, Updates
from headviz.page.view import ModelShown, View, find_ranking, shipped_of
from headviz.session.session import Session
from headviz.session.shipped import clearest, is_clear, usual_edit

_GENERAL = 6  # questions about a concept that are offered where a model has none of its own
TOLD = {
    "image": "Heads were read at the picture's positions. Turned there alone they often do "
    "nothing: the answer is written at its own positions. Try everywhere.",
}


@dataclass(frozen=True)
class Opening:
    """What a scene begins with."""

    ask: Ask
    recipe: Recipe | None = None
    """With the three texts, where they are known already."""


def opening(
    session: Session,
    scene: Scene,
    pictures: tuple[Picture, ...] = (),
    chosen: Concept | None = None,
) -> Opening:
    """The usual edit on the first example about the concept; shipped with its answer if it is.

    `chosen` is the concept where no head is ranked yet.
    """
    view, model = scene.view, scene.model
    digests = tuple(picture.digest for picture in pictures) if model.has_vision else ()
    if view is not None and view.shipped and (shipped := shipped_of(view.model)):
        tried = shipped.answers(view.concept.name)
        about = [recipe for recipe in tried if digests_of(recipe) == digests]
        recipe = clearest(about) or next(iter(about), None)
        if recipe is not None:
            return Opening(Ask.of(recipe, pictures=digests), recipe)
    concept = view.concept if view else chosen
    prompt = first_prompt(model, concept)
    edit = usual_edit(find_ranking(session, view)) if view else Edit()
    sampling = Sampling(stop=usual_stop(prompt))
    return Opening(Ask(model.name, prompt, edit, concept, sampling, 0, digests))


def digests_of(recipe: Recipe) -> tuple[str, ...]:
    """Hashes of the example pictures that a recipe was tried on."""
    names = recipe.trial.pictures if recipe.trial else ()
    return tuple(picture.digest for picture in named_pictures(recipe.model, names))


def offered_examples(model: ModelShown, concept: Concept | None) -> tuple[Example, ...]:
    """What ships with the model to be asked; else general questions about the concept."""
    if model.has_vision:
        return ()  # what it is tried on are pictures, which have a box of their own
    examples = examples_of(model.name)
    if examples or concept is None:
        return examples
    items = general_items("questions")
    about = [item.prompt for item in items if item.concept == concept.name]
    return tuple(Example(prompt, concept.name, "question") for prompt in about[:_GENERAL])


def first_prompt(model: ModelShown, concept: Concept | None) -> str:
    """The first example about the concept, else any; '' where there is none."""
    examples = offered_examples(model, concept)
    about = [e.prompt for e in examples if concept and e.concept == concept.name]
    fitting = about or [e.prompt for e in examples if e.kind == "question"]
    return next(iter(fitting), "")


def drawn(shared: Shared, scene: Scene, opened: Opening, banner: str = "") -> Updates:
    """Everything that the scene changes on the page."""
    parts, view = shared.parts, scene.view
    comparison = opened.recipe.trial.comparison() if opened.recipe and opened.recipe.trial else None
    updates: Updates = {
        shared.scene: scene,
        parts.banner: banner,
        parts.headline: headline(scene),
        parts.said: "",
        parts.bench: bench(scene, opened.ask, bool(banner)),
        parts.heat_map: heat_map.draw(shared.session, view),
        parts.causes: causes.value(shared.session, scene, partial(causes.kept, shared)),
        parts.head: head.draw(shared.session, view, view.top[0] if view and view.top else None),
    }
    if comparison is not None:
        updates[parts.answers] = answers.answers(opened.ask, comparison, "done")
        updates[shared.result] = Result(opened.ask, (comparison,))
    else:
        updates[parts.answers] = answers.nothing(opened.ask, "")
        updates[shared.result] = None
    return updates


def headline(scene: Scene) -> str:
    """What was chosen, in one line."""
    view = scene.view
    if view is None:
        return html.headline("no concept yet", scene.model.name, "choose one", None, False)
    kind = "pictures" if view.has_vision else view.prompt_set.name
    kind = kind if kind.isalpha() else "texts"
    samples = f"{len(view.prompt_set)} {kind}"
    title, model = view.concept.title, scene.model.name.rstrip("/").rsplit("/", 1)[-1]
    return html.headline(title, model, samples, view.total_heads, view.shipped)


def bench(scene: Scene, ask: Ask, came: bool = False, more: bool = False) -> dict[str, Any]:
    """What the browser needs to know to ask: see bench.js.

    `came`: by a link, with its prompt; `more`: of a model that is asked already.
    """
    model, view = scene.model, scene.view
    concept = view.concept if view else None
    return {
        "ask": ask.as_dict(),
        "came": came,
        "more": more,
        "top": [str(h) for h in view.top] if view else [],
        "places": {name: _told_place(model, name) for name in places(model)}
        if model.writes
        else {},
        "told": TOLD if view and view.options.pooling == "image" else {},
        "examples": [
            *([one.prompt, one.concept] for one in offered_examples(model, concept)),
            *([prompt, "pictures"] for prompt in model.prompts),
        ],
        "known": shipped_answers(view),
        "clearest": _clearest(view),
        "writes": model.writes,
        "has_vision": model.has_vision,
        "usual": usual_prompt(model),
        "chat": {"template": model.template, "thinks": model.thinks},
        "stamp": time.time_ns(),  # a value that is the same again would not arrive
    }


def shipped_answers(view: View | None) -> list[str]:
    """The answers that ship for the concept, so that its questions are answered at once."""
    shipped = shipped_of(view.model) if view is not None and view.shipped else None
    if view is None or shipped is None:
        return []
    tried = [(r, r.trial.comparison()) for r in shipped.answers(view.concept.name) if r.trial]
    return [
        answers.answers(Ask.of(r, pictures=digests_of(r)), shown, "done")
        for r, shown in tried
        if shown
    ]


def _clearest(view: View | None) -> dict[str, Any]:
    """The example that the page opens on, and that it is a best case."""
    shipped = shipped_of(view.model) if view is not None and view.shipped else None
    found = shipped.answer(view.concept.name) if view is not None and shipped else None
    if shipped is None or found is None or found.trial is None or not is_clear(found):
        return {}
    tried = shipped.all_answers
    return {
        "ask": Ask.of(found, pictures=digests_of(found)).as_dict(),
        "told": f"The clearest case. Of {len(tried)} examples tried, {sum(map(is_clear, tried))} "
        "lose the concept's words when its heads are turned down and keep them in the control.",
    }


def places(model: ModelShown) -> list[str]:
    """Where an edit of this model may hold; a CLIP model's has no place."""
    return [name for name in WHERE if model.writes and (model.has_vision or name != "image")]


def _told_place(model: ModelShown, name: str) -> str:
    """What a place means for this model: one that reads no pictures has no positions of them."""
    return WHERE[name] if model.has_vision else WHERE[name].replace("picture, prompt", "prompt")


def usual_prompt(model: ModelShown) -> str:
    """What an empty prompt stands for beside a picture; nothing for a language model."""
    if not model.has_vision:
        return "Ask something, or begin a text"
    if not model.writes:
        return "classes to choose from, separated by commas; if empty: the concept's words"
    return f"if empty: {model.prompts[0]}" if model.prompts else "if empty: the model's usual one"


def with_view(scene: Scene, view: View | None) -> Scene:
    """The same model with another ranking."""
    return replace(scene, view=view)
