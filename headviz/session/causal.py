"""Cause in a session: what heads do to a concept, and the search for an edit, on kept passages.

The passages are what the model itself says to its prompts; they are made once for each model and
kept, and so is every measurement. One half of the texts, by a hash of the prompt, serves the search
and the other judges it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, replace

import torch

from headviz.base.errors import CacheError
from headviz.base.head import Head
from headviz.base.lru import LRU
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Float, Tensor
from headviz.base.store import key_of
from headviz.editing.effect import Effect, Reader
from headviz.editing.find import Found, Search, Step, judged, search_in_steps, trimmed
from headviz.editing.generate import Sampling
from headviz.editing.passages import Passage, begins_word, own_passages, passage
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet, default_prompt_sets
from headviz.models.loaded import LoadedModel
from headviz.session.session import Session

SAID = Sampling(max_new_tokens=32, temperature=0.8)
"""How the model is made to speak: a little at random, so that its texts differ."""
ROUNDS = 2
"""Answers to each prompt, each with a seed of its own."""
WITH, WITHOUT = 24, 8
"""Texts of one half at most that say a word of the concept, and that do not."""
_AT_ONCE = 39  # prompts that are answered side by side

OPENINGS = "descriptions"
"""The general set that a model goes on from if nothing else is asked for."""
SEARCH, JUDGE = "search", "judge"


class Causes:
    """Effects and searches over a session's models."""

    def __init__(self, session: Session) -> None:
        """Over the session's models, store and lock."""
        self.session = session
        self._readers: LRU[Reader] = LRU(4)

    def prompt_set(self, name: str, source: str | PromptSet | None = None) -> PromptSet:
        """The prompts that the model answers: those named, else openings, else its usual set."""
        offered = default_prompt_sets(name, self.session.model(name).has_vision)
        if source is None and OPENINGS in offered:
            source = OPENINGS
        return self.session.prompt_set(name, source)

    def passages(
        self, name: str, prompt_set: PromptSet, progress: Progress = no_progress
    ) -> tuple[Passage, ...]:
        """What the model says to the prompts, made once: parts that are kept are not made again."""
        model = self.session.model(name)
        found: list[Passage] = []
        starts = [(r, s) for r in range(ROUNDS) for s in range(0, len(prompt_set), _AT_ONCE)]
        for number, (seed, start) in enumerate(starts):
            progress(number / len(starts), "the model answers the texts, whose words are looked at")
            rows = range(start, min(start + _AT_ONCE, len(prompt_set)))
            found += self._said(model, prompt_set, list(rows), seed)
        return tuple(found)

    def _said(
        self, model: LoadedModel, prompt_set: PromptSet, rows: list[int], seed: int
    ) -> list[Passage]:
        store = self.session.store
        prompts = [prompt_set.texts[row] for row in rows]
        pictures = [(prompt_set.pictures[row],) for row in rows] if prompt_set.pictures else []
        sampling = replace(SAID, seed=seed)
        key = key_of(
            kind="said",
            model=model.name,
            revision=model.revision,
            dtype=model.number_format,
            prompt_set=prompt_set.digest,
            rows=[rows[0], rows[-1]],
            sampling=asdict(sampling),
        )
        if (kept := store.get(key)) is not None:
            parts = kept[0]["ids"].split(kept[0]["lengths"].tolist())
            shown: Sequence[tuple[Picture, ...]] = pictures or [()] * len(rows)
            return [
                passage(model, prompt, ids.tolist(), seen)
                for prompt, ids, seen in zip(prompts, parts, shown, strict=True)
            ]
        with self.session.lock:
            made = own_passages(model, prompts, sampling, pictures, at_once=_AT_ONCE)
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
    ) -> Reader:
        """The texts of one half, read without an edit: those that say the concept, and others.

        Raises PromptError where none says a word of the concept.
        """
        model = self.session.model(name)
        key = (model.name, model.revision, prompt_set.digest, concept, half)

        def make() -> Reader:
            said = [
                one
                for one in self.passages(name, prompt_set, progress)
                if one.continuation and half_of(one.text) == half
            ]
            says = [any(begins_word(model, one.continuation, concept.words)) for one in said]
            own = [one for one, yes in zip(said, says, strict=True) if yes]
            others = [one for one, yes in zip(said, says, strict=True) if not yes]
            with self.session.lock:
                chosen = [*own[:WITH], *others[:WITHOUT]]
                return Reader.of(model, chosen, concept.words, progress)

        return self._readers.find_or_make(key, make)

    def estimate(
        self, name: str, concept: Concept, prompt_set: PromptSet, progress: Progress = no_progress
    ) -> Float[Tensor, "layer head"]:
        """What the model loses without each head, to first order, in nats."""
        reader = self.reader(name, concept, prompt_set, JUDGE, progress)
        with self.session.lock:
            return reader.estimate(progress)

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
            progress(number / len(heads), f"turning head {number + 1} of {len(heads)}")
            key = key_of(
                kind="effect",
                model=model.name,
                revision=model.revision,
                dtype=model.number_format,
                prompt_set=prompt_set.digest,
                said=asdict(SAID),
                rounds=ROUNDS,
                words=list(concept.words),
                head=str(head),
                factor=factor,
            )
            if (kept := self.session.store.get(key)) is not None:
                yield head, Effect.of(kept[0]["effect"].tolist())
                continue
            reader = self.reader(name, concept, prompt_set, JUDGE, progress)
            with self.session.lock:
                effect = reader.measure(Edit.of([head], factor)).effect()
            self._keep(key, {"effect": torch.tensor(astuple(effect), dtype=torch.float64)})
            yield head, effect

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
        judge = self.reader(name, concept, texts, JUDGE, progress)
        steps, curve = search_in_steps(reader, search), []
        while True:
            with self.session.lock:
                step = next(steps, None)
            if step is None:
                break
            progress(0.8 * step.share, "searching")
            curve.append((step.gain, step.side))
            last = step
            yield step
        with self.session.lock:
            progress(0.8, "putting back heads that are not needed")
            edit = trimmed(reader, last.edit, search)
            rivals = self._rivals(name, concept, search, reader, len(edit.factors))
            yield judged(judge, search, edit, rivals, tuple(curve), progress)

    def _rivals(
        self, name: str, concept: Concept, search: Search, reader: Reader, n: int
    ) -> dict[str, Edit]:
        """Other ways to choose as many heads, on the same half of the texts as the search."""
        model = reader.model
        ranking = self.session.rank(name, concept, self.session.prompt_set(name))
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


def half_of(text: str) -> str:
    """Which half a prompt belongs to: always the same one."""
    return JUDGE if hashlib.sha256(text.encode()).digest()[0] % 2 else SEARCH
