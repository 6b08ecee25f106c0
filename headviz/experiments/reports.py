"""`reports/`: every preset run, its report beside what the paper found, made by one command.

The cells stay in the cache folder, where a run that was stopped goes on; what is copied is small
enough for a repository.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headviz.errors import HeadvizError
from headviz.experiments.built_in import TEXT_MODEL
from headviz.experiments.finding import Finding, find
from headviz.experiments.outcome import write_outcome
from headviz.experiments.planted import as_markdown, best_ranks
from headviz.experiments.presets import PRESETS
from headviz.experiments.samples import StudyError
from headviz.experiments.study import Finished, lay_out, run
from headviz.experiments.summary import Row, agreements, row_at, rows_of
from headviz.models import built_in_models
from headviz.session import Session

HELP = "run the built-in studies and write the reports folder"
PAPER = {
    "qa": "from 8 of 1,024 heads on, F1 of questions answered by a country falls clearly faster "
    "than that of the others; logit-lens heads hurt both alike; random heads hurt neither",
    "toxicity": "toxic generations at k = 8, 16, 32, α = −1: pursuit .83, .67, .66; logit lens "
    ".91, .79, .71; random 1.02, 1.00, 1.13 (RealToxicityPrompts)",
    "classification": "accuracy on MNIST at k = 8, 16, 32, α = −1: pursuit .69, .28, .12; logit "
    "lens 1.00, .73, .14; random 1.00, 1.00, .99",
    "captioning": "color words at k = 8, 16, 32: α = −1 .27, .18, .14 (CIDEr .96, .91, .80); α = 5 "
    "1.53, 1.39, 2.44 (CIDEr .99, .92, .89)",
}
"""Study -> the published result (NeurIPS 2025), edited ÷ unedited, on far larger models."""
_COPIED = ("config.json", "summary.csv", "report.md", "*.svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--out", default="reports", metavar="DIR", help="where the reports go")
    parser.add_argument("--only", default="", help=f"some of {', '.join(PRESETS)}")


def run_command(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Run every preset whose model is built in; write the reports; what to print."""
    names = [name for name in parsed.only.split(",") if name] or list(PRESETS)
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise StudyError(f"Unknown preset {unknown[0]!r}. Known: {', '.join(PRESETS)}.")
    out = Path(parsed.out)
    done, left_out = [], []
    for name in names:
        if PRESETS[name].model not in built_in_models():
            left_out.append(name)
            continue
        print(f"headviz: {name}", file=sys.stderr, flush=True)
        done.append(_report(session, name, out))
    lines = [f"{name}: {finding.text}" for name, _, finding in done]
    if left_out:
        lines.append(f"left out, since the model is not trained yet: {', '.join(left_out)}")
    if done and not parsed.only:
        if TEXT_MODEL in built_in_models():
            table = as_markdown(best_ranks(session))
            (out / "planted.md").write_text(table, encoding="utf-8")
        (out / "README.md").write_text(_index(done), encoding="utf-8")
    return {"done": [name for name, _, _ in done], "left_out": left_out}, "\n".join(lines)


def _report(session: Session, name: str, out: Path) -> tuple[str, Finished, Finding]:
    study = lay_out(session, PRESETS[name], session.store.folder.parent / "studies" / name)
    start = time.monotonic()
    finished = run(session, study)
    rows = rows_of(finished)
    finding = find(finished)
    write_outcome(finished, rows, finding)
    print(f"headviz: {name} took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    target = out / name
    try:
        target.mkdir(parents=True, exist_ok=True)
        for pattern in _COPIED:
            for file in study.folder.path.glob(pattern):
                shutil.copy(file, target / file.name)
    except OSError as error:
        raise HeadvizError(f"{target} was not written ({error.strerror or error}).") from error
    return name, finished, finding


def _index(done: Sequence[tuple[str, Finished, Finding]]) -> str:
    lines = [
        "# Reports",
        "",
        "The paper's studies on the built-in models: `python -m headviz reports` makes them anew. "
        "Ratios are edited ÷ unedited. tiny-lm and tiny-vlm had their skills localised **on "
        "purpose** (see their model cards): what the ranking finds there is partly what training "
        "put there. The reports show that the studies work, not that models organise themselves "
        "so.",
        "",
        "[planted.md](planted.md): where each ranking puts the heads that were planted.",
    ]
    for name, finished, finding in done:
        study = finished.study.request.study
        lines += ["", f"## [{name}]({name}/report.md)", "", finding.text, "", _table(finished)]
        lines += ["", f"*The paper:* {PAPER[study]}."]
        found = agreements(finished)
        if found:
            own = "; ".join(
                f"{arm} Spearman {a.spearman:.2f}, precision {a.precision:.2f}, area {a.area:.2f}"
                for arm, a in found.items()
            )
            lines += ["", f"Agreement with exhaustive ablation: {own}."]
    return "\n".join(lines) + "\n"


def _table(finished: Finished) -> str:
    """The first measure and the one that should stay, by arm and setting."""
    rows = rows_of(finished)
    first, second, *_ = finished.study.plan.measures
    columns = list(dict.fromkeys((r.k, r.alpha) for r in rows))
    lines = [
        "| arm | " + " | ".join(f"k={k}, α={alpha:g}" for k, alpha in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for arm in dict.fromkeys(r.arm for r in rows):
        cells = [
            " / ".join(_ratio(row_at(rows, measure, arm, *column)) for measure in (first, second))
            for column in columns
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join([f"{first.what} / {second.what}:", "", *lines])


def _ratio(row: Row) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.2f}"
