"""Panel: every head's score as a map."""

import math

from markupsafe import Markup

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.page import html
from headviz.page.exporting import (
    FIGURES,
    Parcel,
    figure_parcel,
    file_name,
    file_parcel,
    result_parcel,
)
from headviz.page.view import ModelShown, View, find_ranking
from headviz.pursuit.ranking import Ranking
from headviz.session.rankings import find_way
from headviz.session.save import to_bytes
from headviz.session.session import Session
from headviz.session.snippets import ranking_snippet

FULL = 0.3
"""The score over chance of the strongest color: the same for every concept and model.

Heads that nobody planted stand .02 to .2 over chance: the color goes with the root, so that these
can be told apart and a planted head of .5 still is the strongest.
"""
_MARKS = (0.03, 0.1)  # over chance, that the legend names between nothing and FULL
NO_HEADS = "no attention heads in this layer"
SWITCH = Markup(
    '<div class="hv-switch"><h3>Heads</h3><div role="group" aria-label="Which map of the heads">'
    '<button type="button" data-map="writes" aria-pressed="true">What they write</button>'
    '<button type="button" data-map="needs" aria-pressed="false">What the model needs</button>'
    "</div></div>"
)


def draw(session: Session, view: View | None) -> Markup:
    """The map of a view, or a hint where there is none."""
    if view is None:
        return html.note("No ranking yet. Open “change”, choose a concept and press Rank heads.")
    ranking = find_ranking(session, view)
    return Markup("{}{}{}").format(
        Markup(
            '<p class="hv-note">A cell is a head: <b>the stronger its color, the more of what it '
            "writes is about the concept</b>, above what random words would get.</p>"
        ),
        grid(ranking),
        legend(ranking.criterion),
    )


def draft(ranking: Ranking, n_samples: int) -> Markup:
    """The map as far as the texts were read, of `n_samples`: to look at, not to open."""
    return Markup('{}<div class="hv-draft" inert>{}{}</div>').format(
        html.note(
            f"{ranking.tokens.concept.title}, from {ranking.n_samples} of {n_samples} so far. "
            "It sharpens as more are read; Stop keeps what was read for the next time."
        ),
        grid(ranking),
        legend(ranking.criterion),
    )


def strength(criterion: str, score: float, chance: float, top: float) -> float:
    """How strong a cell's color is, 0 to 1. Criteria without a share have no common scale."""
    full = FULL if find_way(criterion).is_share else top
    over = score - chance
    return 0.0 if math.isnan(over) else math.sqrt(min(max(over / full, 0.0), 1.0))


def grid(ranking: Ranking) -> Markup:
    """Layer × head as a grid of buttons; heat_map.js lays it out for the width there is."""
    scores, chance = ranking.scores, ranking.chance
    top = max((scores - chance).nan_to_num(0.0).max().item(), 1e-9)
    n_layers, n_heads = scores.shape
    rows = []
    for layer in range(n_layers):
        if scores[layer].isnan().all():
            cells = [Markup('<span class="hv-none" role="gridcell">{}</span>').format(NO_HEADS)]
        else:
            cells = [
                _cell(
                    Head(layer, index),
                    ranking.criterion,
                    scores[layer, index].item(),
                    chance[layer, index].item(),
                    top,
                )
                for index in range(n_heads)
            ]
        rows.append(
            Markup(
                '<div class="hv-row" role="row" data-layer="{}"><span class="hv-layer" '
                'role="rowheader">L{}</span>{}</div>'
            ).format(layer, layer, html.joined(cells))
        )
    return Markup(
        '<div class="hv-map" role="grid" aria-label="Heads: {0} layers by {1} heads. Arrow keys '
        'move, Home and End go to a layer\'s ends, Enter opens." data-layers="{0}" '
        'data-heads="{1}">{2}</div>'
    ).format(n_layers, n_heads, html.joined(rows))


def _cell(head: Head, criterion: str, score: float, chance: float, top: float) -> Markup:
    told = f"{head}: {html.score_text(criterion, score, chance)}"
    return Markup(
        '<button type="button" class="hv-cell" role="gridcell" style="--s:{}" data-layer="{}" '
        'data-head="{}" tabindex="-1" title="{}" aria-label="{}"></button>'
    ).format(f"{strength(criterion, score, chance, top):.3f}", head.layer, head.index, told, told)


def legend(criterion: str) -> Markup:
    """What the colors and marks mean."""
    is_share = find_way(criterion).is_share
    most = f"{FULL:.0%} or more over chance" if is_share else "the most here"
    marks = html.joined(
        Markup('<small style="left:{}">{}</small>').format(
            f"{math.sqrt(mark / FULL):.0%}", f"{mark:.0%}"
        )
        for mark in (_MARKS if is_share else ())
    )
    return Markup(
        '<p class="hv-legend"><span>at chance</span><i class="hv-scale">{}</i><span>{}'
        '</span><span class="hv-key"><i class="hv-cell opened"></i> open</span>'
        '<span class="hv-key"><i class="hv-cell down"></i> turned down</span>'
        '<span class="hv-key"><i class="hv-cell up"></i> turned up</span></p>'
    ).format(marks, most)


def code_of(view: View | None, model: ModelShown) -> str:
    """The Python that gives the ranking of the view."""
    from headviz.page.model_handlers import usual_options

    if view is None:
        return "# Rank heads first."
    options = usual_options(model)
    return ranking_snippet(
        view.model, view.concept, view.prompt_set, view.criterion, view.options, options
    )


def export(session: Session, view: View | None, kind: str) -> Parcel:
    """The ranking of the view as a file. Raises OptionError where there is none."""
    if view is None:
        raise OptionError("There is no ranking yet. Rank heads first.")
    names = (view.model, view.concept.name)
    if kind == "activations":
        read = session.activations(view.model, view.prompt_set, view.options.pooling)
        content = to_bytes(read, "safetensors")
        return file_parcel(file_name("safetensors", *names[:1], kind), content)
    ranking = find_ranking(session, view)
    if kind in FIGURES:
        from headviz.page.figures import heat_figure, on_paper  # plotly, for a file alone

        title = f"{view.concept.title} in {view.model}: every head's score"
        return figure_parcel(on_paper(heat_figure(ranking), title), kind, *names, "heads")
    return result_parcel(ranking, kind, *names, "heads")
