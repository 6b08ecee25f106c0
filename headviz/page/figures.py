"""Plotly figures and data frames of results."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from headviz.base.head import Head
from headviz.editing.effect import Effect
from headviz.pursuit.ranking import RankedHead, Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session.rankings import find_way

INK = "#8a8f98"  # readable on white and on black: the page may be either
WEAK, STRONG = "#eef2f7", "#08519c"  # as in style.css
BAR, TRACE = "#2b7fb8", "#e08a1e"  # blue and orange: told apart by every kind of colour vision


def ranking_table(ranking: Ranking, n: int = 30) -> pd.DataFrame:
    """The first n heads: rank, head, score, chance level, and the share of all heads so far."""
    heads = ranking.heads[:n]
    total = ranking.total_heads
    return pd.DataFrame(
        {
            "#": [h.rank for h in heads],
            "head": [str(h.head) for h in heads],
            "score": [round(h.score, 3) for h in heads],
            "chance": [round(h.chance, 3) for h in heads],
            "over": [round(h.over, 3) for h in heads],
            "±": [_interval(h) for h in heads],
            "of all": [f"{h.rank / total:.1%}" for h in heads],
        }
    )


def _interval(head: RankedHead) -> str:
    """Where 95 % of bootstrap draws put the difference, as the page writes numbers."""
    if head.low is None or head.high is None:
        return ""
    return f"{head.low:.2f}–{head.high:.2f}"


def heat_figure(ranking: Ranking) -> go.Figure:
    """Every head's score, layer by head: what the page's map shows."""
    n_layers, n_heads = ranking.scores.shape
    is_share = find_way(ranking.criterion).is_share
    figure = go.Figure(
        go.Heatmap(
            z=ranking.scores.tolist(),
            customdata=ranking.chance.tolist(),
            x=list(range(n_heads)),
            y=[f"L{layer}" for layer in range(n_layers)],
            colorscale=[[0, WEAK], [1, STRONG]],
            zmin=0,
            xgap=1,
            ygap=1,
            colorbar={"title": "score", "tickformat": ".0%" if is_share else ".3g"},
            hovertemplate="%{y}.H%{x}<br>score %{z:.3f}, chance %{customdata:.3f}<extra></extra>",
        )
    )
    figure.update_layout(
        height=150 + 24 * max(n_layers, 6),
        margin={"l": 10, "r": 10, "t": 40, "b": 40},
        xaxis={"title": "head", "showgrid": False, "zeroline": False},
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "title": "layer"},
    )
    return figure


def cause_figure(ranking: Ranking, estimate: Tensor, measured: Mapping[Head, Effect]) -> go.Figure:
    """What every head writes over chance against what is lost without it: the page's other map."""
    figure = go.Figure()
    others = [one for one in ranking.heads if one.head not in measured]
    figure.add_scatter(
        x=[one.over for one in others],
        y=[float(estimate[one.head.layer, one.head.index]) for one in others],
        text=[str(one.head) for one in others],
        name="estimated",
        mode="markers",
        marker={"symbol": "circle-open", "color": INK, "size": 6},
        hovertemplate="%{text}<br>over chance %{x:.3f}<br>estimated %{y:.3f} nats<extra></extra>",
    )
    known = [(one, measured[one.head]) for one in ranking.heads if one.head in measured]
    figure.add_scatter(
        x=[one.over for one, _ in known],
        y=[effect.need for _, effect in known],
        error_y={
            "array": [effect.need_high - effect.need for _, effect in known],
            "arrayminus": [effect.need - effect.need_low for _, effect in known],
            "thickness": 1,
        },
        text=[str(one.head) for one, _ in known],
        customdata=[effect.side for _, effect in known],
        name="measured, 95 %; the larger, the more side effects",
        mode="markers",
        marker={"color": BAR, "size": [8 + 24 * min(1, e.side**0.5) for _, e in known]},
        hovertemplate="%{text}<br>over chance %{x:.3f}<br>lost %{y:.3f} nats<br>side effects "
        "%{customdata:.3f} nats<extra></extra>",
    )
    figure.update_layout(
        height=460,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={"title": "writes it: score over chance", "gridcolor": "rgba(138,143,152,.25)"},
        yaxis={"title": "lost without it (nats)", "gridcolor": "rgba(138,143,152,.25)"},
    )
    return figure


def on_paper(figure: go.Figure, title: str) -> go.Figure:
    """The figure for a file: with a title, dark on white, as wide as a page of text."""
    paper = go.Figure(figure)
    paper.update_layout(
        title={"text": _disarmed(title), "font": {"size": 15}},
        width=900,
        height=(figure.layout.height or 400) + 60,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"color": "#222"},
        margin={"l": 20, "r": 20, "t": 110, "b": 50},
    )
    return paper


def spectrum_figure(spectrum: Spectrum) -> go.Figure:
    """Tokens in the order picked: bars of weight, and a line of variance explained so far."""
    atoms = spectrum.atoms
    # The number keeps two tokens that read alike apart, and orders the axis.
    names = [f"{n}  {_visible(atom.token)}" for n, atom in enumerate(atoms, 1)]
    figure = go.Figure()
    figure.add_bar(
        x=[a.weight for a in atoms],
        y=names,
        orientation="h",
        name="weight",
        marker_color=BAR,
        hovertemplate="%{y}<br>weight %{x:.3f}<extra></extra>",
    )
    figure.add_scatter(
        x=[a.explained for a in atoms],
        y=names,
        xaxis="x2",
        name="explained so far",
        mode="lines+markers",
        line_color=TRACE,
        marker_symbol="diamond",
        hovertemplate="%{y}<br>explained so far %{x:.1%}<extra></extra>",
    )
    bars = 26 * max(len(atoms), 3)  # pixels
    figure.update_layout(
        height=bars + 120,
        margin={"l": 10, "r": 10, "t": 70, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK},
        # Above the ticks of the upper axis.
        legend={"orientation": "h", "y": 1 + 26 / bars, "yanchor": "bottom", "x": 0},
        yaxis={"autorange": "reversed", "automargin": True, "gridcolor": "rgba(138,143,152,.15)"},
        xaxis={"title": "weight", "gridcolor": "rgba(138,143,152,.25)", "rangemode": "tozero"},
        xaxis2={
            "overlaying": "x",
            "side": "top",
            "range": [0, 1.02],
            "tickformat": ".0%",
            "showgrid": False,
        },
    )
    return figure


def _visible(token: str) -> str:
    """A token for an axis label, its blanks visible."""
    return _disarmed(token.strip() or token.replace(" ", "␣").replace("\n", "⏎"))


def _disarmed(text: str) -> str:
    """A text without plotly's own markup."""
    return text.replace("<", "‹").replace(">", "›")  # noqa: RUF001 (they look alike on purpose)
