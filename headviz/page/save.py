"""Panel: what the page shows as files, as a link, and as the Python that gives it again."""

import json
from dataclasses import replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.clip.zero_shot import ZeroShot
from headviz.editing.compare import Comparison
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.prompts import default_prompt
from headviz.inputs.images import Picture
from headviz.page import causes, head, heat_map, lessons
from headviz.page.ask import Ask
from headviz.page.bench import script
from headviz.page.errors import notice, told
from headviz.page.exporting import (
    FIGURES,
    Parcel,
    buttons,
    file_name,
    file_parcel,
    result_parcel,
)
from headviz.page.html import joined
from headviz.page.shared import MODEL_QUEUE, QUIET, Result, Scene, Shared, Updates
from headviz.page.view import find_ranking
from headviz.session.plain_snippet import plain_snippet
from headviz.session.session import Session
from headviz.session.snippets import comparison_snippet, zero_shot_snippet
from headviz.session.tables import comparison_table

HEADS = ("csv", "json", "safetensors", "activations", *FIGURES)
NEEDS = ("csv", "json", *FIGURES)
HEAD = ("csv", "json", *FIGURES)
ANSWERS = ("recipe", "link", "csv", "json")
NOTHING = "# Nothing was answered yet."
_NOT_TURNED = (
    "# The knob was turned while the answer on the page was written. This program has the last\n"
    "# factors from the first word on, so it writes another answer.\n"
)
_LINK = Markup('<input id="link" readonly hidden aria-label="Link to what the page shows">')


def build(shared: Shared) -> gr.UploadButton:
    """Lay the buttons and the box of code out and wire them; gives the one that opens a recipe."""
    rows = [
        buttons("edit", ANSWERS, "answers"),
        buttons("heads", HEADS, "ranking"),
        buttons("needs", NEEDS, "needed"),
        buttons("head", HEAD, "open head"),
    ]
    row = gr.HTML(
        Markup('<div class="hv-exports">{}</div>{}').format(joined(rows), _LINK),
        js_on_load=script("exports", "export"),
        elem_id="save",
    )
    lessons.build_form()
    load = gr.UploadButton("Open a recipe", file_types=[".json"], size="sm", elem_id="load-recipe")
    said = gr.HTML(elem_id="save-said")
    parcel = gr.JSON(visible=False)
    session = shared.session

    def export(
        event: gr.EventData, scene: Scene, result: Result | None, pictures: tuple[Picture, ...]
    ) -> Updates:
        opened = Head.parse(str(event.head)) if event.head else None
        kind = str(event.kind)
        try:
            if event.row == "heads":
                found = heat_map.export(session, scene.view, kind)
            elif event.row == "needs":
                found = causes.export(shared, scene.view, str(event.texts), kind)
            elif event.row == "head":
                found = head.export(session, scene.view, opened, kind)
            else:
                found = answers_parcel(
                    session, kind, Ask.from_dict(event.ask), scene, result, pictures
                )
        except Exception as error:
            return {parcel: None, said: notice(error)}
        return {parcel: found, said: ""}

    row.export(
        export,
        [shared.scene, shared.result, shared.pictures],
        [parcel, said],
        trigger_mode="multiple",
        **QUIET,
        **MODEL_QUEUE,
    ).success(None, parcel, None, js="(parcel) => window.headviz.save(parcel)")
    _build_code(shared)
    return load


