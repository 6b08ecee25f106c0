"""Trains a built-in model from nothing: seeded, resumable, on a CPU or a GPU.

The loss is the usual one, with answers weighted up, plus a penalty on the root-mean-square of every
head's signal (the input of the output projection): heads that are not needed fall silent, so that a
skill sits in few of them. In the first part no head is told what to do; the second is `localising`.
The data of a step depends on the seed and the step alone, and what a stage plants is kept in the
checkpoint, so a resumed run sees what an uninterrupted one would have seen.
"""

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from toyworld import attention
from toyworld.batching import IGNORED, batches
from toyworld.concept_tracking import follow
from toyworld.head_assignment import Front, make_plan, write_weights
from toyworld.hooks import heads_open
from toyworld.localisation import Localiser
from toyworld.running import Run, adamw, heads_size, mixed
from toyworld.schedule import Schedule
from toyworld.tokenizer import build_tokenizer


def losses(
    model: LlamaForCausalLM, ids: Tensor, labels: Tensor, weights: Tensor, factors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss a token, the penalty before its factor, and the share of right answers."""
    device = ids.device.type
    with (
        heads_open(model.model.layers, factors) as signals,
        mixed(device),
    ):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    labels, weights = labels[:, 1:], weights[:, 1:]
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(weights)
    real = labels != IGNORED
    loss = (each * weights).sum() / real.sum()
    inside = torch.nn.functional.pad(real, (1, 0), value=True).unsqueeze(-1)
    size = heads_size(signals, inside, factors.shape[-1])
    answers = weights > 1
    right = (logits.argmax(-1) == labels)[answers].float().mean()
    return loss, size, right


def fresh(
    schedule: Schedule, tokenizer: PreTrainedTokenizerFast, device: str
) -> tuple[LlamaForCausalLM, torch.optim.Optimizer]:
    """A model with random weights and its optimizer."""
    torch.manual_seed(schedule.seed)
    config = schedule.config(
        len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation=attention.NAME)
    model = model.to(device).train()
    return model, adamw(model, schedule)


def train(
    schedule: Schedule,
    checkpoint: Path,
    device: str,
    save_every: int = 200,
    stop_after: int | None = None,
) -> Run:
    """The trained model in float32, and what was planted; goes on from a `checkpoint` of its own.

    `stop_after`: end early after this many steps in all, the checkpoint written.
    """
    tokenizer = build_tokenizer()
    run = Run(schedule, *fresh(schedule, tokenizer, device))
    run.resume(checkpoint, device)
    localiser, front = Localiser(schedule, tokenizer), Front(schedule, tokenizer)
    start, end = run.step, min(schedule.all_steps, stop_after or schedule.all_steps)
    bar = tqdm(
        batches(schedule, tokenizer, start),
        total=end,
        initial=start,
        desc=schedule.name,
        mininterval=5,
    )
    for step, (ids, labels, weights) in zip(range(start, end), bar, strict=False):
        if step in schedule.stage_starts and len(run.plans) <= schedule.stage_starts.index(step):
            run.plans.append(make_plan(run.model, tokenizer, schedule, run.plan))
        elif run.plan is not None and step % schedule.need_every == 0:
            run.plans[-1] = follow(run.model, tokenizer, schedule, run.plan, step)
        for group in run.optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at(step)
        factors = localiser.edit(step, run.plan, labels, weights)
        loss, size, right = losses(
            run.model, *(part.to(device) for part in (ids, labels, weights, factors))
        )
        (loss + schedule.penalty_at(step) * size).backward()
        if run.plan is not None and step % schedule.front_every == 0:
            front.loss(run.model, run.plan.heads, step).backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), schedule.clip)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.step = step + 1
        if run.step in schedule.averaged:
            run.keep()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss:.3f}", heads=f"{size:.1f}", answers=f"{right:.3f}")
        if run.step % save_every == 0 or run.step == end:
            run.save(checkpoint)
    if run.step == schedule.all_steps:
        run.average()
    return run


def pick_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def save_run(run: Run, folder: Path) -> None:
    """The model in the usual transformers files, and training.json: what each stage planted."""
    write_weights(run.model, build_tokenizer(), folder)
    run.write_history(folder)
