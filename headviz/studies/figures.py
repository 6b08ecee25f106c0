"""A study's ratios as figures: bars by number of heads, lines over heads or factors, a matrix.

The line at 1 is the unedited model. Random heads show the quartiles of their draws, all others the
bootstrap interval. matplotlib is imported where something is drawn: studies run without it.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headviz.studies.request import Measure
from headviz.studies.summary import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
"""Told apart by every kind of colour vision (Okabe and Ito)."""
TALLEST = 3.0
"""Ratios beyond are cut, and say so."""
_PANEL = (3.3, 2.9)  # inches
_STYLE: Any = {
    "svg.fonttype": "none",  # letters stay letters: small files, and text that can be searched
    "svg.hashsalt": "headviz",  # the same figure, the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}

Value = Callable[[Row], float]
Name = Callable[[float], str]


def heads_text(k: int | float) -> str:  # beartype takes no int for a float
    """So many heads, in words."""
    return f"{k:g} head{'' if k == 1 else 's'}"


_ALPHA: Name = "α = {:g}".format


def bars(rows: Sequence[Row], measure: Measure) -> "Figure":
    """A group of bars for each number of heads, a panel for each factor."""
    alphas = list(dict.fromkeys(row.alpha for row in rows))
    figure, panels = _panels([_ALPHA(alpha) for alpha in alphas], rows, measure)
    ks = list(dict.fromkeys(row.k for row in rows))
    arms = _arms(rows)
    wide = 0.84 / len(arms)
    for axes, alpha in zip(panels, alphas, strict=True):
        axes.set_xticks(range(len(ks)), map(heads_text, ks))
        for number, arm in enumerate(arms):
            own = _drawn_of(rows, arm, lambda row: row.alpha, alpha)
            places = [ks.index(row.k) + (number - (len(arms) - 1) / 2) * wide for row in own]
            drawn = axes.bar(
                places,
                [_height(row) for row in own],
                0.92 * wide,
                color=COLORS[number % len(COLORS)],
                yerr=_errors(own),
                error_kw={"linewidth": 1},
                label=arm,
            )
            cut = [f"{row.ratio:.1f}" if (row.ratio or 0) > TALLEST else "" for row in own]
            axes.bar_label(drawn, cut)
    return _finished(figure, panels, arms)


def over_heads(rows: Sequence[Row], measure: Measure) -> "Figure | None":
    """Lines over k, a panel a factor; None for fewer than two k."""
    names = (heads_text, _ALPHA)
    return _lines(rows, measure, lambda row: row.k, lambda row: row.alpha, names)


def over_factors(rows: Sequence[Row], measure: Measure) -> "Figure | None":
    """Lines over α, a panel a number of heads; None for fewer than two α."""
    names = (_ALPHA, heads_text)
    return _lines(rows, measure, lambda row: row.alpha, lambda row: row.k, names)


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    axes_are: tuple[str, str],
) -> "Figure":
    """Numbers between 0 and 1 as coloured squares; None is left empty.

    `axes_are` say what a row and what a column is.
    """
    figure, (axes,) = _sheet(1, 0.9 * len(columns) + 2.2, 0.6 * len(rows) + 1.5)
    numbers = [[float("nan") if v is None else v for v in line] for line in values]
    # The number in each square says what lies beyond the ends of the colours.
    axes.imshow(numbers, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for number, line in enumerate(values):
        for column, value in enumerate(line):
            ink = "white" if value is not None and value > 0.6 else "black"
            text = "–" if value is None else f"{value:.2f}"
            axes.text(column, number, text, ha="center", va="center", color=ink)
    axes.set_xticks(range(len(columns)), map(_short, columns))
    axes.set_yticks(range(len(rows)), map(_short, rows))
    axes.set_ylabel(axes_are[0])
    axes.set_xlabel(axes_are[1])
    figure.suptitle(title, fontweight="bold", wrap=True)
    return figure


def scatter(
    panels: Mapping[str, Sequence[tuple[str, float, float]]],
    axes_are: tuple[str, str],
    ends: tuple[float, float],
    aim: tuple[tuple[float, float], tuple[float, float]],
    subjects: Sequence[str],
) -> "Figure":
    """A panel a name, a dot (subject, across, up) each; what lies beyond `ends` is drawn there.

    `aim` is the rectangle that is aimed at, across and up.
    """
    n_across = min(5, len(panels))
    n_down = -(-len(panels) // n_across)
    figure, grid = _sheet(n_across, 1.9 * n_across + 0.4, 2.1 * n_down + 0.7, n_down)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (name, dots) in zip(grid, panels.items(), strict=False):
        (left, right), (low, high) = aim
        axes.fill_between([left, right], low, high, color="#dfeef7", zorder=0)
        axes.set_title(name, loc="left", fontsize=9)
        axes.set(xlim=(-0.08 * ends[0], 1.08 * ends[0]), ylim=(-0.08 * ends[1], 1.08 * ends[1]))
        is_draws = len(dots) > len(subjects)
        for number, subject in enumerate(subjects):
            own = [(min(x, ends[0]), min(y, ends[1])) for one, x, y in dots if one == subject]
            # Equal ones stand a little apart.
            apart = (number - (len(subjects) - 1) / 2) * 0.012
            own = [(x + apart * ends[0], y + apart * ends[1]) for x, y in own]
            axes.plot(
                [x for x, _ in own],
                [y for _, y in own],
                "os^D"[number // len(COLORS) % 4],
                color=COLORS[number % len(COLORS)],
                markersize=2.5 if is_draws else 6,
                alpha=0.5 if is_draws else 0.9,
                label=subject,
            )
    for number, axes in enumerate(grid):
        is_last = number + n_across >= len(panels)
        axes.tick_params(labelbottom=is_last)
        axes.set_xlabel(axes_are[0] if is_last else "")
    grid[0].set_ylabel(axes_are[1])
    return _finished(figure, grid, subjects)


def files(figures: Mapping[str, "Figure"]) -> dict[str, bytes]:
    """Each figure as SVG and as PNG, by file name."""
    import matplotlib

    found = {}
    for name, figure in figures.items():
        for kind in ("svg", "png"):
            buffer = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            with matplotlib.rc_context(_STYLE):
                figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            found[f"{name}.{kind}"] = buffer.getvalue()
    return found


def _lines(
    rows: Sequence[Row], measure: Measure, along: Value, across: Value, names: tuple[Name, Name]
) -> "Figure | None":
    points = sorted({along(row) for row in rows})
    if len(points) < 2:
        return None
    values = sorted({across(row) for row in rows})
    figure, panels = _panels([names[1](value) for value in values], rows, measure)
    arms = _arms(rows)
    for axes, value in zip(panels, values, strict=True):
        # Points keep equal distances, whatever their numbers are.
        axes.set_xticks(range(len(points)), map(names[0], points))
        axes.set_xlim(-0.5, len(points) - 0.5)
        for number, arm in enumerate(arms):
            own = sorted(_drawn_of(rows, arm, across, value), key=along)
            # Arms stand a little apart, so that error bars do not hide one another.
            shift = (number - (len(arms) - 1) / 2) * 0.05
            axes.errorbar(
                [points.index(along(row)) + shift for row in own],
                [_height(row) for row in own],
                _errors(own),
                color=COLORS[number % len(COLORS)],
                marker="o",
                markersize=4,
                linewidth=1.5,
                elinewidth=1,
                label=arm,
            )
    return _finished(figure, panels, arms)


def _arms(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.arm for row in rows))


def _drawn_of(rows: Sequence[Row], arm: str, across: Value, value: int | float) -> list[Row]:
    """The arm's rows of one panel that have a ratio."""
    return [r for r in rows if r.arm == arm and across(r) == value and r.ratio is not None]


