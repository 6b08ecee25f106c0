"""The command line: `headviz page|rank|…`, or `python -m headviz` with the same.

Every command is the same call that the page makes; `page` opens it. Bad input ends with status 2
and one sentence.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from headviz.base.assets import DEFAULT_MODEL
from headviz.base.errors import HeadvizError, one_line
from headviz.cli import bake_command, commands, find_command, models_command, name_concept_command
from headviz.cli.console import Console
from headviz.clip.word_vocabulary import CLIP_POOLINGS
from headviz.heads.edits import WHERE
from headviz.heads.pooling import POOLINGS
from headviz.inputs.concepts import PIECES
from headviz.models.devices import DEVICES, DTYPES, QUANTISED
from headviz.page import launch
from headviz.pursuit.engine.somp import BUDGET
from headviz.pursuit.options import ORDERS, Options
from headviz.session.rankings import RANKINGS
from headviz.session.session import Session
from headviz.session.ship import ship, ship_answers, ship_effects
from headviz.studies import command as study_command
from headviz.studies import reports

_MOST_GIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = build_parser().parse_args(arguments)
    if options.run is launch.serve:  # it answers until it is interrupted, and prints no result
        return launch.serve(options)
    memory = getattr(options, "memory", None)
    budget = int(memory * 2**30) if memory else BUDGET
    console = Console()
    session = Session(device=options.device, dtype=options.dtype, budget=budget, loading=console)
    try:
        _quiet_transformers()
        result, text = options.run(session, options)
    except HeadvizError as error:
        console.clear()
        print(f"headviz: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.clear()
        print("headviz: stopped.", file=sys.stderr)
        return 130
    for notice in session.take_notices():
        print(f"headviz: {notice}", file=sys.stderr)
    print(json.dumps(result, ensure_ascii=False, indent=2) if options.json else text)
    # Only `check` says whether something passed.
    return 1 if isinstance(result, dict) and result.get("passed") is False else 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with status 2 and one sentence; argparse itself would print the usage as well."""
        self.exit(2, f"headviz: {one_line(message)}. See --help.\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser, whose help README quotes."""
    parser = _Parser(prog="python -m headviz", description="See and steer what attention heads do.")
    parsers = parser.add_subparsers(required=True, metavar="command")
    _command(parsers, "models", models_command.HELP, models_command.models)
    getting = _command(parsers, "get", models_command.GET_HELP, models_command.get)
    getting.add_argument("name", help="of `models`, of the hub, or a .gguf file")
    _command(parsers, "concepts", "the preset concepts and their words", commands.concepts)

    rank = _command(parsers, "rank", "rank all heads for a concept", commands.rank)
    _add_model(rank)
    _add_concept(rank)
    rank.add_argument("--criterion", default="somp", help=f"one of {', '.join(RANKINGS)}")
    rank.add_argument("--top", type=int, default=10, metavar="N", help="heads to show")
    rank.add_argument("--out", metavar="FILE", help="all heads as .csv, .json or .safetensors")
    rank.add_argument("--activations", metavar="FILE", help="all signals as .safetensors")
    rank.add_argument("--recipe", metavar="FILE", help="an edit of the top heads as .json")
    rank.add_argument("--factor", type=float, default=-1.0, help="of that edit; -1 if not given")
    _add_reading(rank)

    spectrum = _command(
        parsers, "spectrum", "the tokens that one head talks about", commands.spectrum
    )
    _add_model(spectrum)
    spectrum.add_argument("--head", required=True, help="e.g. L3.H7")
    spectrum.add_argument("--steps", type=int, default=20, metavar="N", help="tokens to pick")
    spectrum.add_argument("--out", metavar="FILE", help="the tokens as .csv or .json")
    spectrum.add_argument("--memory", type=_size, metavar="GIB", help="working memory to keep to")
    _add_reading(spectrum)

    generate = _command(parsers, "generate", "answer with and without an edit", commands.generate)
    _add_generating(generate)

    finding = _command(parsers, "find", find_command.HELP, find_command.run)
    _add_model(finding)
    _add_concept(finding)
    find_command.add_arguments(finding)
    effect = _command(parsers, "effect", find_command.EFFECT_HELP, find_command.run_effect)
    _add_model(effect)
    _add_concept(effect)
    find_command.add_effect_arguments(effect)

    bake_command.add_arguments(_command(parsers, "bake", bake_command.HELP, bake_command.run))

    naming = _command(parsers, "name-concept", name_concept_command.HELP, name_concept_command.run)
    name_concept_command.add_arguments(naming)

    check = _command(parsers, "check", "hold a model against the laws of heads", commands.check)
    check.add_argument("model", help="built-in name, folder or hub name")

    study = _command(parsers, "study", study_command.HELP, study_command.run_command)
    study_command.add_arguments(study)
    reporting = _command(parsers, "reports", reports.HELP, reports.run_command)
    reports.add_arguments(reporting)

    shipping = _command(parsers, "ship", "make the results that ship with a model anew", _ship)
    _add_model(shipping)
    only = shipping.add_mutually_exclusive_group()
    only.add_argument("--effects", action="store_true", help="what heads do, and no more")
    only.add_argument("--answers", action="store_true", help="the finished answers, and no more")

    page = parsers.add_parser("page", help=launch.HELP, description=launch.HELP)
    launch.add_arguments(page)
    page.set_defaults(run=launch.serve)
    return parser


def _add_generating(generate: argparse.ArgumentParser) -> None:
    generate.add_argument("--model", help=bake_command.MODEL_HELP)
    generate.add_argument(
        "--prompt",
        default="",
        help="text; may be left out beside a picture; a CLIP model's classes, separated by commas",
    )
    generate.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="a picture; may be repeated"
    )
    generate.add_argument("--edit", default="", help=bake_command.EDIT_HELP)
    generate.add_argument("--where", help=f"one of {', '.join(WHERE)}")
    generate.add_argument("--control", action="store_true", help="also edit random other heads")
    generate.add_argument("--control-seed", type=int, default=0, metavar="N")
    generate.add_argument("--max-new-tokens", type=int, default=60, metavar="N")
    generate.add_argument("--temperature", type=float, default=0.0, help="0: most likely token")
    generate.add_argument("--seed", type=int, default=0, help="of the sampling noise")
    generate.add_argument("--out", metavar="FILE", help="the texts as .csv or .json")
    _add_chat(generate)
    _add_concept(generate)


