"""Trains the contrastive model of the drawn world from nothing: seeded, resumable.

At first its image tower learns to see (`clip_seeing`), then both towers learn to match. There the
loss is CLIP's (every picture against the captions of the batch, and back) plus the same with known
negatives: every picture against all words of each concept and against phrases of a color and a
noun; and the tower goes on telling what is on each patch. What a batch says twice counts as right
for every picture that it holds for. To it comes a penalty on every head's root-mean-square signal,
so that heads that are not needed fall silent. No picture is shown twice.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from headviz.base.shapes import Float, Tensor
from headviz.clip.load import CONFIG
from headviz.clip.open_tower import open_tower
from toyworld import clip_texts
from toyworld.clip_schedule import ClipSchedule
from toyworld.clip_seeing import Readout, drawn, fresh_pictures, look, patch_loss, seeing_loss
from toyworld.pictures.captions import EVERYTHING, RATES, caption
from toyworld.pictures.content import Picture
from toyworld.running import Run, adamw

WEIGHTS = "open_clip_model.safetensors"


class Towers(nn.Module):
    """Both towers in training; `clip` is open_clip's own model and holds all weights."""

    def __init__(self, schedule: ClipSchedule) -> None:
        """With the random weights of the schedule's seed."""
        super().__init__()
        import open_clip

        torch.manual_seed(schedule.seed)
        self.tokenizer = clip_texts.build_clip_tokenizer(schedule.context)
        self.shape = schedule.model_config(
            len(self.tokenizer), self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        )
        self.clip: Any = open_clip.CLIP(**self.shape)
        self.visual = open_tower(self.clip.visual, schedule.name)
        self.readout = Readout(schedule)

    def forward(
        self, pixels: Tensor, texts: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Unit embeddings of pictures and of texts, the heads' root-mean-square, summed; patches.

        The patches are those of `clip_seeing.look`.
        """
        sizes: list[Tensor] = []
        blocks = self.visual.transformer.resblocks

        def measure(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            z = args[0].unflatten(2, (blocks[0].attn.n_heads, -1))
            sizes.append((z.pow(2).mean((0, 1, 3)) + 1e-8).sqrt().sum())

        handles = [block.attn.out_proj.register_forward_pre_hook(measure) for block in blocks]
        try:
            embedded, patches = look(self.visual, pixels)
        finally:
            for handle in handles:
                handle.remove()
        seen = nn.functional.normalize(embedded, dim=1)
        return seen, self.read(texts), torch.stack(sizes).sum(), patches

    def read(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings of texts, in no more positions than the longest one has."""
        ids = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        clip, tokens = self.clip, ids["input_ids"].to(self.clip.logit_scale.device)
        length = tokens.shape[1]
        # As clip.encode_text, whose positions are all those of the context.
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
        ends = (tokens == clip.text_eos_id).int().argmax(1)
        features = x[torch.arange(len(x)), ends] @ clip.text_projection
        return nn.functional.normalize(features, dim=1)


def multi_positive(logits: Float[Tensor, "row text"], holds: Float[Tensor, "row text"]) -> Tensor:
    """Cross-entropy with all texts that hold for a row as its target, in equal parts.

    Rows for which none holds are left out.
    """
    n_holding = holds.sum(1)
    targets = holds / n_holding.clamp_min(1)[:, None]
    return -(targets * logits.log_softmax(1)).sum() / (n_holding > 0).sum().clamp_min(1)


def loss_of(
    towers: Towers, schedule: ClipSchedule, shown: Sequence[Picture], rng: random.Random
) -> tuple[Tensor, Tensor]:
    """The loss of a batch, and how many of its captions are matched right."""
    pixels, labels = drawn(shown, schedule.patch, rng)
    captions = [
        caption(p, rng, EVERYTHING if rng.random() < schedule.plain_captions else RATES)
        for p in shown
    ]
    words = [(c, word) for c, group in clip_texts.WORDS.items() for word in group]
    prompts = [clip_texts.prompt(concept, word, rng) for concept, word in words]
    truths = [clip_texts.shown(picture) for picture in shown]
    true_phrases = [clip_texts.phrases(picture) for picture in shown]
    phrases = sorted({*rng.sample(clip_texts.PHRASES, schedule.phrases)}.union(*true_phrases))
    seen, read, size, patches = towers(pixels, [*captions, *prompts, *phrases])
    scale = towers.clip.logit_scale.exp()
    logits = (scale * seen @ read.T).split([len(captions), len(prompts), len(phrases)], 1)
    same = torch.tensor([[float(a == b) for b in captions] for a in captions])
    loss = (multi_positive(logits[0], same) + multi_positive(logits[0].T, same)) / 2
    start = 0
    for concept, group in clip_texts.WORDS.items():
        holds = torch.tensor([[float(w in truth[concept]) for w in group] for truth in truths])
        part = logits[1][:, start : start + len(group)]
        loss = loss + schedule.word_weight * multi_positive(part, holds)
        start += len(group)
    holds = torch.tensor([[float(text in true) for text in phrases] for true in true_phrases])
    loss = loss + schedule.phrase_weight * multi_positive(logits[2], holds)
    loss = loss + schedule.patch_weight * patch_loss(towers.readout, patches, labels)[0]
    right = same[torch.arange(len(same)), logits[0].argmax(1)].mean()
    return loss + schedule.penalty * size, right


def train_clip(
    schedule: ClipSchedule, checkpoint: Path, save_every: int = 200, stop_after: int | None = None
) -> Towers:
    """The trained towers; goes on from a `checkpoint` of the same schedule.

    `stop_after`: end early after this many steps in all, the checkpoint written.
    """
    towers = Towers(schedule).train()
    run = Run(schedule, towers, adamw(towers, schedule, towers.clip.visual, schedule.tower_pace))
    run.resume(checkpoint, "cpu")
    end = min(schedule.all_steps, stop_after or schedule.all_steps)
    bar = tqdm(range(run.step, end), total=end, initial=run.step, desc=schedule.name, mininterval=5)
    for step in bar:
        seeing = step < schedule.seeing_steps
        for group in run.optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at(step) * (1.0 if seeing else group["pace"])
        if seeing:
            loss, right = seeing_loss(towers.visual, towers.readout, schedule, step)
        else:
            shown = fresh_pictures(schedule, step, schedule.batch)
            rng = random.Random(f"step {schedule.seed} {step}")
            loss, right = loss_of(towers, schedule, shown, rng)
        loss.backward()
        nn.utils.clip_grad_norm_(towers.parameters(), schedule.clip)
        run.optimizer.step()
        run.optimizer.zero_grad()
        towers.clip.logit_scale.data.clamp_(max=schedule.hottest)
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss:.3f}", right=f"{right:.3f}")
        run.step = step + 1
        if run.step % save_every == 0 or run.step == end:
            run.save(checkpoint)
    return towers


def save_clip(towers: Towers, folder: Path) -> None:
    """Weights in float16 safetensors, open_clip's config and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: t.half().contiguous() for name, t in towers.clip.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    preprocess = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": towers.shape, "preprocess_cfg": preprocess}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    towers.tokenizer.save_pretrained(folder)