def _build_code(shared: Shared) -> None:
    with gr.Accordion("The Python that gives this", open=False, elem_id="code"):
        with gr.Tab("Answers"):
            answered = gr.Code(NOTHING, language="python", interactive=False, show_label=False)
        with gr.Tab("… in plain transformers"):
            plain = gr.Code(NOTHING, language="python", interactive=False, show_label=False)
        with gr.Tab("Ranking"):
            ranking = gr.Code("", language="python", interactive=False, show_label=False)
        with gr.Tab("Open head"):
            spectrum = gr.Code("", language="python", interactive=False, show_label=False)
        said = gr.HTML()
        show = gr.HTML(js_on_load=script("code", "code"), elem_id="code-asks")

    def codes(asked: dict[str, str], scene: Scene, result: Result | None) -> Updates:
        opened = Head.parse(asked["head"]) if asked["head"] else None
        with_headviz, alone = codes_of(shared.session, result)
        return {
            answered: with_headviz,
            plain: alone,
            ranking: heat_map.code_of(scene.view, scene.model),
            spectrum: head.code_of(scene.view, opened, scene.model),
            said: "",
        }

    show.code(
        told(said, codes),
        outputs=[answered, plain, ranking, spectrum, said],
        **shared.newest("code", shared.scene, shared.result),
        **MODEL_QUEUE,
    )


def answers_parcel(
    session: Session,
    kind: str,
    ask: Ask,
    scene: Scene,
    result: Result | None,
    pictures: tuple[Picture, ...],
) -> Parcel:
    """The ask as it stands on the page, with its answer if there is one; or the last texts."""
    if kind in ("recipe", "link"):
        recipe = recipe_of(session, ask, scene, result, pictures)
        if kind == "link":
            return {"link": recipe.to_link()}
        about = recipe.concept.name if recipe.concept else ""
        name = file_name("json", ask.model, about, "recipe")
        return file_parcel(name, recipe.to_json().encode())
    if result is None:
        raise OptionError("Nothing was answered yet. Ask something first.")
    names = (result.ask.model, "texts")
    if len(result.results) == 1:
        return result_parcel(result.results[0], kind, *names)
    if kind == "csv":
        content = comparison_table(result.results).to_csv()
    else:
        content = json.dumps([r.as_dict() for r in result.results], ensure_ascii=False, indent=2)
    return file_parcel(file_name(kind, *names), content.encode())


def recipe_of(
    session: Session,
    ask: Ask,
    scene: Scene,
    result: Result | None,
    pictures: tuple[Picture, ...] = (),
) -> Recipe:
    """The ask as a recipe, with the three texts where they are its own."""
    view = scene.view
    if view is not None and view.model == ask.model and view.concept == ask.concept:
        recipe = Recipe.of(ask.edit, find_ranking(session, view))
    else:
        recipe = Recipe(ask.model, "", ask.edit, ask.concept)
    names = tuple(picture.name for picture in pictures if scene.model.has_vision)
    trial = Trial(ask.prompt, ask.sampling, ask.control_seed, names, chat=ask.chat)
    if result is not None and result.ask.without_pictures() == ask.without_pictures():
        last = result.results[-1]
        if isinstance(last, Comparison) and len(result.results) == 1:
            trial = Trial.of(last, ask.sampling, ask.control_seed, ask.chat)
    return replace(recipe, trial=trial)


def codes_of(session: Session, result: Result | None) -> tuple[str, str]:
    """The Python that gives the last texts: with headviz, and in plain transformers."""
    if result is None:
        return NOTHING, NOTHING
    ask, last = result.ask, result.results[-1]
    if isinstance(last, ZeroShot):
        names: list[Any] = [f"picture-{n}.png" for n, _ in enumerate(ask.pictures, 1)]
        code = zero_shot_snippet(ask.model, last.classes, ask.edit, names)
        return code, "# open_clip's models do not run in transformers."
    assert isinstance(last, Comparison)
    # Each picture is asked about by itself: the program shows the last.
    pictures, sampling = list(last.pictures), ask.sampling
    model = session.model(ask.model)
    prompt = ask.prompt or default_prompt(model)
    code = comparison_snippet(
        ask.model,
        prompt,
        ask.edit,
        ask.concept,
        sampling,
        pictures,
        ask.earlier,
        ask.control_seed,
        ask.chat,
    )
    plain = plain_snippet(model, prompt, ask.edit, sampling, pictures, ask.chat)
    return code, (_NOT_TURNED if ask.earlier else "") + plain
