"""Recipes on the page: what stands there as a recipe, and a recipe put onto the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.editing.recipe import Recipe, check_fit
from headviz.heads.edits import Edit
from headviz.page.edit_handlers import HIGHEST, LOWEST, MAX_SLIDERS
from headviz.page.errors import warn
from headviz.page.shared import Number
from headviz.page.view import ModelShown, View, find_ranking
from headviz.session.session import Session


@dataclass(frozen=True, eq=False)
class LoadedRecipe:
    """A recipe that a person put onto the page; the same one, given again, is another."""

    recipe: Recipe
    """For the model as it is here."""

    def fits(self, model: ModelShown, view: View | None) -> bool:
        """Whether it is about what the page shows."""
        concept = self.recipe.concept
        about = view is None or concept is None or concept.words == view.concept.words
        return self.recipe.model == model.name and about


def recipe_of(
    session: Session,
    view: View | None,
    model: ModelShown,
    where: str,
    chosen: Sequence[Head],
    factors: Sequence[Number],
) -> Recipe:
    """The edit that stands on the page. Raises OptionError where no head is chosen."""
    if not chosen:
        raise OptionError("No head is chosen, so there is no edit to save. Choose one or more.")
    edit = Edit(dict(zip(chosen, map(float, factors), strict=False)), where)
    if view is not None:
        return Recipe.of(edit, find_ranking(session, view))
    return Recipe(model.name, session.model(model.name).revision, edit)


def open_file(session: Session, path: str) -> LoadedRecipe:
    """A recipe from an uploaded file. Raises RecipeError, ModelError or OptionError."""
    return _given(session, Recipe.load(Path(path)))


def open_link(session: Session, token: str) -> LoadedRecipe:
    """A recipe from a link. Raises as `open_file`.

    A link must not make the server load whatever it names: only a model that is offered anyway.
    """
    recipe = Recipe.from_link(token)
    if recipe.model not in session.model_names():
        raise OptionError(
            f"The link's edit is for the model {recipe.model!r}, which is not offered here. If you "
            "trust it, write its name under Model, then save the edit as a file and load that."
        )
    return _given(session, recipe)


def _given(session: Session, recipe: Recipe) -> LoadedRecipe:
    check_sliders(recipe.edit)
    model = session.model(recipe.model)
    if warning := check_fit(recipe, model):
        warn([warning])
    return LoadedRecipe(recipe.on(model))


def check_sliders(edit: Edit) -> None:
    """Raise OptionError for an edit that the page's sliders cannot show."""
    if len(edit.factors) > MAX_SLIDERS:
        raise OptionError(
            f"The recipe edits {len(edit.factors)} heads and the page has {MAX_SLIDERS} sliders. "
            "Use it on the command line or in Python."
        )
    for head, factor in edit.factors.items():
        if not LOWEST <= factor <= HIGHEST:
            raise OptionError(
                f"The recipe's factor {factor:g} of {head} is beyond the page's sliders "
                f"({LOWEST:g} to {HIGHEST:g}). Use it on the command line or in Python."
            )


def token_of(request: gr.Request) -> str:
    """The recipe that the page's address carries, '' where it carries none."""
    return str(dict(request.query_params).get("recipe", ""))
