"""Part of the page: which heads write a word, looked up in the spectra of all heads.

Only shipped spectra are searched: those of every head are there before any weight is read.
"""

from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from headviz.base.head import Head
from headviz.page import html
from headviz.page.bench import script
from headviz.page.errors import told
from headviz.page.shared import Scene, Shared, Updates
from headviz.page.view import View, shipped_of

MOST = 16
_FORM = Markup(
    '<form><label for="search-word">Which heads write the word</label>'
    '<input id="search-word" type="search" maxlength="60" placeholder="river" required>'
    '<button class="hv-small" type="submit">Find</button></form>'
)


@dataclass(frozen=True, order=True)
class Found:
    """A head whose spectrum holds the word."""

    place: int
    """Of the word among the head's tokens, from 1."""
    head: Head
    token: str
    explained: float
    """Share of the head's variance that the tokens up to this one explain."""
    name: str
    """Of the head, in words."""


def find_heads(view: View, word: str) -> list[Found] | None:
    """Heads that write the word, those first that pick it first; None where none are shipped."""
    shipped = shipped_of(view.model) if view.shipped else None
    if shipped is None:
        return None
    wanted = word.strip().casefold()
    found = []
    for name in shipped.data["spectra"]:
        head = Head.parse(name)
        spectrum = shipped.spectrum(head)
        for place, atom in enumerate(spectrum.atoms, 1):
            if atom.token.strip().casefold() == wanted:
                called = html.head_name(spectrum)
                found.append(Found(place, head, atom.token.strip(), atom.explained, called))
                break
    return sorted(found)


def build(shared: Shared) -> None:
    """Lay the field and its results out; a result is opened as a cell of the map is."""
    form = gr.HTML(_FORM, js_on_load=script("search", "search"), elem_id="search")
    shown = gr.HTML("", js_on_load=script("found"), elem_id="found")

    def search(asked: dict[str, str], scene: Scene) -> Updates:
        view = scene.view
        word = asked["word"]
        return {shown: told_of(find_heads(view, word) if view else None, word)}

    form.search(told(shown, search), outputs=[shown], **shared.newest("search", shared.scene))


def told_of(found: list[Found] | None, word: str) -> Markup:
    """The heads as buttons."""
    if found is None:
        return html.note("Only the spectra that ship with a model are searched.")
    if not found:
        return html.note(f"No head's first tokens hold “{word.strip()}”.")
    rows = html.joined(
        Markup(
            '<li><button type="button" class="hv-open" data-layer="{}" data-head="{}">{}</button> '
            '“{}” <small title="place of the word among its tokens, and what those up to it '
            'explain of what the head writes">{}., {}</small></li>'
        ).format(f.head.layer, f.head.index, str(f.head), f.name, f.place, f"{f.explained:.0%}")
        for f in found[:MOST]
    )
    return Markup('<p class="hv-note">{} heads write “{}”</p><ol class="hv-found">{}</ol>').format(
        len(found), word.strip(), rows
    )
