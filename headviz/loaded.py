"""A model in memory, and where its heads are. Loading is models.py."""

from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from headviz.families import Family, norm_gain, output_weight
from headviz.recent import Recent
from headviz.shapes import Float, Tensor
from headviz.vision import Vision
from headviz.weights import is_quantised, weight_of


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A language model or vision-language model in memory, with its head layout."""

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
    """Where its inputs go: that of the embedding, where the model is split."""
    dtype: torch.dtype
    """What is computed in; the weights may be `quantised`."""
    why: str
    """Why this device and number format."""
    vision: Vision | None = field(default=None, repr=False)
    """None: a language model, which reads no pictures."""

    @property
    def sees(self) -> bool:
        """Whether it reads pictures; it then needs one in every prompt."""
        return self.vision is not None

    @property
    def is_split(self) -> bool:
        """Whether its layers lie on several devices or on the disk."""
        return len(set(self.places.values())) > 1 or "disk" in self.places.values()

    @property
    def places(self) -> dict[str, int | str]:
        """Device of each part, as accelerate names both; empty where all is on one."""
        return dict(getattr(self.model, "hf_device_map", None) or {})

    @property
    def home(self) -> torch.device:
        """Where signals and weights of all layers are gathered to be compared.

        Main memory for a split model: what fills several GPUs does not fit into one.
        """
        return torch.device("cpu") if self.is_split else self.device

    @property
    def n_bytes(self) -> int:
        """Memory that its weights take on its device."""
        return sum(w.nbytes for w in self.model.parameters() if w.device == self.device)

    @cached_property
    def quantised(self) -> str:
        """`int8` or `int4` where the projections' weights are, else nothing."""
        if not is_quantised(self.projections[0]):
            return ""
        kind = type(self.projections[0].weight).__name__
        return {"Int8Params": "int8", "Params4bit": "int4"}[kind]

    @property
    def number_format(self) -> str:
        """`float32`, or `int4 in bfloat16`: what signals depend on beside the weights."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.quantised} in {dtype}" if self.quantised else dtype

    @cached_property
    def layers(self) -> list[nn.Module]:
        """The decoder layers of the (text) model."""
        return list(attrgetter(self.family.layers)(self.model))

    @cached_property
    def projections(self) -> list[nn.Module]:
        """Each layer's attention output projection; its input is the heads' signals."""
        return [attrgetter(self.family.projection)(layer) for layer in self.layers]

    def head_weights(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of each head: what `z @ W_O` writes into the residual stream, in float32.

        Where a norm follows the attention, its gain is folded in; see `write_scale`.
        """
        if not (self.is_split or self.quantised):
            return self._read_head_weights(layer)
        # Each reading costs: from the disk, from another device, or out of 4 bits.
        return self._kept_weights.find_or_make(layer, lambda: self._read_head_weights(layer))

    @cached_property
    def _kept_weights(self) -> Recent[Tensor]:
        return Recent(1)

    def _read_head_weights(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        weight = output_weight(self.projections[layer]).to(self.home).float()
        if self.family.norm_after is not None:
            weight = weight * norm_gain(self._norm_after(layer)).to(self.home)[:, None]
        return weight.T.reshape(self.n_heads, self.d_head, self.d_model)

    def write_scale(
        self, layer: int, signals: Float[Tensor, "sample position heads_d_head"]
    ) -> Float[Tensor, "sample position"] | None:
        """What the norm after attention multiplies the heads' writes by, None where there is none.

        One over the root mean square of the attention output, which all heads share: with it taken
        as given, the writes are linear in the signals and sum to what reaches the residual stream.
        """
        if self.family.norm_after is None:
            return None
        weight = output_weight(self.projections[layer]).to(signals)
        output = (signals @ weight.T).float()
        eps = getattr(self._norm_after(layer), "eps", 0.0)
        return (output.square().mean(-1) + eps).rsqrt()

    def _norm_after(self, layer: int) -> nn.Module:
        assert self.family.norm_after is not None
        norm: nn.Module = attrgetter(self.family.norm_after)(self.layers[layer])
        return norm

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """One row a token: the direction that raises this token's logit. Float32."""
        return weight_of(self.model.get_output_embeddings()).to(self.home).float()

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
        where = "split" if self.is_split else self.device
        return (
            f"{self.total_heads} heads ({self.n_layers} layers × {self.n_heads}, "
            f"d_head {self.d_head}) · {where}, {self.number_format}: {self.why}"
        )


def describe(
    name: str,
    revision: str,
    model: Any,
    reader: Any,
    family: Family,
    device: torch.device,
    dtype: torch.dtype,
    why: str,
) -> LoadedModel:
    """The layout of a transformers model.

    `reader` is its tokenizer, or its processor where it reads pictures.
    """
    tokenizer = reader if family.sight is None else reader.tokenizer
    model = model.eval().requires_grad_(False)
    config = model.config.get_text_config()
    layers = attrgetter(family.layers)(model)
    d_model, width = output_weight(attrgetter(family.projection)(layers[0])).shape
    n_heads = config.num_attention_heads
    assert width % n_heads == 0, f"families.py disagrees with {model.config.model_type}"
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
        context=int(getattr(config, "max_position_embeddings", 0) or 2**20),
        device=device,
        dtype=dtype,
        why=why,
        vision=None if family.sight is None else Vision(model, reader, family.sight, device),
    )
