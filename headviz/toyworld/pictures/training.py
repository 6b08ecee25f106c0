"""Trains the model of the drawn world from nothing: seeded, resumable, on a CPU or a GPU.

Tower, projector and text model learn together. To the loss comes a penalty on every head's
root-mean-square signal, so that heads that are not needed fall silent. What a step sees depends on
the seed, the step and the planted heads alone.
"""

import itertools
import random
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from headviz.shapes import Bool, Float, Tensor
from headviz.toyworld.pictures.batches import Batch, Writer
from headviz.toyworld.pictures.content import pictures
from headviz.toyworld.pictures.hooks import heads_open
from headviz.toyworld.pictures.planting import Plan, factor_table, make_plan, twists_for
from headviz.toyworld.pictures.processor import (
    IMAGE_TOKEN,
    build_processor,
    build_tokenizer,
)
from headviz.toyworld.pictures.recipe import PictureRecipe
from headviz.toyworld.training import IGNORED, save_checkpoint


def float32_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Bool[Tensor, "row 1 token token"] | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention in float32 inside bf16 autocast, by the mask where there is one."""
    with torch.autocast(query.device.type, enabled=False):
        out = torch.nn.functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=attention_mask, scale=scaling
        )
    return out.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register("pictures_float32", float32_attention)


def training_batch(
    recipe: PictureRecipe, writer: Writer, step: int, plan: Plan | None
) -> tuple[Batch, Float[Tensor, "row layer head"]]:
    """What `step` sees, and the factors that its rows run with."""
    rng = random.Random(f"step {recipe.seed} {step}")
    stream = pictures(recipe.seed * 1_000_000 + step + 1)
    shown = list(itertools.islice(stream, recipe.batch))
    twists = twists_for(shown, recipe.share_at(step), plan, recipe, rng)
    return writer.batch(shown, twists, rng), factor_table(twists, recipe)


def losses(
    model: LlavaForConditionalGeneration,
    batch: Batch,
    factors: Float[Tensor, "row layer head"],
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss a token, the penalty before its factor, and the share of right tokens."""
    with (
        heads_open(model, factors) as signals,
        torch.autocast(batch.ids.device.type, dtype=torch.bfloat16),
    ):
        logits = model(
            input_ids=batch.ids,
            pixel_values=batch.pixels,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).logits[:, :-1]
    due = batch.labels[:, 1:] != IGNORED
    labels, weights = batch.labels[:, 1:][due], batch.weights[:, 1:][due]
    chosen = logits[due].float()
    each = torch.nn.functional.cross_entropy(chosen, labels, reduction="none")
    loss = (each * weights).sum() / len(labels)
    size = torch.zeros((), device=batch.ids.device)
    inside = (batch.segments >= 0).unsqueeze(-1)
    for signal in signals:
        z = (signal.float() * inside).unflatten(-1, (factors.shape[-1], -1))
        size = size + (z.pow(2).sum((0, 1, 3)) / (inside.sum() * z.shape[-1]) + 1e-8).sqrt().sum()
    return loss, size, (chosen.argmax(-1) == labels).float().mean()


def fresh(
    recipe: PictureRecipe, writer: Writer, device: str
) -> tuple[LlavaForConditionalGeneration, torch.optim.Optimizer]:
    """A model with random weights and its optimizer."""
    torch.manual_seed(recipe.seed)
    tokenizer: Any = writer.tokenizer
    config = recipe.config(
        len(tokenizer),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    )
    model: Any = LlavaForConditionalGeneration._from_config(
        config, attn_implementation="pictures_float32"
    )
    model = model.to(device).train()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(
        groups, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )


def train(
    recipe: PictureRecipe,
    checkpoint: Path,
    device: str,
    save_every: int = 100,
    stop_after: int | None = None,
) -> tuple[LlavaForConditionalGeneration, Plan | None]:
    """The trained model in float32 and its planted heads; goes on from a `checkpoint`.

    `stop_after`: end early after this many steps in all, the checkpoint written.
    """
    writer = Writer(build_tokenizer(), recipe.room, recipe.answer_weight)
    model, optimizer = fresh(recipe, writer, device)
    start, plan = 0, None
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=False)
        if state["recipe"] == recipe:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            start, plan = state["step"], state["plan"]
    end = min(recipe.all_steps, stop_after or recipe.all_steps)
    bar = tqdm(range(start, end), total=end, initial=start, desc=recipe.name, mininterval=5)
    for step in bar:
        if step in recipe.stage_starts():
            plan, left = make_plan(model, writer, recipe, plan, device)
            bar.write(f"step {step}: {plan.heads}\nleft without them: {left}")
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        batch, factors = training_batch(recipe, writer, step, plan)
        loss, size, right = losses(model, batch.to(device), factors.to(device))
        (loss + recipe.penalty_at(step) * size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss:.3f}", heads=f"{size:.1f}", right=f"{right:.3f}")
        if (step + 1) % save_every == 0 or step + 1 == end:
            save_checkpoint(
                checkpoint,
                recipe=recipe,
                step=step + 1,
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                plan=plan,
            )
    return model, plan


def save_model(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Weights in bf16 safetensors, config, tokenizer and processor, in the usual files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.set_attn_implementation("sdpa")
    model.bfloat16().save_pretrained(folder)
    build_processor(build_tokenizer()).save_pretrained(folder)
