"""`python -m headviz study NAME`: its options, and what it prints and writes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headviz.base.errors import OptionError
from headviz.base.head import parse_factor
from headviz.session.session import Session
from headviz.studies.arms import ARMS
from headviz.studies.cells import RANDOM
from headviz.studies.claims import verdicts
from headviz.studies.cluster import run_on_ray
from headviz.studies.finding import find
from headviz.studies.registry import EXPERIMENTS, find_experiment
from headviz.studies.request import Request
from headviz.studies.study import lay_out, run
from headviz.studies.summary import Row, agreements, rows_of
from headviz.studies.transfer import names_of, sentence, transfer, write_transfer
from headviz.studies.trial import ARMS as TRIED
from headviz.studies.trial import Trial
from headviz.studies.trials import MODEL, TRIALS, result_of, run_trial
from headviz.studies.write import write_outcome

HELP = "run one of the paper's studies, or one on a real model, with its controls"
_NOT_TRIED = ("concept", "words", "prompt", "max_new_tokens", "classifier", "clip", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("study", help=f"one of {', '.join([*EXPERIMENTS, *TRIALS])}")
    parser.add_argument("--model", help="default: the usual model of the study")
    parser.add_argument(
        "--data",
        default="",
        metavar="PATH",
        help="default: the built-in data; a file, a folder, or a data set of the hub, e.g. mnist; "
        "several folders of pictures, separated by commas, are held against one another",
    )
    parser.add_argument(
        "--concept",
        default="",
        help="a preset, or a name for --words; for classification also from-pictures: words that "
        "the CLIP model proposes",
    )
    parser.add_argument("--words", help="own words, separated by commas")
    parser.add_argument("--k", help="heads, e.g. 8,16 or 2%%")
    parser.add_argument("--alpha", help="factors, e.g. --alpha=-1,5")
    parser.add_argument(
        "--arms",
        help=f"of {', '.join(ARMS)}; of {' and '.join(TRIALS)}: {', '.join([*TRIED, RANDOM])}",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="samples to judge on (up to 200)")
    parser.add_argument("--selection", type=int, default=240, metavar="N", help="to pick heads on")
    parser.add_argument("--draws", type=int, metavar="N", help="of random heads")
    parser.add_argument("--seed", type=int, default=0, help="of the order of samples")
    parser.add_argument("--prompt", default="", help="the question's text; default: the paper's")
    parser.add_argument("--max-new-tokens", type=int, metavar="N")
    parser.add_argument("--classifier", default="", help="text classifier that says what is toxic")
    parser.add_argument(
        "--clip", default="", help="open_clip model: judges captions, proposes words"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="run on Ray: local, or an address")
    parser.add_argument("--out", metavar="DIR", help="default: study-NAME; a killed run goes on")


def run_command(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Run, or go on with, the study; write its folder; what to print."""
    out = Path(parsed.out or f"study-{parsed.study}")
    if parsed.study in TRIALS:
        return _run_trial(session, parsed, out)
    request = request_of(parsed)
    names = names_of(request)
    if len(names) > 1:
        return _run_transfer(session, request, names, out)
    study = lay_out(session, request, out, _say)
    pending = len(study.pending)
    _line(f"{len(study.cells)} cells, {len(study.cells) - pending} of them done before")
    finished = (
        run_on_ray(study, parsed.ray, progress=_say) if parsed.ray else run(session, study, _say)
    )
    _line("")
    rows = rows_of(finished)
    finding = find(finished)
    files = write_outcome(finished, rows, finding)
    result = {
        "study": request.study,
        "finding": finding.text,
        "clear": finding.clear,
        "disagree": list(finding.disagree),
        "rows": [vars(row) for row in rows],
        "agreement": {arm: vars(a) for arm, a in agreements(finished).items()},
        "cells": len(study.cells),
        "cells_run": pending,
        "seconds": round(finished.seconds, 1),
        "files": files,
    }
    return result, "\n".join([finding.text, "", *_table(rows), "", _wrote(out, files)])


