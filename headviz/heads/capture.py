"""LoadedModel + PromptSet -> HeadActivations: every head's signal on every sample, pooled as read.

A sample is a text, or a picture with a prompt.

The signal z is the head's slice of the input of the attention output projection (d_head wide).
It is pooled over token positions inside the hook, so the positions are never stored. Knows nothing
of concepts; caching is the session's affair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from headviz.base.errors import OptionError, PromptError
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Bool, Float, Tensor
from headviz.heads.forward import Batch, batch_of, continued
from headviz.heads.hooks import projection_inputs
from headviz.heads.prompts import EncodedPrompt, default_prompt, encode_prompt
from headviz.inputs.images import Picture
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel

POOLINGS = {
    "prompt": "mean over the prompt's own tokens (the paper's choice for texts)",
    "last": "the prompt's last token, which decides the next word",
    "generated": "mean over the tokens that the model generates next",
    "image": "mean over the positions that hold the picture (the paper's choice for pictures)",
}
BATCH_TOKENS = 8192
GENERATED_TOKENS = 16


@dataclass(frozen=True, eq=False)
class HeadActivations:
    """What every head said about every sample."""

    z: Float[Tensor, "layer head sample d_head"]
    """Pooled signals, float32, at the model's `home`; zeros in layers without heads."""
    texts: tuple[str, ...]
    model: str
    revision: str
    prompt_set: str
    """Hash of the texts and pictures."""
    pooling: str
    n_positions: int
    """Token positions read, over all samples."""
    pictures: tuple[Picture, ...] = ()
    """Of the samples, where they have one."""

    @property
    def n_samples(self) -> int:
        """Number of texts or pictures."""
        return self.z.shape[2]


def capture(
    model: LoadedModel,
    prompt_set: PromptSet,
    pooling: str = "prompt",
    progress: Progress = no_progress,
) -> HeadActivations:
    """Signals of all heads on all samples, pooled over the positions that `pooling` names.

    Raises OptionError for a pooling that the model does not know, PromptError for a text longer
    than the context, and either where pictures are missing or out of place.
    """
    if pooling not in POOLINGS:
        raise OptionError(f"Unknown pooling {pooling!r}. Known: {', '.join(POOLINGS)}.")
    if pooling == "image" and not model.has_vision:
        others = ", ".join(name for name in POOLINGS if name != pooling)
        raise OptionError(f"{model.name} reads no pictures: pool over one of {others}.")
    reserve = GENERATED_TOKENS if pooling == "generated" else 0
    prompts = _encode(model, prompt_set, reserve, progress)
    size = (model.n_layers, model.n_heads, len(prompts), model.d_head)
    z = torch.zeros(size, device=model.home)
    n_positions = done = 0
    kind = "pictures" if prompt_set.pictures else "texts"
    for rows in _batches([len(p.ids) + reserve for p in prompts]):
        progress(done / len(prompts), f"reading heads on {len(prompts)} {kind}")
        batch, chosen = _to_read(model, [prompts[r] for r in rows], pooling)
        z[:, :, rows] = _pooled_signals(model, batch, chosen)
        n_positions += int(chosen.sum())
        done += len(rows)
    progress(1.0, "heads read")
    return HeadActivations(
        z,
        prompt_set.texts,
        model.name,
        model.revision,
        prompt_set.digest,
        pooling,
        n_positions,
        prompt_set.pictures,
    )


def _encode(
    model: LoadedModel, prompt_set: PromptSet, reserve: int, progress: Progress
) -> list[EncodedPrompt]:
    if not prompt_set.pictures:
        return [encode_prompt(model, text, reserve) for text in prompt_set.texts]
    prompts = []
    for number, (text, picture) in enumerate(
        zip(prompt_set.texts, prompt_set.pictures, strict=True)
    ):
        progress(0.0, f"opening picture {number + 1} of {len(prompt_set)}")
        prompts.append(encode_prompt(model, text or default_prompt(model), reserve, [picture]))
    return prompts


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of like length, each at most BATCH_TOKENS with its padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda r: lengths[r]):
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _to_read(
    model: LoadedModel, prompts: Sequence[EncodedPrompt], pooling: str
) -> tuple[Batch, Bool[Tensor, "sample position"]]:
    """The batch, and the positions to pool.

    It is padded on the right: a decoder never looks at what is padded there.
    """
    read = prompts
    if pooling == "generated":
        read = [continued(model, prompt, GENERATED_TOKENS) for prompt in prompts]
    batch = batch_of(model, read, left=False)
    if pooling == "image":
        return batch, batch.image
    chosen = torch.zeros_like(batch.image)
    for row, (prompt, whole) in enumerate(zip(prompts, read, strict=True)):
        if pooling == "prompt":
            own = torch.tensor(prompt.own, device=model.device)
            chosen[row, : len(own)] = own
        elif pooling == "last":
            chosen[row, len(prompt.ids) - 1] = True
        else:
            chosen[row, len(prompt.ids) : len(whole.ids)] = True
    return batch, chosen


@torch.inference_mode()
def _pooled_signals(
    model: LoadedModel, batch: Batch, chosen: Bool[Tensor, "sample position"]
) -> Float[Tensor, "layer head sample d_head"]:
    weights = chosen.float() / chosen.sum(1, keepdim=True)
    z = torch.zeros((model.n_layers, model.n_heads, len(chosen), model.d_head), device=model.home)

    def read(layer: int, signals: Tensor) -> None:
        scale = model.write_scale(layer, signals)
        at = weights.to(signals.device)
        mean = torch.einsum("spw,sp->sw", signals.float(), at if scale is None else at * scale)
        by_head = mean.view(len(chosen), model.n_heads, model.d_head).transpose(0, 1)
        z[layer] = by_head.to(model.home)

    with projection_inputs(model, read):
        model.model.base_model(**batch.inputs(), use_cache=False)
    bad = (~z.isfinite()).flatten(2).any(2).nonzero()
    if len(bad):
        layer, head = bad[0].tolist()
        raise PromptError(
            f"Head L{layer}.H{head} gives numbers that are not finite. Try --dtype float32."
        )
    return z
