"""`reports/`: every preset run, its report beside what the paper found, made by one command.

The cells stay in the cache folder, where a run that was stopped goes on; what is copied is small
enough for a repository.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headviz.errors import HeadvizError
from headviz.experiments.built_in import TEXT_MODEL
from headviz.experiments.finding import Finding, find
from headviz.experiments.outcome import write_outcome
from headviz.experiments.planted import as_markdown, best_ranks
from headviz.experiments.presets import PRESETS
from headviz.experiments.published import as_markdown as published
from headviz.experiments.reading import as_markdown as readings
from headviz.experiments.reading import in_words, read
from headviz.experiments.request import Request
from headviz.experiments.samples import StudyError
from headviz.experiments.study import Finished, lay_out, run
from headviz.experiments.summary import Row, agreements, row_at, rows_of
from headviz.models import built_in_models
from headviz.session import Session
from headviz.store import key_of

HELP = "run the built-in studies and write the reports folder"
SIZE = 48
"""Samples that each preset is judged on, where no number is asked for: minutes in all."""
_COPIED = ("config.json", "summary.csv", "report.md", "*.svg", "*.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--out", default="reports", metavar="DIR", help="where the reports go")
    parser.add_argument("--only", default="", help=f"some of {', '.join(PRESETS)}")
    parser.add_argument("--limit", type=int, default=SIZE, metavar="N", help="samples to judge on")
    parser.add_argument("--draws", type=int, default=10, metavar="N", help="of random heads")


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
        request = replace(PRESETS[name], limit=parsed.limit, draws=parsed.draws)
        done.append(_report(session, name, request, out))
    lines = [f"{name}: {finding.text}" for name, _, finding in done]
    if left_out:
        lines.append(f"left out, since the model is not trained yet: {', '.join(left_out)}")
    if done and not parsed.only:
        _write(out / "README.md", _index(done))
        if TEXT_MODEL in built_in_models():
            ranks = best_ranks(session, progress=_say)
            total = session.model(TEXT_MODEL).total_heads
            _write(out / "planted.md", as_markdown(ranks, total))
    return {"done": [name for name, _, _ in done], "left_out": left_out}, "\n".join(lines)


def _report(
    session: Session, name: str, request: Request, out: Path
) -> tuple[str, Finished, Finding]:
    # A folder for each content: after another training, or at another size, nothing is mixed up.
    key = key_of(kind="report", revision=session.model(request.model).revision, **request.as_dict())
    kept = session.store.folder.parent / "studies" / f"{name}-{key[:12]}"
    start = time.monotonic()
    finished = run(session, lay_out(session, request, kept, _say), _say)
    finding = find(finished)
    write_outcome(finished, rows_of(finished), finding)
    print(f"headviz: {name} took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    target = out / name
    try:
        target.mkdir(parents=True, exist_ok=True)
        for pattern in _COPIED:
            for file in kept.glob(pattern):
                shutil.copy(file, target / file.name)
    except OSError as error:
        raise HeadvizError(f"{target} was not written ({error.strerror or error}).") from error
    return name, finished, finding


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HeadvizError(f"{path} was not written ({error.strerror or error}).") from error


def _say(share: float, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:>4.0%} {what:<60}", end="", file=sys.stderr, flush=True)


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
        f"Judged on {done[0][1].study.request.limit} samples each, with "
        f"{done[0][1].study.request.draws} draws of random heads. The paper edits 8, 16 and 32 of "
        "1,024 heads; the shares here are close to those of its first and last column.",
        "",
        "[planted.md](planted.md): where each ranking puts the heads that were planted.",
        "",
        "| study | does it agree with the paper? |",
        "|---|---|",
        *(f"| [{name}](#{name}) | {in_words(read(finished))} |" for name, finished, _ in done),
    ]
    for name, finished, finding in done:
        lines += _section(name, finished, finding)
    return "\n".join(lines) + "\n"


def _section(name: str, finished: Finished, finding: Finding) -> list[str]:
    study = finished.study.request.study
    parts = [
        f"## {name}",
        f"{finding.text} [The whole report]({name}/report.md).",
        _table(finished),
        published(study),
        readings(read(finished)),
    ]
    found = agreements(finished)
    if found:
        own = "; ".join(
            f"{arm} Spearman {a.spearman:.2f}, precision at {a.k} {a.precision:.2f}, area "
            f"{a.area:.2f}"
            for arm, a in found.items()
        )
        parts.append(f"Agreement with exhaustive ablation: {own}.")
    return [line for part in parts for line in ("", part)]


def _table(finished: Finished) -> str:
    """The first measure and the one that should stay, by arm and setting."""
    rows = rows_of(finished)
    first, second, *_ = finished.study.plan.measures
    total = finished.study.model.total_heads
    columns = list(dict.fromkeys((r.k, r.alpha) for r in rows))
    heads = [f"k={k} ({k / total:.1%}), α={alpha:g}".replace("%", " %") for k, alpha in columns]
    lines = ["| here | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]
    for arm in dict.fromkeys(r.arm for r in rows):
        cells = [
            " / ".join(_ratio(row_at(rows, measure, arm, *column)) for measure in (first, second))
            for column in columns
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join([f"{first.what} / {second.what}:", "", *lines])


def _ratio(row: Row) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.2f}"
