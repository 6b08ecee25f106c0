"""LoadedModel + PromptSet -> HeadActivations: every head's signal on every sample, part by part.

A sample is a text, or a picture with a prompt. Samples are read in parts, in a drawn but fixed
order: sets are grouped by what they are about, and drawn so, the first part is a fair sample of the
whole. Whoever wants something soon takes the first activations of a `Reading`, whoever wants all
takes the last; both read the same batches, so that the end is the same bit for bit.

The signal z is the head's slice of the input of the attention output projection (d_head wide).
Knows nothing of concepts; where parts are kept is the session's affair.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch

from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Float, Tensor
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.pooling import (
    NO_PREFIX,
    Lock,
    Part,
    Prefix,
    check_pooling,
    pool,
    prefix_of,
    reserve_for,
)
from headviz.heads.prompts import EncodedPrompt, default_prompt, encode_prompt
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel

SCHEME = 1
"""Rises with any change of order, parts or batches: parts kept before are then read anew."""
_PARTS = (16, 16, 32, 64)
"""Samples of the first parts; all further ones are as large as the last. A kill costs one part."""
_PATIENCE = 0.2  # seconds between two looks at whether a waiting visitor has had enough


@dataclass(frozen=True, eq=False)
class HeadActivations:
    """What every head said about every sample that was read."""

    z: Float[Tensor, "layer head sample d_head"]
    """Pooled signals, float32, at the model's `home`; zeros in layers without heads."""
    texts: tuple[str, ...]
    """Those read, in the order of the set."""
    model: str
    revision: str
    prompt_set: str
    """Hash of the texts and pictures of the whole set."""
    pooling: str
    n_positions: int
    """Token positions read, over all samples."""
    pictures: tuple[Picture, ...] = ()
    """Of the samples, where they have one."""
    chat: Chat = PLAIN
    """How texts were put to the model."""

    @property
    def n_samples(self) -> int:
        """Number of texts or pictures."""
        return self.z.shape[2]


def parts_of(n_samples: int) -> tuple[tuple[int, ...], ...]:
    """The numbers of the samples of each part: a drawn order, the same for every set of a size."""
    order = list(range(n_samples))
    random.Random(0).shuffle(order)
    parts: list[tuple[int, ...]] = []
    start = 0
    while start < n_samples:
        size = _PARTS[min(len(parts), len(_PARTS) - 1)]
        parts.append(tuple(sorted(order[start : start + size])))
        start += size
    return tuple(parts)


Reader = Callable[[Sequence[int], Lock, Progress], Part]
"""Reads the samples of these numbers; `lock` is held for one forward pass at a time."""


class PromptReader:
    """Reads samples of a prompt set with a model that writes text."""

    def __init__(
        self, model: LoadedModel, prompt_set: PromptSet, pooling: str, chat: Chat = PLAIN
    ) -> None:
        """Nothing is read yet. Raises OptionError for a pooling that the model does not know."""
        check_pooling(model, pooling)
        self._model, self._set, self._pooling, self._chat = model, prompt_set, pooling, chat
        self._prefix: Prefix | None = None

    def __call__(self, samples: Sequence[int], lock: Lock, progress: Progress) -> Part:
        """Raises PromptError and OptionError as `encode_prompt` and `pool` do."""

        def watch(share: float) -> None:
            progress(share, "reading heads")

        watch(0.0)
        prompts = [self._encoded(sample, progress) for sample in samples]
        if self._prefix is None:
            self._prefix = (
                NO_PREFIX
                if self._set.pictures
                else prefix_of(self._model, self._encoded_texts, lock)
            )
        return pool(self._model, prompts, self._pooling, self._prefix, lock, watch)

    def _encoded(self, sample: int, progress: Progress) -> EncodedPrompt:
        if not self._set.pictures:
            return self._encoded_texts[sample]
        progress(0.0, "opening a picture")
        text = self._set.texts[sample] or default_prompt(self._model)
        reserve = reserve_for(self._pooling)
        pictures = [self._set.pictures[sample]]
        return encode_prompt(self._model, text, reserve, pictures, self._chat)

    @cached_property
    def _encoded_texts(self) -> list[EncodedPrompt]:
        """All of them: a text that is too long is refused before any is read."""
        reserve = reserve_for(self._pooling)
        return [
            encode_prompt(self._model, text, reserve, chat=self._chat) for text in self._set.texts
        ]


