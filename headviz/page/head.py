"""Panel: one head opened: its name in words, its token spectrum, strongest samples, logit lens.

Where in its strongest samples it writes needs the model, and is shown as soon as that is there.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from markupsafe import Markup

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.base.progress import Progress
from headviz.heads.patch_map import PatchMap, head_map
from headviz.heads.token_map import TokenMap, token_map
from headviz.inputs.prompt_sets import PromptSet, make_prompt_set
from headviz.page import html, picture_html
from headviz.page.bench import script
from headviz.page.errors import told
from headviz.page.exporting import FIGURES, Parcel, figure_parcel, result_parcel
from headviz.page.shared import MODEL_QUEUE, Scene, Shared, Updates
from headviz.page.view import ModelShown, View, find_ranking, find_spectrum
from headviz.pursuit.spectrum import Spectrum
from headviz.session.session import Session
from headviz.session.shipped import SPECTRUM_STEPS
from headviz.session.snippets import spectrum_snippet

_ABOUT_TEXTS = (
    "Texts that move this head most. The concept's words are underlined; the stronger a word's "
    "tint, the further what the head writes there is from what it usually writes."
)
_ABOUT_PICTURES = (
    "Pictures that move this head most, bright where in the picture its signal is strongest; the "
    "ring marks the strongest place. Point at one to see it plain."
)


_MEAN_OF = 32
"""Texts that a head's mean is taken over where the whole set was read elsewhere."""
Maps = Sequence[PatchMap | TokenMap]


def wire(shared: Shared) -> None:
    """Show where the open head writes; the browser asks for it (hv.head in heat_map.js)."""
    tints = gr.HTML("", js_on_load=script("tints"), elem_id="tints")
    session = shared.session

    def look(asked: dict[str, Any], scene: Scene) -> Updates:
        view = scene.view
        if view is None:
            return {tints: gr.skip()}
        # What nobody asked for by hand must neither load a model nor encode pictures.
        if asked["patient"] and (view.has_vision or not session.has_loaded(view.model)):
            return {tints: gr.skip()}
        head = Head.parse(str(asked["head"]))
        session.model(view.model)
        *_, maps = session.there(maps_of, view, head)
        if not maps:
            return {tints: gr.skip()}
        shown = _samples(view, find_spectrum(session, view, head), maps)
        # The same once more has to arrive as well: what it stood in may have been drawn anew.
        mark = Markup('<div data-head="{}" data-stamp="{}">{}</div>')
        return {tints: mark.format(str(head), time.time_ns(), shown)}

    shared.parts.head.look(
        told(shared.parts.said, look),
        outputs=[tints, shared.parts.said],
        **shared.newest("look", shared.scene),
        **MODEL_QUEUE,
    )


def draw(session: Session, view: View | None, head: Head | None) -> Markup:
    """A head of the view, its samples without a map as yet."""
    if view is None or not view.top:
        return html.note("Rank heads, then choose one.")
    head = fitting(view, head)
    spectrum = find_spectrum(session, view, head)
    title = html.head_title(spectrum, find_ranking(session, view), address(view, head))
    about = _ABOUT_PICTURES if view.has_vision else _ABOUT_TEXTS
    return Markup(
        '{}<p class="hv-head-does"><button type="button" class="hv-small" data-add="{}">turn this '
        'head</button></p><div class="hv-two"><div>{}</div><div><h4>Strongest samples</h4>'
        '<p class="hv-note">{}</p><div id="samples">{}</div></div></div>{}'
    ).format(
        title,
        str(head),
        html.spectrum_bars(spectrum),
        about,
        _samples(view, spectrum, ()),
        html.lens(spectrum.lens),
    )


def address(view: View, head: Head) -> str:
    """What a link to the head is asked for by; empty where the view is not one that ships."""
    if not view.shipped:
        return ""
    return "?" + urlencode({"model": view.model, "concept": view.concept.name, "head": str(head)})


def fitting(view: View, head: Head | None) -> Head:
    """The head, or the ranking's first where the model has no such head."""
    fits = head is not None and head.layer < view.n_layers and head.index < view.n_heads
    return head if head is not None and fits else view.top[0]


def code_of(view: View | None, head: Head | None, model: ModelShown) -> str:
    """The Python that gives the head's spectrum."""
    from headviz.page.model_handlers import usual_options

    if view is None or not view.top:
        return "# Rank heads first, then open one."
    options = replace(view.options, steps=usual_options(model).steps)
    return spectrum_snippet(
        view.model,
        fitting(view, head),
        view.prompt_set,
        SPECTRUM_STEPS,
        options,
        usual_options(model),
    )


def export(session: Session, view: View | None, head: Head | None, kind: str) -> Parcel:
    """The head's spectrum as a file. Raises OptionError where no head is open."""
    if view is None or not view.top:
        raise OptionError("No head is open. Rank heads, then choose one.")
    head = fitting(view, head)
    spectrum = find_spectrum(session, view, head)
    names = (view.model, str(head), "spectrum")
    if kind in FIGURES:
        from headviz.page.figures import on_paper, spectrum_figure  # plotly, for a file alone

        title = f"{head} of {view.model}: the tokens that it talks about"
        return figure_parcel(on_paper(spectrum_figure(spectrum), title), kind, *names)
    return result_parcel(spectrum, kind, *names)


def _samples(view: View, spectrum: Spectrum, maps: Maps) -> Markup:
    if view.has_vision:
        patches = [one for one in maps if isinstance(one, PatchMap)]
        return picture_html.samples(spectrum.samples, view.prompt_set, view.concept.words, patches)
    tokens = [one for one in maps if isinstance(one, TokenMap)]
    return html.samples(spectrum.samples, view.concept.words, tokens)


def maps_of(session: Session, progress: Progress, view: View, head: Head | None) -> Iterator[Maps]:
    """Once: where in its strongest pictures or texts the head writes; needs the model.

    Empty for a CLIP model, and where heads were read on what the model said itself.
    """
    head = fitting(view, head)
    spectrum = find_spectrum(session, view, head)
    model, options = session.model(view.model), view.options
    # A CLIP model reads one position, the class token's.
    if not model.writes or options.pooling == "generated":
        yield []
        return
    mean = None
    if options.centre:
        some = _some(view.prompt_set) if view.shipped else view.prompt_set
        read = session.activations(view.model, some, options.pooling, progress, options.chat)
        mean = read.z[head.layer, head.index].mean(0)
    maps: list[PatchMap | TokenMap] = []
    for sample in spectrum.samples:
        text = view.prompt_set.texts[sample.number]
        with session.lock:
            if view.has_vision:
                picture = view.prompt_set.pictures[sample.number]
                maps.append(head_map(model, picture, head, text, mean))
            else:
                maps.append(token_map(model, text, head, mean, options.chat))
    yield maps


def _some(prompt_set: PromptSet) -> PromptSet:
    """As many as a mean needs, evenly from the whole set: all of a shipped one takes minutes."""
    if prompt_set.pictures or len(prompt_set) <= _MEAN_OF:
        return prompt_set
    texts = prompt_set.texts
    chosen = [texts[n * len(texts) // _MEAN_OF] for n in range(_MEAN_OF)]
    return make_prompt_set(f"{_MEAN_OF} of {prompt_set.name}", chosen)
