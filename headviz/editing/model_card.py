"""The model card of a baked checkpoint: what was scaled, what from, and how to load it."""

from pathlib import Path

from headviz.editing.recipe import Recipe
from headviz.models.loaded import LoadedModel

_SHOWN = 20  # words
_CARD = """\
---
library_name: transformers
pipeline_tag: {task}
tags:
- headviz
- attention-heads
{base}---

# {name}, with {count} scaled

The weights of **{name}** (revision `{revision}`) with one change: the columns of the attention
output projection that belong to these heads are multiplied by a factor. −1 inhibits a head, 0
removes it, above 1 enhances it. Nothing was trained, and no code of headviz is needed to run it.

{rows}

{about}Heads are written layer and head, both counted from 0. Whether the model says less or more of
something is to be seen beside the unedited model, and beside random heads scaled alike. Scaling
heads can cost the model in other ways too: measure what matters to you.

The weights are stored as {dtype}. The edit as a file is `headviz-recipe.json`.

```python
from transformers import {maker}, {reader}

model = {maker}.from_pretrained("this folder")
{variable} = {reader}.from_pretrained("this folder")
```
"""


def checkpoint_card(model: LoadedModel, recipe: Recipe, dtype: str) -> str:
    """The card as Markdown with the front matter that the hub reads."""
    local = Path(model.name).expanduser().is_dir()
    name = Path(model.name).expanduser().resolve().name if local else model.name
    hub = not local and "/" in model.name
    n_heads = len(recipe.edit.factors)
    return _CARD.format(
        task="image-text-to-text" if model.has_vision else "text-generation",
        base=f"base_model: {model.name}\n" if hub else "",
        name=name,
        count="one attention head" if n_heads == 1 else f"{n_heads} attention heads",
        revision=model.revision,
        rows="\n".join(_rows(recipe)),
        about=_about(recipe),
        dtype=dtype,
        maker="AutoModelForImageTextToText" if model.has_vision else "AutoModelForCausalLM",
        reader="AutoProcessor" if model.has_vision else "AutoTokenizer",
        variable="processor" if model.has_vision else "tokenizer",
    )


def _rows(recipe: Recipe) -> list[str]:
    """The edit as a table, with scores where there are any."""
    if not recipe.scores:
        rows = [f"| {head} | {factor:g} |" for head, factor in recipe.edit.factors.items()]
        return ["| head | factor |", "|---|---|", *rows]
    rows = ["| head | factor | score | chance |", "|---|---|---|---|"]
    for head, factor in recipe.edit.factors.items():
        scored = recipe.scores.get(head)
        told = f"{scored.score:.3f} | {scored.chance:.3f}" if scored else "– | –"
        rows.append(f"| {head} | {factor:g} | {told} |")
    return rows


def _about(recipe: Recipe) -> str:
    """What the heads were chosen for, '' where that is not known."""
    if recipe.concept is None:
        return ""
    words = recipe.concept.words
    shown = ", ".join(f"`{_plain(word)}`" for word in words[:_SHOWN])
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    told = f"They were chosen for the concept *{_plain(recipe.concept.name)}*: {shown}{more}."
    if recipe.criterion and recipe.scores:
        told += (
            f" The score (`{_plain(recipe.criterion)}`) says how far a head's writes vary along "
            "these words, chance what random words score."
        )
    return told + "\n\n"


def _plain(text: str) -> str:
    """A word without what Markdown would read."""
    return "".join(c for c in text if c.isprintable() and c not in "`*_<>|[]")
