"""The one object with state: loaded models, a lock, and results in memory and on disk.

The page, the command line and `import headviz` all go through it. One lock serialises whatever
runs a model, a forward pass at a time, so that hooks of two visitors never overlap and none waits
for another's whole reading.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from headviz.base.assets import DEFAULT_MODEL
from headviz.base.errors import CacheError, ModelError, OptionError
from headviz.base.head import Head
from headviz.base.lru import LRU
from headviz.base.progress import Progress, no_progress
from headviz.base.store import Store, key_of
from headviz.base.turns import Turns
from headviz.clip.tower import tower_of
from headviz.clip.zero_shot import ZeroShot, ZeroShotRequest, zero_shot
from headviz.editing.compare import CompareRequest, Comparison, Kept, Knob, compare
from headviz.editing.crowd import Crowd
from headviz.heads.capture import SCHEME, HeadActivations, Reading
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.pooling import Part
from headviz.heads.stem import KEPT, Stems
from headviz.inputs.concepts import Concept, ConceptTokens, tokenize_concept
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet, find_prompt_set, picture_prompt_set
from headviz.models.known import offered_models
from headviz.models.loaded import LoadedModel
from headviz.models.model_cache import ModelCache
from headviz.pursuit.all_spectra import all_spectra
from headviz.pursuit.criteria import precompute_model
from headviz.pursuit.engine.precomputed import PrecomputedHeads
from headviz.pursuit.engine.somp import BUDGET
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking, rank_heads
from headviz.pursuit.spectrum import Spectrum, head_spectrum
from headviz.session.open_model import open_model, reader_of

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Asked:
    """A ranking that somebody asked for."""

    model: LoadedModel
    tokens: ConceptTokens
    n_samples: int
    """Of the whole set."""
    criterion: str
    options: Options
    key: tuple[Any, ...]
    """What the ranking over all samples depends on."""


class Session:
    """Models and results that several views share."""

    def __init__(
        self,
        store: Store | None = None,
        allowed: Sequence[str] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        keep_models: int = 1,
        budget: int = BUDGET,
        loading: Progress = no_progress,
    ) -> None:
        """A session without anything loaded.

        `allowed` limits the models that may be loaded, None allows any; `budget` is the working
        memory in bytes that spectra may take beside model and texts; `loading` is told how far the
        loading of a model is where nobody else is.
        """
        self.store = store or Store()
        self.allowed = tuple(allowed) if allowed is not None else None
        self.lock = Turns()
        self.notices: list[str] = []
        """Sentences about what went wrong without stopping the work, the newest last."""
        self._device, self._dtype, self._budget = device, dtype, budget
        self.loading = loading
        self._pursuing = threading.Lock()
        """Held for the spectra of all heads: two at a time would take twice the memory."""
        self._readings: LRU[Reading] = LRU(4)
        self._precomputed: LRU[PrecomputedHeads] = LRU(2)
        self._stems: Stems = LRU(KEPT)
        self._originals: LRU[Kept] = LRU(64)
        self._crowds: LRU[Crowd] = LRU(keep_models)
        self._beside: list[LRU[Any]] = [
            self._readings,
            self._precomputed,
            self._stems,
            self._crowds,
        ]
        self._model_cache = ModelCache(keep_models, self._beside)
        self._rankings: LRU[Ranking] = LRU(64)
        self._spectra: LRU[Spectrum] = LRU(512)

    def model_names(self) -> tuple[str, ...]:
        """Models to offer: the allowed ones, or the default where it is here and the built-in."""
        return self.allowed if self.allowed is not None else offered_models()

    def free_with_models(self, results: LRU[Any]) -> None:
        """Let results that hold parts of a model go when it has to."""
        self._beside.append(results)

    def take_notices(self) -> list[str]:
        """The sentences noted since the last call."""
        taken, self.notices = self.notices, []
        return taken

    def model(self, name: str, progress: Progress | None = None) -> LoadedModel:
        """The model of that name, loaded at its first use. Raises ModelError.

        What `keep_models` leaves no room for is freed before the weights of another are read.
        """
        name = name.strip()
        if self.allowed is not None and name not in self.allowed:
            raise ModelError(
                f"The model {name!r} is not offered here. Offered: {', '.join(self.allowed)}."
            )
        # Without the lock where it is there: else every visitor would wait for a turn only to ask.
        if (there := self._model_cache.find(name)) is not None:
            return there
        with self.lock:
            return self._model_cache.find_or_open(
                name,
                lambda *room: open_model(
                    name, self._device, self._dtype, self.store, progress or self.loading, *room
                ),
            )

    def has_loaded(self, name: str) -> bool:
        """Whether the model of that name is in memory."""
        return name in self._model_cache

    def there(
        self,
        work: Callable[..., Iterator[T]],
        *args: Any,
        progress: Progress = no_progress,
        seconds: float = 30.0,
    ) -> Iterator[T]:
        """What `work(session, progress, *args)` yields, run where the models compute: here.

        Where a GPU is lent to another process (page/zero_gpu.py), `seconds` say for about how long;
        arguments and results are pickled then, and `work` is a function of a module.
        """
        return work(self, progress, *args)

    @property
    def default_model(self) -> str:
        """The model where none is named: the first that is offered. Raises ModelError."""
        if self.allowed is None:
            return DEFAULT_MODEL
        if not self.allowed:
            raise ModelError("No model is offered here.")
        return self.allowed[0]

    def default_options(self, name: str) -> Options:
        """The options where none are given: what heads are read on depends on the model."""
        return Options(pooling=self.model(name).usual_pooling)

    def prompt_set(
        self,
        name: str,
        source: str | PromptSet | None = None,
        prompt: str = "",
        pictures: Sequence[Picture] = (),
    ) -> PromptSet:
        """What the heads of the model of that name are read on.

        Args:
            name: the model, whose abilities say whether texts or pictures are its usual ones.
            source: a built-in set, a file, a folder, a set of your own, or None for the usual one.
            prompt: what is asked about each picture; empty for the model's usual prompt.
            pictures: what to read instead of `source`.

        Raises:
            UnknownName, PromptError or PictureError.
        """
        if isinstance(source, PromptSet):
            return source
        if pictures:
            return picture_prompt_set("images", pictures, prompt)
        return find_prompt_set(source, name, self.model(name).has_vision, prompt)

    def activations(
        self,
        name: str,
        prompt_set: PromptSet,
        pooling: str | None = None,
        progress: Progress = no_progress,
        chat: Chat = PLAIN,
    ) -> HeadActivations:
        """Signals of all heads on the prompts: from memory, from disk, or read now and kept.

        `pooling` is the model's usual one if None.
        """
        *_, whole = self.activations_stream(name, prompt_set, pooling, progress, chat)
        return whole

    def activations_stream(
        self,
        name: str,
        prompt_set: PromptSet,
        pooling: str | None = None,
        progress: Progress = no_progress,
        chat: Chat = PLAIN,
    ) -> Iterator[HeadActivations]:
        """The same as far as they were read, whenever their number doubles; the last is all.

        What was read stays, in memory and on disk, when `progress` raises, when nobody takes the
        next, and after a kill: at most one part is lost. Who asks for the same meanwhile follows
        the same reading. The lock is held for one forward pass at a time.
        """
        model = self.model(name)
        place = pooling or model.usual_pooling
        about = {
            "kind": "activations",
            "scheme": SCHEME,
            "model": model.name,
            "revision": model.revision,
            "dtype": model.number_format,
            "prompt_set": prompt_set.digest,
            "pooling": place,
            "chat": asdict(chat),
        }
        reading = self._readings.find_or_make(
            key_of(**about), lambda: self._reading(model, prompt_set, place, chat, about)
        )
        return reading.follow(progress, lambda: self.lock)

    def _reading(
        self,
        model: LoadedModel,
        prompt_set: PromptSet,
        pooling: str,
        chat: Chat,
        about: dict[str, Any],
    ) -> Reading:
        """A reading whose parts are kept in the store."""

        def find(number: int) -> Part | None:
            kept = self.store.get(key_of(**about, part=number))
            return kept and Part(kept[0]["z"], int(kept[1]["n_positions"]))

        def keep(number: int, part: Part) -> None:
            notes = {**about, "part": number, "n_positions": part.n_positions}
            try:
                self.store.put(key_of(**about, part=number), {"z": part.z}, notes)
            except CacheError as error:
                if str(error) not in self.notices:
                    self.notices.append(str(error))

        reader = reader_of(model, prompt_set, pooling, chat)
        return Reading(model, prompt_set, pooling, reader, find, keep, chat)

    def rank(
        self,
        name: str,
        concept: Concept,
        prompt_set: PromptSet,
        criterion: str = "somp",
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> Ranking:
        """Heads ranked for the concept. Bad words are refused before any text is read."""
        options = options or self.default_options(name)
        asked = self._asked(name, concept, prompt_set, criterion, options)
        kept = self._rankings.get(asked.key)
        if kept is not None:
            return kept
        activations = self.activations(name, prompt_set, options.pooling, progress, options.chat)
        return self._ranked(asked, activations, progress)

    def keep_ranking(self, key: tuple[Any, ...], make: Callable[[], Ranking]) -> Ranking:
        """The ranking that is remembered under this key, or made now: for other ways to rank."""
        return self._rankings.find_or_make(key, make)

    def rank_stream(
        self,
        name: str,
        concept: Concept,
        prompt_set: PromptSet,
        criterion: str = "somp",
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> Iterator[Ranking]:
        """The same soon, from the first samples, then from twice as many, …, and from all.

        For a page: the first comes about as soon as 16 samples are read, each tells `n_samples`
        beside the `len(prompt_set)` that are to come, and the intervals shrink on the way. The last
        is what `rank` gives. `progress` may raise Cancelled at any moment, and whoever closes the
        iterator stops it as well; what was read stays.
        """
        options = options or self.default_options(name)
        asked = self._asked(name, concept, prompt_set, criterion, options)
        kept = self._rankings.get(asked.key)
        if kept is not None:
            yield kept
            return
        yield from self._rank_anew(name, asked, prompt_set, progress)

    def _rank_anew(
        self, name: str, asked: Asked, prompt_set: PromptSet, progress: Progress
    ) -> Iterator[Ranking]:
        """What `rank_stream` gives where no ranking is kept."""
        place, chat = asked.options.pooling, asked.options.chat
        for activations in self.activations_stream(name, prompt_set, place, progress, chat):
            yield self._ranked(asked, activations, progress)

    def _asked(
        self, name: str, concept: Concept, prompt_set: PromptSet, criterion: str, options: Options
    ) -> Asked:
        model = self.model(name)
        tokens = tokenize_concept(concept, model.tokenizer, options.pieces, model.n_tokens)
        key = (model.name, model.revision, prompt_set.digest, concept, criterion, options)
        return Asked(model, tokens, len(prompt_set), criterion, options, key)

    def _ranked(self, asked: Asked, activations: HeadActivations, progress: Progress) -> Ranking:
        """The ranking, kept where it is the one over all samples."""
        model, options = asked.model, asked.options

        def make(heads: PrecomputedHeads) -> Ranking:
            return rank_heads(
                model,
                activations,
                asked.tokens,
                asked.criterion,
                options,
                progress=progress,
                precomputed=heads,
            )

        if activations.n_samples < asked.n_samples:
            return make(precompute_model(model, activations, options.centre))
        return self._rankings.find_or_make(
            asked.key,
            lambda: make(self._precompute(model, activations, options.centre)),
        )

    def _precompute(
        self, model: LoadedModel, activations: HeadActivations, centre: bool
    ) -> PrecomputedHeads:
        """What every concept on these activations shares: made for the first one."""
        read = (activations.prompt_set, activations.pooling, activations.chat)
        return self._precomputed.find_or_make(
            (model.name, model.revision, *read, centre),
            lambda: precompute_model(model, activations, centre),
        )

    def spectrum(
        self,
        name: str,
        head: Head,
        prompt_set: PromptSet,
        steps: int = 20,
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> Spectrum:
        """What one head talks about over the prompts."""
        options = options or self.default_options(name)
        model = self.model(name)
        key = (model.name, model.revision, prompt_set.digest, head, steps, options)
        kept = self._spectra.find(key)
        if kept is None:
            # Outside the cache's lock, or the heads of all others would wait for these texts.
            made = self._spectrum_anew(name, head, prompt_set, steps, options, progress)
            kept = self._spectra.find_or_make(key, lambda: made)
        return kept

    def _spectrum_anew(
        self,
        name: str,
        head: Head,
        prompt_set: PromptSet,
        steps: int,
        options: Options,
        progress: Progress,
    ) -> Spectrum:
        """What `spectrum` gives where none is kept."""
        activations = self.activations(name, prompt_set, options.pooling, progress, options.chat)
        model = self.model(name)
        return head_spectrum(model, activations, head, steps, options, budget=self._budget)

    def all_spectra(
        self,
        name: str,
        prompt_set: PromptSet,
        steps: int = 20,
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> dict[Head, Spectrum]:
        """The spectrum of every head; after a cancelled run the next one goes on from there."""
        options = options or self.default_options(name)
        model = self.model(name)
        activations = self.activations(name, prompt_set, options.pooling, progress, options.chat)
        precomputed = self._precompute(model, activations, options.centre)
        with self._pursuing:
            return all_spectra(
                model,
                activations,
                steps,
                options,
                self.store,
                progress,
                self._budget,
                precomputed,
            )

    def compare(
        self, name: str, asked: CompareRequest, knob: Knob = lambda: None
    ) -> Generator[Comparison, None, None]:
        """Original, edited and control, streamed; the lock is held for one token at a time.

        `knob` may turn the edit while they are written. Raises OptionError for a model that writes
        no text, and as `editing.compare` does.
        """
        model = self.model(name)
        if not model.writes:
            raise OptionError(
                f"{model.name} is a CLIP model and writes no text. Give it pictures and classes to "
                "choose from (`generate` on the command line, headviz.zero_shot in Python)."
            )
        seen = tuple(picture.digest for picture in asked.pictures)
        key = (model.name, model.revision, asked.prompt, seen, asked.sampling, asked.chat)
        kept = self._originals.find_or_make(key, Kept)
        return compare(model, asked, lambda: self.lock, knob, self._stems, kept, self.crowd(model))

    def crowd(self, model: LoadedModel) -> Crowd:
        """Where all visitors of a model are written to."""
        return self._crowds.find_or_make(model, lambda: Crowd(model, lambda: self.lock))

    def zero_shot(self, name: str, asked: ZeroShotRequest) -> ZeroShot:
        """What a CLIP model takes pictures for: original, edited and control.

        Raises OptionError for a model that writes text, and as `clip.zero_shot` does.
        """
        tower = tower_of(self.model(name))
        with self.lock:
            return zero_shot(tower.clip, tower, asked, self.store)
