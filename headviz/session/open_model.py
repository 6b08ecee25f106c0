"""A name -> the model, of whatever kind: a language model, one that sees, or a CLIP model's tower.

The one door for models. What was not known of a class is discovered here, and what a person should
know of its family is noted.
"""

from collections.abc import Callable

from headviz.base.progress import Progress, no_progress
from headviz.base.store import Store
from headviz.clip.laws import check_tower
from headviz.clip.load import load_clip
from headviz.clip.tower import TowerReader, is_clip, open_tower_of, tower_of
from headviz.heads.capture import PromptReader, Reader
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.laws.discover import discover
from headviz.heads.laws.fixture import Fixture
from headviz.heads.laws.post_norm import with_notes
from headviz.heads.laws.report import Report, check
from headviz.inputs.prompt_sets import PromptSet
from headviz.models import load
from headviz.models.load import load_model
from headviz.models.loaded import LoadedModel


def open_model(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    store: Store | None = None,
    progress: Progress = no_progress,
    make_room: Callable[[], None] = lambda: None,
    held: int = 0,
) -> LoadedModel:
    """The model of that name. Arguments and errors of `load_model` and `load_clip`."""
    if is_clip(name):
        return open_tower_of(name, device, store, progress, make_room, held)
    return with_notes(load_model(name, device, dtype, progress, make_room, held, discover))


def fetch_model(
    name: str, device: str = "auto", dtype: str = "auto", progress: Progress = no_progress
) -> str:
    """Bring a model to this machine, unless it is here; its revision. Errors of `open_model`."""
    if is_clip(name):
        return load_clip(name, device, progress).revision  # open_clip fetches as it loads
    return load.fetch_model(name, device, dtype, progress)[1]


def reader_of(
    model: LoadedModel, prompt_set: PromptSet, pooling: str, chat: Chat = PLAIN
) -> Reader:
    """What reads the model's heads on samples of the set. Raises as the two readers do."""
    if model.writes:
        return PromptReader(model, prompt_set, pooling, chat)
    return TowerReader(tower_of(model), prompt_set, pooling)


def check_laws(model: LoadedModel) -> Report:
    """Every law of heads, measured on the model."""
    return check(Fixture.of(model)) if model.writes else check_tower(tower_of(model))
