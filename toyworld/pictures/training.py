"""Trains the model of the drawn world from nothing: seeded, resumable, on a CPU or a GPU.

The image tower is at first that of a CLIP model (see `tower`); tower, projector and text model then
learn together. To the loss comes a penalty on every head's
root-mean-square signal, so that heads that are not needed fall silent. What a step sees depends on
the seed, the step and the planted heads alone.
"""

import copy
import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration

from headviz.base.assets import ASSETS
from headviz.base.shapes import Float, Tensor
from toyworld import attention
from toyworld.batching import IGNORED
from toyworld.clip_training import WEIGHTS
from toyworld.hooks import heads_open
from toyworld.pictures.batches import Batch, Writer
from toyworld.pictures.content import training_pictures
from toyworld.pictures.head_assignment import (
    Plan,
    concept_ids,
    decoder_layers,
    factor_table,
    make_plan,
    stay_first,
    twists_for,
)
from toyworld.pictures.processor import IMAGE_TOKEN, build_processor, build_tokenizer
from toyworld.pictures.schedule import PictureSchedule
from toyworld.pictures.tower import load_tower
from toyworld.running import Run, adamw, heads_size, mixed


def training_batch(
    schedule: PictureSchedule, writer: Writer, step: int, plan: Plan | None
) -> tuple[Batch, Float[Tensor, "row layer head"]]:
    """What `step` sees, and the factors that its rows run with."""
    rng = random.Random(f"step {schedule.seed} {step}")
    later = step >= schedule.steps
    more = {"digits": schedule.more_digits, "scene": schedule.more_scenes} if later else {}
    shown = training_pictures(schedule.seed * 1_000_000 + step + 1, schedule.batch, more)
    twists = twists_for(shown, schedule.share_at(step), plan, schedule, rng)
    return writer.batch(shown, twists, rng), factor_table(twists, schedule)


def losses(
    model: LlavaForConditionalGeneration,
    batch: Batch,
    factors: Float[Tensor, "row layer head"],
    front: Callable[[Any, Sequence[Tensor], Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss a token, the penalty before its factor, and the share of right tokens.

    `front`: a loss besides, of the model, its signals and which rows run unedited.
    """
    with (
        heads_open(decoder_layers(model), factors) as signals,
        mixed(batch.ids.device.type),
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
    if front is not None:
        loss = loss + front(model, signals, (factors == 1).flatten(1).all(1))
    inside = (batch.segments >= 0).unsqueeze(-1)
    size = heads_size(signals, inside, factors.shape[-1])
    return loss, size, (chosen.argmax(-1) == labels).float().mean()


def fresh(
    schedule: PictureSchedule, writer: Writer, device: str
) -> tuple[LlavaForConditionalGeneration, torch.optim.Optimizer]:
    """A model with random weights, but for the schedule's image tower, and its optimizer.

    Raises ModelError where that tower is not there.
    """
    torch.manual_seed(schedule.seed)
    tokenizer: Any = writer.tokenizer
    config = schedule.config(
        len(tokenizer),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
    )
    model: Any = LlavaForConditionalGeneration._from_config(
        config, attn_implementation=attention.NAME
    )
    if schedule.tower:
        load_tower(model.model.vision_tower, ASSETS / schedule.tower / WEIGHTS)
    model = model.to(device).train()
    pace = schedule.tower_pace if schedule.tower else 1.0
    return model, adamw(model, schedule, model.model.vision_tower, pace)


def train(
    schedule: PictureSchedule,
    checkpoint: Path,
    device: str,
    save_every: int = 100,
    stop_after: int | None = None,
) -> Run:
    """The trained model in float32, and what was planted; goes on from a `checkpoint` of its own.

    `stop_after`: end early after this many steps in all, the checkpoint written.
    """
    writer = Writer(build_tokenizer(), schedule.room, schedule.answer_weight)
    run = Run(schedule, *fresh(schedule, writer, device))
    run.resume(checkpoint, device)
    start, end = run.step, min(schedule.all_steps, stop_after or schedule.all_steps)
    starts, words = schedule.stage_starts, concept_ids(writer)
    bar = tqdm(range(start, end), total=end, initial=start, desc=schedule.name, mininterval=5)
    for step in bar:
        if step in starts and len(run.plans) <= starts.index(step):
            run.plans.append(make_plan(run.model, writer, schedule, run.plan, device))
        for group in run.optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at(step) * group["pace"]
        plan = run.plan
        batch, factors = training_batch(schedule, writer, step, plan)
        front = functools.partial(stay_first, schedule, plan.heads, words) if plan else None
        loss, size, right = losses(run.model, batch.to(device), factors.to(device), front)
        (loss + schedule.penalty_at(step) * size).backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), schedule.clip)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.step = step + 1
        if run.step in schedule.averaged:
            run.keep()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss:.3f}", heads=f"{size:.1f}", right=f"{right:.3f}")
        if run.step % save_every == 0 or run.step == end:
            run.save(checkpoint)
    if run.step == schedule.all_steps:
        run.average()
    return run


def save_run(run: Run, folder: Path) -> None:
    """The model in the usual files, and training.json: what each stage planted."""
    save_model(run.model, folder)
    run.write_history(folder)


def save_model(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Weights in bf16 safetensors, config, tokenizer and processor, in the usual files."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped: Any = copy.deepcopy(model)
    shipped.set_attn_implementation("sdpa")
    shipped.bfloat16().save_pretrained(folder)
    build_processor(build_tokenizer()).save_pretrained(folder)