class Reading:
    """Heads read on a prompt set part by part, each part once, whoever asks for it.

    Several visitors may follow one reading: each part is read by the one who comes to it first, and
    a part whose reader was stopped by the next.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompt_set: PromptSet,
        pooling: str,
        read: Reader,
        find: Callable[[int], Part | None] = lambda number: None,
        keep: Callable[[int, Part], None] = lambda number, part: None,
        chat: Chat = PLAIN,
    ) -> None:
        """Nothing is read yet.

        `find` gives a part that was kept before, None where there is none, and `keep` is handed
        each that was read; `chat` is how `read` puts texts to the model.
        """
        self._model, self._set, self._pooling = model, prompt_set, pooling
        self._reader, self._find, self._keep, self._chat = read, find, keep, chat
        self._parts = parts_of(len(prompt_set))
        size = (model.n_layers, model.n_heads, len(prompt_set), model.d_head)
        self._z = torch.zeros(size, device=model.home)
        self._positions: dict[int, int] = {}
        """Number of a part that is here -> positions that it was read at."""
        self._is_sought = False
        self._turn = threading.Lock()

    def follow(
        self, progress: Progress = no_progress, lock: Lock = nullcontext
    ) -> Iterator[HeadActivations]:
        """The activations so far: at once if any were kept, whenever their number doubles, and all.

        `progress` is called after every layer of every batch and told which sample is read; where
        it raises, the parts read stay.
        `lock` is held for one forward pass at a time.

        Raises:
            PromptError: for a text longer than the context, before any is read, and for signals
                that are not finite.
            OptionError: where pictures are missing or out of place.
        """
        with self._my_turn(progress):
            self._find_kept()
        shown = 0
        for number in range(-1, len(self._parts)):
            if number >= 0:
                with self._my_turn(progress):
                    if number not in self._positions:
                        self._read(number, progress, lock)
            if max(2 * shown, 1) <= self._n_read < len(self._set):
                shown = self._n_read
                yield self._so_far()
        progress(1.0, "heads read")
        yield self._whole

    @contextmanager
    def _my_turn(self, progress: Progress) -> Iterator[None]:
        """While open nobody else reads here. Waiting, it asks `progress` whether to go on."""
        while not self._turn.acquire(timeout=_PATIENCE):
            progress(self._n_read / len(self._set), "somebody else has the same read")
        try:
            yield
        finally:
            self._turn.release()

    def _find_kept(self) -> None:
        if not self._is_sought:
            for number in range(len(self._parts)):
                kept = self._find(number)
                if kept is not None:
                    self._put(number, kept)
            self._is_sought = True

    def _read(self, number: int, progress: Progress, lock: Lock) -> None:
        samples, done, total = self._parts[number], self._n_read, len(self._set)
        kind = "picture" if self._set.pictures else "text"

        def watch(share: float, _: str) -> None:
            read = done + share * len(samples)
            progress(read / total, f"reading heads, {kind} {min(int(read) + 1, total)} of {total}")

        part = self._reader(samples, lock, watch)
        self._put(number, part)
        self._keep(number, part)

    def _put(self, number: int, part: Part) -> None:
        self._z[:, :, list(self._parts[number])] = part.z.to(self._z.device)
        self._positions[number] = part.n_positions

    @property
    def _n_read(self) -> int:
        return sum(len(self._parts[number]) for number in list(self._positions))

    def _so_far(self) -> HeadActivations:
        read = list(self._positions)
        samples = sorted(sample for number in read for sample in self._parts[number])
        positions = sum(self._positions[number] for number in read)
        return self._activations(self._z[:, :, samples], samples, positions)

    @cached_property
    def _whole(self) -> HeadActivations:
        samples = range(len(self._set))
        return self._activations(self._z, samples, sum(self._positions.values()))

    def _activations(
        self, z: Float[Tensor, "layer head sample d_head"], samples: Sequence[int], positions: int
    ) -> HeadActivations:
        given = self._set
        return HeadActivations(
            z,
            tuple(given.texts[sample] for sample in samples),
            self._model.name,
            self._model.revision,
            given.digest,
            self._pooling,
            positions,
            tuple(given.pictures[sample] for sample in samples) if given.pictures else (),
            self._chat,
        )


def capture(
    model: LoadedModel,
    prompt_set: PromptSet,
    pooling: str = "prompt",
    progress: Progress = no_progress,
    chat: Chat = PLAIN,
) -> HeadActivations:
    """Signals of all heads on all samples, pooled over the positions that `pooling` names.

    Raises OptionError for a pooling that the model does not know, PromptError for a text longer
    than the context, and either where pictures are missing or out of place.
    """
    reader = PromptReader(model, prompt_set, pooling, chat)
    *_, whole = Reading(model, prompt_set, pooling, reader, chat=chat).follow(progress)
    return whole
