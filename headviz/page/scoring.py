"""Part of the panel `choose`: how heads are scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headviz.base.errors import OptionError
from headviz.inputs.concepts import PIECES
from headviz.page import prompt_sets
from headviz.page.model_handlers import usual_options
from headviz.page.view import ModelShown
from headviz.pursuit.options import MOST_STEPS, ORDERS, Options
from headviz.session.rankings import RANKINGS

_WIDE = 420  # px, in which a choice can be read to its end


@dataclass(frozen=True)
class ScoringFields:
    """The components; those after the first are the fields of Options."""

    criterion: gr.Dropdown
    steps: gr.Number
    centre: gr.Checkbox
    normalise: gr.Checkbox
    fold_norm: gr.Checkbox
    pooling: gr.Dropdown
    pieces: gr.Dropdown
    order: gr.Dropdown
    template: gr.Checkbox

    @property
    def all(self) -> set[gr.components.Component]:
        """All of them."""
        return {self.criterion, *self._options().values()}

    def read(self, data: Mapping[Any, Any]) -> Options:
        """The options as they stand on the page. Raises OptionError."""
        chosen = {name: data[component] for name, component in self._options().items()}
        steps = int(chosen["steps"] or 0)
        if not 1 <= steps <= MOST_STEPS:
            raise OptionError(f"Give a number of atoms from 1 to {MOST_STEPS}.")
        return Options(**{**chosen, "steps": steps})

    def _options(self) -> dict[str, gr.components.Component]:
        return {
            "steps": self.steps,
            "centre": self.centre,
            "normalise": self.normalise,
            "fold_norm": self.fold_norm,
            "pooling": self.pooling,
            "pieces": self.pieces,
            "order": self.order,
            "template": self.template,
        }


def build(model: ModelShown) -> ScoringFields:
    """Lay the components out."""
    usual = usual_options(model)
    with gr.Accordion("Options", open=False):
        with gr.Row():
            criterion = gr.Dropdown(
                [(way.title, name) for name, way in RANKINGS.items()],
                value="somp",
                label="Score",
                min_width=_WIDE,
            )
            pooling = gr.Dropdown(
                prompt_sets.pooling_choices(model),
                value=usual.pooling,
                label="Where a head is read",
                min_width=_WIDE,
                elem_id="pooling",
            )
            pieces = gr.Dropdown(
                [(text, key) for key, text in PIECES.items()],
                value=usual.pieces,
                label="Words of several tokens",
                min_width=_WIDE,
            )
            order = gr.Dropdown(
                [(text, key) for key, text in ORDERS.items()],
                value=usual.order,
                label="Order",
                min_width=_WIDE,
            )
        with gr.Row():
            steps = gr.Number(usual.steps, label="Atoms at most", precision=0)
            centre = gr.Checkbox(usual.centre, label="variance about the mean")
            normalise = gr.Checkbox(usual.normalise, label="atoms of unit length")
            fold_norm = gr.Checkbox(usual.fold_norm, label="final norm folded in")
            template = gr.Checkbox(usual.template, label="texts inside the chat template")
    return ScoringFields(
        criterion, steps, centre, normalise, fold_norm, pooling, pieces, order, template
    )
