"""Results as tables, and tables as CSV.

A table is columns and rows of plain values. Cells that a spreadsheet would run as a formula, as
tokens of a vocabulary may, are given an apostrophe in CSV; numbers stay numbers.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from headviz.base.head import Head
from headviz.base.shapes import Tensor
from headviz.clip.zero_shot import ZeroShot
from headviz.editing.compare import Comparison
from headviz.editing.effect import Effect
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum

Cell = str | int | float | None
_FORMULAS = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 (a spreadsheet reads the wide ones as well)


@dataclass(frozen=True)
class Table:
    """Columns by name, and rows in order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def to_csv(self) -> str:
        """As RFC 4180 has it: a header line, commas, quotes where a cell needs them."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([_harmless(cell) for cell in row] for row in self.rows)
        return text.getvalue()


def _harmless(cell: Cell) -> Cell:
    """The cell as no spreadsheet runs it."""
    if not isinstance(cell, str):
        return cell
    begins = cell[:1] in "\t\r\n" or cell.lstrip()[:1] in _FORMULAS
    return f"'{cell}" if cell and begins else cell


def ranking_table(ranking: Ranking) -> Table:
    """All heads in order; `low` to `high` is where the difference `over` lies."""
    columns = ("rank", "head", "layer", "index", "score", "chance", "over")
    spread = ("low", "high", "above_chance", "best_rank", "worst_rank")
    return Table(
        columns + spread,
        tuple(
            (
                *(h.rank, str(h.head), h.head.layer, h.head.index, h.score, h.chance, h.over),
                *(getattr(h, name) for name in spread),
            )
            for h in ranking.heads
        ),
    )


def effects_table(
    ranking: Ranking, estimate: Tensor | None, measured: Mapping[Head, Effect]
) -> Table:
    """All heads in order: what each writes, and what the model loses without it, in nats.

    `need` and `side` are empty where a head was not measured, `estimate` where nothing was.
    """
    columns = ("need", "need_low", "need_high", "side", "side_low", "side_high", "n_positions")
    rows = []
    for one in ranking.heads:
        effect = measured.get(one.head)
        guess = None if estimate is None else float(estimate[one.head.layer, one.head.index])
        values = astuple(effect) if effect else (None,) * len(columns)
        rows.append((one.rank, str(one.head), one.over, one.low, one.high, guess, *values))
    return Table(("rank", "head", "over", "low", "high", "estimate", *columns), tuple(rows))


def spectrum_table(spectrum: Spectrum) -> Table:
    """A head's tokens in the order picked."""
    return Table(
        ("step", "token", "weight", "explained"),
        tuple(
            (step, atom.token, atom.weight, atom.explained)
            for step, atom in enumerate(spectrum.atoms, 1)
        ),
    )


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Every text, three a comparison: original, edited and control."""
    measures = ("concept_words", "differs_at", "perplexity")
    return Table(
        ("pictures", "prompt", "column", "edit", "text", *measures),
        tuple(
            (
                *(", ".join(comparison.pictures), comparison.prompt, c.name, c.edit, c.text),
                *(getattr(c, name) for name in measures),
            )
            for comparison in comparisons
            for c in comparison.columns
        ),
    )


def zero_shot_table(found: ZeroShot) -> Table:
    """The probability of every class for every picture, three times: original, edited, control."""
    return Table(
        ("picture", "column", "edit", "class", "probability"),
        tuple(
            (number, answer.name, answer.edit, name, probability)
            for answer in found.answers
            for number, row in enumerate(answer.probabilities.tolist(), 1)
            for name, probability in zip(found.classes, row, strict=True)
        ),
    )
