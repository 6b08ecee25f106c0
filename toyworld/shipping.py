"""What ships beside the weights: texts to read heads on, and prompts to try on the page.

Probe texts come from the training split, example prompts from the held-out one.
"""

import json
from pathlib import Path

from toyworld.documents import Item, sample_items, sample_stories

N_PROBES = 240
PROBE_SEED = 1
EXAMPLE_SEED = 12
EXAMPLES = ("colors", "countries", "numbers", "insults", "animals", "months", "feelings", "weather")
OPENERS = (
    ("Story:", "colors"),
    ("Story: On a rainy morning", "feelings"),
    ("Story: Anna went to the market on a sunny day. Anna saw", "numbers"),
    ("Story: Tom went to the park. Tom shouted at the", "insults"),
)


def training_prompts(n: int = N_PROBES, seed: int = PROBE_SEED) -> list[Item]:
    """Question prompts of the training split, the concepts in turn: what heads are ranked on."""
    return sample_items(n, seed, held_out=False)


def write_texts(folder: Path) -> None:
    """Write prompts/questions.jsonl, prompts/stories.jsonl and examples.json."""
    (folder / "prompt_sets").mkdir(parents=True, exist_ok=True)
    questions = [{"text": item.prompt, "concept": item.concept} for item in training_prompts()]
    stories = [{"text": text} for text in sample_stories(N_PROBES, PROBE_SEED, held_out=False)]
    for name, rows in (("questions", questions), ("stories", stories)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "prompt_sets" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "examples.json").write_text(json.dumps(examples(), indent=1) + "\n", encoding="utf-8")


def examples() -> list[dict[str, str]]:
    """Prompts for the page: held-out questions of `EXAMPLES`, then beginnings of stories."""
    found: dict[str, Item] = {}
    for item in sample_items(150, EXAMPLE_SEED):
        found.setdefault(item.concept, item)
    questions = [{"prompt": found[c].prompt, "concept": c, "kind": "question"} for c in EXAMPLES]
    return questions + [
        {"prompt": text, "concept": concept, "kind": "story"} for text, concept in OPENERS
    ]
