"""Where in a picture a head's signal is strongest: a number for each patch, and where it lies.

The number is ‖(z − μ)·W_O‖: how far what the head writes at that position is from its mean μ over a
prompt set. Its square, at the pooled position, is what a sample's share of the head's variance is
made of (`spectrum`). Families that cut a picture into tiles read the whole picture once more, as an
overview; the map is the overview's. Knows nothing of drawing.
"""

from dataclasses import dataclass
from math import isqrt

import torch

from headviz.base.errors import PictureError
from headviz.base.head import Head
from headviz.base.shapes import Float, Tensor
from headviz.heads.prompts import default_prompt, encode_prompt
from headviz.heads.token_map import head_signals
from headviz.inputs.images import Picture
from headviz.models.loaded import LoadedModel

OVERVIEW_FIRST = ("llava_next", "llava_onevision")
OVERVIEW_LAST = ("idefics3", "smolvlm", "internvl")
"""config.model_type of the families with tiles, by where the overview stands among them."""

SHAPED = ("mistral3",)
"""Those that read a picture in its own shape, and do not say in which."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of a picture's width and height."""
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class PatchMap:
    """How strongly a head writes at each patch of one picture."""

    strength: Float[Tensor, "row column"]
    """Length in units of the residual stream, on the CPU."""
    box: Box
    """The part of the picture that the patches cover: some families crop it to a square."""


@torch.inference_mode()
def image_signals(
    model: LoadedModel, picture: Picture, head: Head, prompt: str = ""
) -> Float[Tensor, "position d_head"]:
    """The head's signal at each position that holds the picture; their mean is what is captured.

    An empty prompt is the model's usual one. Raises OptionError for a head that is not there or a
    model that reads no pictures.
    """
    encoded = encode_prompt(model, prompt or default_prompt(model), 0, [picture])
    z = head_signals(model, encoded, head)
    return z[torch.tensor(encoded.image, device=z.device)]


@torch.inference_mode()
def head_map(
    model: LoadedModel,
    picture: Picture,
    head: Head,
    prompt: str = "",
    mean: Float[Tensor, " d_head"] | None = None,
) -> PatchMap:
    """The map of one head on one picture.

    Args:
        model: a vision-language model.
        picture: what it looks at.
        head: whose signal is read.
        prompt: what is asked; the model's usual prompt where empty.
        mean: the head's mean signal, which is taken away; nothing is where it is not given.

    Raises:
        OptionError: for a head that is not there, or a model that reads no pictures.
        PictureError: where the model's positions form no grid over the picture.
    """
    z = image_signals(model, picture, head, prompt)
    if mean is not None:
        z = z - mean
    lengths = (z @ model.head_weights(head.layer)[head.index]).norm(dim=1)
    rows, columns, first, box = _grid(model, picture, len(lengths))
    part = lengths[first : first + rows * columns]
    return PatchMap(part.view(rows, columns).float().cpu(), box)


def _grid(model: LoadedModel, picture: Picture, n_positions: int) -> tuple[int, int, int, Box]:
    """Rows, columns, the number of the first position that belongs to them, and what they cover."""
    assert model.vision is not None
    processor, kind = model.vision.processor, model.model.config.model_type
    grid = model.vision.see(picture).grid
    if grid is not None:
        _, height, width = (grid[0] // processor.image_processor.merge_size).tolist()
        return height, width, 0, WHOLE
    if kind in SHAPED:
        read = processor.image_processor(picture.image(), return_tensors="pt")
        part = processor.patch_size * processor.spatial_merge_size
        height, width = (int(length) // part for length in read["image_sizes"][0])
        return height, width, 0, WHOLE
    if kind in OVERVIEW_FIRST:
        eyes = model.model.config.vision_config
        side = eyes.image_size // eyes.patch_size
        return side, side, 0, WHOLE
    if kind in OVERVIEW_LAST:
        n = getattr(processor, "image_seq_len", None) or processor.image_seq_length
        side = isqrt(n)
        return side, side, n_positions - n, WHOLE
    side = isqrt(n_positions)
    if side * side != n_positions:
        raise PictureError(
            f"{model.name} reads {picture.name} as {n_positions} parts, which form no grid: there "
            "is no map of it."
        )
    return side, side, 0, _cropped(processor.image_processor, picture)


def _cropped(image_processor: object, picture: Picture) -> Box:
    """The middle square where the processor crops, else the whole picture."""
    if not getattr(image_processor, "do_center_crop", False):
        return WHOLE
    side = min(picture.width, picture.height)
    across, down = 0.5 * side / picture.width, 0.5 * side / picture.height
    return (0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)
