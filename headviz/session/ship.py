"""Making what ships with a model: one command, every preset concept, every head, answers.

Everything is what the session gives with the default options, rounded to four digits; texts are
written at temperature 0. A model without examples of its own gets some by one rule, see
`choose_examples`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import torch

from headviz.base import assets
from headviz.base.assets import built_in_models
from headviz.base.errors import ConceptError, ModelError, PromptError
from headviz.base.progress import Progress, no_progress
from headviz.base.write_whole import write_whole
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling, generate, usual_stop
from headviz.editing.measures import concept_spans
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.edits import NO_EDIT
from headviz.heads.prompts import default_prompt
from headviz.inputs.concepts import Concept, known_concepts, tokenize_concept
from headviz.inputs.examples import Example, example_pictures, examples_of, named_pictures
from headviz.inputs.prompt_sets import PromptSet, built_in_prompt_sets, general_items
from headviz.models.known import known_models
from headviz.models.loaded import LoadedModel
from headviz.pursuit.bootstrap import Spread
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.session.causal import ROUNDS, SAID, Causes, chat_of, heads_that_matter
from headviz.session.session import Session
from headviz.session.shipped import (
    CRITERION,
    SPECTRUM_STEPS,
    load_shipped,
    said_about,
    said_file,
    shipped_file,
    usual_edit,
)

MIN_WORDS = 2
"""Single-token words that a preset needs to be ranked."""
EXAMPLES = ("colors", "countries", "months", "animals", "foods", "feelings", "numbers", "weather")
"""Presets that get examples and effects, in the order of the page's list."""
N_QUESTIONS, N_OPENINGS, N_CAPTIONS = 2, 1, 2
"""Examples of each."""
_BATCH = 6  # prompts answered at once while examples are looked for
_DIGITS = 4


def ship(session: Session, name: str, progress: Progress = no_progress) -> Path:
    """Make what ships with a model anew, and say where it is.

    Raises ModelError for a model that is not known by name.
    """
    names = dict.fromkeys([*built_in_models(), *known_models()])
    if name not in names:
        raise ModelError(f"Nothing ships with {name!r}. Known by name: {', '.join(names)}.")
    model, prompt_set = session.model(name), session.prompt_set(name)
    options = session.default_options(name)
    ranked, left_out = _concepts(model, options)
    rankings = [session.rank(name, c, prompt_set, CRITERION, options, progress) for c in ranked]
    data = {
        **_origin(session, name, prompt_set, options),
        "concepts": {r.tokens.concept.name: _ranking(r) for r in rankings},
        "left_out": left_out,
        "spectra": _spectra(session, name, prompt_set, options, progress),
    }
    path = shipped_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, data)
    general = not built_in_prompt_sets(name)
    if model.writes:
        if model.has_vision:
            _write_examples(path, choose_captions(model, ranked))
        elif general:
            _write_examples(path, choose_examples(model, ranked, progress))
        data |= {"answers": _answers(session, rankings, progress)}
        _write(path, data)
        if general:
            ship_said(session, name, progress)
        _write(path, data | {"effects": _effects(session, rankings, progress)})
    return path


def ship_answers(session: Session, name: str, progress: Progress = no_progress) -> Path:
    """Make the answers anew, by the rankings that ship, and leave everything else as it is.

    A model that sees gets its examples anew as well. Raises ModelError where no ranking ships.
    """
    path, model, shipped = shipped_file(name), session.model(name), load_shipped(name)
    if shipped is None:
        raise ModelError(f"No ranking ships with {name!r}. Make the whole anew.")
    rankings = [shipped.ranking(concept) for concept in shipped.concepts]
    if model.has_vision:
        _write_examples(path, choose_captions(model, [r.tokens.concept for r in rankings]))
    _write(path, shipped.data | {"answers": _answers(session, rankings, progress)})
    return path


