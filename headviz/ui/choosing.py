"""What the panel `choose` does: plain functions from the page's inputs to a ranking.

Knows the session, but lays nothing out.
"""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from headviz.capture import POOLINGS
from headviz.concepts import Concept, find_concept, known_concepts, make_concept, tokenize_concept
from headviz.criteria import Options
from headviz.errors import ProbeError
from headviz.probes import ProbeSet, default_probes, find_probes, make_probes, read_probes
from headviz.shipped import load_shipped
from headviz.ui import html
from headviz.ui.errors import warn
from headviz.ui.shared import Shared
from headviz.ui.view import View, first_view, view_of

TYPED, UPLOADED = "my own texts", "my file"


def text_choices(model: str) -> list[str]:
    """Probe sets to offer for a model, the default first."""
    return [*default_probes(model), TYPED, UPLOADED]


def find_texts(choice: str, typed: str, uploaded: ProbeSet | None, model: str) -> ProbeSet:
    """The texts chosen on the page. Raises ProbeError where there are none."""
    if choice == TYPED:
        return make_probes(TYPED, typed.splitlines())
    if choice == UPLOADED:
        if uploaded is None:
            raise ProbeError("No file was uploaded yet. Choose a .txt, .csv or .jsonl file.")
        return uploaded
    return find_probes(choice, model)


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
    return (
        f"**{view.concept.title}** in {view.model}: {view.total_heads} heads read on "
        f"{len(view.probes)} texts ({view.probes.name}), "
        f"{POOLINGS[view.options.pooling]}; {origin}."
    )


@dataclass(frozen=True)
class Choosing:
    """The handlers, over what the panels share."""

    shared: Shared

    def load(self, name: str, concept: str, bar: gr.Progress) -> tuple[Any, ...]:
        """Load a model: its summary, its texts, and its shipped ranking if there is one."""
        bar(None, desc=f"loading {name}")
        loaded = self.shared.session.model(name)
        choices = text_choices(name)
        view = first_view(name, concept)
        return loaded.summary, gr.update(choices=choices, value=choices[0]), view, describe(view)

    def take_file(self, path: str) -> tuple[ProbeSet, Any, str]:
        """Read an uploaded file of texts."""
        probes = read_probes(Path(path))
        return probes, gr.update(value=UPLOADED), f"{len(probes)} texts from {probes.name}."

    def pick(
        self, concept: str, model: str, choice: str, criterion: str, *options: Any
    ) -> tuple[Any, ...]:
        """A preset's words, and at once its ranking where that is shipped."""
        default = choice == text_choices(model)[0] and criterion == "somp"
        view = first_view(model, concept) if default and options == astuple(Options()) else None
        found = (view, describe(view)) if view else (gr.skip(), gr.skip())
        return concept_words(concept), *found

    def words_to_chips(self, model: str, concept: str, words: str, pieces: str) -> str:
        """Which token each word became in this model."""
        found = chosen_concept(concept, words)
        shipped = load_shipped(model)
        if shipped and found.name in shipped.concepts and pieces == Options().pieces:
            return html.chips(shipped.ranking(found.name).tokens)
        tokenizer = self.shared.session.model(model).tokenizer
        return html.chips(tokenize_concept(found, tokenizer, pieces))

    def rank(
        self,
        request: gr.Request,
        bar: gr.Progress,
        model: str,
        texts: tuple[str, str, ProbeSet | None],
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
        report(0.0, f"loading {model}")
        loaded = session.model(model)
        probes = find_texts(*texts, model)
        ranking = session.rank(model, found, probes, criterion, chosen, report)
        warn(session.take_notices())
        view = view_of(ranking, probes)
        return view, describe(view), loaded.summary
