"""A model in memory, and where its heads are. Loading is load.py."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from headviz.base.errors import OptionError
from headviz.base.head import Head, check_heads
from headviz.base.lru import LRU
from headviz.base.shapes import Float, Tensor
from headviz.models.families import Family, output_bias, output_weight, projections_of
from headviz.models.norms import read_norm
from headviz.models.vision import Vision
from headviz.models.weights import is_quantised, weight_of


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
    note: str = ""
    """What a person should know of this family; empty where there is nothing."""

    @property
    def has_vision(self) -> bool:
        """Whether it reads pictures; it then needs one in every prompt."""
        return self.vision is not None

    @property
    def writes(self) -> bool:
        """Whether it answers with text, token by token."""
        return True

    @property
    def usual_pooling(self) -> str:
        """Where its heads are read if nothing else is asked for.

        The paper's choice: the picture's positions, else the prompt's own tokens.
        """
        return "image" if self.has_vision else "prompt"

    @property
    def chat_template(self) -> str:
        """The template that a prompt is set inside; empty where there is none."""
        reader = self.tokenizer if self.vision is None else self.vision.processor
        return str(getattr(reader, "chat_template", None) or "")

    @property
    def has_chat_template(self) -> bool:
        """Whether a prompt is set inside a chat template."""
        return bool(self.chat_template)

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
        if not is_quantised(next(iter(self.projections.values()))):
            return ""
        kind = type(next(iter(self.projections.values())).weight).__name__
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
    def projections(self) -> dict[int, nn.Module]:
        """Layer -> its attention output projection, whose input is the heads' signals.

        Layers without heads of this kind are left out; the others keep their own number.
        """
        return projections_of(self.layers, self.family)

    @property
    def head_layers(self) -> tuple[int, ...]:
        """Numbers of the layers that have heads."""
        return tuple(self.projections)

    def check_heads(self, heads: Iterable[Head]) -> None:
        """Raise OptionError for the first head that this model does not have."""
        heads = list(heads)
        check_heads(heads, self.n_layers, self.n_heads)
        for head in heads:
            if head.layer not in self.projections:
                raise OptionError(
                    f"There is no head {head}: layer {head.layer} of this model has no attention "
                    f"heads. Layers with heads: {', '.join(map(str, self.head_layers))}."
                )

    def head_weights(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of each head: what `z @ W_O` writes into the residual stream, in float32.

        Where a norm follows the attention, its gain is folded in (see `write_scale`), and so is
        what the family multiplies the attention output by.
        """
        if not (self.is_split or self.quantised):
            return self._read_head_weights(layer)
        # Each reading costs: from the disk, from another device, or out of 4 bits.
        return self._kept_weights.find_or_make(layer, lambda: self._read_head_weights(layer))

    @cached_property
    def _kept_weights(self) -> LRU[Tensor]:
        return LRU(1)

    def _read_head_weights(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        weight = output_weight(self.projections[layer]).to(self.home).float()
        if (module := self.norm_after(layer)) is not None:
            norm = read_norm(module)
            weight = norm.centred(weight.T).T * norm.gain.to(self.home)[:, None]
        weight = weight * self.multiplier(layer)
        return weight.T.reshape(self.n_heads, self.d_head, self.d_model)

    def write_bias(
        self, layer: int, scale: Float[Tensor, "*axis"] | None = None
    ) -> Float[Tensor, "*axis d_model"]:
        """What the attention of a layer writes beside its heads, at this `write_scale`."""
        bias = output_bias(self.projections[layer])
        if (module := self.norm_after(layer)) is not None:
            assert scale is not None, "a norm that follows has a scale"
            norm = read_norm(module)
            bias = norm.centred(bias) * norm.gain * scale[..., None] + norm.bias
        return bias * self.multiplier(layer)

    def write_scale(
        self, layer: int, signals: Float[Tensor, "sample position heads_d_head"]
    ) -> Float[Tensor, "sample position"] | None:
        """What the norm after attention multiplies the heads' writes by, None where there is none.

        One over the root mean square of the attention output, which all heads share: with it taken
        as given, the writes are linear in the signals and sum to what reaches the residual stream.
        """
        module = self.norm_after(layer)
        if module is None:
            return None
        projection = self.projections[layer]
        weight, bias = output_weight(projection).to(signals), output_bias(projection).to(signals)
        output = signals @ weight.T + bias
        return read_norm(module).scale(output)

    def norm_after(self, layer: int) -> nn.Module | None:
        """The norm that a layer's attention output passes before the residual stream, if any."""
        if self.family.norm_after is None:
            return None
        norm: nn.Module = attrgetter(self.family.norm_after)(self.layers[layer])
        return norm

    def multiplier(self, layer: int) -> float:
        """What a layer's attention output is multiplied by on its way to the residual stream."""
        if self.family.multiplier is None:
            return 1.0
        return float(attrgetter(self.family.multiplier)(self.layers[layer]))

    @property
    def n_tokens(self) -> int:
        """How many token ids have weights; a tokenizer to which words were added knows more."""
        return int(self.model.get_output_embeddings().weight.shape[0])

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
        """Heads of all layers that have any."""
        return len(self.projections) * self.n_heads

    @property
    def summary(self) -> str:
        """A few words for people: size, device and why, and what is peculiar to the family."""
        where = "split" if self.is_split else self.device
        n_with = len(self.projections)
        layers = f"{n_with} of {self.n_layers}" if n_with < self.n_layers else f"{self.n_layers}"
        return (
            f"{self.total_heads} heads ({layers} layers × {self.n_heads}, "
            f"d_head {self.d_head}) · {where}, {self.number_format}: {self.why}"
            + (f". {self.note}" if self.note else "")
        )