def ship_said(session: Session, name: str, progress: Progress = no_progress) -> Path:
    """Make what the model says to its openings anew, on which effects are measured."""
    path, causes, model = said_file(name), Causes(session), session.model(name)
    path.unlink(missing_ok=True)  # or else it would be read rather than made
    openings = causes.prompt_set(name)
    ids = [list(one.continuation) for one in causes.passages(name, openings, progress)]
    rounds = [ids[start : start + len(openings)] for start in range(0, len(ids), len(openings))]
    _write(path, {**said_about(model, openings, SAID, ROUNDS, chat_of(openings)), "ids": rounds})
    return path


def ship_effects(session: Session, name: str, progress: Progress = no_progress) -> Path:
    """Make the effects anew and leave everything else as it is; the cache knows what is done."""
    path, prompt_set = shipped_file(name), session.prompt_set(name)
    options = session.default_options(name)
    ranked, _ = _concepts(session.model(name), options)
    rankings = [session.rank(name, c, prompt_set, CRITERION, options, progress) for c in ranked]
    data = json.loads(path.read_text(encoding="utf-8"))
    _write(path, data | {"effects": _effects(session, rankings, progress)})
    return path


def choose_examples(
    model: LoadedModel, concepts: Sequence[Concept], progress: Progress = no_progress
) -> tuple[Example, ...]:
    """Of each of EXAMPLES the first questions and the first opening that are to the point.

    In the order of the general sets: those in whose answer the unedited model says a word of the
    concept. Nobody looks at what an edit does to them. Which of them the page opens on is said by
    `shipped.clearest`, and on the page.
    """
    chosen = []
    known = {concept.name: concept for concept in concepts}
    for number, name in enumerate(EXAMPLES):
        if (concept := known.get(name)) is None:
            continue
        progress(number / len(EXAMPLES), f"examples for {concept.name}")
        for kind, of, wanted in (
            ("question", "questions", N_QUESTIONS),
            ("story", "descriptions", N_OPENINGS),
        ):
            prompts = [i.prompt for i in general_items(of) if i.concept == concept.name]
            found = _to_the_point(model, prompts, concept)
            chosen += [
                Example(prompt, concept.name, kind)
                for prompt, _ in zip(found, range(wanted), strict=False)
            ]
    return tuple(chosen)


def choose_captions(model: LoadedModel, concepts: Sequence[Concept]) -> tuple[Example, ...]:
    """For each concept the first of the example pictures whose caption says a word of it.

    As `choose_examples`: the caption is the unedited model's, to its usual prompt. None where the
    model was not trained here: the pictures are drawings.
    """
    if not (assets.ASSETS / model.name / "training.json").is_file():
        return ()
    pictures, prompt = example_pictures(model.name), default_prompt(model)
    n = len(pictures)
    *_, last = generate(model, [prompt] * n, [NO_EDIT] * n, pictures=[[p] for p in pictures])
    return tuple(
        Example(prompt, concept.name, "caption", name)
        for concept in concepts
        for name in [
            picture.name
            for picture, text in zip(pictures, last.texts, strict=True)
            if concept_spans(text, concept.words)
        ][:N_CAPTIONS]
    )


def _to_the_point(model: LoadedModel, prompts: Sequence[str], concept: Concept) -> Iterator[str]:
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        *_, last = generate(model, part, [NO_EDIT] * len(part))
        for prompt, text in zip(part, last.texts, strict=True):
            if concept_spans(text, concept.words):
                yield prompt


def _write_examples(path: Path, chosen: Sequence[Example]) -> None:
    """Beside the results; what an example has none of is left out."""
    items = [{k: v for k, v in asdict(example).items() if v} for example in chosen]
    _write(path.with_name("examples.json"), items, indent=1)


def _write(path: Path, data: Any, indent: int | None = None) -> None:
    separators = (",", ": " if indent else ":")
    text = json.dumps(data, ensure_ascii=False, indent=indent, separators=separators)
    write_whole(path, (text + "\n").encode())


def _concepts(model: LoadedModel, options: Options) -> tuple[list[Concept], dict[str, str]]:
    """The presets to rank, and why the others are not."""
    ranked, left_out = [], {}
    for concept in known_concepts().values():
        try:
            kept = len(tokenize_concept(concept, model.tokenizer, options.pieces).kept)
        except ConceptError:
            kept = 0
        if kept >= MIN_WORDS:
            ranked.append(concept)
        else:
            left_out[concept.name] = f"{kept} of its {len(concept.words)} words are single tokens"
    return ranked, left_out


