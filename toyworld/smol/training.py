"""Trains smol-vlm's tower and connector: seeded, resumable, on one core of a CPU.

The first part aligns image tokens with word embeddings (`aligning`). In the second captions and
answers are said by the language model, whose weights stay as they are, and the loss of the next
token reaches tower and connector through it; some further pictures a step are aligned as before.
There is no loss on heads. What a step sees depends on the seed and the step alone.
"""

import copy
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPVisionModel
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from headviz.base.assets import ASSETS
from headviz.base.errors import ModelError
from headviz.base.shapes import Float
from toyworld.clip_seeing import seen_pixels
from toyworld.pictures.content import Picture, training_pictures
from toyworld.running import Run, adamw
from toyworld.smol.aligning import WordVectors, word_ids
from toyworld.smol.batches import Batch, Writer
from toyworld.smol.frozen import read_frozen
from toyworld.smol.processor import IMAGE_TOKEN, N_IMAGE, read_tokenizer
from toyworld.smol.schedule import SmolSchedule


class Front(nn.Module):
    """What is trained: a picture -> the vectors at its positions. LLaVA's tower and connector."""

    def __init__(self, schedule: SmolSchedule, text_config: Any, image_token: int) -> None:
        """The schedule's tower, and a connector with random weights.

        Raises ModelError where that tower is not there.
        """
        super().__init__()
        torch.manual_seed(schedule.seed)
        # A LLaVA's config takes the text's as its own, and sets how that computes attention anew.
        config = schedule.config(copy.deepcopy(text_config), image_token)
        self.vision_tower: Any = CLIPVisionModel(config.vision_config)
        self.multi_modal_projector = LlavaMultiModalProjector(config)
        _begin_as(self.vision_tower, ASSETS / schedule.tower / "model.safetensors")
        encoder = self.vision_tower.encoder
        self.slow = (self.vision_tower.embeddings, *encoder.layers[: schedule.seen_layers])

    def forward(
        self, pixels: Float[Tensor, "row 3 side side"]
    ) -> Float[Tensor, "row token d_model"]:
        """As LlavaModel.get_image_features with the last layer and the class token."""
        seen = self.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        projected: Tensor = self.multi_modal_projector(seen)
        return projected


def _begin_as(tower: Any, weights: Path) -> None:
    """Copy the image tower of a LLaVA's `weights`; further layers begin as the identity."""
    if not weights.is_file():
        name = weights.parent.name
        raise ModelError(
            f"There are no weights of {name}, whose image tower this training begins with. "
            f"Make them first: `python -m toyworld train {name}`."
        )
    theirs = {
        name.removeprefix("vision_tower."): weight.float()
        for name, weight in load_file(weights).items()
        if name.startswith("vision_tower.")
    }
    missing, unexpected = tower.load_state_dict(theirs, strict=False)
    assert not unexpected, unexpected
    further = {name.split(".")[2] for name in missing}
    for layer in map(int, further):
        for module in (
            tower.encoder.layers[layer].self_attn.out_proj,
            tower.encoder.layers[layer].mlp.fc2,
        ):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


class Training:
    """Everything that a step needs."""

    def __init__(self, schedule: SmolSchedule, language_model: Path) -> None:
        """`language_model`: the folder that headviz converted it into."""
        self.schedule = schedule
        self.tokenizer = read_tokenizer(language_model)
        self.language_model: Any = read_frozen(language_model)
        self.embed = self.language_model.get_input_embeddings()
        self.vectors = WordVectors(self.embed.weight.data.float(), self.tokenizer)
        self.writer = Writer(self.tokenizer, schedule.captions, schedule.questions)
        image_token = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.front = Front(schedule, self.language_model.config, image_token).train()

    def shown(self, step: int, n: int) -> tuple[list[Picture], Tensor, random.Random]:
        """Fresh pictures of a step with their pixels; more random numbers."""
        schedule = self.schedule
        spoken = step >= schedule.aligning_steps
        more = dict(schedule.more_spoken if spoken else schedule.more_aligned)
        rng = random.Random(f"smol {schedule.seed} {step}")
        pictures = training_pictures(schedule.seed * 1_000_000 + step + 1, n, more)
        return pictures, torch.stack([seen_pixels(p, rng)[0] for p in pictures]), rng

    def align(self, step: int) -> tuple[Tensor, Tensor]:
        """The loss of a step of the first part; the share of tokens nearest to a word of theirs."""
        pictures, pixels, _ = self.shown(step, self.schedule.aligning_batch)
        loss, right = self.vectors.loss(self.front(pixels), word_ids(pictures))
        return loss, right.mean()

    def speak(self, step: int) -> tuple[Tensor, Tensor]:
        """The loss of a step of the second part; the share of tokens that would be said right."""
        schedule = self.schedule
        pictures, pixels, rng = self.shown(step, schedule.batch + schedule.beside)
        # Those that are spoken of are taken from all over: scenes come last.
        order = rng.sample(range(len(pictures)), len(pictures))
        pictures, pixels = [pictures[n] for n in order], pixels[order]
        seen = self.front(pixels)
        batch = self.writer.batch(pictures[: schedule.batch], rng)
        logits = self.read(batch, seen[: schedule.batch])
        loss = nn.functional.cross_entropy(logits, batch.targets)
        right = (logits.argmax(-1) == batch.targets).float().mean()
        if schedule.beside_weight:
            aligned, _ = self.vectors.loss(seen, word_ids(pictures))
            loss = loss + schedule.beside_weight * aligned
        return loss, right

    def read(
        self, batch: Batch, seen: Float[Tensor, "row token d_model"]
    ) -> Float[Tensor, "said vocab"]:
        """The language model's logits where something is said."""
        embedded, start = self.embed(batch.ids), self.writer.first_image
        around = embedded[:, :start], embedded[:, start + N_IMAGE :]
        embedded = torch.cat([around[0], seen.to(embedded.dtype), around[1]], 1)
        hidden = self.language_model.model(
            inputs_embeds=embedded,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        logits: Tensor = self.language_model.lm_head(hidden[batch.places[:, 0], batch.places[:, 1]])
        return logits.float()


def train(
    schedule: SmolSchedule,
    language_model: Path,
    checkpoint: Path,
    save_every: int = 25,
    stop_after: int | None = None,
) -> Run:
    """The trained Front; goes on from a `checkpoint` of its own.

    `stop_after`: end early after this many steps in all, the checkpoint written.
    """
    training = Training(schedule, language_model)
    front = training.front
    slow = nn.ModuleList(front.slow)
    run = Run(schedule, front, adamw(front, schedule, slow, schedule.slow_pace))
    run.resume(checkpoint, "cpu")
    all_steps = schedule.aligning_steps + schedule.steps
    end = min(all_steps, stop_after or all_steps)
    bar = tqdm(range(run.step, end), total=end, initial=run.step, desc=schedule.name, mininterval=5)
    for step in bar:
        aligns = step < schedule.aligning_steps
        if aligns:
            rate = schedule.aligning_rate * schedule.pace(step, schedule.aligning_steps)
            loss, right = training.align(step)
        else:
            rate = schedule.learning_rate * schedule.pace(
                step - schedule.aligning_steps, schedule.steps
            )
            loss, right = training.speak(step)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group["pace"]
        loss.backward()
        nn.utils.clip_grad_norm_(front.parameters(), schedule.clip)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.step = step + 1
        if run.step in schedule.averaged:
            run.keep()
        bar.set_postfix(loss=f"{loss:.3f}", right=f"{right:.3f}")
        if run.step % save_every == 0 or run.step == end:
            run.save(checkpoint)
    if run.step == all_steps:
        run.average()
    return run
