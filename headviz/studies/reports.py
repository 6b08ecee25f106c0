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

from headviz.base.assets import built_in_models
from headviz.base.errors import HeadvizError
from headviz.base.store import key_of
from headviz.session.session import Session
from headviz.studies.built_in import PICTURE_MODEL, TEXT_MODEL, class_names
from headviz.studies.compare_with_paper import as_markdown as readings
from headviz.studies.compare_with_paper import in_words, read
from headviz.studies.finding import Finding, find
from headviz.studies.planted_heads import as_markdown, best_ranks
from headviz.studies.presets import PRESETS
from headviz.studies.published import as_markdown as published
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from headviz.studies.study import Finished, lay_out, run
from headviz.studies.summary import Row, agreements, row_at, rows_of
from headviz.studies.transfer import sentence, transfer, write_transfer
from headviz.studies.write import write_outcome

HELP = "run the built-in studies and write the reports folder"
SIZE = 40
"""Samples that each preset is judged on, where no number is asked for: minutes in all."""
_COPIED = ("config.json", "summary.csv", "transfer.csv", "*.md", "*.svg", "*.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--out", default="reports", metavar="DIR", help="where the reports go")
    parser.add_argument("--only", default="", help=f"some of {', '.join(PRESETS)}")
    parser.add_argument("--limit", type=int, default=SIZE, metavar="N", help="samples to judge on")
    parser.add_argument("--draws", type=int, default=10, metavar="N", help="of random heads")


def run_command(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Run every preset whose model is here; write the reports; what to print."""
    names = [name for name in parsed.only.split(",") if name] or list(PRESETS)
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise StudyError(f"Unknown preset {unknown[0]!r}. Known: {', '.join(PRESETS)}.")
    out = Path(parsed.out)
    done, left_out = [], []
    for name in names:
        if PRESETS[name].model not in session.model_names():
            left_out.append(name)
            continue
        print(f"headviz: {name}", file=sys.stderr, flush=True)
        request = replace(PRESETS[name], limit=parsed.limit, draws=parsed.draws)
        done.append(_report(session, name, request, out))
    lines = [f"{name}: {finding.text}" for name, _, finding in done]
    if left_out:
        lines.append(f"left out, since the model is not here: {', '.join(left_out)}")
    if done and not parsed.only:
        text = _index(done)
        if any(finished.study.request.model == PICTURE_MODEL for _, finished, _ in done):
            text += _transferred(session, parsed.limit, parsed.draws, out / "transfer")
        _write(out / "README.md", text)
        if TEXT_MODEL in built_in_models():
            model = session.model(TEXT_MODEL)
            ranks = best_ranks(session, _kept(session, f"planted-{model.revision}"), progress=_say)
            _write(out / "planted.md", as_markdown(ranks, model.total_heads))
    return {"done": [name for name, _, _ in done], "left_out": left_out}, "\n".join(lines)


def _report(
    session: Session, name: str, request: Request, out: Path
) -> tuple[str, Finished, Finding]:
    # A folder for each content: after another training, or at another size, nothing is mixed up.
    key = key_of(kind="report", revision=session.model(request.model).revision, **request.as_dict())
    kept = _kept(session, f"{name}-{key[:12]}")
    start = time.monotonic()
    finished = run(session, lay_out(session, request, kept, _say), _say)
    finding = find(finished)
    write_outcome(finished, rows_of(finished), finding)
    print(f"headviz: {name} took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    _copy(kept, out / name)
    return name, finished, finding


def _transferred(session: Session, limit: int, draws: int, target: Path) -> str:
    """The section on tiny-vlm's drawn data sets, held against one another."""
    request = Request(
        "classification", PICTURE_MODEL, ks=("8",), alphas=(-1.0,), limit=limit, draws=draws
    )
    print("headviz: data sets held against one another", file=sys.stderr, flush=True)
    key = key_of(
        kind="transfer", revision=session.model(PICTURE_MODEL).revision, **request.as_dict()
    )
    kept = _kept(session, f"transfer-{key[:12]}")
    found = transfer(session, request, tuple(class_names()), kept, _say)
    write_transfer(found, kept)
    _copy(kept, target)
    return (
        f"\n## Heads of one data set, accuracy on another\n\n{sentence(found)} "
        "[The whole report](transfer/transfer.md).\n"
    )


def _copy(kept: Path, target: Path) -> None:
    """What is small enough for a repository."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        for pattern in _COPIED:
            for file in kept.glob(pattern):
                shutil.copy(file, target / file.name)
    except OSError as error:
        raise HeadvizError(f"{target} was not written ({error.strerror or error}).") from error


def _kept(session: Session, name: str) -> Path:
    """Where a study of this name keeps its cells: in the cache, where it goes on."""
    return session.store.folder.parent / "studies" / name


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
        "On a real model, in which nobody planted anything: "
        "[its relations](relations-smollm2-135m/report.md) and "
        "[its own stories](freetext-smollm2-135m/report.md), made by `headviz study relations` and "
        "`headviz study freetext`.",
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
