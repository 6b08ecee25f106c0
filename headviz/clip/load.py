"""The name of an open_clip model -> ClipModel: both towers, its tokenizer and its image transform.

A built-in model, a local folder (open_clip_config.json and safetensors weights) and a model of the
hub are all made by `open_clip.create_model_and_transforms`. In headviz open_clip is
imported here alone, and only when a model is loaded; toyworld trains with it. Knows nothing
of heads.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from headviz.base import assets
from headviz.base.assets import check_trained
from headviz.base.errors import ModelError, UnknownName
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Int, Tensor
from headviz.clip.hub_files import HUB, fetch_files, hub_source
from headviz.models.devices import choose_device
from headviz.models.hub import first_line
from headviz.models.memory_plan import Weights, plan_of, weights_bytes, weights_in_memory
from headviz.models.places import local_folder
from headviz.models.products import choose_products
from headviz.models.weight_files import check_is_itself

DEFAULT_TAG = "laion2b_s34b_b79k"
CONFIG = "open_clip_config.json"
LOCAL = "local-dir:"


@dataclass(frozen=True, eq=False)
class ClipModel:
    """An open_clip model in memory."""

    name: str
    revision: str
    """Twelve hex digits over the weights."""
    model: Any = field(repr=False)
    """open_clip's own: `encode_image`, `encode_text`, `logit_scale`, `visual`."""
    preprocess: Any = field(repr=False)
    """PIL image -> tensor (3, height, width), as the model was trained."""
    tokenizer: Any = field(repr=False)
    """Texts -> token ids (text, token)."""
    device: torch.device

    @property
    def n_bytes(self) -> int:
        """Of the weights in memory."""
        return sum(weight.nbytes for weight in self.model.parameters())

    def tokens(self, texts: list[str]) -> Int[Tensor, "text token"]:
        """Token ids on the model's device, padded or cut to the model's context."""
        ids: Tensor = self.tokenizer(texts)
        return ids.to(self.device)

    def knows(self, text: str) -> bool:
        """Whether every part of the text has a token of its own (byte-level ones always have)."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        unknown = getattr(inner, "unk_token_id", None)
        if inner is None or unknown is None:
            return True
        return unknown not in inner(text, add_special_tokens=False)["input_ids"]


def built_in_clips() -> dict[str, Path]:
    """Name -> folder of the open_clip models that ship in assets/."""
    return {f.parent.name: f.parent for f in sorted(assets.ASSETS.glob(f"*/{CONFIG}"))}


def load_clip(
    name: str = "tiny-clip",
    device: str = "auto",
    progress: Progress = no_progress,
    make_room: Callable[[], None] = lambda: None,
    held: int = 0,
) -> ClipModel:
    """The open_clip model called `name`, in float32.

    Args:
        name: a built-in one, a folder, `hf-hub:OWNER/NAME`, or an architecture of open_clip with
            the tag of its weights, `ViT-B-32:laion400m_e32` (without a tag: `DEFAULT_TAG` where it
            exists, else the first that open_clip lists).
        device: auto, cpu, cuda or mps.
        progress: told first what will be downloaded and read, then how far it is.
        make_room: called when all is known to be well, before the first weight is read.
        held: bytes of memory that `make_room` will free.

    Raises:
        ModelError: in one sentence, where the model cannot be had, does not fit, or cannot be
            loaded.
        UnknownName: for an architecture or a tag that open_clip does not have.
        OptionError: for an unknown device.
    """
    import open_clip

    name = name.strip()
    where, _, _ = choose_device(device, "float32")
    source, tag = _locate(name, open_clip)

    def plan(n_bytes: int, weights: int, to_fetch: int = 0) -> None:
        of = Weights(name, n_bytes, weights, to_fetch, may_spread=False)
        progress(0.0, str(plan_of(of, where, where.type, held)))

    if source.startswith(LOCAL):
        folder = Path(source.removeprefix(LOCAL))
        plan(weights_bytes(folder), weights_in_memory(folder, torch.float32))
    else:
        progress(0.0, f"looking for {name}")
        if (on_hub := hub_source(open_clip, source, tag)) is not None:
            fetch_files(name, on_hub, plan, progress)
    make_room()
    if where.type == "cpu":
        choose_products()
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            source, pretrained=tag, precision="fp32", device=where, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:
        # open_clip, the hub client and safetensors raise a dozen types for a bad name or file.
        first = first_line(str(error), type(error).__name__)
        raise ModelError(f"The CLIP model {name!r} could not be loaded: {first}") from error
    model = model.eval().requires_grad_(False)
    progress(1.0, f"{name} is loaded")
    return ClipModel(name, _fingerprint(model), model, preprocess, tokenizer, where)


def _locate(name: str, open_clip: Any) -> tuple[str, str | None]:
    """What to hand to open_clip: the model with its scheme, and the tag of its weights."""
    if not name:
        raise ModelError(f"No CLIP model named. Built in: {', '.join(built_in_clips())}.")
    if name.startswith(HUB):
        return name, None
    folder = built_in_clips().get(name) or local_folder(name)
    if folder is not None:
        if not (folder / CONFIG).is_file():
            raise ModelError(f"The folder {name!r} has no {CONFIG}: it is no open_clip model.")
        if not any(folder.glob("*.safetensors")):
            raise ModelError(f"The folder {name!r} has no .safetensors weights.")
        for file in folder.glob("*.safetensors"):
            check_is_itself(file)
        return f"{LOCAL}{folder}", None
    check_trained(name)
    architecture, _, tag = name.partition(":")
    known = open_clip.list_models()
    if architecture not in known:
        hint = "Or a folder, or hf-hub:OWNER/NAME."
        raise UnknownName("CLIP model", name, [*built_in_clips(), *known], hint)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tags:
        raise ModelError(f"open_clip has no weights for {architecture!r}. Choose another model.")
    if tag and tag not in tags:
        raise UnknownName(f"tag of {architecture}", tag, tags)
    return architecture, tag or (DEFAULT_TAG if DEFAULT_TAG in tags else tags[0])


def _fingerprint(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
