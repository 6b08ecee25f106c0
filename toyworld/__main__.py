"""Command line of the small world: test items, training from nothing, model cards, study data."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from headviz.base.errors import HeadvizError
from toyworld.clip_schedule import CLIP_SCHEDULES
from toyworld.documents import sample_items
from toyworld.pictures.schedule import PICTURE_SCHEDULES
from toyworld.schedule import SCHEDULES
from toyworld.study_data import WRITERS

ASSETS = Path(__file__).resolve().parents[1] / "assets"
CHECKPOINTS = Path(__file__).resolve().parents[1] / "cache" / "toyworld"


def positive(text: str) -> int:
    """A whole number from 1 on, as argparse wants it."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return number


def model_name(text: str) -> str:
    """The name of a built-in model."""
    if text not in MAKERS:
        raise argparse.ArgumentTypeError(f"unknown model {text!r}; known: {', '.join(MAKERS)}")
    return text


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """Without argparse's usage block."""
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = Parser(prog="python -m toyworld", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sample = commands.add_parser("sample", help="fresh held-out items: prompt, answer, concept")
    sample.add_argument("--n", type=positive, default=10, help="how many (default: %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    sample.add_argument("--json", action="store_true", help="a JSON list instead of lines to read")
    sample.set_defaults(run=run_sample)
    train = commands.add_parser("train", help="train a built-in model again from nothing")
    train.add_argument("model", type=model_name, help=f"one of: {', '.join(MAKERS)}")
    train.add_argument("--steps", type=positive, help="default: the schedule's")
    train.add_argument("--seed", type=int, help="default: the schedule's")
    train.add_argument(
        "--out", type=Path, help="folder for the finished model (default: assets/MODEL)"
    )
    train.add_argument(
        "--checkpoints", type=Path, default=CHECKPOINTS, help="default: cache/toyworld"
    )
    train.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    train.set_defaults(run=run_train)
    card = commands.add_parser("card", help="measure a built-in model and write its card")
    card.add_argument("model", type=model_name, help=f"one of: {', '.join(MAKERS)}")
    card.add_argument("--folder", type=Path, help="the model's folder (default: assets/MODEL)")
    card.add_argument("--quick", action="store_true", help="a tenth of the samples, to try it out")
    card.set_defaults(run=run_card)
    data = commands.add_parser("study-data", help="write what the studies read beside a model")
    data.add_argument(
        "model", choices=tuple(WRITERS), metavar="model", help=f"one of: {', '.join(WRITERS)}"
    )
    data.add_argument("--folder", type=Path, help="default: assets/MODEL/studies")
    data.set_defaults(run=run_study_data)
    return top


def run_sample(args: argparse.Namespace) -> None:
    """Print items."""
    items = sample_items(args.n, args.seed)
    if args.json:
        print(json.dumps([dataclasses.asdict(item) for item in items], indent=1))
        return
    for item in items:
        print(f"{item.concept}\t{item.answer}\t{item.prompt}")


def run_train(args: argparse.Namespace) -> None:
    """Train, then write the model's folder."""
    folder = args.out or ASSETS / args.model
    MAKERS[args.model](args, folder)
    print(f"wrote {folder}")


def changed(schedule: Any, args: argparse.Namespace) -> Any:
    """The schedule with what the command line says otherwise."""
    changes = {"steps": args.steps, "seed": args.seed}
    return dataclasses.replace(schedule, **{k: v for k, v in changes.items() if v is not None})


def make_stories_model(args: argparse.Namespace, folder: Path) -> None:
    """A language model of the world of stories."""
    from toyworld.shipping import write_texts
    from toyworld.training import pick_device, save_run, train

    schedule = changed(SCHEDULES[args.model], args)
    run = train(schedule, args.checkpoints / f"{schedule.name}.pt", args.device or pick_device())
    save_run(run, folder)
    write_texts(folder)


def make_pictures_model(args: argparse.Namespace, folder: Path) -> None:
    """A vision-language model of the drawn world."""
    from toyworld.pictures.shipping import write_pictures
    from toyworld.pictures.training import save_run, train
    from toyworld.training import pick_device

    schedule = changed(PICTURE_SCHEDULES[args.model], args)
    run = train(schedule, args.checkpoints / f"{schedule.name}.pt", args.device or pick_device())
    save_run(run, folder)
    write_pictures(folder)


def make_clip_model(args: argparse.Namespace, folder: Path) -> None:
    """An open_clip model of the drawn world, trained on the CPU."""
    from toyworld.clip_card import write_reference
    from toyworld.clip_training import save_clip, train_clip

    schedule = changed(CLIP_SCHEDULES[args.model], args)
    save_clip(train_clip(schedule, args.checkpoints / f"{schedule.name}.pt"), folder)
    write_reference(folder)


def make_smol_model(args: argparse.Namespace, folder: Path) -> None:
    """Tower and connector before a language model that stays as it is, trained on the CPU."""
    from headviz.models.load import fetch_model
    from toyworld.smol.schedule import SMOL_SCHEDULES
    from toyworld.smol.shipping import save_parts
    from toyworld.smol.training import train

    schedule = changed(SMOL_SCHEDULES[args.model], args)
    language_model, _ = fetch_model(schedule.language_model)
    run = train(schedule, language_model, args.checkpoints / f"{schedule.name}.pt")
    save_parts(run, language_model, folder)


MAKERS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "tiny-lm": make_stories_model,
    "tiny-vlm": make_pictures_model,
    "tiny-clip": make_clip_model,
    "smol-vlm": make_smol_model,
}
"""Built-in model -> what trains it and writes its folder."""


def run_card(args: argparse.Namespace) -> None:
    """Measure, then write README.md and card.json beside the weights."""
    CARD_WRITERS[args.model](args, args.folder or ASSETS / args.model)


def write_stories_card(args: argparse.Namespace, folder: Path) -> None:
    """The card of a model of the world of stories."""
    from toyworld.card import write_card

    write_card(folder, args.model, quick=args.quick)


def write_pictures_card(args: argparse.Namespace, folder: Path) -> None:
    """The card of a model of the drawn world."""
    from headviz.models.load import load_model
    from toyworld.pictures.card import write_card
    from toyworld.pictures.speaking import CoreSpeaker

    speaker = CoreSpeaker.of(load_model(str(folder)))
    write_card(folder, args.model, speaker, quick=args.quick)


def write_clip_card(args: argparse.Namespace, folder: Path) -> None:
    """The card of an open_clip model of the drawn world."""
    from toyworld.clip_card import write_clip_card

    write_clip_card(folder, args.model, quick=args.quick)


def write_smol_card(args: argparse.Namespace, folder: Path) -> None:
    """The card of a vision-language model with a language model of others inside."""
    from toyworld.smol.card import write_card

    write_card(folder, args.model, quick=args.quick)


CARD_WRITERS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "tiny-lm": write_stories_card,
    "tiny-vlm": write_pictures_card,
    "tiny-clip": write_clip_card,
    "smol-vlm": write_smol_card,
}
"""Built-in model -> what measures it and writes its card."""


def run_study_data(args: argparse.Namespace) -> None:
    """Write the files; they are the same each time."""
    folder = args.folder or ASSETS / args.model / "studies"
    WRITERS[args.model](folder)
    print(f"wrote {folder}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (HeadvizError, OSError) as error:
        print(f"python -m toyworld: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
