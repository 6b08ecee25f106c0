"""Hugging Face's ZeroGPU: a GPU lent to a forked process for as long as a piece of work takes.

Models stand in the main memory of this process, which never touches CUDA. What runs a model is a
plain function over a session; it runs in the forked process on a session of its own, whose models
were moved to the GPU there. Arguments and results are pickled on the way; what the work tells of
its progress comes as results do, and so does a beat several times a second, at which a visitor's
wish to stop is seen. Outside Spaces nothing of this is imported.
"""

import logging
import queue
import re
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import gradio as gr
import torch

from headviz.base.errors import Cancelled, HeadvizError
from headviz.base.head import Head
from headviz.base.progress import Progress, no_progress
from headviz.clip.zero_shot import ZeroShot, ZeroShotRequest
from headviz.editing.compare import CompareRequest, Comparison, Knob, Stretch
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session.session import Asked, Session

T = TypeVar("T")
Work = Callable[..., Iterator[Any]]
Lend = Callable[[Callable[..., Iterator[Any]]], Callable[..., Iterator[Any]]]
"""What makes a generator function run where the GPU is: `spaces.GPU` with a duration."""
BEAT = 0.2
"""Seconds between two signs of life of the work."""
SHORTEST, LONGEST = 10, 120
"""Seconds that are asked for at least and at most: a visitor has some minutes a day."""


class Told(NamedTuple):
    """How far the work is."""

    share: float
    what: str


class Came(NamedTuple):
    """One of its results."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """How it ended: an error that a person may see."""

    kind: type[HeadvizError]
    text: str

    def error(self) -> HeadvizError:
        """The same error; errors are not pickled, since they are made from other things."""
        made = self.kind.__new__(self.kind)
        made.args = (self.text,)
        return made


def seconds_for(seconds: float, _work: Work, _args: tuple[Any, ...]) -> int:
    """How long the GPU is asked for."""
    return round(min(max(seconds, SHORTEST), LONGEST))


class ZeroGpuSession(Session):
    """A session whose models compute in a process that has a GPU, and stand in this one."""

    def __init__(self, lend: Lend, **settings: Any) -> None:
        """`settings` are a Session's. There is one such session in a process: forks find it."""
        super().__init__(device="cpu", **settings)
        _sessions["lender"] = self
        self._lent = lend(work_there)

    def there(
        self,
        work: Callable[..., Iterator[T]],
        *args: Any,
        progress: Progress = no_progress,
        seconds: float = 30.0,
    ) -> Iterator[T]:
        """What `work(session, progress, *args)` yields in the process with the GPU.

        Raises what it raises, as far as a person may see it.
        """
        last = Told(0.0, "waiting for a GPU")
        progress(*last)
        try:
            for item in self._lent(seconds, work, args):
                if isinstance(item, Failed):
                    raise item.error()
                if isinstance(item, Came):
                    yield item.value
                    continue
                last = item if isinstance(item, Told) else last
                progress(*last)  # at a beat as well: it may want to stop
        except gr.Error as error:  # of Spaces itself: no GPU is free, or today's share is used up
            told = re.sub(r"<[^>]*>", "", str(error.message)).strip().rstrip(".")
            raise HeadvizError(f"This Space lends no GPU just now: {told}.") from None

    def in_worker(self) -> Session:
        """A session for a forked process: the same models, on the GPU, under locks of its own."""
        where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = "float32" if self._dtype == "auto" else self._dtype  # as in the other process
        session = Session(self.store, self.allowed, device=where.type, dtype=dtype)
        for name, model in self._model_cache.loaded():
            session._model_cache.keep(name, moved(model, where))
        return session

    def compare(
        self, name: str, asked: CompareRequest, knob: Knob = lambda: None
    ) -> Generator[Comparison, None, None]:
        """As `Session.compare`.

        No hand reaches into the other process: where the knob is turned, the work begins again
        with what was written so far under what it was written under, which a GPU does at once.
        """
        self.model(name)  # before the fork, which then has it
        seconds, written = 10 + asked.sampling.max_new_tokens / 15, 0
        while True:
            turned: Edit | None = None
            for comparison in self.there(_compare, name, asked, seconds=seconds):
                edited = comparison.columns[1]
                if not comparison.done and len(edited.ids) <= written:
                    continue  # stands on the page already
                yield comparison
                turned = None if edited.ended else knob()
                if turned is not None and turned != asked.edit:
                    written = len(edited.ids)
                    asked = going_on(asked, written, turned)
                    break
            else:
                return

    def _rank_anew(
        self, name: str, asked: Asked, prompt_set: PromptSet, progress: Progress
    ) -> Iterator[Ranking]:
        args = (name, asked.tokens.concept, prompt_set, asked.criterion, asked.options)
        seconds = 20 + len(prompt_set) / 15
        for made in self.there(_rank, *args, progress=progress, seconds=seconds):
            whole = made.n_samples == asked.n_samples
            yield self.keep_ranking(asked.key, partial(replace, made)) if whole else made

    def rank(self, *args: Any, **settings: Any) -> Ranking:
        """As `Session.rank`."""
        *_, whole = self.rank_stream(*args, **settings)
        return whole

    def _spectrum_anew(
        self,
        name: str,
        head: Head,
        prompt_set: PromptSet,
        steps: int,
        options: Options,
        progress: Progress,
    ) -> Spectrum:
        args = (name, head, prompt_set, steps, options)
        return next(self.there(_spectrum, *args, progress=progress))

    def zero_shot(self, name: str, asked: ZeroShotRequest) -> ZeroShot:
        """As `Session.zero_shot`."""
        self.model(name)
        return next(self.there(_zero_shot, name, asked))


