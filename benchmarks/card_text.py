"""The text of a real model's card, from card.json and what ships. Measures nothing."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.turning import CONCEPTS, FLUENT, N_OPENINGS, N_OTHERS, N_OWN, WORDINGS
from headviz.models.known import known_models
from headviz.session.causal import SAID
from headviz.session.ship import EXAMPLES, MIN_WORDS, N_QUESTIONS
from headviz.session.shipped import SPECTRUM_STEPS
from headviz.studies.ratios import Estimate, estimate

Row = Mapping[str, Any]


def fell(row: Row) -> bool:
    """Whether the concept's words fell, below the original's and below the controls'."""
    edited, *others = (sum(row["words"][arm]) for arm in ("edited", "original", "control"))
    return edited < min(others)


def share(row: Row, arm: str) -> Estimate:
    """The edited stories' words, as a share of that arm's; its interval is over stories."""
    edited, base = (np.array(row["words"][name], float) for name in ("edited", arm))
    return estimate([edited], base)


def surely_fell(row: Row) -> bool:
    """Whether both shares surely lie below 1."""
    highs = [share(row, arm).high for arm in ("original", "control")]
    return all(high is not None and high < 1 for high in highs)


def needed(row: Row) -> bool:
    """Whether the model surely loses more of the concept than under any of the controls."""
    told = row["needed"]
    return told is not None and bool(
        told["edited"]["need_low"] > max(0, *(c["need"] for c in told["controls"]))
    )


def stays(row: Row) -> bool:
    """Whether a story stays a story."""
    return bool(row["perplexity"]["edited"] <= FLUENT)


def render(results: Mapping[str, Any], left_out: Mapping[str, str]) -> str:
    """The card as Markdown."""
    known = known_models()[results["model"]]
    concepts = results["concepts"]
    n_fell = sum(map(fell, concepts.values()))
    n_sure = sum(map(surely_fell, concepts.values()))
    n_needed = sum(map(needed, concepts.values()))
    n_passed = sum(fell(row) and stays(row) for row in concepts.values())
    missing = "; ".join(f"{name} ({why} of the model)" for name, why in left_out.items())
    lines = "\n".join(_line(name, row) for name, row in concepts.items())
    unmeasured = [name for name in CONCEPTS if name not in concepts]
    missed = f" Not measured yet: {', '.join(unmeasured)}." if unmeasured else ""
    n = results["n_stories"]
    return f"""# {known.title}

Results of headviz for a model that others trained. Its weights are not here: `python -m headviz get
{known.name}` fetches them ({known.licence}, {known.hub}). Revision {results["revision"]},
{results["total_heads"]} heads.

## What ships

`python -m headviz ship --model {known.name}` makes all of it, with the default options:

- `shipped.json`: heads ranked for every preset with at least {MIN_WORDS} single-token words, on the
  {results["n_samples"]} texts of `{results["prompt_set"]}` (digest
  `{results["prompt_set_digest"]}`); the first {SPECTRUM_STEPS} tokens of all
  {results["total_heads"]} spectra; answers to the examples, as original, edited and random control
  at temperature 0. Left out: {missing or "none"}.
- `examples.json`: for {", ".join(EXAMPLES)}, the first
  {N_QUESTIONS} questions and the first opening of the general sets, in the order of the file, in
  whose answer the unedited model says a word of the concept. Where fewer do, there are
  fewer. Nobody looked at what an edit does to them. The page opens on the clearest of
  them and says so: a best case, in which the edited text has none of the concept's words that the
  original says and the control has all of them; of several, the one whose original
  and control share most of their words (one about colors, if any of theirs is clear).
- `said.json`: what the model said to each opening of `descriptions`
  ({SAID.max_new_tokens} tokens at temperature {SAID.temperature}), in two rounds, as token ids.
  Effects are measured and edits searched for on these words.

## What turning heads down does

`python -m benchmarks card --model {known.name}` measures it and writes this card. The edit is the
one the page begins with: the first heads over chance ({_n_heads(concepts)}), those not surely above
chance left out, at {results["factor"]:g}; beside it as many random other heads of the same layers,
the mean of {results["n_controls"]} draws where nothing else is said. Nothing is tuned for a
concept. In {results["number_format"]}.

- *Words*: how often the concept's words stand in {n} texts of {results["story_tokens"]} tokens,
  each told {results["n_rounds"]} times at temperature {results["temperature"]:g}, each time with a
  random control of its own. *Words left*: as a share of the original's and of the control's, with
  95 % intervals over the {n}. The texts: the {N_OPENINGS} openings marked with the concept, gone on
  with as plain text, and {len(WORDINGS)} stories, letters and poems about it, asked for in the same
  wordings for all.
- *Perplexity*: of a text for the unedited model, divided by that of the unedited text, median of
  {n}, at temperature 0. Up to {FLUENT} a story stays a story.
- *Needed*: by how much the log-probability of the concept's words falls where the model itself said
  them, in nats, with its 95 % interval, and the divergence elsewhere in brackets; on answers to the
  openings, which the ranking did not read. It is steadier than counts: no text is told anew.
- *Own* and *others*: of the first {N_OWN} questions of the concept, and the first {N_OTHERS} of
  each other one of {len(CONCEPTS)}, that the unedited model answers right within
  {results["answer_tokens"]} tokens, how many still are.

In each cell original, edited, control; under *needed* edited, control.

| concept | heads (score, chance) | needed | words | words left | perplexity | own | others | fall |
|---|---|---|---|---|---|---|---|---|
{lines}

The concept's words lose surely more than under any control for {n_needed} of {len(concepts)}
concepts. Counted in stories told anew they fall below both the original's and the control's for
{n_fell}, surely for {n_sure}, and stories stay stories as well for {n_passed}. The model is small
and answers few questions right. A number that is written in digits does not count as its
word.{missed}
"""


def _n_heads(concepts: Mapping[str, Row]) -> str:
    counts = sorted({len(row["heads"]) for row in concepts.values()})
    return " or ".join(map(str, counts))


def _line(name: str, row: Row) -> str:
    heads = ", ".join(f"{h['head']} ({h['score']:.3f}, {h['chance']:.3f})" for h in row["heads"])
    perplexity = row["perplexity"]
    cells = (
        name,
        heads,
        _lost(row["needed"]),
        ", ".join(str(sum(row["words"][arm])) for arm in ("original", "edited", "control")),
        ", ".join(_share(share(row, arm)) for arm in ("original", "control")),
        f"1, {perplexity['edited']:.2f}, {fmean(perplexity['controls']):.2f}",
        _arms(row["questions"]["own"]),
        _arms(row["questions"]["others"]),
        "surely" if surely_fell(row) else "yes" if fell(row) else "no",
    )
    return f"| {' | '.join(cells)} |"


def _lost(told: Row | None) -> str:
    if told is None:
        return "never said"
    edited, controls = told["edited"], told["controls"]
    need, side = (fmean(c[key] for c in controls) for key in ("need", "side"))
    interval = f"{edited['need_low']:.1f} to {edited['need_high']:.1f}"
    return f"{edited['need']:.2f} ({interval}) [{edited['side']:.2f}], {need:.2f} [{side:.2f}]"


def _share(found: Estimate) -> str:
    if found.ratio is None:
        return "none said"
    return f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"


def _arms(counts: Row) -> str:
    return f"{counts['original']}, {counts['edited']}, {fmean(counts['controls']):.3g}"
