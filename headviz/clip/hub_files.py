"""The files of the hub that open_clip will ask for, fetched beforehand.

open_clip downloads them without telling how large they are, and nothing stops it. With them in the
hub's cache it finds them there. Knows open_clip's names for files and nothing of what they hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch

from headviz.base.errors import ModelError
from headviz.base.progress import Progress
from headviz.models.download import fetch
from headviz.models.hub import NotOnHub, find_on_hub, small_files
from headviz.models.memory_plan import weights_of_hub

HUB = "hf-hub:"
_PICKLED, _SAFE = "open_clip_pytorch_model.bin", "open_clip_model.safetensors"


@dataclass(frozen=True)
class HubSource:
    """Where on the hub a model's weights are."""

    repo: str
    weights: str
    """The file's name; safetensors of the same are preferred."""
    is_whole: bool
    """Whether config and tokenizer are read from there as well."""

    def wanted(self, names: Sequence[str]) -> list[str]:
        """Those of the files `names` that open_clip will read; none without weights."""
        usual = self.weights == _PICKLED
        safe = _SAFE if usual else str(PurePath(self.weights).with_suffix(".safetensors"))
        weights = [name for name in (safe, self.weights) if name in names][:1]
        beside = small_files(names) if self.is_whole else []
        return [*weights, *beside] if weights else []


def hub_source(open_clip: Any, model: str, tag: str | None) -> HubSource | None:
    """That of a model as `create_model` names it; None where its weights are elsewhere."""
    if model.startswith(HUB):
        return HubSource(model.removeprefix(HUB), _PICKLED, is_whole=True)
    repo, _, file = open_clip.get_pretrained_cfg(model, tag).get("hf_hub", "").rpartition("/")
    return HubSource(repo, file or _PICKLED, is_whole=False) if repo else None


def fetch_files(
    name: str,
    source: HubSource,
    tell: Callable[[int, int, int], None],
    progress: Progress,
) -> None:
    """Download what is missing; nothing where the hub cannot be reached, for it may all be here.

    Args:
        name: the model as it was asked for.
        source: where it is.
        tell: called before anything is fetched, with the bytes of the weights' files, of the
            weights in memory in float32, and those to be downloaded; may raise to refuse.
        progress: told how far it is; the download ends with what it raises.

    Raises ModelError where the hub does not have the files or does not give them.
    """
    try:
        hub = find_on_hub(source.repo, source.wanted)
    except NotOnHub:
        raise ModelError(
            f"Unknown CLIP model {name!r}: the hub does not have {source.repo!r}, or only for "
            "those with a token."
        ) from None
    if hub is None:
        return
    tell(hub.weights_bytes, weights_of_hub(hub, torch.float32), hub.missing)
    if hub.missing:
        fetch(hub, progress)
