"""The image tower of a CLIP model among the other models: opened by name, read on pictures.

A tower's vocabulary is the words of the preset concepts: what is to be found in its heads must be
among them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from headviz.base.errors import OptionError, PromptError
from headviz.base.progress import Progress, no_progress
from headviz.base.store import Store
from headviz.clip.hub_files import HUB
from headviz.clip.load import CONFIG, ClipModel, built_in_clips, load_clip
from headviz.clip.word_vocabulary import CLIP_POOLINGS, capture_images, tower_model
from headviz.heads.pooling import Lock, Part
from headviz.inputs.concepts import known_concepts
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.models.places import local_folder

_WITH_TAG = re.compile(r"[\w.-]+:[\w.-]+")


@dataclass(frozen=True, eq=False, kw_only=True)
class Tower(LoadedModel):
    """The image tower of a CLIP model, in place of a model that writes text."""

    clip: ClipModel

    @property
    def has_vision(self) -> bool:
        """A tower reads nothing but pictures."""
        return True

    @property
    def writes(self) -> bool:
        """It says which words fit a picture, and writes none."""
        return False

    @property
    def usual_pooling(self) -> str:
        """The positions that its output is read from."""
        return next(iter(CLIP_POOLINGS))


def is_clip(name: str) -> bool:
    """Whether the name is a CLIP model's: built in, a folder, `hf-hub:NAME` or `ViT-B-32:TAG`."""
    folder = built_in_clips().get(name) or local_folder(name)
    here = folder is not None and (folder / CONFIG).is_file()
    return here or name.startswith(HUB) or bool(_WITH_TAG.fullmatch(name))


def open_tower_of(
    name: str,
    device: str,
    store: Store | None = None,
    progress: Progress = no_progress,
    make_room: Callable[[], None] = lambda: None,
    held: int = 0,
) -> Tower:
    """The image tower of the CLIP model of that name. Arguments and errors of `load_clip`."""
    clip = load_clip(name, device, progress, make_room, held)
    words = [word for concept in known_concepts().values() for word in concept.words]
    tower = tower_model(clip, words, store=store)
    return Tower(**{f.name: getattr(tower, f.name) for f in fields(tower)}, clip=clip)


def tower_of(model: LoadedModel) -> Tower:
    """The model as the tower that it is. Raises OptionError for a model that writes text."""
    if not isinstance(model, Tower):
        raise OptionError(f"{model.name} is no CLIP model. Choose one, for instance tiny-clip.")
    return model


class TowerReader:
    """Reads pictures of a prompt set with a CLIP model's image tower."""

    def __init__(self, model: Tower, prompt_set: PromptSet, pooling: str) -> None:
        """Nothing is read yet. Raises PromptError for texts."""
        if not prompt_set.pictures:
            raise PromptError(
                f"{model.name} is a CLIP model, and its heads are read on pictures. Choose "
                "pictures instead of texts."
            )
        self._model, self._set, self._pooling = model, prompt_set, pooling

    def __call__(self, samples: Sequence[int], lock: Lock, progress: Progress) -> Part:
        """Raises as `capture_images` does."""
        images = [self._set.pictures[sample].image() for sample in samples]
        with lock():
            read = capture_images(
                self._model.clip, self._model, images, pooling=self._pooling, progress=progress
            )
        return Part(read.z, read.n_positions)
