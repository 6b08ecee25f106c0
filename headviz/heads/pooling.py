"""Prompts -> every head's signal on each, pooled over positions: one forward pass a batch.

The signal is pooled inside the hook, so that positions are never stored. What all prompts begin
with (a chat template's system prompt) is read once, and what stands behind the last pooled position
not at all: a decoder's signals do not depend on it. Knows nothing of sets, parts and caches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from headviz.base.errors import OptionError, PromptError
from headviz.base.shapes import Bool, Float, Tensor
from headviz.heads.forward import NO_PREFIX, Batch, Prefix, batch_of, likeliest, read_prefix
from headviz.heads.hooks import projection_inputs
from headviz.heads.prompts import EncodedPrompt
from headviz.models.loaded import LoadedModel

POOLINGS: Mapping[str, str] = {
    "prompt": "mean over the prompt's own tokens (the paper's choice for texts)",
    "last": "the prompt's last token, which decides the next word",
    "generated": "mean over the tokens that the model generates next",
    "image": "mean over the positions that hold the picture (the paper's choice for pictures)",
}
CPU_BATCH_TOKENS = 512
"""Of one forward pass on a CPU: about a second of a small model's time, in which others wait."""
GPU_BATCH_TOKENS = 8192
GENERATED_TOKENS = 16
_PREFIX_WORTH = 4  # tokens from which on a common beginning is read apart

Lock = Callable[[], AbstractContextManager[Any]]
Watch = Callable[[float], None]
"""Called with the share of prompts that is done; may raise Cancelled."""


@dataclass(frozen=True, eq=False)
class Part:
    """What the heads said about some prompts."""

    z: Float[Tensor, "layer head sample d_head"]
    """Pooled signals, float32, at the model's `home`; zeros in layers without heads."""
    n_positions: int
    """Token positions read, over all samples."""


def check_pooling(model: LoadedModel, pooling: str) -> None:
    """Raise OptionError for a pooling that the model does not know."""
    if pooling not in POOLINGS:
        raise OptionError(f"Unknown pooling {pooling!r}. Known: {', '.join(POOLINGS)}.")
    if pooling == "image" and not model.has_vision:
        others = ", ".join(name for name in POOLINGS if name != pooling)
        raise OptionError(f"{model.name} reads no pictures: pool over one of {others}.")


def reserve_for(pooling: str) -> int:
    """Tokens that the context must hold beside a prompt."""
    return GENERATED_TOKENS if pooling == "generated" else 0


def prefix_of(model: LoadedModel, prompts: Sequence[EncodedPrompt], lock: Lock) -> Prefix:
    """What all these prompts begin with before words of their own, where it is worth its own pass.

    A vision-language model has none: what stands before a picture may look at it.
    """
    if model.has_vision:
        return NO_PREFIX
    first = prompts[0].ids
    length = min(prompt.own.index(True) for prompt in prompts)
    for prompt in prompts:
        while prompt.ids[:length] != first[:length]:
            length -= 1
    if length < _PREFIX_WORTH:
        return NO_PREFIX
    with lock():
        return read_prefix(model, first[:length])


def pool(
    model: LoadedModel,
    prompts: Sequence[EncodedPrompt],
    pooling: str,
    prefix: Prefix,
    lock: Lock,
    watch: Watch,
) -> Part:
    """The signals of all heads on these prompts, in batches of like length.

    Args:
        model: the model.
        prompts: what it reads.
        pooling: one of POOLINGS.
        prefix: what the prompts begin with, see `prefix_of`.
        lock: held for one forward pass at a time.
        watch: called after every layer.

    Raises:
        PromptError: where a signal is not finite.
    """
    size = (model.n_layers, model.n_heads, len(prompts), model.d_head)
    z, n_positions, done = torch.zeros(size, device=model.home), 0, 0
    more = reserve_for(pooling) - prefix.length
    lengths = [_end(model, prompt, pooling) + more for prompt in prompts]
    for rows in batches(lengths, batch_tokens(model)):
        some = [prompts[row] for row in rows]

        def watch_batch(share: float, start: int = done, many: int = len(rows)) -> None:
            watch((start + share * many) / len(prompts))

        z[:, :, rows], positions = _pool_batch(model, some, pooling, prefix, lock, watch_batch)
        n_positions += positions
        done += len(rows)
    return Part(z, n_positions)


