"""Command line of the benchmarks: `python -m benchmarks pursuit|studies|real|card`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.card import write_card
from benchmarks.pursuit.pursuit import bench_pursuit
from benchmarks.real_model import PARTS, bench_real_model
from benchmarks.studies import bench_studies
from headviz.base.errors import HeadvizError
from headviz.models.devices import DEVICES, DTYPES, choose_device
from headviz.session.session import Session


def build_parser() -> argparse.ArgumentParser:
    """The benchmarks and their options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="benchmark")
    pursuit = commands.add_parser("pursuit", help="the search for heads and tokens")
    pursuit.add_argument("--out", type=Path, metavar="FOLDER", help="for the picture of the growth")
    pursuit.set_defaults(run=_pursuit)
    studies = commands.add_parser("studies", help="the answers of a study, and ablation")
    studies.set_defaults(run=_studies)
    real = commands.add_parser("real", help="a real model, beside plain transformers")
    real.add_argument("--model", default="smollm2-135m", help="name, folder or hub name")
    real.add_argument("--parts", default="", metavar="A,B", help=f"of {', '.join(PARTS)}; all")
    real.set_defaults(run=_real)
    card = commands.add_parser("card", help="what edits do to a real model: writes its card")
    card.add_argument("--model", default="smollm2-135m", help="a model that ships results")
    card.set_defaults(run=_card)
    for command in (pursuit, studies, real, card):
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--quick", action="store_true", help="small, to see that it works")
        command.add_argument("--device", default="auto", help=", ".join(DEVICES))
        command.add_argument("--dtype", default="auto", help=", ".join(("auto", *DTYPES)))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; the exit status."""
    parsed = build_parser().parse_args(arguments)
    try:
        result, text = parsed.run(parsed)
    except HeadvizError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, ensure_ascii=False, indent=2) if parsed.json else text)
    return 0


def _pursuit(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    device, _, _ = choose_device(parsed.device, parsed.dtype)
    return bench_pursuit(device, parsed.quick, parsed.out, _say)


def _studies(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    session = Session(device=parsed.device, dtype=parsed.dtype)
    return bench_studies(session, parsed.quick, _say)


def _real(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    session = Session(device=parsed.device, dtype=parsed.dtype)
    parts = [part.strip() for part in parsed.parts.split(",") if part.strip()]
    return bench_real_model(session, parsed.model, parsed.quick, parts, _say)


def _card(parsed: argparse.Namespace) -> tuple[dict[str, Any], str]:
    session = Session(device=parsed.device, dtype=parsed.dtype)
    return write_card(session, parsed.model, parsed.quick, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
