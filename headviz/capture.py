"""LoadedModel + ProbeSet -> HeadActivations: every head's signal on every text, pooled as read.

The signal z is the head's slice of the input of the attention output projection (d_head wide).
It is pooled over token positions inside the hook, so the positions are never stored. Knows nothing
of concepts; caching is the session's affair.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headviz.errors import OptionError, ProbeError, check_unicode
from headviz.models import LoadedModel
from headviz.probes import ProbeSet
from headviz.shapes import Bool, Float, Int, Tensor

POOLINGS = {
    "prompt": "mean over the prompt's own tokens (the paper's choice)",
    "last": "the prompt's last token, which decides the next word",
    "generated": "mean over the tokens that the model generates next",
}
BATCH_TOKENS = 8192
GENERATED_TOKENS = 16
_MARK = "\ue000"  # a character of private use: no template has it

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and what is being done; raises Cancelled to stop."""


def no_progress(share: float, what: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True, eq=False)
class HeadActivations:
    """What every head said about every sample."""

    z: Float[Tensor, "layer head sample d_head"]
    """Pooled signals, float32, on the model's device."""
    texts: tuple[str, ...]
    model: str
    revision: str
    probes: str
    """Hash of the texts."""
    pooling: str
    n_positions: int
    """Token positions read, over all samples."""

    @property
    def n_samples(self) -> int:
        """Number of texts."""
        return self.z.shape[2]


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt's tokens, and which of them are the prompt's own rather than a template's."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]


def encode_prompt(model: LoadedModel, text: str, reserve: int = 0) -> EncodedPrompt:
    """The prompt as the model reads it: inside its chat template where it has one.

    Raises ProbeError where prompt and `reserve` further tokens exceed the model's context.
    """
    check_unicode([text], ProbeError)
    tokenizer = model.tokenizer
    chat = bool(getattr(tokenizer, "chat_template", None))
    full, start, stop = _inside_template(tokenizer, text.strip()) if chat else (text, 0, len(text))
    encoded = tokenizer(full, return_offsets_mapping=True, add_special_tokens=not chat)
    ids = tuple(encoded["input_ids"])
    special = set(tokenizer.all_special_ids)
    own = tuple(
        b > start and a < stop and b > a and i not in special
        for i, (a, b) in zip(ids, encoded["offset_mapping"], strict=True)
    )
    if not text.strip() or not any(own):
        raise ProbeError("The prompt is empty. Write some text.")
    if len(ids) + reserve > model.context:
        room = f" and {reserve} more are to be generated" if reserve else ""
        raise ProbeError(
            f"The prompt {text[:30]!r}… has {len(ids)} tokens{room}; {model.name} reads at most "
            f"{model.context}. Shorten it."
        )
    return EncodedPrompt(ids, own)


def _inside_template(tokenizer: Any, text: str) -> tuple[str, int, int]:
    """The text inside the chat template, and where in it the text begins and ends."""

    def render(content: str) -> str:
        message = [{"role": "user", "content": content}]
        whole = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return str(whole)

    # Found by a mark: the text itself may stand in the template as well ("user").
    start = max(render(_MARK).find(_MARK), 0)
    return render(text), start, start + len(text)


def capture(
    model: LoadedModel,
    probes: ProbeSet,
    pooling: str = "prompt",
    progress: Progress = no_progress,
) -> HeadActivations:
    """Signals of all heads on all texts, pooled over the positions that `pooling` names.

    Raises OptionError for an unknown pooling, ProbeError for a text longer than the context.
    """
    if pooling not in POOLINGS:
        raise OptionError(f"Unknown pooling {pooling!r}. Known: {', '.join(POOLINGS)}.")
    reserve = GENERATED_TOKENS if pooling == "generated" else 0
    prompts = [encode_prompt(model, text, reserve) for text in probes.texts]
    size = (model.n_layers, model.n_heads, len(prompts), model.d_head)
    z = torch.zeros(size, device=model.device)
    n_positions = done = 0
    for rows in _batches([len(p.ids) + reserve for p in prompts]):
        progress(done / len(prompts), f"reading heads on {len(prompts)} texts")
        batch = [prompts[r] for r in rows]
        ids, attention, chosen = _pad(model, batch, pooling)
        z[:, :, rows] = _pooled_signals(model, ids, attention, chosen)
        n_positions += int(chosen.sum())
        done += len(rows)
    progress(1.0, "heads read")
    return HeadActivations(
        z, probes.texts, model.name, model.revision, probes.digest, pooling, n_positions
    )


