"""The page's endpoints for programs: `/rank`, `/spectrum`, `/generate`, `/concepts`.

Plain values in, plain data out, in the shapes of the command line's --json, so that gradio_client
needs nothing of the page's own. What is on the server's disk cannot be named: texts and pictures
come with the call.
"""

import base64
import binascii
import dataclasses
import functools
import inspect
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gradio as gr
from pydantic import TypeAdapter, ValidationError

from headviz.base.errors import OptionError, PictureError, UnknownName
from headviz.base.head import Head
from headviz.clip.tower import tower_of
from headviz.clip.zero_shot import ZeroShotRequest, classes_of
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe, check_fit
from headviz.heads.chat import Chat
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, find_concept, known_concepts
from headviz.inputs.image_folders import open_pictures
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import (
    PromptSet,
    known_prompt_sets,
    make_prompt_set,
)
from headviz.page.ask import MAX_PROMPT
from headviz.page.errors import for_program
from headviz.page.limits import deadline, while_wanted, within
from headviz.page.shared import ANSWER_QUEUE, MODEL_QUEUE
from headviz.session.rankings import rank
from headviz.session.session import Session

MAX_TEXTS = 2_000_000
"""Characters of all texts that come with a call."""


@dataclasses.dataclass(frozen=True)
class Api:
    """The endpoints over a session; each is a method with plain arguments."""

    session: Session
    seconds: float | None = None
    """That one call may take; None: any time."""

    def concepts(self) -> list[dict[str, Any]]:
        """The preset concepts and their words, and the models that may be named."""
        return [{"name": c.name, "words": list(c.words)} for c in known_concepts().values()]

    def rank(
        self,
        model: str = "",
        concept: str = "",
        words: list[str] | None = None,
        texts: list[str] | None = None,
        images: list[str] | None = None,
        prompt_set: str = "",
        prompt: str = "",
        criterion: str = "somp",
        top: int = 10,
    ) -> dict[str, Any]:
        """The heads of a model, ranked for a preset concept or for words.

        They are read on the texts given, on pictures (base64), on a built-in prompt set, or on the
        model's own if nothing is named.
        """
        name = self._model(model)
        found = _concept(concept, words)
        samples = self._samples(name, texts, images, prompt_set, prompt)
        in_time = deadline(self.seconds)
        ranking = rank(self.session, name, found, samples, criterion, progress=in_time)
        return ranking.as_dict(max(int(top), 0))

    def spectrum(
        self,
        model: str = "",
        head: str = "",
        texts: list[str] | None = None,
        images: list[str] | None = None,
        prompt_set: str = "",
        prompt: str = "",
        steps: int = 20,
    ) -> dict[str, Any]:
        """What one head talks about: tokens in order, its strongest samples, its logit lens."""
        name = self._model(model)
        samples = self._samples(name, texts, images, prompt_set, prompt)
        in_time, asked = deadline(self.seconds), Head.parse(head)
        return self.session.spectrum(name, asked, samples, steps, progress=in_time).as_dict()

    def generate(
        self,
        model: str = "",
        prompt: str = "",
        edit: str | dict[str, Any] = "",
        where: str = "everywhere",
        concept: str = "",
        words: list[str] | None = None,
        images: list[str] | None = None,
        max_new_tokens: int = 60,
        temperature: float = 0.0,
        seed: int = 0,
        template: bool = True,
        system: str | None = None,
        thinking: bool = False,
    ) -> dict[str, Any]:
        """Original, edited and random control, measured; of a CLIP model, its choice of class.

        The edit is written as `L3.H7=-1,L2.H1=0`, or is a recipe.
        """
        _check_length("The prompt has", [prompt], MAX_PROMPT)
        recipe = self._recipe(model, edit, where)
        found = _concept(concept, words) if concept or words else recipe.concept
        counted = found.words if found else ()
        sampling = Sampling(int(max_new_tokens), float(temperature), int(seed))
        pictures = _pictures(images)
        loaded = self.session.model(recipe.model)
        if not loaded.writes:
            classes = classes_of(tower_of(loaded).clip, prompt, counted)
            choice = ZeroShotRequest(
                [picture.image() for picture in pictures],
                classes,
                recipe.edit,
                control_seed=sampling.seed,
            )
            return self.session.zero_shot(recipe.model, choice).as_dict()
        asked = CompareRequest(
            prompt=prompt,
            edit=recipe.edit,
            words=counted,
            control_seed=sampling.seed,
            sampling=sampling,
            pictures=pictures,
            chat=Chat(template, system, thinking),
        )
        # Closed at once where it ends early: an error would keep it until it is forgotten itself.
        with closing(self.session.compare(recipe.model, asked)) as streams:
            comparison = last_of(while_wanted(within(self.seconds, streams)))
        return {"model": recipe.model, "where": recipe.edit.where, **comparison.as_dict()}

    def _model(self, name: str) -> str:
        return name or self.session.default_model

    def _recipe(self, model: str, edit: str | dict[str, Any], where: str) -> Recipe:
        if isinstance(edit, dict):
            recipe = Recipe.from_dict(edit)
            loaded = self.session.model(model or recipe.model)
            check_fit(recipe, loaded)
            return recipe.on(loaded)
        name = self._model(model)
        return Recipe(name, "", Edit.parse(edit, where))

    def _samples(
        self,
        model: str,
        texts: list[str] | None,
        images: list[str] | None,
        prompt_set: str,
        prompt: str,
    ) -> PromptSet:
        if texts and not images:
            _check_length("The texts have", texts, MAX_TEXTS)
            return make_prompt_set("texts", texts)
        has_vision = self.session.model(model).has_vision
        known = known_prompt_sets(model, has_vision)
        if prompt_set and prompt_set not in known:  # never a path: it would be one of the server
            raise UnknownName("prompt set", prompt_set, known, "Or send texts.")
        return self.session.prompt_set(model, prompt_set or None, prompt, _pictures(images))