def batch_tokens(model: LoadedModel) -> int:
    """Of one forward pass at most, padding counted."""
    return CPU_BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, each at most `most` tokens with its padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda r: lengths[r]):
        if batch and (len(batch) + 1) * lengths[row] > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _end(model: LoadedModel, prompt: EncodedPrompt, pooling: str) -> int:
    """How much of the prompt has to be read. Pictures may be looked at from before them."""
    if pooling != "prompt" or model.has_vision:
        return len(prompt.ids)
    return len(prompt.own) - prompt.own[::-1].index(True)


def _pool_batch(
    model: LoadedModel,
    prompts: Sequence[EncodedPrompt],
    pooling: str,
    prefix: Prefix,
    lock: Lock,
    watch: Watch,
) -> tuple[Float[Tensor, "layer head sample d_head"], int]:
    """The signals, and how many positions they were read at."""
    read = [prompt.cut(_end(model, prompt, pooling)) for prompt in prompts]
    if pooling == "generated":
        said = likeliest(model, prompts, GENERATED_TOKENS, lock=lock, watch=lambda: watch(0.0))
        spec = model.family.vision_spec
        answer_type = 0 if spec is None else spec.answer_type
        read = [p.continued(ids, answer_type) for p, ids in zip(prompts, said, strict=True)]
    # The first pass encodes pictures, so that it belongs under the lock.
    with lock(), torch.inference_mode():
        # Padded on the right: a decoder never looks at what is padded there.
        batch = batch_of(model, read, left=False)
        chosen = _chosen(prompts, read, batch, pooling)
        part = chosen[:, prefix.length :]
        z = _pooled_signals(model, batch.after(prefix.length), part, prefix, watch)
    return z, int(chosen.sum())


def _chosen(
    prompts: Sequence[EncodedPrompt], read: Sequence[EncodedPrompt], batch: Batch, pooling: str
) -> Bool[Tensor, "sample position"]:
    """The positions to pool."""
    if pooling == "image":
        return batch.image
    chosen = torch.zeros_like(batch.image)
    for row, (prompt, whole) in enumerate(zip(prompts, read, strict=True)):
        if pooling == "prompt":
            own = torch.tensor(whole.own, device=chosen.device)
            chosen[row, : len(own)] = own
        elif pooling == "last":
            chosen[row, len(prompt.ids) - 1] = True
        else:
            chosen[row, len(prompt.ids) : len(whole.ids)] = True
    return chosen


def _pooled_signals(
    model: LoadedModel,
    batch: Batch,
    chosen: Bool[Tensor, "sample position"],
    prefix: Prefix,
    watch: Watch,
) -> Float[Tensor, "layer head sample d_head"]:
    weights = chosen.float() / chosen.sum(1, keepdim=True)
    z = torch.zeros((model.n_layers, model.n_heads, len(chosen), model.d_head), device=model.home)

    def read(layer: int, signals: Tensor) -> None:
        scale = model.write_scale(layer, signals)
        at = weights.to(signals.device)
        mean = torch.einsum("spw,sp->sw", signals.float(), at if scale is None else at * scale)
        by_head = mean.view(len(chosen), model.n_heads, model.d_head).transpose(0, 1)
        z[layer] = by_head.to(model.home)
        watch((layer + 1) / model.n_layers)

    with projection_inputs(model, read):
        model.model.base_model(**batch.inputs(), **prefix.rows(len(chosen)))
    bad = (~z.isfinite()).flatten(2).any(2).nonzero()
    if len(bad):
        layer, head = bad[0].tolist()
        raise PromptError(
            f"Head L{layer}.H{head} gives numbers that are not finite. Try --dtype float32."
        )
    return z