def going_on(asked: CompareRequest, written: int, edit: Edit) -> CompareRequest:
    """The same, but that this edit holds after so many tokens."""
    kept: list[Stretch] = []
    left = written
    for stretch in (*asked.earlier, Stretch(max(written, 1), asked.edit)):
        tokens = min(stretch.tokens, left)
        left -= tokens
        if tokens:
            kept.append(Stretch(tokens, stretch.edit))
    while kept and kept[-1].edit == edit:
        kept.pop()
    return replace(asked, edit=edit, earlier=tuple(kept))


def _compare(
    session: Session, progress: Progress, name: str, asked: CompareRequest
) -> Iterator[Comparison]:
    yield from session.compare(name, asked)


def _rank(
    session: Session,
    progress: Progress,
    name: str,
    concept: Concept,
    prompt_set: PromptSet,
    criterion: str,
    options: Options,
) -> Iterator[Ranking]:
    for ranking in session.rank_stream(name, concept, prompt_set, criterion, options, progress):
        yield on_cpu(ranking)


def _spectrum(
    session: Session,
    progress: Progress,
    name: str,
    head: Head,
    prompt_set: PromptSet,
    steps: int,
    options: Options,
) -> Iterator[Spectrum]:
    yield session.spectrum(name, head, prompt_set, steps, options, progress)


def _zero_shot(
    session: Session, progress: Progress, name: str, asked: ZeroShotRequest
) -> Iterator[ZeroShot]:
    yield session.zero_shot(name, asked)


def on_cpu(result: T) -> T:
    """A frozen dataclass with its tensors in main memory: others cannot leave the process."""
    changed = {
        name: value.cpu() for name, value in vars(result).items() if isinstance(value, torch.Tensor)
    }
    return replace(result, **changed)  # type: ignore[type-var]


def moved(model: LoadedModel, where: torch.device) -> LoadedModel:
    """The model on that device; a CLIP model, which is small, stays."""
    if not model.writes or model.is_split or where == model.device:
        return model
    if model.vision is not None:
        model.vision.device = where
    return replace(model, model=model.model.to(where), device=where, why="lent by the Space")


_sessions: dict[str, Session] = {}
"""`lender`: that of this process, which a forked one finds as it was when it was forked; `worker`,
in a forked process: the one that it works on, kept from one piece of work to the next."""


def work_there(seconds: float, work: Work, args: tuple[Any, ...]) -> Iterator[Any]:
    """In the process with the GPU: what the work yields, and a sign of life in between."""
    items: queue.Queue[Any] = queue.Queue()
    is_gone = threading.Event()
    thread = threading.Thread(target=_run, args=(work, args, items, is_gone), daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = items.get(timeout=BEAT)
            except queue.Empty:
                yield None
                continue
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_gone.set()


_END = object()


def _run(
    work: Work, args: tuple[Any, ...], items: "queue.Queue[Any]", is_gone: threading.Event
) -> None:
    def report(share: float, what: str) -> None:
        if is_gone.is_set():
            raise Cancelled("Nobody waits for this any more.")
        items.put(Told(share, what))

    try:
        for result in work(_session_here(), report, *args):
            items.put(Came(result))
            if is_gone.is_set():
                return
        items.put(_END)
    except HeadvizError as error:
        items.put(Failed(type(error), str(error)))
        items.put(_END)
    except BaseException as error:  # a mistake of ours: Spaces writes its trace into the log
        logging.getLogger("headviz").exception("work on the GPU failed")
        items.put(error)


def _session_here() -> Session:
    if "worker" not in _sessions:
        lender = _sessions["lender"]
        assert isinstance(lender, ZeroGpuSession)
        # Threads of the other process are not here, and what OpenMP remembers of them is wrong.
        torch.set_num_threads(1)
        _sessions["worker"] = lender.in_worker()
    return _sessions["worker"]