def _check_length(what: str, texts: list[str], most: int) -> None:
    """Raise OptionError before anything is made of texts that are far too long."""
    if (n := sum(map(len, texts))) > most:
        raise OptionError(f"{what} {n} characters; {most} at most.")


def _concept(name: str, words: list[str] | None) -> Concept:
    return find_concept(name or None, words) if words else find_concept(name)


def _pictures(images: list[str] | None) -> tuple[Picture, ...]:
    """Pictures from base64. Raises PictureError."""
    contents = []
    for number, text in enumerate(images or (), 1):
        try:
            content = text.partition(",")[2] if text.startswith("data:") else text
            contents.append(base64.b64decode(content, validate=True))
        except (binascii.Error, ValueError):
            raise PictureError(f"Picture {number} is not base64.") from None
    return tuple(open_pictures(contents))


_READ_AS: dict[Any, str] = {
    str: "a text",
    str | None: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list[str] | None: "a list of texts",
    str | dict[str, Any]: "a text or a recipe",
}
"""Types of the endpoints' arguments -> what a program is told of them."""


def checked(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, which gets nothing but what its signature says: a program may send any JSON.

    Raises OptionError, naming the argument.
    """
    signature = inspect.signature(endpoint)
    readers = {name: TypeAdapter(p.annotation) for name, p in signature.parameters.items()}

    @functools.wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            try:
                given[name] = readers[name].validate_python(value)
            except ValidationError:
                wanted = _READ_AS[signature.parameters[name].annotation]
                raise OptionError(f"{name} is {str(value)[:60]!r}, and not {wanted}.") from None
        return endpoint(**given)

    return call


def build(session: Session, seconds: float | None = None) -> None:
    """Offer the endpoints, each call for so many seconds; call it inside the page."""
    api = Api(session, seconds)
    reading, answering = (api.concepts, api.rank, api.spectrum), (api.generate,)
    queues = [*((one, MODEL_QUEUE) for one in reading), *((one, ANSWER_QUEUE) for one in answering)]
    for endpoint, queue in queues:
        gr.api(
            for_program(checked(endpoint)),
            api_name=endpoint.__name__,
            api_description=(endpoint.__doc__ or "").split("\n\n")[0],
            **queue,
        )
