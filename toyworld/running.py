"""A training under way, whatever it trains: its checkpoint, its optimizer, the penalty on heads.

Knows nothing of data, losses and plans beyond carrying them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Run:
    """A training under way: all that a checkpoint holds."""

    schedule: Any
    model: Any
    optimizer: torch.optim.Optimizer
    step: int = 0  # the next one
    plans: list[Any] = field(default_factory=list)  # one for each stage that has begun
    kept: list[dict[str, Tensor]] = field(default_factory=list)  # weights to be averaged at the end

    @property
    def plan(self) -> Any:
        """That of the stage under way; None before the first one."""
        return self.plans[-1] if self.plans else None

    def resume(self, checkpoint: Path, device: str) -> None:
        """Go on from the checkpoint, where there is one of the same schedule."""
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=device, weights_only=False)
            if state["schedule"] == self.schedule:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.step, self.plans = state["step"], state["plans"]
                self.kept = state["kept"]

    def save(self, checkpoint: Path) -> None:
        """Everything, whole or not at all."""
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = checkpoint.with_suffix(".part")
        state = {
            "schedule": self.schedule,
            "step": self.step,
            "plans": self.plans,
            "kept": self.kept,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, part)
        part.replace(checkpoint)

    def keep(self) -> None:
        """The weights as they are now have a part in the finished model's."""
        self.kept.append({name: w.detach().clone() for name, w in self.model.state_dict().items()})

    def average(self) -> None:
        """Give the model the mean of the kept weights, if any; the last thing done."""
        if self.kept:
            mean = {name: sum(k[name] for k in self.kept) / len(self.kept) for name in self.kept[0]}
            self.model.load_state_dict(mean)

    def write_history(self, folder: Path) -> None:
        """training.json: how many steps, and what each stage planted."""
        history = {
            "seed": self.schedule.seed,
            "steps": self.step,
            "natural_steps": min(self.step, self.schedule.steps),
            "averaged": [step for step in self.schedule.averaged if step <= self.step],
            "stages": [asdict(plan) for plan in self.plans],
        }
        text = json.dumps(history, indent=1) + "\n"
        (folder / "training.json").write_text(text, encoding="utf-8")


def adamw(
    model: nn.Module, schedule: Any, slow: nn.Module | None = None, pace: float = 1.0
) -> torch.optim.Optimizer:
    """AdamW with the schedule's betas; weight decay on matrices alone.

    Parameters of the part `slow` are in groups of their own, whose learning rate is to be
    multiplied by their `pace`.
    """
    apart = {id(p) for p in slow.parameters()} if slow is not None else set()
    groups: list[dict[str, Any]] = []
    for here, speed in ((False, 1.0), (True, pace)):
        own = [p for p in model.parameters() if (id(p) in apart) == here]
        groups += [
            {"params": [p for p in own if p.ndim > 1], "pace": speed},
            {"params": [p for p in own if p.ndim < 2], "pace": speed, "weight_decay": 0.0},
        ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(
        groups, betas=schedule.betas, weight_decay=schedule.weight_decay, fused=True
    )


def mixed(device: str) -> torch.autocast:
    """The context in which a step computes in bfloat16, where the device is built for it.

    A CPU without AVX-512 takes bfloat16 products apart: a step then lasts twenty times as long.
    """
    return torch.autocast(device, dtype=torch.bfloat16, enabled=is_quick_in_bfloat16(device))


def is_quick_in_bfloat16(device: str) -> bool:
    """Whether the device is built for products in bfloat16."""
    return device != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()


def heads_size(signals: Sequence[Tensor], inside: Tensor, n_heads: int) -> Tensor:
    """The sum over heads of the root-mean-square of the head's signal: what the penalty is on.

    `signals`: each layer's (row token head·d_head). `inside` (row token 1): the tokens that count.
    """
    size = torch.zeros((), device=inside.device)
    for signal in signals:
        z = (signal.float() * inside).unflatten(-1, (n_heads, -1))
        size = size + (z.pow(2).sum((0, 1, 3)) / (inside.sum() * z.shape[-1]) + 1e-8).sqrt().sum()
    return size
