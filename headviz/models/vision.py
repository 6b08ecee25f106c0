"""Pictures -> what a vision-language model's tower makes of them, once a picture.

The features are kept in memory by the picture's pixels, so that an edit of the text model's heads
never encodes a picture again: transformers' models take them as `mm_encoder_outputs`. Knows nothing
of prompts beyond the mark that stands for a picture in them.
"""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from headviz.base.errors import PictureError
from headviz.base.lru import LRU
from headviz.base.shapes import Int, Tensor
from headviz.inputs.images import Picture
from headviz.models.families import VisionSpec

KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture as the text model reads it."""

    features: tuple[Tensor, ...]
    """A tensor for each picture or tile: what the model puts at the image positions."""
    stacked: bool
    """Whether the family hands the features on as one tensor."""
    grid: Int[Tensor, "1 3"] | None
    """Time, height and width in patches, where the family counts positions by them."""
    deep: tuple[tuple[Tensor, ...], ...] = ()
    """What is added at the image positions behind the first layers (Qwen3-VL), layer by layer."""

    @property
    def n_bytes(self) -> int:
        """Memory that the features take."""
        return sum(t.nbytes for level in (self.features, *self.deep) for t in level)


class Vision:
    """The processor and the vision tower of one model, with what they made of the last pictures."""

    def __init__(
        self, model: Any, processor: Any, vision_spec: VisionSpec, device: torch.device
    ) -> None:
        """For a transformers model in memory, its processor, and where its inputs go."""
        self.processor = processor
        self.vision_spec = vision_spec
        self.mark: str = getattr(processor, vision_spec.mark)
        """Stands for a picture in a prompt."""
        self.image_token_id: int = model.config.image_token_id
        """Stands at each position that holds a part of a picture."""
        kinds = (getattr(model.config, f"{kind}_token_id", None) for kind in ("image", "video"))
        n_words = model.get_output_embeddings().weight.shape[0]
        self.placeholders: tuple[int, ...] = tuple(
            i for i in kinds if i is not None and i < n_words
        )
        """Ids that only stand for what is seen: a model never says them."""
        self.n_encoded = 0
        """How often the vision tower has run."""
        self.encoded: LRU[Any] = LRU(64)
        """What prompts.py made of the last prompts with pictures."""
        self._tower = model.model
        self.device = device
        self._kept: OrderedDict[str, Seen] = OrderedDict()

    def process(self, text: str, pictures: Sequence[Picture]) -> Any:
        """What the processor makes of a prompt, in which every picture has its mark.

        Raises PictureError where it does not take the pictures.
        """
        bos = self.processor.tokenizer.bos_token
        # As transformers does with a template that writes the first token itself.
        special = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        try:
            return self.processor(
                text=[text],
                images=[[picture.image() for picture in pictures]],
                return_tensors="pt",
                **special,
            )
        except PictureError:
            raise
        except Exception as error:  # each processor refuses in its own way
            sizes = ", ".join(f"{p.name} ({p.width} × {p.height})" for p in pictures)
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise PictureError(f"The model does not take {sizes}: {reason}") from error

    def see(self, picture: Picture, beside: bool = False) -> Seen:
        """The picture's features: kept ones, or the vision tower's.

        `beside`: its prompt holds other pictures, which matters to some families.
        """
        whole = beside and self.vision_spec.whole_beside
        key = f"{picture.digest} whole" if whole else picture.digest
        if key not in self._kept:
            self._kept[key] = self._encode(picture, whole)
        self._kept.move_to_end(key)
        seen = self._kept[key]
        while (
            sum(kept.n_bytes for kept in self._kept.values()) > KEPT_BYTES and len(self._kept) > 1
        ):
            self._kept.popitem(last=False)
        return seen

    @torch.inference_mode()
    def _encode(self, picture: Picture, whole: bool) -> Seen:
        # What is beside it does not matter: itself will do.
        n = 2 if whole else 1
        inputs = self.process(self.mark * n, [picture] * n).to(self.device, self._tower.dtype)
        encode = self._tower.get_image_features
        wanted = inspect.signature(encode).parameters
        given = {name: value for name, value in inputs.items() if name in wanted}
        output = encode(**given, return_dict=True)
        features = output.pooler_output
        self.n_encoded += 1
        stacked = isinstance(features, Tensor)
        return Seen(
            (features,) if stacked else tuple(features)[: 1 if whole else None],
            stacked,
            given.get("image_grid_thw"),
            tuple(map(tuple, getattr(output, "deepstack_features", None) or ())),
        )


def joined(seen: Sequence[Seen]) -> BaseModelOutputWithPooling:
    """The features of several pictures in the order of their marks, as models take them."""
    features = [tensor for one in seen for tensor in one.features]
    # Most families use a list of tensors where the class declares one.
    pooled: Any = torch.cat(features) if seen[0].stacked else features
    output = BaseModelOutputWithPooling(pooler_output=pooled)
    if seen[0].deep:
        levels = zip(*(one.deep for one in seen), strict=True)
        deep: Any = [[tensor for level in pictures for tensor in level] for pictures in levels]
        output.deepstack_features = deep
    return output
