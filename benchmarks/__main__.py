"""Command line of the benchmarks: `python -m benchmarks pursuit|studies`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pursuit.pursuit import bench_pursuit
from benchmarks.studies import bench_studies
from headviz.base.errors import HeadvizError
from headviz.models.devices import DEVICES, DTYPES, choose_device
from headviz.session.session import Session


def build_parser() -> argparse.ArgumentParser:
    """Both benchmarks and their options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="benchmark")
    pursuit = commands.add_parser("pursuit", help="the search for heads and tokens")
    pursuit.add_argument("--out", type=Path, metavar="FOLDER", help="for the picture of the growth")
    pursuit.set_defaults(run=_pursuit)
    studies = commands.add_parser("studies", help="the answers of a study, and ablation")
    studies.set_defaults(run=_studies)
    for command in (pursuit, studies):
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


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
