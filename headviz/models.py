"""A model's name or folder -> LoadedModel: the model, its tokenizer, and where its heads are.

Safetensors only, remote code never. Says why it chose the device and the number format. Knows
nothing of concepts, probes or edits.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from headviz.devices import choose_device
from headviz.errors import ModelError
from headviz.families import FAMILIES, Family, family_of, output_weight
from headviz.shapes import Float, Tensor

ASSETS = Path(__file__).resolve().parent.parent / "assets"
_HASH_WHOLE_BELOW = 256 * 2**20  # bytes; larger weight files are hashed by their ends and size


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model in memory, with its head layout."""

    name: str
    revision: str
    """Commit on the hub, or a hash of a local folder's files."""
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    family: Family
    n_layers: int
    n_heads: int
    """Query heads of a layer."""
    d_head: int
    d_model: int
    context: int
    """Longest input, in tokens."""
    device: torch.device
    dtype: torch.dtype
    why: str
    """Why this device and number format."""

    @cached_property
    def projections(self) -> list[nn.Module]:
        """Each layer's attention output projection; its input is the heads' signals."""
        layers = attrgetter(self.family.layers)(self.model)
        return [attrgetter(self.family.projection)(layer) for layer in layers]

    def head_weights(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of each head: what `z @ W_O` writes into the residual stream, in float32."""
        weight = output_weight(self.projections[layer]).detach().float()
        return weight.T.reshape(self.n_heads, self.d_head, self.d_model)

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """One row a token: the direction that raises this token's logit. Float32."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight.detach().float()

    @property
    def final_norm(self) -> nn.Module:
        """The norm between the last layer and the unembedding."""
        norm: nn.Module = attrgetter(self.family.final_norm)(self.model)
        return norm

    @property
    def total_heads(self) -> int:
        """n_layers · n_heads."""
        return self.n_layers * self.n_heads

    @property
    def summary(self) -> str:
        """One line for people: size, device and why."""
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{self.total_heads} heads ({self.n_layers} layers × {self.n_heads}, "
            f"d_head {self.d_head}) · {self.device}, {dtype}: {self.why}"
        )


def built_in_models() -> dict[str, Path]:
    """Name -> folder of the models that ship in assets/."""
    return {f.parent.name: f.parent for f in sorted(ASSETS.glob("*/config.json"))}


def load_model(name: str, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """The model called `name`: a built-in one, a local folder, or one of the hub.

    Raises ModelError, in one sentence, where it does not exist, has no safetensors weights or is
    of a family that is not supported; OptionError for an unknown device or dtype.
    """
    name = name.strip()
    source, revision, offline = _locate(name)
    chosen, number_format, why = choose_device(device, dtype)
    try:
        shared: dict[str, Any] = {"trust_remote_code": False, "local_files_only": offline}
        config = AutoConfig.from_pretrained(source, **shared)
        family = family_of(config.model_type)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=number_format, use_safetensors=True, output_loading_info=True, **shared
        )
        model, report = loaded
        if missing := sorted(report["missing_keys"]):
            # transformers would make them up at random, and every score with them.
            raise ModelError(f"The weights of {name!r} lack {', '.join(missing[:3])}.")
        model = model.to(chosen)
        tokenizer = AutoTokenizer.from_pretrained(source, **shared)
    except ModelError:
        raise
    except Exception as error:
        # transformers, the hub client and safetensors raise a dozen types for a bad name or file.
        raise ModelError(_load_failure(name, offline, error)) from error
    return _describe(name, revision, model, tokenizer, family, chosen, number_format, why)


def _locate(name: str) -> tuple[str, str, bool]:
    """What to hand to transformers, the revision ('' if read after loading), and if offline."""
    if not name:
        raise ModelError(f"No model named. Built in: {', '.join(built_in_models())}.")
    folder = built_in_models().get(name) or _folder(name)
    if folder is None:
        return name, "", _is_offline(name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {name!r} has no config.json: it is no model folder.")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"The folder {name!r} has no .safetensors weights, the only format headviz loads. "
            "Write them with model.save_pretrained(folder)."
        )
    return str(folder), model_revision(folder), True


def _folder(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path; ~ of nobody
        return None


def model_revision(folder: Path) -> str:
    """Twelve hex digits over a folder's config, tokenizer and weights.

    Of a very large file only both ends, the size and the time of its last change are read.
    """
    digest = hashlib.sha256()
    names = ("config.json", "tokenizer.json", "tokenizer.model")
    files = [folder / n for n in names if (folder / n).is_file()]
    for path in files + sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            if size <= _HASH_WHOLE_BELOW:
                digest.update(file.read())
                continue
            digest.update(file.read(2**22))
            file.seek(-(2**22), 2)
            digest.update(file.read() + str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:12]


def _is_offline(name: str) -> bool:
    """Whether only a copy downloaded before can be had. Raises ModelError for a wrong name.

    One quick question to the hub: transformers itself would try for half a minute.
    """
    try:
        HfApi().model_info(name, timeout=10)
    except GatedRepoError:
        raise ModelError(
            f"The model {name!r} is gated: accept its licence on its page at the hub and set the "
            "environment variable HF_TOKEN, then load it again."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(_unknown(name, "the hub does not have it")) from None
    except Exception:  # the HTTP client's errors differ from release to release
        return True
    return False


def _unknown(name: str, why: str) -> str:
    return (
        f"Unknown model {name!r}: not built in ({', '.join(built_in_models())}), no local folder, "
        f"and {why}."
    )


def _load_failure(name: str, offline: bool, error: Exception) -> str:
    text = str(error).strip()
    if offline and name not in built_in_models() and _folder(name) is None:
        return _unknown(name, "the hub cannot be reached")
    first = text.splitlines()[0][:200] if text else type(error).__name__
    return f"The model {name!r} could not be loaded: {first}"


def _describe(
    name: str,
    revision: str,
    model: Any,
    tokenizer: Any,
    family: Family,
    device: torch.device,
    dtype: torch.dtype,
    why: str,
) -> LoadedModel:
    model = model.eval().requires_grad_(False)
    layers = attrgetter(family.layers)(model)
    first = attrgetter(family.projection)(layers[0])
    d_model, width = output_weight(first).shape
    n_heads = model.config.num_attention_heads
    assert width % n_heads == 0, f"{FAMILIES=} disagrees with {model.config.model_type}"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return LoadedModel(
        name=name,
        revision=revision or getattr(model.config, "_commit_hash", None) or "unknown",
        model=model,
        tokenizer=tokenizer,
        family=family,
        n_layers=len(layers),
        n_heads=n_heads,
        d_head=width // n_heads,
        d_model=d_model,
        context=int(getattr(model.config, "max_position_embeddings", 0) or 2**20),
        device=device,
        dtype=dtype,
        why=why,
    )
