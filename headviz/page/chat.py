"""Part of the bench: what a model is really sent, and how a prompt is put to it.

The choices are part of the ask (chat.js changes it); here the prompt is set inside the model's
template and shown with what is what.
"""

from typing import Any

import gradio as gr
from markupsafe import Markup

from headviz.base.errors import PromptError
from headviz.heads.prompts import Sent, default_prompt, encode_prompt, sent
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel
from headviz.page import html
from headviz.page.ask import MAX_SYSTEM, Ask
from headviz.page.bench import script
from headviz.page.errors import told
from headviz.page.shared import MODEL_QUEUE, Shared, Updates

MEANING = {
    "own": "the prompt's own words: heads are read on these",
    "system": "the system prompt",
    "template": "what the model's chat template adds",
}
_FIELDS = Markup(
    '<details id="chat"><summary></summary><div class="hv-fields">'
    '<label><input type="checkbox" id="chat-template"> inside the model\'s chat template</label>'
    '<label><input type="checkbox" id="chat-thinking"> thinks before it answers</label>'
    '<label>System prompt <select id="chat-system"><option value="usual">the template\'s own'
    '</option><option value="none">none</option><option value="own">my own</option></select>'
    '</label><textarea id="chat-own" rows="2" maxlength="{}" aria-label="My own system prompt" '
    'placeholder="You are a poet who hates colors."></textarea></div></details>'
).format(MAX_SYSTEM)


def build(shared: Shared) -> None:
    """Lay the choices out, and the prompt as it is sent, which is asked for while it is seen."""
    fields = gr.HTML(_FIELDS, js_on_load=script("chat", "sent"), elem_id="chat-fields")
    shown = gr.HTML("", elem_id="sent")

    def show(asked: dict[str, Any], pictures: tuple[Picture, ...]) -> Updates:
        ask = Ask.from_dict(asked)
        model = shared.session.model(ask.model)
        if not model.writes:
            return {shown: ""}
        seen = pictures[:1] if model.has_vision else ()
        try:
            return {shown: draw(model, ask, seen)}
        except PromptError:  # told beside the answers, which are asked for as well
            return {shown: html.note("Like this nothing can be sent.")}

    fields.sent(
        told(shown, show),
        outputs=[shown],
        **shared.newest("sent", shared.pictures),
        **MODEL_QUEUE,
    )


def draw(model: LoadedModel, ask: Ask, pictures: tuple[Picture, ...]) -> Markup:
    """What the model is sent, with how many tokens. Raises PromptError where it cannot be."""
    prompt = ask.prompt if ask.prompt.strip() else default_prompt(model)
    if not prompt or (model.has_vision and not pictures):
        return html.note("Nothing is sent yet.")
    encoded = encode_prompt(model, prompt, 0, pictures, ask.chat)
    whole = sent(model, prompt, len(pictures), ask.chat)
    seen = f", {sum(encoded.image)} of a picture" if pictures else ""
    told_of = f"{len(encoded.ids)} tokens: {sum(encoded.own)} of the prompt's own words{seen}"
    return Markup('<p class="hv-note">{}.{}</p>{}').format(
        told_of, " The answer begins inside a thought." if whole.is_thinking else "", marked(whole)
    )


def marked(whole: Sent) -> Markup:
    """The text with its stretches told apart, and a key to them."""
    kinds = [kind for kind in MEANING if any(span.kind == kind for span in whole.spans)]
    pieces = html.joined(
        Markup('<span class="hv-sent-{}" title="{}">{}</span>').format(
            span.kind, MEANING[span.kind], whole.text[span.start : span.stop]
        )
        for span in whole.spans
    )
    key = html.joined(
        Markup('<span class="hv-sent-{}">{}</span> ').format(kind, MEANING[kind]) for kind in kinds
    )
    return Markup(
        '<pre class="hv-sent" tabindex="0" role="group" aria-label="What the model is sent">{}'
        '</pre><p class="hv-note hv-sent-key">{}</p>'
    ).format(pieces, key)
