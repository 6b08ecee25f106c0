"""The page: a header, and the tabs Explore, Lessons and Studies. What is seen first is true."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from headviz.base.head import Head
from headviz.base.lru import LRU
from headviz.inputs.images import Picture
from headviz.page import (
    answers,
    api,
    arriving,
    bench,
    causes,
    chat,
    choose,
    curve,
    exporting,
    finding,
    head,
    heat_map,
    html,
    image_input,
    lessons,
    ribbon,
    save,
    search,
    studies,
)
from headviz.page.arriving import Arrival
from headviz.page.bench import script
from headviz.page.choose import Fields
from headviz.page.clips import Clips
from headviz.page.errors import sentence, told
from headviz.page.limits import KEPT_SECONDS, MOST_SECONDS, MOST_TABS, Closed, RequestLimit
from headviz.page.model_handlers import OWN_WORDS, describe, name_of
from headviz.page.scene import Opening, drawn, headline, opening
from headviz.page.scene import bench as bench_value
from headviz.page.shared import (
    MAX_THREADS,
    MODEL_QUEUE,
    QUIET,
    Parts,
    Result,
    Scene,
    Shared,
    Updates,
)
from headviz.page.view import first_view, shipped_of, shown_before
from headviz.page.work import Work
from headviz.session.causal import Causes
from headviz.session.session import Session

SCRIPTS = (
    "state.js",
    "bench.js",
    "beside.js",
    "curve.js",
    "chat.js",
    "heat_map.js",
    "causes.js",
    "find.js",
    "lessons.js",
    "export.js",
)
_HERE = Path(__file__).parent
_HEADER = (
    '<header class="hv-header"><h1>headviz</h1><p>What do attention heads talk about, and what '
    'happens when you turn them?</p><button type="button" id="theme" aria-label="Light or dark">◐'
    "</button></header>"
)


def build_page(session: Session) -> gr.Blocks:
    """The page over this session, opened on the shipped results of its first model."""
    # On a page for others every step ends some day, whoever asked for it.
    most = None if session.allowed is None else MOST_SECONDS
    work = Work(most)
    session.loading = work.note
    scene = first_scene(session)
    pictures = image_input.first_pictures(scene)
    first = opening(session, scene, pictures)
    kept = (3600, KEPT_SECONDS)
    with gr.Blocks(title="headviz", analytics_enabled=False, delete_cache=kept) as page:
        api.build(session, most)  # first, so that no handler of a panel takes an endpoint's name
        exporting.serve_plotly()
        gr.HTML(_HEADER, elem_id="header", js_on_load="")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Explore", id="explore"):
                shared, fields, load = _lay_out(session, work, page, scene, first, pictures)
            with gr.Tab("Lessons", id="lessons"):
                cards = lessons.build(session)
            with gr.Tab("Studies", id="studies"):
                studies.build(shared)
        _wire_arrival(shared, fields, Openers(load, tabs, cards))
        page.unload(Closed(page, work.forget).add)
    page.queue(default_concurrency_limit=4)
    return page


def first_scene(session: Session) -> Scene:
    """The first model with the first concept that ships with it."""
    offered = session.model_names()
    # The first for which anything ships: what is seen first has to be true before weights are read.
    name = next((one for one in offered if shipped_of(one)), offered[0] if offered else "")
    shipped = shipped_of(name)
    if shipped is None:
        return Scene(shown_before(name))
    return Scene(shown_before(name), first_view(name, shipped.first_concept))


def _lay_out(
    session: Session,
    work: Work,
    page: gr.Blocks,
    scene: Scene,
    first: Opening,
    pictures: tuple[Picture, ...],
) -> tuple[Shared, Fields, gr.UploadButton]:
    view = scene.view
    top = view.top[0] if view and view.top else None
    trial = first.recipe.trial if first.recipe else None
    comparison = trial.comparison() if trial else None
    states = {
        "scene": gr.State(scene),
        "result": gr.State(Result(first.ask, (comparison,)) if comparison else None),
        "pictures": gr.State(pictures),
    }
    banner = gr.HTML("", elem_id="banner", js_on_load=script("banner"))
    line = gr.HTML(headline(scene), elem_id="headline", js_on_load=script("headline"))
    drawer = gr.Column(elem_id="drawer")
    seen = gr.Column(elem_id="pictures-part")
    with gr.Column(elem_id="bench"):
        knobs = gr.HTML(
            bench_value(scene, first.ask),
            html_template='<div class="hv-bench"></div>',
            js_on_load=script("bench", "run", "missed", "turn", "stop", "pulse"),
            elem_id="knobs",
        )
        sending = gr.Column(elem_id="sending")
        said = gr.HTML("", elem_id="said", js_on_load=script("said"))
        shown = (
            answers.answers(first.ask, comparison, "done")
            if comparison
            else answers.nothing(first.ask, "")
        )
        texts = gr.HTML(shown, elem_id="answers", js_on_load=script("answers"))
        below = gr.Column(elem_id="below-answers")
    with gr.Row(equal_height=False, elem_id="heads"):
        with gr.Column(min_width=320):
            gr.HTML(heat_map.SWITCH, js_on_load=script("mapSwitch"), elem_id="map-switch")
            grid = gr.HTML(
                heat_map.draw(session, view),
                elem_id="heat-map",
                js_on_load=script("map", "head_open"),
            )
            panel, told_of_effects = causes.build(session, scene)
            under = gr.Column()
        with gr.Column(min_width=320):
            opened = gr.HTML(
                head.draw(session, view, top), elem_id="head", js_on_load=script("head", "look")
            )
    parts = Parts(banner, line, said, texts, knobs, grid, panel, opened)
    shared = Shared(
        page,
        session,
        Clips(session),
        work,
        Causes(session),
        LRU(64),
        data=gr.JSON(visible=False),
        parts=parts,
        **states,
    )
    with under:
        lessons.build_prediction()
        search.build(shared)
    with drawer:
        fields = choose.build(shared)
    with seen:
        image_input.build(shared)
    bench.wire(shared)
    causes.wire(shared, told_of_effects)
    with sending:
        chat.build(shared)
    with below:
        curve.build(shared)
        ribbon.build(shared)
        finding.build(shared)
    _wire_head(shared)
    head.wire(shared)
    load = save.build(shared)
    return shared, fields, load


def _wire_head(shared: Shared) -> None:
    """A click on the map, or on a name in the list, opens a head."""
    parts = shared.parts

    def open_head(asked: dict[str, int], scene: Scene) -> Updates:
        chosen = Head(int(asked["layer"]), int(asked["head"]))
        return {parts.head: head.draw(shared.session, scene.view, chosen)}

    parts.heat_map.head_open(
        told(parts.said, open_head),
        outputs=[parts.head, parts.said],
        **shared.newest("head_open", shared.scene),
        **MODEL_QUEUE,
    )


@dataclass(frozen=True)
class Openers:
    """What opens the page on something, beside its address."""

    load: gr.UploadButton
    tabs: gr.Tabs
    cards: gr.HTML
    """The lessons."""


def _wire_arrival(shared: Shared, fields: Fields, openers: Openers) -> None:
    """The address, a recipe as a file and a lesson open the page on what they hold."""
    session, parts = shared.session, shared.parts

    def arrive(request: gr.Request) -> Updates:
        try:
            query = dict(request.query_params)
            found = arriving.arrive(session, query)
            if found and (question := query.get("lesson")):
                found = lessons.asked_first(found, question)
        except Exception as error:
            return {parts.banner: html.banner(sentence(error), bad=True)}
        return arrived(found) if found else {parts.banner: ""}

    def arrived(found: Arrival) -> Updates:
        scene, view = found.scene, found.scene.view
        pictures = image_input.first_pictures(scene)
        first = found.opening or opening(session, scene, pictures, found.concept)
        concept = first.ask.concept
        words = ", ".join(concept.words) if concept else ""
        updates: Updates = {
            **drawn(shared, scene, first, found.banner),
            fields.model: scene.model.name,
            fields.about: choose.summary(session, scene),
            fields.status: html.note(describe(view)),
            fields.words: words,
            fields.concept: name_of(words) if words else OWN_WORDS,
            **choose.fitted(fields, scene.model),
            shared.pictures: pictures,
        }
        if found.head is not None:
            updates[parts.head] = head.draw(session, view, found.head)
        return updates

    outputs = [
        shared.scene,
        shared.result,
        shared.pictures,
        fields.model,
        fields.about,
        fields.status,
        fields.words,
        fields.concept,
        *fields.fitting,
        *vars(parts).values(),
    ]
    shared.page.load(told(parts.banner, arrive), None, outputs, **QUIET)

    def open_file(path: str) -> Updates:
        return arrived(arriving.open_file(session, path))

    def open_lesson(asked: dict[str, int]) -> Updates:
        found = lessons.arrival(session, int(asked["number"]))
        return {openers.tabs: gr.update(selected="explore"), **arrived(found)}

    openers.cards.lesson(
        told(parts.said, open_lesson), outputs=[openers.tabs, *outputs], **shared.newest("lesson")
    )
    openers.load.upload(
        told(parts.said, open_file), openers.load, outputs, api_visibility="private"
    )


def launch_options() -> dict[str, Any]:
    """Theme, style and script, which belong to `launch` in gradio 6."""
    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    theme = gr.themes.Base(
        primary_hue="sky", neutral_hue="slate", font=list(system), font_mono=list(mono)
    ).set(  # white on the theme's own sky blue is hard to read
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
    )
    code = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    code = code.replace("</", "<\\/")  # a script ends at the first such mark, in a text too
    return {
        "state_session_capacity": MOST_TABS,
        # gradio's own button of settings says its name twice to a screen reader.
        "footer_links": ["api", "gradio"],
        "app_kwargs": {"middleware": [Middleware(RequestLimit)]},
        "max_threads": MAX_THREADS,
        "theme": theme,
        "css": (_HERE / "style.css").read_text(encoding="utf-8"),
        # In the head, so that it is there before any part of the page asks for it.
        "head": f"<script>{code}</script>",
    }
