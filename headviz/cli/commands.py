"""What the commands of `python -m headviz` do: each gives plain data for JSON and a text to print.

Each takes the session and the arguments under the names that `__main__` gives them. Defaults that
depend on the model are the session's; nothing is printed here.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headviz.base.errors import OptionError
from headviz.base.head import Head, parse_factor
from headviz.cli.bake_command import given_recipe
from headviz.clip.tower import tower_of
from headviz.clip.zero_shot import ZeroShot, ZeroShotRequest, classes_of
from headviz.editing.compare import CompareRequest, Comparison, last_of
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe
from headviz.heads.capture import HeadActivations
from headviz.heads.chat import Chat
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept, known_concepts
from headviz.inputs.image_folders import open_pictures
from headviz.inputs.prompt_sets import PromptSet
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session.open_model import check_laws
from headviz.session.rankings import find_way
from headviz.session.rankings import rank as rank_by
from headviz.session.save import check_files, save
from headviz.session.session import Session

_LISTED = 3  # classes of a picture that are printed


def _options(session: Session, parsed: argparse.Namespace) -> Options:
    usual = session.default_options(parsed.model)
    return replace(
        usual,
        steps=parsed.iterations,
        centre=not parsed.no_centre,
        normalise=not parsed.raw_atoms,
        fold_norm=not parsed.no_final_norm,
        pooling=parsed.pooling or usual.pooling,
        pieces=parsed.pieces,
        order=parsed.order,
        template=not parsed.no_template,
        system=parsed.system,
        thinking=parsed.thinking,
    )


def _of_recipe(ranking: Ranking, n: int) -> tuple[Head, ...]:
    """The heads of an edit: those above chance, in the paper's order all of the first."""
    if ranking.options.order == "raw":
        return ranking.top(n)
    if not (heads := ranking.preselected(n)):
        raise OptionError(
            f"None of the first {n} heads is surely above chance: a recipe of them would turn "
            "heads that say nothing of the concept. Read more or other texts, or write --order raw."
        )
    return heads


def _kind(prompt_set: PromptSet) -> str:
    return "pictures" if prompt_set.pictures else "texts"