def _origin(session: Session, name: str, prompt_set: PromptSet, options: Options) -> dict[str, Any]:
    return {
        "model": name,
        "revision": session.model(name).revision,
        "prompt_set": prompt_set.name,
        "prompt_set_digest": prompt_set.digest,
        "n_samples": len(prompt_set),
        "n_positions": session.activations(name, prompt_set, options.pooling).n_positions,
        "options": options.as_dict(),
        "texts": list(prompt_set.texts),
        "pictures": [picture.name for picture in prompt_set.pictures],
    }


def _ranking(ranking: Ranking) -> dict[str, Any]:
    return {
        "title": ranking.tokens.concept.title,
        "words": [[w.word, w.ids, w.pieces, w.why] for w in ranking.tokens.words],
        "scores": _rounded(ranking.scores),
        "chance": _rounded(ranking.chance),
        "spread": _spread_as_lists(ranking.spread),
    }


def _spectra(
    session: Session, name: str, prompt_set: PromptSet, options: Options, progress: Progress
) -> dict[str, Any]:
    found = session.all_spectra(name, prompt_set, SPECTRUM_STEPS, options, progress)
    return {
        str(head): {
            "atoms": [[a.token, _round(a.weight), _round(a.explained)] for a in opened.atoms],
            "samples": [[s.number, _round(s.share)] for s in opened.samples],
            "lens": [[t.token, _round(t.logit)] for t in opened.lens],
        }
        for head, opened in found.items()
    }


def _answers(
    session: Session, rankings: Sequence[Ranking], progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    """Concept -> the usual edit tried on its examples; concepts without an example are not in."""
    answers: dict[str, list[dict[str, Any]]] = {}
    for number, ranking in enumerate(rankings):
        concept = ranking.tokens.concept
        progress(number / len(rankings), f"answers for {concept.name}")
        about = [e for e in examples_of(ranking.model) if e.concept == concept.name]
        if about:
            answers[concept.name] = [_tried(session, ranking, e).as_dict() for e in about]
    return answers


def _effects(
    session: Session, rankings: Sequence[Ranking], progress: Progress
) -> dict[str, dict[str, Any]]:
    """Concept of EXAMPLES -> what its heads do; those that the model never says are not in."""
    causes, effects = Causes(session), {}
    for ranking in rankings:
        if ranking.tokens.concept.name not in EXAMPLES:
            continue
        name, concept = ranking.model, ranking.tokens.concept
        texts = causes.prompt_set(name)
        try:
            estimate = causes.estimate(name, concept, texts, progress)
        except PromptError:
            continue
        heads = heads_that_matter(ranking, estimate)
        measured = causes.effects(name, concept, texts, heads, progress=progress)
        effects[concept.name] = {
            "texts": texts.name,
            "estimate": _rounded(estimate),
            "measured": {
                str(head): [_round(value) for value in astuple(effect)] for head, effect in measured
            },
        }
    return effects


def _tried(session: Session, ranking: Ranking, example: Example) -> Recipe:
    recipe = Recipe.of(usual_edit(ranking), ranking)
    sampling = Sampling(stop=usual_stop(example.prompt))
    seen = named_pictures(ranking.model, (example.picture,)) if example.picture else ()
    asked = CompareRequest(
        example.prompt, recipe.edit, ranking.words, sampling=sampling, pictures=seen
    )
    comparison = last_of(session.compare(ranking.model, asked))
    return replace(recipe, trial=Trial.of(comparison, sampling, asked.control_seed))


def _spread_as_lists(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {
        "low": _rounded(spread.low),
        "high": _rounded(spread.high),
        "best_rank": spread.best_rank.tolist(),
        "worst_rank": spread.worst_rank.tolist(),
    }


def _rounded(scores: torch.Tensor) -> list[list[float]]:
    return [[_round(value) for value in row] for row in scores.tolist()]


def _round(value: float | int) -> float:
    return round(float(value), _DIGITS)
