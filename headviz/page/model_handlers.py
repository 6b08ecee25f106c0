"""What the panel `choose` does: plain functions from the page's inputs to a ranking.

Knows the session, but lays nothing out.
"""

from dataclasses import astuple, dataclass
from typing import Any

import gradio as gr

from headviz.heads.prompts import prompts_of
from headviz.inputs.concepts import (
    Concept,
    find_concept,
    known_concepts,
    make_concept,
    tokenize_concept,
)
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.page import html, prompt_sets
from headviz.page.errors import warn
from headviz.page.recipes import LoadedRecipe
from headviz.page.shared import Shared
from headviz.page.view import ModelShown, View, first_view, view_of
from headviz.pursuit.options import Options
from headviz.session.shipped import load_shipped


def concept_words(name: str) -> str:
    """A preset's words as the page shows them."""
    return ", ".join(find_concept(name).words)


def chosen_concept(name: str, words: str) -> Concept:
    """The preset, or the words as the person changed them. Raises ConceptError if none is left."""
    known = known_concepts()
    if name in known and words == concept_words(name):
        return known[name]
    return make_concept("my words", words.replace("\n", ",").split(","))


def describe(view: View | None) -> str:
    """One line on what is shown."""
    if view is None:
        return "Choose a concept and press *Rank heads*."
    origin = "shipped with the model" if view.shipped else "computed here"
    kind = "pictures" if view.has_vision else "texts"
    positions = f" ({view.n_positions:,} positions)" if view.has_vision and view.n_positions else ""
    return (
        f"**{view.concept.title}** in {view.model}: {view.total_heads} heads read on "
        f"{len(view.prompt_set)} {kind} ({view.prompt_set.name}), "
        f"{prompt_sets.WHERE_READ[view.options.pooling]}{positions}; {origin}."
    )


def usual_options(model: ModelShown) -> Options:
    """The options that the page begins with."""
    return Options(pooling=prompt_sets.pooling_choices(model)[0][1])


def model_shown(model: LoadedModel) -> ModelShown:
    """What the panels must know of it."""
    if not model.writes:
        return ModelShown(model.name, has_vision=True, writes=False)
    prompts = tuple(prompts_of(model).values()) if model.has_vision else ()
    return ModelShown(model.name, model.has_vision, prompts=prompts)


@dataclass(frozen=True)
class Choosing:
    """The handlers, over what the panels share."""

    shared: Shared

    def load(
        self, request: gr.Request, name: str, concept: str, words: str, bar: gr.Progress
    ) -> tuple[Any, ...]:
        """Load a model: its summary, what it reads, and its shipped ranking if there is one."""
        report = self.shared.runs.load_progress(request, bar)
        report(0.0, f"loading {name}")
        loaded = self.shared.session.model(name, report)
        model = model_shown(loaded)
        choices = prompt_sets.pooling_choices(model)
        pooling = gr.update(choices=choices, value=choices[0][1])
        view = first_view(name, chosen_concept(concept, words).name if words.strip() else concept)
        return loaded.summary, *prompt_sets.fitted(model), pooling, model, view, describe(view)

    def adopt(
        self, request: gr.Request, given: LoadedRecipe, concept: str, bar: gr.Progress
    ) -> tuple[Any, ...]:
        """The model and concept of a recipe, and what `load` gives for them."""
        recipe = given.recipe
        found = recipe.concept
        name = found.name if found and found.name in known_concepts() else concept
        words = ", ".join(found.words) if found else concept_words(concept)
        loaded = self.load(request, recipe.model, name, words, bar)
        shown = gr.skip() if found is None else words
        return recipe.model, name, shown, *loaded

    def pick(
        self,
        concept: str,
        model: ModelShown,
        samples: tuple[str, str],
        criterion: str,
        options: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        """A preset's words, and at once its ranking where that is shipped."""
        usual = samples == (prompt_sets.sample_choices(model)[0], "") and criterion == "somp"
        known = usual and options == astuple(usual_options(model))
        view = first_view(model.name, concept) if known else None
        found = (view, describe(view)) if view else (gr.skip(), gr.skip())
        return concept_words(concept), *found

    def words_to_chips(self, model: ModelShown, concept: str, words: str, pieces: str) -> str:
        """Which token each word became in this model."""
        found = chosen_concept(concept, words)
        shipped = load_shipped(model.name)
        if shipped and found.name in shipped.concepts and pieces == Options().pieces:
            return html.chips(shipped.ranking(found.name).tokens)
        tokenizer = self.shared.session.model(model.name).tokenizer
        return html.chips(tokenize_concept(found, tokenizer, pieces))

    def rank(
        self,
        request: gr.Request,
        bar: gr.Progress,
        name: str,
        samples: tuple[str, str, str, PromptSet | None],
        concept: tuple[str, str],
        criterion: str,
        options: tuple[Any, ...],
    ) -> tuple[View, str, str]:
        """Rank the heads: the view, what it shows, and the model's summary."""
        session = self.shared.session
        report = self.shared.runs.progress(request, bar)
        found = chosen_concept(*concept)
        steps, *rest = options
        chosen = Options(int(steps or 0), *rest)
        report(0.0, f"loading {name}")
        loaded = session.model(name, report)
        prompt_set = prompt_sets.find_samples(*samples, model_shown(loaded))
        ranking = session.rank(name, found, prompt_set, criterion, chosen, report)
        warn(session.take_notices())
        view = view_of(ranking, prompt_set)
        return view, describe(view), loaded.summary
