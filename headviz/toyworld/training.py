"""Trains a built-in model from nothing: seeded, resumable, on a CPU or a GPU.

The loss is the usual one, with answers weighted up, plus a penalty on the root-mean-square of every
head's signal (the input of the output projection): heads that are not needed fall silent, so that a
skill sits in few of them. No head is told what to do. The data of a step depends on the seed and
the step alone, so a resumed run sees what an uninterrupted one would have seen.
"""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from headviz.toyworld.documents import Piece, training_documents
from headviz.toyworld.localising import Localiser, factors_applied
from headviz.toyworld.recipe import Recipe
from headviz.toyworld.tokenizer import build_tokenizer

CHUNK = 16  # batches that are made together, so that documents of like length can share a batch
IGNORED = -100


def float32_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention in float32 inside bf16 autocast.

    On a CPU, torch's own bf16 attention is ten times slower backwards.
    """
    with torch.autocast(query.device.type, enabled=False):
        out = torch.nn.functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), is_causal=True, scale=scaling
        )
    return out.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register("toyworld_float32", float32_attention)


def encode(pieces: list[Piece], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[bool]]:
    """Token ids of a document with its start and end marks, and which of them are answers."""
    ids, answers = [tokenizer.bos_token_id], [False]
    for piece in pieces:
        new = tokenizer.encode(piece.text, add_special_tokens=False)
        ids += new
        answers += [piece.is_answer] * len(new)
    return [*ids, tokenizer.eos_token_id], [*answers, False]


def batches(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, start: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless (ids, labels, weights), each `row token`, from step `start` on."""
    for chunk in itertools.count(start // CHUNK):
        documents = itertools.islice(
            training_documents(recipe.seed * 1_000_000 + chunk + 1), CHUNK * recipe.batch
        )
        coded = sorted(
            (encode(document, tokenizer) for document in documents), key=lambda pair: len(pair[0])
        )
        groups = [coded[i : i + recipe.batch] for i in range(0, len(coded), recipe.batch)]
        random.Random(chunk).shuffle(groups)
        for group in groups[start - chunk * CHUNK if chunk == start // CHUNK else 0 :]:
            yield _collate(group, recipe, tokenizer.pad_token_id)


def _collate(
    group: list[tuple[list[int], list[bool]]], recipe: Recipe, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), longest), pad)
    labels = torch.full((len(group), longest), IGNORED)
    weights = torch.ones(len(group), longest)
    for row, (tokens, answers) in enumerate(group):
        ids[row, : len(tokens)] = labels[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(tokens)][torch.tensor(answers)] = recipe.answer_weight
    return ids, labels, weights


@contextmanager
def head_signals(model: LlamaForCausalLM) -> Iterator[list[Tensor]]:
    """While open, collects each layer's input of the output projection (row token head·d_head)."""
    seen: list[Tensor] = []
    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for layer in model.model.layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def losses(
    model: LlamaForCausalLM, ids: Tensor, labels: Tensor, weights: Tensor, factors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss a token, the penalty before its factor, and the share of right answers."""
    device = ids.device.type
    with (
        head_signals(model) as signals,
        factors_applied(model, factors),
        torch.autocast(device, dtype=torch.bfloat16),
    ):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    labels, weights = labels[:, 1:], weights[:, 1:]
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(weights)
    real = labels != IGNORED
    loss = (each * weights).sum() / real.sum()
    size = torch.zeros((), device=ids.device)
    inside = torch.nn.functional.pad(real, (1, 0), value=True).unsqueeze(-1)
    for signal in signals:
        z = (signal.float() * inside).unflatten(-1, (factors.shape[-1], -1))
        size = size + (z.pow(2).sum((0, 1, 3)) / (inside.sum() * z.shape[-1]) + 1e-8).sqrt().sum()
    answers = weights > 1
    right = (logits.argmax(-1) == labels)[answers].float().mean()
    return loss, size, right


def save_checkpoint(path: Path, **state: object) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def fresh(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, device: str
) -> tuple[LlamaForCausalLM, torch.optim.Optimizer]:
    """A model with random weights and its optimizer."""
    torch.manual_seed(recipe.seed)
    config = recipe.config(
        len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="toyworld_float32")
    model = model.to(device).train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, betas=recipe.betas, fused=True)


def train(
    recipe: Recipe,
    checkpoint: Path,
    device: str,
    save_every: int = 200,
    stop_after: int | None = None,
) -> LlamaForCausalLM:
    """The trained model in float32; goes on from a `checkpoint` of the same recipe.

    `stop_after`: end early after this many steps in all, the checkpoint written.
    """
    tokenizer = build_tokenizer()
    model, optimizer = fresh(recipe, tokenizer, device)
    localiser = Localiser(recipe, tokenizer)
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=False)
        if state["recipe"] == recipe:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            start = state["step"]
    end = min(recipe.all_steps, stop_after or recipe.all_steps)
    bar = tqdm(
        batches(recipe, tokenizer, start), total=end, initial=start, desc=recipe.name, mininterval=5
    )
    for step, batch in zip(range(start, end), bar, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        ids, labels, weights = batch
        factors = localiser.edit(step, labels, weights)
        loss, size, right = losses(
            model, *(part.to(device) for part in (ids, labels, weights, factors))
        )
        (loss + recipe.penalty_at(step) * size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss:.3f}", heads=f"{size:.1f}", answers=f"{right:.3f}")
        if (step + 1) % save_every == 0 or step + 1 == end:
            save_checkpoint(
                checkpoint,
                recipe=recipe,
                step=step + 1,
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
            )
    return model


def pick_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Weights in bf16 safetensors, config and tokenizer, in the usual transformers files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.set_attn_implementation("sdpa")
    model.bfloat16().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
