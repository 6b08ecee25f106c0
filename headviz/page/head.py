"""Panel: one head opened: its name in words, its token spectrum, strongest samples, logit lens."""

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.heads.patch_map import PatchMap, head_map
from headviz.page import html, picture_html
from headviz.page.exporting import FIGURES, Parcel, figure_parcel, result_parcel
from headviz.page.view import ModelShown, View, find_ranking, find_spectrum
from headviz.pursuit.spectrum import Spectrum
from headviz.session.session import Session
from headviz.session.shipped import SPECTRUM_STEPS
from headviz.session.snippets import spectrum_snippet

_ABOUT_TEXTS = "texts that move this head most; the concept's words are marked"
_ABOUT_PICTURES = (
    "pictures that move this head most, bright where in the picture its signal is strongest; the "
    "ring marks the strongest place. Point at one to see it plain"
)


def draw(
    session: Session, view: View | None, head: Head | None, maps: Sequence[PatchMap] = ()
) -> Markup:
    """A head of the view; `maps` are of its strongest pictures, as soon as there are any."""
    if view is None or not view.top:
        return html.note("Rank heads, then choose one.")
    head = fitting(view, head)
    spectrum = find_spectrum(session, view, head)
    title = html.head_title(spectrum, find_ranking(session, view))
    about = _ABOUT_PICTURES if view.has_vision else _ABOUT_TEXTS
    return Markup(
        '{}<p class="hv-head-does"><button type="button" class="hv-small" data-add="{}">turn this '
        'head</button></p><div class="hv-two"><div>{}</div><div id="samples"><h4>Strongest samples'
        '</h4><p class="hv-note">{}</p>{}</div></div>{}'
    ).format(
        title,
        str(head),
        html.spectrum_bars(spectrum),
        about,
        _samples(view, spectrum, maps),
        html.lens(spectrum.lens),
    )


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


def _samples(view: View, spectrum: Spectrum, maps: Sequence[PatchMap]) -> Markup:
    if view.has_vision:
        return picture_html.samples(spectrum.samples, view.prompt_set, view.concept.words, maps)
    return html.samples(spectrum.samples, view.concept.words)


def maps_of(session: Session, view: View, head: Head | None) -> list[PatchMap]:
    """Where in its strongest pictures the head looks; needs the model. Empty for a CLIP model."""
    head = fitting(view, head)
    spectrum = find_spectrum(session, view, head)
    model, mean = session.model(view.model), None
    if not model.writes:  # it reads one position, the class token's
        return []
    if view.options.centre:
        read = session.activations(view.model, view.prompt_set, view.options.pooling)
        mean = read.z[head.layer, head.index].mean(0)
    maps = []
    for sample in spectrum.samples:
        picture = view.prompt_set.pictures[sample.number]
        text = view.prompt_set.texts[sample.number]
        with session.lock:
            maps.append(head_map(model, picture, head, text, mean))
    return maps