def _height(row: Row) -> float:
    assert row.ratio is not None, "rows without a ratio are left out"
    return min(row.ratio, TALLEST)


def _errors(rows: Sequence[Row]) -> list[list[float]]:
    """How far each error bar goes down and up: quartiles of random draws, else the bootstrap's."""
    down, up = [], []
    for row in rows:
        low, high = row.low, row.high
        if row.first_quarter is not None:
            low, high = row.first_quarter, row.third_quarter
        assert low is not None and high is not None, "a ratio has an interval"
        middle = _height(row)
        down.append(max(0.0, middle - low))
        up.append(max(0.0, min(high, TALLEST) - middle))
    return [down, up]


def _panels(
    titles: Sequence[str], rows: Sequence[Row], measure: Measure
) -> tuple["Figure", list["Axes"]]:
    """Panels side by side over one axis of ratios."""
    figure, panels = _sheet(len(titles), _PANEL[0] * len(titles) + 0.5, _PANEL[1])
    ratios = [v for r in rows for v in (r.ratio, r.high, r.third_quarter) if v is not None]
    panels[0].set_ylim(0, min(TALLEST, max([1.2, *ratios])) * 1.04)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=9)
        axes.axhline(1, color="#444", linewidth=1)
        axes.grid(axis="y", color="#ddd")
    figure.suptitle(f"{measure.what} ÷ unedited", fontweight="bold", x=0.02, ha="left")
    return figure, panels


def _sheet(
    n_panels: int, width: float, height: float, n_down: int = 1
) -> tuple["Figure", list["Axes"]]:
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: that keeps figures for all threads

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(n_down, n_panels, sharex=n_down > 1, sharey=True, squeeze=False)
        return figure, list(grid.flat)


def _finished(figure: "Figure", panels: Sequence["Axes"], arms: Sequence[str]) -> "Figure":
    handles, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles, arms, loc="outside lower left", ncols=4, frameon=False)
    return figure


def _short(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:17]}…"
