"""What the panel `edit` does before it generates: prompts, chosen heads. Lays nothing out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from headviz.base import assets
from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.page.shared import Number
from headviz.page.view import ModelShown, View

START = -1.0
"""The factor that chosen heads begin with."""
MAX_SLIDERS = 32
LOWEST, HIGHEST = -3.0, 8.0
"""Factors that a slider can be set to."""


def one_percent(view: View) -> int:
    """How many heads are one per cent of all, at least one."""
    return max(1, view.total_heads // 100)


def share_text(view: View | None, n_chosen: int) -> str:
    """How many heads that is, and which part of all."""
    if view is None:
        return ""
    return f"**{n_chosen}** of {view.total_heads} heads ({n_chosen / view.total_heads:.1%})"


def example_prompts(model: str) -> dict[str, str]:
    """Prompt -> concept of the prompts that ship with a built-in model; none for others."""
    path = assets.ASSETS / model / "examples.json"
    if not path.is_file():
        return {}
    items = json.loads(path.read_text(encoding="utf-8"))
    return {item["prompt"]: item["concept"] for item in items}


def offered_prompts(model: ModelShown) -> list[str]:
    """What may be asked: the prompts that ship with a model, and the paper's where it sees."""
    return [*example_prompts(model.name), *model.prompts]


def is_example(prompt: str) -> bool:
    """Whether the prompt ships with some built-in model, so that nobody wrote it here."""
    return any(prompt in example_prompts(name) for name in built_in_models())


def first_prompt(view: View | None) -> str:
    """The first example about the view's concept, '' where there is none."""
    prompts = example_prompts(view.model) if view else {}
    return next((p for p, concept in prompts.items() if view and concept == view.concept.name), "")


def usual_prompt(model: ModelShown) -> str:
    """What an empty prompt stands for beside a picture; nothing for a language model."""
    if not model.has_vision:
        return ""
    if not model.writes:
        return "classes to choose from, separated by commas; if empty: the concept's words"
    return f"if empty: {model.prompts[0]}" if model.prompts else "if empty: the model's usual one"


def choose_heads(view: View | None, k: int, pinned: tuple[Head, ...]) -> tuple[Head, ...]:
    """The first k heads of the ranking, then those that were added by hand."""
    top = view.top[:k] if view else ()
    return (*top, *(h for h in pinned if h not in top))[:MAX_SLIDERS]


def slider_updates(heads: tuple[Head, ...], factors: Sequence[Number]) -> list[Any]:
    """One slider for each chosen head, the rest hidden."""
    # An update each: gradio empties the one that it has applied.
    pairs = zip(heads, factors, strict=True)
    visible = [
        gr.update(visible=True, label=str(h), value=factor, step=_step(factor))
        for h, factor in pairs
    ]
    return visible + [gr.update(visible=False) for _ in range(MAX_SLIDERS - len(heads))]


def _step(factor: Number) -> float:
    """A slider's step: a tenth, unless its factor lies between two."""
    return 0.1 if round(factor, 1) == factor else 0.0001


def choose(view: View | None, k: Number, pinned: tuple[Head, ...], factor: Number) -> list[Any]:
    """The chosen heads, how many that is, and their sliders."""
    heads = choose_heads(view, int(k), pinned)
    return [heads, share_text(view, len(heads)), *slider_updates(heads, [factor] * len(heads))]


def new_view(view: View | None, model: ModelShown, prompt: str) -> list[Any]:
    """What the panel shows for a new ranking or model: one per cent of the heads, set to START.

    The prompt follows the concept as long as the person has not written one.
    """
    k = one_percent(view) if view else 0
    prompts = offered_prompts(model)
    first = first_prompt(view)
    if not first and not prompt.strip():  # words of one's own have no example; any is a start
        first = next(iter(example_prompts(model.name)), "")
    # Beside a picture, no prompt at all is the model's usual one.
    usual = usual_prompt(model)
    keep = (prompt.strip() and not is_example(prompt)) or not (first or model.has_vision)
    return [
        gr.update(placeholder=usual) if keep else gr.update(placeholder=usual, value=first),
        (),
        gr.update(value=k),
        gr.update(value=START),
        gr.update(choices=prompts, visible=bool(prompts)),
        *choose(view, k, (), START),
    ]


def new_edit(
    view: View | None, model: ModelShown, prompt: str, factors: Mapping[Head, float]
) -> list[Any]:
    """As `new_view`, with the heads and factors of a recipe in place of the ranking's first."""
    heads = tuple(factors)
    settings = new_view(view, model, prompt)[: -2 - MAX_SLIDERS]
    settings[1:3] = [heads, gr.update(value=0)]
    sliders = slider_updates(heads, list(factors.values()))
    return [*settings, heads, share_text(view, len(heads)), *sliders]


def pin_head(head: Head | None, pinned: tuple[Head, ...]) -> tuple[Head, ...]:
    """The heads added by hand, with this one."""
    return pinned if head is None or head in pinned else (*pinned, head)
