"""Opening the page by an address: a link of an edit, or a model, a concept and a head.

A link opens on its own answer and stays right where the model is not here yet: what it says comes
from the link. Knows nothing of how the parts are laid out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headviz.base.errors import OptionError, UnknownName
from headviz.base.head import Head
from headviz.editing.recipe import Recipe
from headviz.inputs.concepts import Concept, known_concepts
from headviz.page import html
from headviz.page.ask import HIGHEST, LOWEST, MOST_HEADS, Ask
from headviz.page.choose import check_offered
from headviz.page.scene import Opening, digests_of, first_prompt
from headviz.page.shared import Scene
from headviz.page.view import first_view, shipped_of, shown_before
from headviz.session.session import Session
from headviz.session.shipped import FIRST_CONCEPT


@dataclass(frozen=True)
class Arrival:
    """What an address opens the page on."""

    scene: Scene
    opening: Opening | None
    """None: the usual one of the scene."""
    head: Head | None = None
    banner: str = ""
    concept: Concept | None = None
    """What it is about where no head is ranked yet."""


def arrive(session: Session, query: Mapping[str, str]) -> Arrival | None:
    """What the address asks for, None for the front page. Raises HeadvizError."""
    if token := query.get("recipe", ""):
        recipe = Recipe.from_link(token)
        check_offered(session, recipe)
        return with_recipe(session, recipe, "A link opened this page")
    model, concept = query.get("model", ""), query.get("concept", "")
    if not model and not concept:
        return None
    name = model or session.model_names()[0]
    if name not in session.model_names():
        raise UnknownName("model", name, session.model_names())
    shipped = shipped_of(name)
    known = shipped.concepts if shipped else tuple(known_concepts())
    about = concept or (shipped.first_concept if shipped else FIRST_CONCEPT)
    if about not in known:
        raise UnknownName("concept", about, known)
    view = first_view(name, about)
    head = Head.parse(query["head"]) if query.get("head") else None
    return Arrival(Scene(shown_before(name), view), None, head, concept=known_concepts().get(about))


def with_recipe(session: Session, recipe: Recipe, came: str) -> Arrival:
    """The page on a recipe, and on its answer where it holds one. Raises OptionError."""
    check_sliders(session, recipe)
    name, concept = recipe.model, recipe.concept
    shipped = shipped_of(name)
    preset = concept is not None and known_concepts().get(concept.name) == concept
    view = first_view(name, concept.name) if concept and preset else None
    model = shown_before(name)
    notes = []
    if shipped and recipe.revision not in ("", shipped.data["revision"]):
        notes.append(
            f"It was made for revision {recipe.revision} of {name} and this is "
            f"{shipped.data['revision']}: the heads may carry something else."
        )
    pictures = digests_of(recipe)
    if recipe.trial and recipe.trial.pictures and not pictures:
        notes.append(f"It was made with {', '.join(recipe.trial.pictures)}, which no link carries.")
    prompt = "" if recipe.trial else first_prompt(model, concept)
    ask = Ask.of(recipe, prompt, pictures)
    answered = recipe.trial is not None and bool(recipe.trial.texts)
    says = "on the answer that was seen there" if answered else "on its edit"
    banner = html.banner(
        f"{came} {says}: {name}, {concept.title if concept else 'no concept'}.", notes
    )
    return Arrival(Scene(model, view), Opening(ask, recipe), None, banner)


def open_file(session: Session, path: str) -> Arrival:
    """A recipe from an uploaded file. Raises RecipeError, ModelError or OptionError."""
    return with_recipe(session, Recipe.load(Path(path)), "A recipe opened this page")


def check_sliders(session: Session, recipe: Recipe) -> None:
    """Raise OptionError for an edit that the page cannot show."""
    factors = recipe.edit.factors
    if len(factors) > MOST_HEADS:
        raise OptionError(
            f"The recipe edits {len(factors)} heads and the page has {MOST_HEADS} sliders. "
            "Use it on the command line or in Python."
        )
    for head, factor in factors.items():
        if not LOWEST <= factor <= HIGHEST:
            raise OptionError(
                f"The recipe's factor {factor:g} of {head} is beyond the page's sliders "
                f"({LOWEST:g} to {HIGHEST:g}). Use it on the command line or in Python."
            )
    shipped = shipped_of(recipe.model)
    if shipped is not None:
        scores = next(iter(shipped.data["concepts"].values()))["scores"]
        for head in factors:
            if head.layer >= len(scores) or head.index >= len(scores[0]):
                raise OptionError(
                    f"There is no head {head} in {recipe.model}, which has {len(scores)} layers of "
                    f"{len(scores[0])} heads."
                )
