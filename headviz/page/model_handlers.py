"""What the choices on the page mean: a concept from a name and words, options, a loaded model.

Plain functions; nothing is laid out here.
"""

from headviz.heads.chat import can_think
from headviz.heads.prompts import prompts_of
from headviz.inputs.concepts import (
    Concept,
    ConceptTokens,
    find_concept,
    known_concepts,
    make_concept,
    tokenize_concept,
)
from headviz.models.loaded import LoadedModel
from headviz.page import prompt_sets
from headviz.page.view import ModelShown, View, shipped_of
from headviz.pursuit.options import Options
from headviz.session.session import Session

OWN_WORDS = "my own words"


def concept_words(name: str) -> str:
    """A preset's words as the page shows them."""
    return ", ".join(find_concept(name).words)


def chosen_concept(words: str) -> Concept:
    """The preset of just these words, or a concept of one's own. Raises ConceptError if none."""
    for concept in known_concepts().values():
        if words == ", ".join(concept.words):
            return concept
    return make_concept("my words", words.replace("\n", ",").split(","))


def name_of(words: str) -> str:
    """How the list of concepts calls these words."""
    known = (c.name for c in known_concepts().values() if words == ", ".join(c.words))
    return next(known, OWN_WORDS)


def usual_options(model: ModelShown) -> Options:
    """The options that the page begins with."""
    return Options(pooling=prompt_sets.pooling_choices(model)[0][1])


def model_shown(model: LoadedModel) -> ModelShown:
    """What the panels must know of it."""
    if not model.writes:
        return ModelShown(model.name, has_vision=True, writes=False)
    prompts = tuple(prompts_of(model).values()) if model.has_vision else ()
    prompts = tuple(prompt for prompt in prompts if "{" not in prompt)
    template = model.chat_template
    return ModelShown(
        model.name,
        model.has_vision,
        prompts=prompts,
        template=bool(template),
        thinks=can_think(template),
    )


def tokens_of(session: Session, model: str, words: str, pieces: str) -> ConceptTokens:
    """Which token each word becomes: shipped, or asked of the model."""
    found = chosen_concept(words)
    shipped = shipped_of(model)
    if shipped and found.name in shipped.concepts and pieces == Options().pieces:
        return shipped.ranking(found.name).tokens
    loaded = session.model(model)
    return tokenize_concept(found, loaded.tokenizer, pieces, loaded.n_tokens)


def describe(view: View | None) -> str:
    """One line on what is shown."""
    if view is None:
        return "Choose a concept and press Rank heads."
    origin = "shipped with the model" if view.shipped else "computed here"
    kind = "pictures" if view.has_vision else "texts"
    positions = f" ({view.n_positions:,} positions)" if view.has_vision and view.n_positions else ""
    return (
        f"{view.concept.title} in {view.model}: {view.total_heads} heads read on "
        f"{len(view.prompt_set)} {kind} ({view.prompt_set.name}), "
        f"{prompt_sets.WHERE_READ[view.options.pooling]}{positions}; {origin}."
    )
