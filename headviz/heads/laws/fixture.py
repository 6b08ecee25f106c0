"""What the laws are tried on: a model in memory, three short prompts, an edit of three heads."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from headviz.base.head import Head
from headviz.base.shapes import Float, Tensor
from headviz.heads.edits import Edit, applied, factor_table
from headviz.heads.forward import batch_of
from headviz.heads.laws.instrument import LayerCall, layer_calls
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.inputs.images import Picture, open_picture
from headviz.models.loaded import LoadedModel

TEXTS = (
    "seven white birds saw a green house and one of them said that the dog was black",
    "one",
    "the cat is red",
)
"""Of different lengths, so that rows are padded."""
N_CACHED = 4  # tokens that are said one by one, with the cache and without

_SIZE = (48, 64)  # height and width of the pictures, in pixels


class NotMeasurable(Exception):
    """A law that cannot be measured on this model here; says why."""


@dataclass(frozen=True, eq=False)
class Fixture:
    """A model, and what the laws are tried on."""

    model: LoadedModel
    pictures: tuple[Picture, ...] = ()
    """One for each text, where the model sees."""

    @classmethod
    def of(cls, model: LoadedModel) -> "Fixture":
        """On pictures of nothing where the model sees, else on the texts alone."""
        if not model.has_vision:
            return cls(model)
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 255, (len(TEXTS), *_SIZE, 3), dtype=np.uint8)
        return cls(model, tuple(open_picture(Image.fromarray(p), "noise.png") for p in pixels))

    @cached_property
    def prompts(self) -> list[EncodedPrompt]:
        """The texts, as the model reads them."""
        pictures = [[p] for p in self.pictures] or [[]] * len(TEXTS)
        return [
            encode_prompt(self.model, text, N_CACHED, seen)
            for text, seen in zip(TEXTS, pictures, strict=True)
        ]

    @cached_property
    def edit(self) -> Edit:
        """Three heads of the first, the middle and the last layer that has heads."""
        layers, last = self.model.head_layers, self.model.n_heads - 1
        middle = layers[len(layers) // 2]
        return Edit({Head(layers[0], 0): -1.0, Head(middle, last): 0.0, Head(layers[-1], 0): 3.0})

    @cached_property
    def calls(self) -> Mapping[int, LayerCall]:
        """How the model calls each layer that has heads, on the first text."""
        batch = batch_of(self.model, self.prompts[:1], left=True)
        with torch.inference_mode():
            return layer_calls(
                self.model, lambda: self.model.model(**batch.inputs(), use_cache=False)
            )

    @torch.inference_mode()
    def logits(
        self, prompts: list[EncodedPrompt], edits: list[Edit] | None = None
    ) -> Float[Tensor, "row position vocab"]:
        """Of the prompts as one batch, each under its edit; None sets no hook at all."""
        batch = batch_of(self.model, prompts, left=True)
        if edits is None:
            return self.model.model(**batch.inputs(), use_cache=False).logits.float()
        with applied(self.model, factor_table(self.model, edits)):
            return self.model.model(**batch.inputs(), use_cache=False).logits.float()


@contextmanager
def weights_scaled(model: LoadedModel, edit: Edit) -> Iterator[None]:
    """While open, W_O's columns are scaled by the edit; the weights themselves are not touched."""
    kept: list[tuple[nn.Module, Any]] = []
    table = factor_table(model, [edit])[0].repeat_interleave(model.d_head, dim=1)
    try:
        for layer, projection in model.projections.items():
            weight = projection.weight
            if not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
                raise NotMeasurable("the weights are quantised: edits cannot be written into them")
            if not bool((table[layer] != 1).any()):
                continue
            columns = table[layer] if isinstance(projection, nn.Linear) else table[layer][:, None]
            kept.append((projection, weight))
            projection.weight = nn.Parameter(weight.detach() * columns, requires_grad=False)
        yield
    finally:
        for projection, weight in kept:
            projection.weight = weight
