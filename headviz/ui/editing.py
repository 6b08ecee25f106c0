"""What the panel `edit` does: which heads are chosen, and the three streams. Lays nothing out."""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from headviz.edits import Edit
from headviz.generation import Sampling
from headviz.heads import Head
from headviz.models import ASSETS
from headviz.session import Session
from headviz.ui import html
from headviz.ui.shared import Number
from headviz.ui.view import View

START = -1.0
"""The factor that chosen heads begin with."""
MAX_SLIDERS = 32


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
    path = ASSETS / model / "examples.json"
    if not path.is_file():
        return {}
    items = json.loads(path.read_text(encoding="utf-8"))
    return {item["prompt"]: item["concept"] for item in items}


def first_prompt(view: View | None) -> str:
    """The first example about the view's concept, '' where there is none."""
    prompts = example_prompts(view.model) if view else {}
    return next((p for p, concept in prompts.items() if view and concept == view.concept.name), "")


def choose_heads(view: View | None, k: int, pinned: tuple[Head, ...]) -> tuple[Head, ...]:
    """The first k heads of the ranking, then those that were added by hand."""
    top = view.top[:k] if view else ()
    return (*top, *(h for h in pinned if h not in top))[:MAX_SLIDERS]


def slider_updates(heads: tuple[Head, ...], factor: Number) -> list[Any]:
    """One slider for each chosen head, the rest hidden."""
    # An update each: gradio empties the one that it has applied.
    visible = [gr.update(visible=True, label=str(h), value=factor) for h in heads]
    return visible + [gr.update(visible=False) for _ in range(MAX_SLIDERS - len(heads))]


def choose(view: View | None, k: Number, pinned: tuple[Head, ...], factor: Number) -> list[Any]:
    """The chosen heads, how many that is, and their sliders."""
    heads = choose_heads(view, int(k), pinned)
    return [heads, share_text(view, len(heads)), *slider_updates(heads, factor)]


def new_view(view: View | None, prompt: str) -> list[Any]:
    """What the panel shows for a new ranking: one per cent of the heads, turned to START.

    The prompt follows the concept as long as the person has not written one.
    """
    k = one_percent(view) if view else 0
    prompts = list(example_prompts(view.model)) if view else []
    own = prompt.strip() and prompt not in prompts
    return [
        gr.skip() if own else first_prompt(view) or gr.skip(),
        (),
        gr.update(value=k),
        gr.update(value=START),
        gr.update(choices=prompts, visible=bool(prompts)),
        *choose(view, k, (), START),
    ]


def pin_head(head: Head | None, pinned: tuple[Head, ...]) -> tuple[Head, ...]:
    """The heads added by hand, with this one."""
    return pinned if head is None or head in pinned else (*pinned, head)


def stream(
    session: Session,
    view: View | None,
    chosen: tuple[Head, ...],
    prompt: str,
    sampling: Sampling,
    factors: tuple[Number, ...],
) -> Iterator[list[str]]:
    """The three columns' HTML, token by token."""
    model = view.model if view else session.model_names()[0]
    words = view.concept.words if view else ()
    edit = Edit(dict(zip(chosen, map(float, factors), strict=False)))
    compared = session.compare(model, prompt, edit, words, True, sampling, sampling.seed)
    for comparison in compared:
        yield html.columns(comparison, words)