def _command(parsers: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--device", default="auto", help=", ".join(DEVICES))
    parser.add_argument("--dtype", default="auto", help=", ".join(("auto", *DTYPES, *QUANTISED)))
    parser.set_defaults(run=run)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="built-in name, folder or hub name")


def _add_concept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concept", help="a preset, or a name for --words")
    parser.add_argument("--words", help="own words, separated by commas")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    default = Options()
    parser.add_argument(
        "--probes",
        dest="prompt_set",
        help="a built-in set, a .txt file or a table, a folder or zip of pictures",
    )
    parser.add_argument("--prompt", default="", help="what is asked about each picture")
    parser.add_argument("--pooling", help=f"{', '.join((*POOLINGS, *CLIP_POOLINGS))}")
    parser.add_argument("--pieces", default=default.pieces, help=f"{', '.join(PIECES)}")
    parser.add_argument("--iterations", type=int, default=default.steps, metavar="N")
    parser.add_argument("--no-centre", action="store_true", help="raw energy, not variance")
    parser.add_argument("--raw-atoms", action="store_true", help="atoms of their own length")
    parser.add_argument("--order", default=default.order, help=f"{', '.join(ORDERS)}")
    parser.add_argument("--no-final-norm", action="store_true", help="leave the norm's gain out")
    _add_chat(parser)


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="system prompt, '' for an empty one")
    parser.add_argument("--no-template", action="store_true", help="without the chat template")
    parser.add_argument("--thinking", action="store_true", help="let the model think first")


def _size(text: str) -> float:
    """A size in GiB. Raises ValueError, which argparse turns into a sentence."""
    size = float(text)
    if not 0 < size <= _MOST_GIB:
        raise ValueError(text)
    return size


_size.__name__ = "size"  # as argparse names it


def _ship(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    make = ship_effects if parsed.effects else ship_answers if parsed.answers else ship
    path = make(session, parsed.model, session.loading)
    return {"model": parsed.model, "file": path.name}, f"wrote {path.name}"


def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
