"""The one object with state: loaded models, a lock, and results in memory and on disk.

The page, the command line and `import headviz` all go through it. One lock serialises whatever
runs a model, so that hooks of two visitors never overlap.
"""

import threading
from collections.abc import Iterator, Sequence

from headviz.base.assets import built_in_models
from headviz.base.errors import CacheError, ModelError
from headviz.base.head import Head
from headviz.base.lru import Recent
from headviz.base.progress import Progress, no_progress
from headviz.base.store import Store, key_of
from headviz.clip.tower import open_model, read_heads, usual_pooling
from headviz.editing.compare import Comparison, compare
from headviz.editing.generate import Sampling
from headviz.heads.capture import HeadActivations
from headviz.heads.edits import Edit
from headviz.heads.prompts import default_prompt
from headviz.inputs.concepts import Concept, tokenize_concept
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import ProbeSet
from headviz.models.loaded import LoadedModel
from headviz.models.model_cache import Shelf
from headviz.pursuit.all_spectra import all_spectra
from headviz.pursuit.criteria import prepare_model
from headviz.pursuit.engine.precomputed import PreparedHeads
from headviz.pursuit.engine.somp import BUDGET
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking, rank_heads
from headviz.pursuit.spectrum import Spectrum, head_spectrum


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
        self.lock = threading.RLock()
        self.notices: list[str] = []
        """Sentences about what went wrong without stopping the work, the newest last."""
        self._device, self._dtype, self._budget = device, dtype, budget
        self.loading = loading
        self._activations: Recent[HeadActivations] = Recent(4)
        self._prepared: Recent[PreparedHeads] = Recent(2)
        self._shelf = Shelf(keep_models, [self._activations, self._prepared])
        self._rankings: Recent[Ranking] = Recent(64)
        self._spectra: Recent[Spectrum] = Recent(512)

    def model_names(self) -> tuple[str, ...]:
        """Models to offer: the allowed ones, or the built-in ones."""
        return self.allowed if self.allowed is not None else tuple(built_in_models())

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
        with self.lock:
            return self._shelf.find_or_open(
                name,
                lambda *room: open_model(
                    name, self._device, self._dtype, self.store, progress or self.loading, *room
                ),
            )

    def default_options(self, name: str) -> Options:
        """The options where none are given: what heads are read on depends on the model."""
        return Options(pooling=usual_pooling(self.model(name)))

    def activations(
        self, name: str, probes: ProbeSet, pooling: str = "prompt", progress: Progress = no_progress
    ) -> HeadActivations:
        """Signals of all heads on the probes: from memory, from disk, or read now and kept."""
        with self.lock:
            model = self.model(name)
            parts = {
                "kind": "activations",
                "model": model.name,
                "revision": model.revision,
                "dtype": model.number_format,
                "probes": probes.digest,
                "pooling": pooling,
            }
            key = key_of(**parts)
            return self._activations.find_or_make(
                key, lambda: self._read_or_capture(key, parts, model, probes, pooling, progress)
            )

    def _read_or_capture(
        self,
        key: str,
        parts: dict[str, str],
        model: LoadedModel,
        probes: ProbeSet,
        pooling: str,
        progress: Progress,
    ) -> HeadActivations:
        kept = self.store.get(key)
        if kept is not None:
            z = kept[0]["z"].to(model.home)
            origin = (probes.texts, model.name, model.revision, probes.digest, pooling)
            return HeadActivations(z, *origin, int(kept[1]["n_positions"]), probes.pictures)
        activations = read_heads(model, probes, pooling, progress)
        notes = {**parts, "n_positions": activations.n_positions}
        try:
            self.store.put(key, {"z": activations.z}, notes)
        except CacheError as error:
            self.notices.append(str(error))
        return activations

    def rank(
        self,
        name: str,
        concept: Concept,
        probes: ProbeSet,
        criterion: str = "somp",
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> Ranking:
        """Heads ranked for the concept. Bad words are refused before any text is read."""
        options = options or self.default_options(name)
        with self.lock:
            model = self.model(name)
            tokens = tokenize_concept(concept, model.tokenizer, options.pieces)
            activations = self.activations(name, probes, options.pooling, progress)
            key = (model.name, model.revision, probes.digest, concept, criterion, options)
            return self._rankings.find_or_make(
                key,
                lambda: rank_heads(
                    model,
                    activations,
                    tokens,
                    criterion,
                    options,
                    progress=progress,
                    prepared=self._prepare(model, activations, options.centre),
                ),
            )

    def _prepare(
        self, model: LoadedModel, activations: HeadActivations, centre: bool
    ) -> PreparedHeads:
        """What every concept on these activations shares: made for the first one."""
        key = (model.name, model.revision, activations.probes, activations.pooling, centre)
        return self._prepared.find_or_make(key, lambda: prepare_model(model, activations, centre))

    def spectrum(
        self,
        name: str,
        head: Head,
        probes: ProbeSet,
        steps: int = 20,
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> Spectrum:
        """What one head talks about over the probes."""
        options = options or self.default_options(name)
        with self.lock:
            model = self.model(name)
            activations = self.activations(name, probes, options.pooling, progress)
            key = (model.name, model.revision, probes.digest, head, steps, options)
            return self._spectra.find_or_make(
                key,
                lambda: head_spectrum(
                    model, activations, head, steps, options, budget=self._budget
                ),
            )

    def all_spectra(
        self,
        name: str,
        probes: ProbeSet,
        steps: int = 20,
        options: Options | None = None,
        progress: Progress = no_progress,
    ) -> dict[Head, Spectrum]:
        """The spectrum of every head; after a cancelled run the next one goes on from there."""
        options = options or self.default_options(name)
        with self.lock:
            model = self.model(name)
            activations = self.activations(name, probes, options.pooling, progress)
            prepared = self._prepare(model, activations, options.centre)
            return all_spectra(
                model,
                activations,
                steps,
                options,
                self.store,
                progress,
                self._budget,
                prepared,
            )

    def compare(
        self,
        name: str,
        prompt: str,
        edit: Edit,
        words: tuple[str, ...] = (),
        control: bool = True,
        sampling: Sampling | None = None,
        control_seed: int = 0,
        pictures: Sequence[Picture] = (),
    ) -> Iterator[Comparison]:
        """Original, edited and control, streamed; the lock is held for one token at a time.

        An empty prompt beside a picture is the model's usual one.
        """
        model = self.model(name)
        return compare(
            model,
            prompt or default_prompt(model) if pictures else prompt,
            edit,
            words,
            control,
            sampling,
            control_seed,
            lock=lambda: self.lock,
            pictures=pictures,
        )
