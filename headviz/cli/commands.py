"""What the commands of `python -m headviz` do: each gives plain data for JSON and a text to print.

Knows nothing of how arguments are parsed and where results are printed.
"""

import argparse
from typing import Any

from headviz.base.assets import TRAINED_HERE, built_in_models
from headviz.base.head import Head, parse_factor
from headviz.cli.bake_command import given_recipe
from headviz.clip.load import built_in_clips
from headviz.editing.compare import Comparison, last_of
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe
from headviz.heads.capture import HeadActivations
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept, known_concepts
from headviz.inputs.image_folders import open_pictures
from headviz.inputs.prompt_sets import PromptSet, built_in_prompt_sets, find_prompt_set
from headviz.models.loaded import LoadedModel
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session.open_model import check_laws
from headviz.session.save import check_files, save
from headviz.session.session import Session


def _options(model: LoadedModel, parsed: argparse.Namespace) -> Options:
    return Options(
        steps=parsed.iterations,
        centre=not parsed.no_centre,
        normalise=not parsed.raw_atoms,
        fold_norm=not parsed.no_final_norm,
        pooling=parsed.pooling or model.usual_pooling,
        pieces=parsed.pieces,
        order=parsed.order,
    )


def _kind(prompt_set: PromptSet) -> str:
    return "pictures" if prompt_set.pictures else "texts"


def models(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """The built-in models and their prompt sets."""
    clips = built_in_clips()
    rows = [
        {"name": name, "prompt_set": list(built_in_prompt_sets(name))} for name in built_in_models()
    ]
    lines = [f"{row['name']:<12} prompt sets: {', '.join(row['prompt_set'])}" for row in rows]
    lines += [
        f"{name:<12} CLIP model: names concepts, its heads are read on pictures" for name in clips
    ]
    if missing := [name for name in TRAINED_HERE if name not in {*built_in_models(), *clips}]:
        how = "python -m toyworld train NAME"
        lines.append(f"Not trained yet: {', '.join(missing)} ({how}).")
    return rows, "\n".join(
        [*lines, "Any folder or hub name of a language model or vision-language model works too."]
    )


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
    model = session.model(parsed.model)
    prompt_set = find_prompt_set(parsed.prompt_set, parsed.model, model.has_vision, parsed.prompt)
    ranking = session.rank(
        parsed.model, concept, prompt_set, parsed.criterion, _options(model, parsed)
    )
    if parsed.out:
        save(ranking, parsed.out)
    if parsed.activations:
        pooling = ranking.options.pooling
        save(session.activations(parsed.model, prompt_set, pooling), parsed.activations)
    if parsed.recipe:
        heads = ranking.preselected(max(parsed.top, 0))
        edit = Edit.of(heads, parse_factor(str(parsed.factor)))
        save(Recipe.of(edit, ranking), parsed.recipe)
    result = ranking.as_dict(max(parsed.top, 0))
    dropped = result["dropped"]
    lines = [
        f"{result['concept']} in {result['model']}: {result['n_heads']} heads, "
        f"{result['n_samples']} {_kind(prompt_set)}, {len(result['words'])} words"
        + (f", {len(dropped)} dropped ({', '.join(list(dropped)[:5])} …)" if dropped else "")
        + f", read at {result['n_positions']} positions ({ranking.options.pooling})",
        f"{'#':>3}  {'head':<8} {parsed.criterion:>10}  {'chance':>7}  {'over':>6}  "
        f"{'95 % of draws':<16} {'rank':<9}",
    ]
    lines += [
        f"{h['rank']:>3}  {h['head']:<8} {h['score']:>10.3f}  {h['chance']:>7.3f} "
        f" {h['over']:>6.3f}  "
        f"{h['low']:.3f} – {h['high']:.3f}    {h['best_rank']} – {h['worst_rank']}"
        + ("" if h["above_chance"] else "   not above chance")
        for h in result["heads"]
    ]
    return result, "\n".join(lines)


def spectrum(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """The tokens that one head talks about."""
    head = Head.parse(parsed.head)
    check_files({Spectrum: parsed.out})
    model = session.model(parsed.model)
    prompt_set = find_prompt_set(parsed.prompt_set, parsed.model, model.has_vision, parsed.prompt)
    found = session.spectrum(parsed.model, head, prompt_set, parsed.steps, _options(model, parsed))
    if parsed.out:
        save(found, parsed.out)
    lines = [f"{found.head} of {found.model}, over {found.n_samples} {_kind(prompt_set)}"]
    lines += [
        f"{n:>3}  {atom.token!r:<16} weight {atom.weight:>7.3f}  explained {atom.explained:6.1%}"
        for n, atom in enumerate(found.atoms, 1)
    ]
    return found.as_dict(), "\n".join(lines)


def generate(session: Session, parsed: argparse.Namespace) -> tuple[Any, str]:
    """An answer or caption with and without an edit."""
    check_files({Comparison: parsed.out})
    recipe = given_recipe(session, parsed.model, parsed.edit, parsed.where)
    named = parsed.concept is not None or parsed.words is not None
    concept = find_concept(parsed.concept, parsed.words) if named else recipe.concept
    sampling = Sampling(parsed.max_new_tokens, parsed.temperature, parsed.seed)
    streams = session.compare(
        recipe.model,
        parsed.prompt,
        recipe.edit,
        concept.words if concept else (),
        parsed.control,
        sampling,
        parsed.control_seed,
        open_pictures(parsed.image),
    )
    comparison = last_of(streams)
    if parsed.out:
        save(comparison, parsed.out)
    where = recipe.edit.where
    apart = {"where": where} if where != "everywhere" else {}
    result = {"model": recipe.model, "control": None, **apart, **comparison.as_dict()}
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
