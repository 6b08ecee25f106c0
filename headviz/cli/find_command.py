"""`headviz find` and `headviz effect`: the smallest edit that does it, and what single heads do."""

import argparse
from typing import Any

from headviz.base.head import Head
from headviz.editing.find import TOWARDS, Found, Search
from headviz.editing.recipe import Recipe
from headviz.inputs.concepts import find_concept
from headviz.session.causal import Causes
from headviz.session.save import check_files, save
from headviz.session.session import Session

HELP = "search for the few heads whose turning takes a concept away, or brings it forward"
EFFECT_HELP = "what the model loses without single heads, and what else moves"
_TEXTS = "what the model answers: a prompt set, a .txt, .csv or .jsonl file, a folder of pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `find` beside model and concept."""
    usual = Search()
    parser.add_argument("--heads", type=int, default=usual.heads, metavar="N", help="at most")
    parser.add_argument("--towards", default=usual.towards, help=" or ".join(TOWARDS))
    parser.add_argument(
        "--side-effects",
        type=float,
        default=usual.side_effects,
        metavar="NATS",
        help="mean KL divergence elsewhere that is allowed",
    )
    parser.add_argument("--probes", dest="prompt_set", help=_TEXTS)
    parser.add_argument("--out", metavar="FILE", help="the edit as a recipe (.json)")


def add_effect_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `effect` beside model and concept."""
    parser.add_argument("--heads", help="e.g. L3.H7,L2.H1; the first of the ranking if not given")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="so many of the ranking")
    parser.add_argument("--factor", type=float, default=0.0, help="what they are turned to")
    parser.add_argument("--probes", dest="prompt_set", help=_TEXTS)


def run(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Search, and judge on texts that the search has not seen."""
    check_files({Recipe: parsed.out})
    search = Search(parsed.towards, parsed.heads, parsed.side_effects)
    concept = find_concept(parsed.concept, parsed.words)
    causes = Causes(session)
    texts = causes.prompt_set(parsed.model, parsed.prompt_set)
    *_, found = causes.find(parsed.model, concept, search, texts, session.loading)
    assert isinstance(found, Found)
    if parsed.out:
        model = session.model(parsed.model)
        save(Recipe(model.name, model.revision, found.found.edit, concept), parsed.out)
    result = {"model": parsed.model, "concept": concept.name, **found.as_dict()}
    return result, _as_text(parsed.model, concept.name, found)


def run_effect(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Turn single heads, and say what is lost and what else moves."""
    concept = find_concept(parsed.concept, parsed.words)
    causes = Causes(session)
    texts = causes.prompt_set(parsed.model, parsed.prompt_set)
    if parsed.heads:
        heads = tuple(Head.parse(name) for name in parsed.heads.split(","))
    else:
        heads = causes.ranking(parsed.model, concept).top(max(parsed.top, 0))
    estimate = causes.estimate(parsed.model, concept, texts, session.loading)
    rows = [
        {
            "head": str(head),
            "estimate": float(estimate[head.layer, head.index]),
            **effect.as_dict(),
        }
        for head, effect in causes.effects(
            parsed.model, concept, texts, heads, parsed.factor, session.loading
        )
    ]
    lines = [
        f"{concept.name} in {parsed.model}: heads at {parsed.factor:g}, in nats",
        f"{'head':<8} {'estimate':>8} {'needed':>8}  {'95 %':<16} {'side effects':>12}",
    ]
    lines += [
        f"{row['head']:<8} {row['estimate']:>8.3f} {row['need']:>8.3f}  "
        f"{row['need_low']:>6.3f} – {row['need_high']:<7.3f} {row['side']:>12.4f}"
        for row in rows
    ]
    return rows, "\n".join(lines)


def _as_text(model: str, concept: str, found: Found) -> str:
    judged = {"found": found.found, **found.rivals}
    gain, weaker = found.search.gain, found.search.towards == "weaker"
    what = "lost (nats)" if weaker else "gained (nats)"
    n = found.found.effect.n_positions
    where = f"at {n} words of it" if weaker else f"at {n} places where one of its words might come"
    lines = [
        f"{concept} in {model}, {found.search.towards}, {where}, on texts that the search has not "
        "seen:",
        f"{'':<12} {'heads':>5} {what:>13}  {'95 %':<16} {'side effects':>12}",
    ]
    for name, one in judged.items():
        effect = one.effect
        low, high = sorted(map(gain, (effect.need_low, effect.need_high)))
        lines.append(
            f"{name:<12} {len(one.edit.factors):>5} {gain(effect.need):>13.2f}  "
            f"{low:>6.2f} – {high:<7.2f} {effect.side:>12.3f}"
        )
    lines.append(
        f"{'random':<12} {len(found.found.edit.factors):>5} {gain(found.random_need):>13.2f}  "
        f"{f'median of {len(found.random)}':<16} {found.random_side:>12.3f}"
    )
    return "\n".join([*lines, f"edit: {found.found.edit}"])