@contextmanager
def projection_inputs(
    model: LoadedModel, read: Callable[[int, Tensor], Tensor | None]
) -> Iterator[None]:
    """While open, `read(layer, signals)` sees each projection's input and may return another.

    The one place where hooks are set: capture and edits cannot disagree on what a head is.
    """
    handles: list[Any] = []

    def hook_of(layer: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            changed = read(layer, args[0])
            return None if changed is None else (changed, *args[1:])

        return hook

    try:
        for layer, projection in enumerate(model.projections):
            handles.append(projection.register_forward_pre_hook(hook_of(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


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


def _pad(
    model: LoadedModel, batch: list[EncodedPrompt], pooling: str
) -> tuple[
    Int[Tensor, "sample position"], Int[Tensor, "sample position"], Bool[Tensor, "sample position"]
]:
    """Token ids, attention mask and the positions to pool, padded on the right.

    A decoder never looks to the right, so that the padding changes no signal that is read.
    """
    rows = [(list(p.ids), list(p.own)) for p in batch]
    if pooling == "last":
        rows = [(ids, [False] * (len(ids) - 1) + [True]) for ids, _ in rows]
    if pooling == "generated":
        rows = [_continue(model, ids) for ids, _ in rows]
    width = max(len(ids) for ids, _ in rows)
    pad = model.tokenizer.pad_token_id
    ids = torch.tensor([i + [pad] * (width - len(i)) for i, _ in rows], device=model.device)
    lengths = torch.tensor([len(i) for i, _ in rows], device=model.device)
    attention = (torch.arange(width, device=model.device) < lengths[:, None]).long()
    own = [o + [False] * (width - len(o)) for _, o in rows]
    return ids, attention, torch.tensor(own, device=model.device)


@torch.inference_mode()
def _continue(model: LoadedModel, ids: list[int]) -> tuple[list[int], list[bool]]:
    prompt = torch.tensor([ids], device=model.device)
    output = model.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=GENERATED_TOKENS,
        do_sample=False,
        pad_token_id=model.tokenizer.pad_token_id,
    )[0].tolist()
    return output, [position >= len(ids) for position in range(len(output))]


@torch.inference_mode()
def _pooled_signals(
    model: LoadedModel,
    ids: Int[Tensor, "sample position"],
    attention: Int[Tensor, "sample position"],
    chosen: Bool[Tensor, "sample position"],
) -> Float[Tensor, "layer head sample d_head"]:
    weights = chosen.float() / chosen.sum(1, keepdim=True)
    pooled: list[Tensor] = [torch.empty(0)] * model.n_layers

    def read(layer: int, signals: Tensor) -> None:
        mean = torch.einsum("spw,sp->sw", signals.float(), weights)
        pooled[layer] = mean.view(len(ids), model.n_heads, model.d_head).transpose(0, 1)

    with projection_inputs(model, read):
        model.model.base_model(input_ids=ids, attention_mask=attention, use_cache=False)
    z = torch.stack(pooled)
    bad = (~z.isfinite()).flatten(2).any(2).nonzero()
    if len(bad):
        layer, head = bad[0].tolist()
        raise ProbeError(
            f"Head L{layer}.H{head} gives numbers that are not finite. Try --dtype float32."
        )
    return z
