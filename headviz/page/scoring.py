"""Part of the panel `choose`: how heads are scored."""

import gradio as gr

from headviz.inputs.concepts import PIECES
from headviz.page import prompt_sets
from headviz.page.model_handlers import usual_options
from headviz.page.view import ModelShown
from headviz.pursuit.criteria import CRITERIA


def build(
    model: ModelShown,
) -> tuple[gr.Dropdown, tuple[gr.components.Component, ...], gr.Dropdown, gr.Dropdown]:
    """Lay the components out: the criterion, and those of criteria.Options, the last two again."""
    default = usual_options(model)
    with gr.Accordion("Options", open=False):
        with gr.Row():
            criterion = gr.Dropdown(
                [(criterion.title, name) for name, criterion in CRITERIA.items()],
                value="somp",
                label="Score",
            )
            pooling = gr.Dropdown(
                prompt_sets.pooling_choices(model),
                value=default.pooling,
                label="Where a head is read",
                elem_id="pooling",
            )
            pieces = gr.Dropdown(
                [(text, key) for key, text in PIECES.items()],
                value=default.pieces,
                label="Words of several tokens",
            )
        with gr.Row():
            steps = gr.Number(default.steps, label="Atoms at most", precision=0)
            centre = gr.Checkbox(default.centre, label="variance about the mean")
            normalise = gr.Checkbox(default.normalise, label="atoms of unit length")
            fold_norm = gr.Checkbox(default.fold_norm, label="final norm folded in")
    return criterion, (steps, centre, normalise, fold_norm), pooling, pieces