def _run_transfer(
    session: Session, request: Request, names: Sequence[str], out: Path
) -> tuple[Any, str]:
    found = transfer(session, request, names, out, _say)
    _line("")
    files = write_transfer(found, out)
    result = {
        "study": request.study,
        "data": list(names),
        "finding": sentence(found),
        "k": found.k,
        "alpha": found.alpha,
        "overlap": found.overlap,
        "chance": found.chance,
        "ratios": found.ratios,
        "files": files,
    }
    return result, f"{sentence(found)}\n\n{_wrote(out, files)}"


def _run_trial(session: Session, parsed: argparse.Namespace, out: Path) -> tuple[Any, str]:
    trial = trial_of(parsed)
    tried, files = run_trial(session, trial, out, _say)
    _line("")
    lines = [f"{one.verdict:<20} {one.claim}: {one.numbers}" for one in verdicts(tried)]
    return result_of(tried, files), "\n".join([*lines, "", _wrote(out, files)])


def trial_of(parsed: argparse.Namespace) -> Trial:
    """The trial that the command line asks for. Raises HeadvizError for what cannot be read."""
    refused = [name for name in _NOT_TRIED if getattr(parsed, name)]
    if refused:
        option = refused[0].replace("_", "-")
        raise OptionError(f"--{option} says nothing to the study of {parsed.study}. Leave it out.")
    usual = Trial(parsed.study, parsed.model or MODEL)
    alphas = tuple(parse_factor(part) for part in _parts(parsed.alpha, "--alpha", usual.alphas))
    return Trial(
        study=parsed.study,
        model=parsed.model or MODEL,
        data=parsed.data,
        ks=_parts(parsed.k, "--k", usual.ks),
        alphas=alphas,
        arms=_parts(parsed.arms, "--arms", TRIALS[parsed.study].arms),
        limit=usual.limit if parsed.limit is None else parsed.limit,
        draws=usual.draws if parsed.draws is None else parsed.draws,
    )


def _wrote(out: Path, files: Sequence[str]) -> str:
    return f"wrote {out.name}: {', '.join(files)}"


def request_of(parsed: argparse.Namespace) -> Request:
    """The request that the command line makes. Raises HeadvizError for what cannot be read."""
    experiment = find_experiment(parsed.study)
    usual = Request(parsed.study, experiment.model)
    return Request(
        study=parsed.study,
        model=parsed.model or experiment.model,
        data=parsed.data,
        concept=parsed.concept,
        words=parsed.words,
        ks=_parts(parsed.k, "--k", usual.ks),
        alphas=tuple(parse_factor(part) for part in _parts(parsed.alpha, "--alpha", usual.alphas)),
        arms=_parts(parsed.arms, "--arms", usual.arms),
        limit=parsed.limit,
        selection=parsed.selection,
        draws=usual.draws if parsed.draws is None else parsed.draws,
        seed=parsed.seed,
        prompt=parsed.prompt,
        max_new_tokens=parsed.max_new_tokens,
        classifier=parsed.classifier,
        clip=parsed.clip,
    )


def _parts(text: str | None, option: str, usual: Sequence[object]) -> tuple[str, ...]:
    if text is None:
        return tuple(map(str, usual))
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise OptionError(f"{option} is empty. Give one value or more, separated by commas.")
    return parts


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [f"{'arm':<12} {'k':>4} {'α':>5}  {'measure':<22} {'ratio':>6}  95 % of draws"]
    for row in rows:
        name = f"{row.measure} {row.part}"
        ratio = "     –" if row.ratio is None else f"{row.ratio:>6.2f}"
        interval = "" if row.ratio is None else f"{row.low:.2f} – {row.high:.2f}"
        if row.first_quarter is not None:
            interval += f"  (draws {row.first_quarter:.2f} – {row.third_quarter:.2f})"
        lines.append(f"{row.arm:<12} {row.k:>4} {row.alpha:>5g}  {name:<22} {ratio}  {interval}")
    return lines


def _say(share: float, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:>4.0%} {what:<60}", end="", file=sys.stderr, flush=True)


def _line(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