def check(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """Every law, measured on a model."""
    model = session.model(parsed.model)
    report = check_laws(model)
    return report.as_dict(), str(report)


def concepts(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """The preset concepts and their words."""
    known = known_concepts().values()
    rows = [{"name": c.name, "title": c.title, "words": list(c.words)} for c in known]
    lines = [f"{c.name:<12} {c.title} ({len(c.words)}: {', '.join(c.words[:5])} …)" for c in known]
    return rows, "\n".join(lines)


def rank(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """All heads, ranked for a concept."""
    concept = find_concept(parsed.concept, parsed.words)
    files = {Ranking: parsed.out, HeadActivations: parsed.activations, Recipe: parsed.recipe}
    check_files(files)
    prompt_set = session.prompt_set(parsed.model, parsed.prompt_set, parsed.prompt)
    options = _options(session, parsed)
    ranking = rank_by(
        session, parsed.model, concept, prompt_set, parsed.criterion, options, session.loading
    )
    if parsed.out:
        save(ranking, parsed.out)
    if parsed.activations:
        pooling = ranking.options.pooling
        save(
            session.activations(parsed.model, prompt_set, pooling, chat=options.chat),
            parsed.activations,
        )
    if parsed.recipe:
        edit = Edit.of(_of_recipe(ranking, max(parsed.top, 0)), parse_factor(str(parsed.factor)))
        save(Recipe.of(edit, ranking), parsed.recipe)
    result = ranking.as_dict(max(parsed.top, 0))
    dropped = result["dropped"]
    lines = [
        f"{result['concept']} in {result['model']}: {result['n_heads']} heads, "
        f"{result['n_samples']} {_kind(prompt_set)}, {len(result['words'])} words"
        + (f", {len(dropped)} dropped ({', '.join(list(dropped)[:5])} …)" if dropped else "")
        + _read_at(ranking),
        f"{'#':>3}  {'head':<8} {parsed.criterion:>10}  {'chance':>7}  {'over':>6}  "
        f"{'95 % of draws':<16} {'rank':<9}",
    ]
    lines += [
        f"{h['rank']:>3}  {h['head']:<8} {h['score']:>10.3f}  {h['chance']:>7.3f} "
        f" {h['over']:>6.3f}  "
        + ("" if h["low"] is None else _spread(h))
        + ("" if h["above_chance"] else "   not above chance")
        for h in result["heads"]
    ]
    return result, "\n".join(lines)


def _read_at(ranking: Ranking) -> str:
    if ranking.n_positions is None:
        return f". Source: {find_way(ranking.criterion).source}"
    return f", read at {ranking.n_positions} positions ({ranking.options.pooling})"


def _spread(head: Mapping[str, Any]) -> str:
    between = f"{head['low']:.3f} – {head['high']:.3f}"
    return f"{between}    {head['best_rank']} – {head['worst_rank']}"


def spectrum(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """The tokens that one head talks about."""
    head = Head.parse(parsed.head)
    check_files({Spectrum: parsed.out})
    prompt_set = session.prompt_set(parsed.model, parsed.prompt_set, parsed.prompt)
    options = _options(session, parsed)
    found = session.spectrum(parsed.model, head, prompt_set, parsed.steps, options)
    if parsed.out:
        save(found, parsed.out)
    lines = [f"{found.head} of {found.model}, over {found.n_samples} {_kind(prompt_set)}"]
    lines += [
        f"{n:>3}  {atom.token!r:<16} weight {atom.weight:>7.3f}  explained {atom.explained:6.1%}"
        for n, atom in enumerate(found.atoms, 1)
    ]
    return found.as_dict(), "\n".join(lines)


def generate(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """An answer, a caption or a CLIP model's choice of class with and without an edit."""
    check_files({Comparison: parsed.out})
    recipe = given_recipe(session, parsed.model, parsed.edit, parsed.where)
    named = parsed.concept is not None or parsed.words is not None
    concept = find_concept(parsed.concept, parsed.words) if named else recipe.concept
    words = concept.words if concept else ()
    if not session.model(recipe.model).writes:
        return _choose_class(session, parsed, recipe, words)
    asked = CompareRequest(
        prompt=parsed.prompt,
        edit=recipe.edit,
        words=words,
        control=parsed.control,
        control_seed=parsed.control_seed,
        sampling=Sampling(parsed.max_new_tokens, parsed.temperature, parsed.seed),
        pictures=tuple(open_pictures(parsed.image)),
        chat=Chat(not parsed.no_template, parsed.system, parsed.thinking),
    )
    comparison = last_of(session.compare(recipe.model, asked))
    if parsed.out:
        save(comparison, parsed.out)
    where = recipe.edit.where
    apart = {"where": where} if where != "everywhere" else {}
    result = {"model": recipe.model, "control": None, **apart, **comparison.as_dict()}
    return result, _columns_as_text(comparison)


def _choose_class(
    session: Session, parsed: argparse.Namespace, recipe: Recipe, words: tuple[str, ...]
) -> tuple[Any, str]:
    """A CLIP model's zero-shot answers: the prompt names the classes, or else the concept does."""
    clip = tower_of(session.model(recipe.model)).clip
    pictures = open_pictures(parsed.image)
    asked = ZeroShotRequest(
        images=[picture.image() for picture in pictures],
        classes=classes_of(clip, parsed.prompt, words),
        edit=recipe.edit,
        control=parsed.control,
        control_seed=parsed.control_seed,
    )
    found = session.zero_shot(recipe.model, asked)
    if parsed.out:
        save(found, parsed.out)
    names = [picture.name for picture in pictures]
    return {**found.as_dict(), "pictures": names}, _answers_as_text(found, names)


def _answers_as_text(found: ZeroShot, pictures: Sequence[str]) -> str:
    """The likeliest classes of each answer, picture by picture."""
    parts = []
    for answer in found.answers:
        edit = f" {answer.edit}" if answer.edit else ""
        lines = [f"[{answer.name}{edit}]"]
        for name, row in zip(pictures, answer.probabilities, strict=True):
            top = row.topk(min(_LISTED, len(row)))
            shares = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            lines.append(f"{name}: " + ", ".join(f"{found.classes[i]} {p:.0%}" for i, p in shares))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


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
