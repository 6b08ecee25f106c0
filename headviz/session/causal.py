"""Cause in a session: what heads do to a concept, and the search for an edit, on kept passages.

The passages are what the model itself says to its prompts; they are made once for each model and
kept, and so is every measurement. One half of the texts, by a hash of the prompt, serves the search
and the other judges it.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, replace
from typing import Any

import torch

from headviz.base.errors import CacheError, OptionError
from headviz.base.head import Head
from headviz.base.lru import LRU
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Float, Tensor
from headviz.base.store import key_of
from headviz.editing.effect import Effect, Reader, marked
from headviz.editing.find import (
    Found,
    Search,
    Step,
    aimed,
    judged,
    search_in_steps,
    stretched,
    trimmed,
)
from headviz.editing.generate import Sampling
from headviz.editing.passages import Passage, begins_word, own_passages, passage, shuffled
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import Edit
from headviz.heads.pooling import Lock
from headviz.inputs.concepts import Concept
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet, default_prompt_sets
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import Ranking
from headviz.session.session import Session
from headviz.session.shipped import load_said, load_shipped, said_about

SAID = Sampling(max_new_tokens=32, temperature=0.8)
"""How the model is made to speak: a little at random, so that its texts differ."""
ROUNDS = 2
"""Answers to each prompt, each with a seed of its own."""
WITH, WITHOUT = 24, 8
"""Texts of one half at most that say a word of the concept, and that do not."""
_AT_ONCE = 39  # prompts that are answered side by side

OPENINGS = "descriptions"
"""The general set that a model goes on from if nothing else is asked for."""
FIRST = 20
"""Heads of each order that are measured unasked."""
SEARCH, JUDGE = "search", "judge"


class Causes:
    """Effects and searches over a session's models."""

    def __init__(self, session: Session) -> None:
        """Over the session's models, store and lock."""
        self.session = session
        self._readers: LRU[Reader] = LRU(4)
        session.free_with_models(self._readers)
        self._making = threading.Lock()

    def prompt_set(self, name: str, source: str | PromptSet | None = None) -> PromptSet:
        """The prompts that the model answers: those named, else openings, else its usual set."""
        model = self.session.model(name)
        if not model.writes:
            raise OptionError(
                f"{name} is a CLIP model and writes no text, so that there is nothing that it "
                "could lose. Choose a model that writes."
            )
        return self.session.prompt_set(name, source or usual_texts(name, model.has_vision))

    def passages(
        self,
        name: str,
        prompt_set: PromptSet,
        progress: Progress = no_progress,
        rounds: int = ROUNDS,
    ) -> tuple[Passage, ...]:
        """What the model says to the prompts, made once: parts that are kept are not made again.

        Of some models the first ROUNDS ship.
        """
        model = self.session.model(name)
        chat = chat_of(prompt_set)
        about = said_about(model, prompt_set, SAID, ROUNDS, chat)
        found: list[Passage] = []
        shipped = load_said(model.name, about) or ()
        for said in shipped[:rounds]:
            found += [
                passage(model, text, ids, seen, chat)
                for text, ids, seen in zip(prompt_set.texts, said, _shown(prompt_set), strict=True)
            ]
        made = range(len(shipped), rounds)
        starts = [(seed, s) for seed in made for s in range(0, len(prompt_set), _AT_ONCE)]
        for number, (seed, start) in enumerate(starts):
            rows = range(start, min(start + _AT_ONCE, len(prompt_set)))
            which = f"{seed * len(prompt_set) + start + 1} of {rounds * len(prompt_set)}"
            lock = self._turns(progress, number / len(starts), f"the model answers, text {which}")
            found += self._said(model, prompt_set, list(rows), seed, lock)
        return tuple(found)

    def _turns(self, progress: Progress, share: float, what: str) -> Lock:
        """The session's lock for work in the background; a stop waits for one forward pass."""

        def turn() -> AbstractContextManager[None]:
            progress(share, what)
            return self.session.lock.after_others()

        return turn

    def _said(
        self, model: LoadedModel, prompt_set: PromptSet, rows: list[int], seed: int, lock: Lock
    ) -> list[Passage]:
        store = self.session.store
        prompts = [prompt_set.texts[row] for row in rows]
        shown = [_shown(prompt_set)[row] for row in rows]
        sampling, chat = replace(SAID, seed=seed), chat_of(prompt_set)
        key = key_of(
            kind="said",
            model=model.name,
            revision=model.revision,
            dtype=model.number_format,
            prompt_set=prompt_set.digest,
            rows=[rows[0], rows[-1]],
            sampling=asdict(sampling),
            chat=asdict(chat),
        )
        if (kept := store.get(key)) is not None:
            parts = kept[0]["ids"].split(kept[0]["lengths"].tolist())
            return [
                passage(model, prompt, ids.tolist(), seen, chat)
                for prompt, ids, seen in zip(prompts, parts, shown, strict=True)
            ]
        made = own_passages(
            model,
            prompts,
            sampling,
            shown if prompt_set.pictures else (),
            at_once=_AT_ONCE,
            lock=lock,
            chat=chat,
        )
        ids = [one.continuation for one in made]
        tensors = {
            "ids": torch.tensor([i for row in ids for i in row], dtype=torch.long),
            "lengths": torch.tensor([len(row) for row in ids]),
        }
        self._keep(key, tensors)
        return list(made)

    def reader(
        self,
        name: str,
        concept: Concept,
        prompt_set: PromptSet,
        half: str,
        progress: Progress = no_progress,
        is_shuffled: bool = False,
    ) -> Reader:
        """The texts of one half, read without an edit: those that say the concept, and others.

        `is_shuffled`: those that say it alone, each with its words in a drawn order.
        Raises PromptError where none says a word of the concept.
        """
        model = self.session.model(name)
        key = (model.name, model.revision, prompt_set.digest, concept, half, is_shuffled)

        def make() -> Reader:
            chosen = self._half(model, concept, prompt_set, half, progress)
            if is_shuffled:
                words, chat = concept.words, chat_of(prompt_set)
                own = [one for one in chosen if any(begins_word(model, one.continuation, words))]
                chosen = [shuffled(model, one, chat) for one in own]
            lock = self.session.lock.after_others
            return Reader.of(model, chosen, concept.words, progress, lock)

        # Not under the cache's own lock: who loads a model has the session's and clears the cache.
        while not self._making.acquire(timeout=0.2):
            progress(0.0, "the texts of somebody else are read first")
        try:
            found = self._readers.get(key) or make()
            return self._readers.find_or_make(key, lambda: found)
        finally:
            self._making.release()

    def _half(
        self,
        model: LoadedModel,
        concept: Concept,
        prompt_set: PromptSet,
        half: str,
        progress: Progress,
    ) -> list[Passage]:
        """The texts of one half that are looked at: those that say the concept, and others."""
        said = [
            one
            for one in self.passages(model.name, prompt_set, progress)
            if one.continuation and half_of(one.text, one.pictures) == half
        ]
        says = [any(begins_word(model, one.continuation, concept.words)) for one in said]
        own = [one for one, yes in zip(said, says, strict=True) if yes]
        others = [one for one, yes in zip(said, says, strict=True) if not yes]
        return [*own[:WITH], *others[:WITHOUT]]

    def ranking(self, name: str, concept: Concept) -> Ranking:
        """The usual ranking of the heads for the concept: what ships of it, or made now."""
        model, shipped = self.session.model(name), load_shipped(name)
        if shipped and concept.name in shipped.concepts:
            ranking = shipped.ranking(concept.name)
            if (ranking.revision, ranking.tokens.concept) == (model.revision, concept):
                return ranking
        return self.session.rank(name, concept, self.session.prompt_set(name))

    def estimate(
        self, name: str, concept: Concept, prompt_set: PromptSet, progress: Progress = no_progress
    ) -> Float[Tensor, "layer head"]:
        """What the model loses without each head, to first order, in nats."""
        model = self.session.model(name)
        key = key_of(kind="estimate", **self._about(model, concept, prompt_set))
        if (kept := self.session.store.get(key)) is not None:
            return kept[0]["estimate"]
        found = self.reader(name, concept, prompt_set, JUDGE, progress).estimate(progress)
        self._keep(key, {"estimate": found})
        return found

    def effects(
        self,
        name: str,
        concept: Concept,
        prompt_set: PromptSet,
        heads: Sequence[Head],
        factor: float = 0.0,
        progress: Progress = no_progress,
    ) -> Iterator[tuple[Head, Effect]]:
        """What each head does, really turned, one after the other; kept ones come at once."""
        model = self.session.model(name)
        model.check_heads(heads)
        for number, head in enumerate(heads):
            done, what = number / len(heads), f"turning head {number + 1} of {len(heads)}"
            progress(done, what)
            about = self._about(model, concept, prompt_set)
            key = key_of(kind="effect", **about, head=str(head), factor=factor)
            if (kept := self.session.store.get(key)) is not None:
                yield head, Effect.of(kept[0]["effect"].tolist())
                continue
            reader = self.reader(name, concept, prompt_set, JUDGE, progress)
            # A stop waits for one forward pass.
            measured = reader.measure(
                Edit.of([head], factor), lambda *_, done=done, what=what: progress(done, what)
            )
            effect = measured.effect()
            self._keep(key, {"effect": torch.tensor(astuple(effect), dtype=torch.float64)})
            yield head, effect

    def _about(self, model: LoadedModel, concept: Concept, prompt_set: PromptSet) -> dict[str, Any]:
        """What every effect depends on."""
        return {
            "model": model.name,
            "revision": model.revision,
            "dtype": model.number_format,
            "prompt_set": prompt_set.digest,
            "said": asdict(SAID),
            "chat": asdict(chat_of(prompt_set)),
            "rounds": ROUNDS,
            "words": list(concept.words),
        }

    def find(
        self,
        name: str,
        concept: Concept,
        search: Search,
        prompt_set: PromptSet | None = None,
        progress: Progress = no_progress,
    ) -> Iterator[Step | Found]:
        """Search for an edit: steps as they come, and what was found at the end.

        Raises PromptError where the texts do not say the concept, OptionError as the search does.
        """
        texts = prompt_set or self.prompt_set(name)
        reader = self.reader(name, concept, texts, SEARCH, progress)
        # Told before the search, read after it: the first steps come the sooner.
        judging = self._half(reader.model, concept, texts, JUDGE, progress)
        marked(reader.model, judging, concept.words)
        steps, curve = search_in_steps(reader, search), []
        for step in steps:
            told = f"searching: {step.gain:.1f} nats at {step.side:.2f} elsewhere so far"
            progress(0.8 * step.share, told)
            curve.append((step.gain, step.side))
            last = step
            yield step
        edit = stretched(reader, last.edit, search, progress)
        if not edit.factors:
            raise OptionError(
                f"The search found no head that does this with {search.side_effects:g} nats of side"
                " effect. Allow more of it, or more heads, or choose texts in which something else"
                " could be said."
            )
        edit = trimmed(reader, edit, search, progress)
        rivals = self._rivals(name, concept, search, aimed(reader, search), len(edit.factors))
        judge = self.reader(name, concept, texts, JUDGE, progress)
        yield judged(judge, search, edit, rivals, tuple(curve), progress)

    def _rivals(
        self, name: str, concept: Concept, search: Search, reader: Reader, n: int
    ) -> dict[str, Edit]:
        """Other ways to choose as many heads, on the same half of the texts as the search."""
        model = reader.model
        ranking = self.ranking(name, concept)
        order = reader.estimate().flatten().argsort(descending=True)[:n].tolist()
        by_gradient = [Head(number // model.n_heads, number % model.n_heads) for number in order]
        return {
            "pursuit": Edit.of(ranking.preselected(n), search.factor),
            "attribution": Edit.of(by_gradient, search.factor),
        }

    def _keep(self, key: str, tensors: dict[str, Tensor]) -> None:
        try:
            self.session.store.put(key, tensors, {})
        except CacheError as error:
            self.session.notices.append(str(error))


def heads_that_matter(ranking: Ranking, estimate: Float[Tensor, "layer head"]) -> list[Head]:
    """The first heads by what they write, and the first by the estimate: measured unasked."""
    n_heads = estimate.shape[1]
    first = estimate.flatten().argsort(descending=True)[:FIRST].tolist()
    by_estimate = [Head(number // n_heads, number % n_heads) for number in first]
    return [*dict.fromkeys([*ranking.top(FIRST), *by_estimate])]


def usual_texts(name: str, has_vision: bool) -> str | None:
    """The set that a model goes on from if nothing else is asked for; None: its usual one."""
    offered = default_prompt_sets(name, has_vision)
    return OPENINGS if OPENINGS in offered else next(iter(offered), None)


def _shown(prompt_set: PromptSet) -> list[tuple[Picture, ...]]:
    """What each prompt is about: its picture, or none."""
    return [tuple(prompt_set.pictures[n : n + 1]) for n in range(len(prompt_set))]


def chat_of(prompt_set: PromptSet) -> Chat:
    """How the texts are put to the model: an opening is gone on from, not talked about.

    In its chat template SmolLM2-135M praises a description or explains it, and says a color in 3 %
    of its answers.
    """
    return Chat(template=False) if prompt_set.name == OPENINGS else PLAIN


def half_of(text: str, pictures: Sequence[str] = ()) -> str:
    """Which half a prompt belongs to, beside the pictures of these digests: always the same."""
    content = "\n".join([text, *pictures]).encode()
    return JUDGE if hashlib.sha256(content).digest()[0] % 2 else SEARCH
