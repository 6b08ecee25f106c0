"""The command line: `python -m headviz models|concepts|rank|spectrum|generate|bench`.

Every command is the same call that the page makes. Bad input ends with status 2 and one sentence.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from headviz.bench.pursuit import bench_pursuit
from headviz.capture import POOLINGS
from headviz.comparison import Comparison, last_of
from headviz.concepts import PIECES, find_concept, known_concepts
from headviz.criteria import CRITERIA, Options
from headviz.devices import DTYPES, choose_device
from headviz.edits import Edit
from headviz.errors import HeadvizError
from headviz.generation import Sampling
from headviz.heads import Head
from headviz.models import built_in_models
from headviz.probes import built_in_probes, find_probes
from headviz.pursuit import BUDGET
from headviz.session import Session
from headviz.shipped import ship


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = build_parser().parse_args(arguments)
    memory = getattr(options, "memory", None)
    budget = int(memory * 2**30) if memory else BUDGET
    session = Session(device=options.device, dtype=options.dtype, budget=budget)
    try:
        _quiet_transformers()
        result, text = options.run(session, options)
    except HeadvizError as error:
        print(f"headviz: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("headviz: stopped.", file=sys.stderr)
        return 130
    for notice in session.take_notices():
        print(f"headviz: {notice}", file=sys.stderr)
    print(json.dumps(result, ensure_ascii=False, indent=2) if options.json else text)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with status 2 and one sentence; argparse itself would print the usage as well."""
        self.exit(2, f"headviz: {message}. See --help.\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser, whose help README quotes."""
    parser = _Parser(prog="python -m headviz", description="See and steer what attention heads do.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _command(commands, "models", "the built-in models and their probe sets", _models)
    _command(commands, "concepts", "the preset concepts and their words", _concepts)

    rank = _command(commands, "rank", "rank all heads for a concept", _rank)
    _add_model(rank)
    _add_concept(rank)
    rank.add_argument("--criterion", default="somp", help=f"one of {', '.join(CRITERIA)}")
    rank.add_argument("--top", type=int, default=10, metavar="N", help="heads to show")
    _add_reading(rank)

    spectrum = _command(commands, "spectrum", "the tokens that one head talks about", _spectrum)
    _add_model(spectrum)
    spectrum.add_argument("--head", required=True, help="e.g. L3.H7")
    spectrum.add_argument("--steps", type=int, default=20, metavar="N", help="tokens to pick")
    spectrum.add_argument("--memory", type=float, metavar="GIB", help="working memory to keep to")
    _add_reading(spectrum)

    generate = _command(commands, "generate", "answer with and without an edit", _generate)
    _add_model(generate)
    generate.add_argument("--prompt", required=True)
    generate.add_argument("--edit", default="", help='factors by head, e.g. "L3.H7=-1,L2.H1=0"')
    generate.add_argument("--control", action="store_true", help="also edit random other heads")
    generate.add_argument("--control-seed", type=int, default=0, metavar="N")
    generate.add_argument("--max-new-tokens", type=int, default=60, metavar="N")
    generate.add_argument("--temperature", type=float, default=0.0, help="0: most likely token")
    generate.add_argument("--seed", type=int, default=0, help="of the sampling noise")
    _add_concept(generate)

    bench = _command(commands, "bench", "measure speed against a plain oracle", _bench)
    bench.add_argument("what", choices=["pursuit"], help="pursuit: the search for heads and tokens")
    bench.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    bench.add_argument("--out", metavar="FOLDER", help="where the picture of the growth goes")

    shipping = _command(commands, "ship", "make a built-in model's shipped results anew", _ship)
    _add_model(shipping)
    return parser


def _command(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--dtype", default="auto", help=f"auto, {', '.join(DTYPES)}")
    parser.set_defaults(run=run)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny-lm", help="built-in name, folder or hub name")


def _add_concept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concept", help="a preset, or a name for --words")
    parser.add_argument("--words", help="own words, separated by commas")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    default = Options()
    parser.add_argument("--probes", help="a built-in probe set, or a .txt, .csv or .jsonl file")
    parser.add_argument("--pooling", default=default.pooling, help=f"{', '.join(POOLINGS)}")
    parser.add_argument("--pieces", default=default.pieces, help=f"{', '.join(PIECES)}")
    parser.add_argument("--iterations", type=int, default=default.steps, metavar="N")
    parser.add_argument("--no-centre", action="store_true", help="raw energy, not variance")
    parser.add_argument("--raw-atoms", action="store_true", help="atoms of their own length")
    parser.add_argument("--no-final-norm", action="store_true", help="leave the norm's gain out")


def _options(parsed: argparse.Namespace) -> Options:
    return Options(
        steps=parsed.iterations,
        centre=not parsed.no_centre,
        normalise=not parsed.raw_atoms,
        fold_norm=not parsed.no_final_norm,
        pooling=parsed.pooling,
        pieces=parsed.pieces,
    )


def _models(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    rows = [{"name": name, "probes": list(built_in_probes(name))} for name in built_in_models()]
    lines = [f"{row['name']:<12} probe sets: {', '.join(row['probes'])}" for row in rows]
    return rows, "\n".join([*lines, "Any folder or hub name of a causal language model works too."])


def _concepts(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    known = known_concepts().values()
    rows = [{"name": c.name, "title": c.title, "words": list(c.words)} for c in known]
    lines = [f"{c.name:<12} {c.title} ({len(c.words)}: {', '.join(c.words[:5])} …)" for c in known]
    return rows, "\n".join(lines)


def _rank(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    concept = find_concept(parsed.concept, parsed.words)
    session.model(parsed.model)
    probes = find_probes(parsed.probes, parsed.model)
    ranking = session.rank(parsed.model, concept, probes, parsed.criterion, _options(parsed))
    result = ranking.as_dict(max(parsed.top, 0))
    dropped = result["dropped"]
    lines = [
        f"{result['concept']} in {result['model']}: {result['n_heads']} heads, "
        f"{result['n_samples']} texts, {len(result['words'])} words"
        + (f", {len(dropped)} dropped ({', '.join(list(dropped)[:5])} …)" if dropped else ""),
        f"{'#':>3}  {'head':<8} {parsed.criterion:>10}  {'chance':>7}  "
        f"{'95 % of draws':<16} {'rank':<9}",
    ]
    lines += [
        f"{h['rank']:>3}  {h['head']:<8} {h['score']:>10.3f}  {h['chance']:>7.3f}  "
        f"{h['low']:.3f} – {h['high']:.3f}    {h['best_rank']} – {h['worst_rank']}"
        for h in result["heads"]
    ]
    return result, "\n".join(lines)


def _spectrum(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    head = Head.parse(parsed.head)
    session.model(parsed.model)
    probes = find_probes(parsed.probes, parsed.model)
    found = session.spectrum(parsed.model, head, probes, parsed.steps, _options(parsed))
    lines = [f"{found.head} of {found.model}, over {found.n_samples} texts"]
    lines += [
        f"{n:>3}  {atom.token!r:<16} weight {atom.weight:>7.3f}  explained {atom.explained:6.1%}"
        for n, atom in enumerate(found.atoms, 1)
    ]
    return found.as_dict(), "\n".join(lines)


def _generate(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    named = parsed.concept is not None or parsed.words is not None
    words = find_concept(parsed.concept, parsed.words).words if named else ()
    sampling = Sampling(parsed.max_new_tokens, parsed.temperature, parsed.seed)
    edit = Edit.parse(parsed.edit)
    streams = session.compare(
        parsed.model, parsed.prompt, edit, words, parsed.control, sampling, parsed.control_seed
    )
    comparison = last_of(streams)
    result = {"model": parsed.model, "control": None, **comparison.as_dict()}
    return result, _columns_as_text(comparison)


def _columns_as_text(comparison: Comparison) -> str:
    parts = []
    for column in comparison.columns:
        facts = [f"perplexity {column.perplexity:.2f}"] if column.perplexity else []
        if column.concept_words is not None:
            facts.append(f"{column.concept_words} concept words")
        if column.name != "original":
            at = column.differs_at
            facts.append("same as the original" if at is None else f"differs from word {at}")
        edit = f" {column.edit}" if column.edit else ""
        parts.append(f"[{column.name}{edit}] ({', '.join(facts)})\n{column.text.strip()}")
    return "\n\n".join(parts)


def _bench(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    device, _, _ = choose_device(parsed.device, parsed.dtype)
    out = Path(parsed.out) if parsed.out else None
    return bench_pursuit(device, parsed.quick, out, lambda line: print(line, file=sys.stderr))


def _ship(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    path = ship(session, parsed.model)
    return {"model": parsed.model, "file": path.name}, f"wrote {path.name}"


def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
