"""CLIP models among the others: their image towers opened by name, and read on pictures.

A tower's vocabulary is the words of the preset concepts: what is to be found in its heads must be
among them. Whoever asks for a model here need not know which kind it is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from headviz.base.errors import ProbeError
from headviz.base.progress import Progress, no_progress
from headviz.base.store import Store
from headviz.clip.hub_files import HUB
from headviz.clip.load import CONFIG, ClipModel, built_in_clips, load_clip
from headviz.clip.word_vocabulary import CLIP_POOLINGS, capture_images, tower_model
from headviz.heads.capture import HeadActivations, capture, default_pooling
from headviz.inputs.concepts import known_concepts
from headviz.inputs.prompt_sets import ProbeSet
from headviz.models.load import load_model
from headviz.models.loaded import LoadedModel

_WITH_TAG = re.compile(r"[\w.-]+:[\w.-]+")


@dataclass(frozen=True, eq=False, kw_only=True)
class Tower(LoadedModel):
    """The image tower of a CLIP model, in place of a model that writes text."""

    clip: ClipModel


def is_clip(name: str) -> bool:
    """Whether the name is a CLIP model's: built in, a folder, `hf-hub:NAME` or `ViT-B-32:TAG`."""
    folder = built_in_clips().get(name) or Path(name).expanduser()
    return (folder / CONFIG).is_file() or name.startswith(HUB) or bool(_WITH_TAG.fullmatch(name))


def open_model(
    name: str,
    device: str,
    dtype: str,
    store: Store | None = None,
    progress: Progress = no_progress,
    make_room: Callable[[], None] = lambda: None,
    held: int = 0,
) -> LoadedModel:
    """The model of that name, a `Tower` for a CLIP model. Arguments and errors of `load_model`."""
    if not is_clip(name):
        return load_model(name, device, dtype, progress, make_room, held)
    clip = load_clip(name, device, progress, make_room, held)
    words = [word for concept in known_concepts().values() for word in concept.words]
    tower = tower_model(clip, words, store=store)
    return Tower(**{f.name: getattr(tower, f.name) for f in fields(tower)}, clip=clip)


def usual_pooling(model: LoadedModel) -> str:
    """Where a model's heads are read if nothing else is asked for."""
    return next(iter(CLIP_POOLINGS)) if isinstance(model, Tower) else default_pooling(model)


def read_heads(
    model: LoadedModel, probes: ProbeSet, pooling: str, progress: Progress = no_progress
) -> HeadActivations:
    """Every head's signal on every sample. Raises as `capture` and `capture_images` do."""
    if not isinstance(model, Tower):
        return capture(model, probes, pooling, progress)
    if not probes.pictures:
        raise ProbeError(
            f"{model.name} is a CLIP model, and its heads are read on pictures. Choose pictures "
            "instead of texts."
        )
    images = [picture.image() for picture in probes.pictures]
    read = capture_images(model.clip, model, images, pooling=pooling, progress=progress)
    return replace(
        read,
        texts=probes.texts,
        probes=probes.digest,
        pooling=pooling,
        pictures=probes.pictures,
    )
