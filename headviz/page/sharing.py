"""Part of the panel `edit`: the edit as a recipe or a link, its texts as tables, its Python."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.clip.zero_shot import ZeroShot
from headviz.editing.compare import Comparison
from headviz.editing.recipe import Recipe
from headviz.heads.prompts import default_prompt
from headviz.page import recipes
from headviz.page.captioning import Result
from headviz.page.errors import shown
from headviz.page.exporting import (
    Parcel,
    code_box,
    export_row,
    file_name,
    file_parcel,
    result_parcel,
)
from headviz.page.recipes import LoadedRecipe
from headviz.page.shared import MODEL_QUEUE, QUIET, Number, Shared
from headviz.page.view import ModelShown, View
from headviz.session.plain_snippet import plain_snippet
from headviz.session.session import Session
from headviz.session.snippets import comparison_snippet, zero_shot_snippet
from headviz.session.tables import comparison_table

KINDS = ("recipe", "link", "csv", "json")
NOTHING = "# Generate first."


@dataclass(frozen=True)
class OnPage:
    """What the edit on the page consists of."""

    view: View | None
    model: ModelShown
    given: LoadedRecipe | None
    where: str
    chosen: tuple[Head, ...]
    factors: Sequence[Number]


def build(shared: Shared, told: gr.State, where: gr.Radio, sliders: Sequence[gr.Slider]) -> None:
    """Lay the row and the box out and wire them."""
    session = shared.session

    def make(kind: str, told: Result | None, *page: Any) -> Parcel:
        view, model, given, where, chosen, *factors = page
        return export(session, kind, told, OnPage(view, model, given, where, chosen, factors))

    with gr.Row(elem_classes="hv-exports"):
        states = [shared.view, shared.model, shared.given, where, shared.chosen]
        export_row("export-edit", KINDS, make, [told, *states, *sliders])
        load = gr.UploadButton(
            "Load a recipe", file_types=[".json"], size="sm", scale=0, elem_id="load-recipe"
        )
    with_headviz, plain = code_box(
        "code-edit", {"with headviz": NOTHING, "plain transformers": NOTHING}
    )
    told.change(shown(lambda told: codes_of(session, told)), told, [with_headviz, plain], **QUIET)
    load.upload(
        shown(lambda path: recipes.open_file(session, path)),
        load,
        shared.given,
        api_visibility="private",
        **MODEL_QUEUE,
    )

    @shown
    def follow_link(request: gr.Request) -> Any:
        token = recipes.token_of(request)
        return recipes.open_link(session, token) if token else gr.skip()

    shared.page.load(follow_link, None, shared.given, **QUIET)


def export(session: Session, kind: str, told: Result | None, page: OnPage) -> Parcel:
    """The edit that stands on the page, or the texts that were generated last, to save."""
    if kind in ("recipe", "link"):
        recipe = _recipe(session, page)
        if kind == "link":
            return {"link": recipe.to_link()}
        about = recipe.concept.name if recipe.concept else ""
        name = file_name("json", page.model.name, about, "recipe")
        return file_parcel(name, recipe.to_json().encode())
    if told is None:
        raise OptionError("Nothing was generated yet. Press Generate first.")
    names = (told.asked.model, "texts")
    if len(told.results) == 1:
        return result_parcel(told.results[0], kind, *names)
    if kind == "csv":
        content = comparison_table(told.results).to_csv()
    else:
        content = json.dumps([r.as_dict() for r in told.results], ensure_ascii=False, indent=2)
    return file_parcel(file_name(kind, *names), content.encode())


def _recipe(session: Session, page: OnPage) -> Recipe:
    where = page.where if page.model.writes else "everywhere"
    recipe = recipes.recipe_of(session, page.view, page.model, where, page.chosen, page.factors)
    if page.view is None and page.given is not None and page.given.fits(page.model, None):
        return replace(recipe, concept=page.given.recipe.concept)
    return recipe


def codes_of(session: Session, told: Result | None) -> tuple[str, str]:
    """The Python that gives the last texts: with headviz, and in plain transformers."""
    if told is None:
        return NOTHING, NOTHING
    asked, result = told.asked, told.results[-1]
    pictures = [picture.name for picture in asked.pictures]
    if isinstance(result, ZeroShot):
        code = zero_shot_snippet(asked.model, result.classes, asked.edit, pictures)
        return code, "# open_clip's models do not run in transformers."
    assert isinstance(result, Comparison)
    # Each picture is asked about by itself: the program shows the last.
    pictures, sampling = pictures[-1:], asked.sampling
    model = session.model(asked.model)
    prompt = asked.prompt or default_prompt(model)
    code = comparison_snippet(asked.model, prompt, asked.edit, asked.concept, sampling, pictures)
    return code, plain_snippet(model, prompt, asked.edit, sampling, pictures)
