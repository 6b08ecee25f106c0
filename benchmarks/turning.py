"""What turning a concept's first heads down does to a language model: measured for its card.

For each concept the usual edit of its ranking, beside a random control of the same layers: what
becomes of stories, and of questions that the model answers right. Texts and questions are the
first ones of the general sets, the same for every arm; nothing is tuned for a concept.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from headviz.base.shapes import Tensor
from headviz.base.write_whole import write_whole
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.forward import batch_of
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import Item, general_items
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import Ranking
from headviz.session.session import Session
from headviz.session.shipped import USUAL_FACTOR, usual_edit

CONCEPTS = (
    "colors",
    "countries",
    "months",
    "animals",
    "foods",
    "jobs",
    "feelings",
    "numbers",
    "weather",
    "languages",
)
N_OPENINGS, N_TASKS = 10, 14
"""Stories of a concept: all openings that are marked with it, and the first tasks."""
STORY = Sampling(max_new_tokens=48)
N_OWN, N_OTHERS = 24, 6
"""Questions of the concept, and of each other concept."""
ANSWER = Sampling(max_new_tokens=20)
ROWS = 48
"""Of one batch."""
FLUENT = 1.5
"""A text stays one up to this multiple of the original's perplexity."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Text:
    """What the model said to a prompt."""

    prompt: str
    text: str
    ids: tuple[int, ...]


def measure(
    session: Session, name: str, out: Path, say: Say, wanted: Sequence[str] = CONCEPTS
) -> dict[str, Any]:
    """All concepts, written to `out` after each; what stands there of the same model is kept."""
    model = session.model(name)
    prompt_set = session.prompt_set(name)
    head = {
        "model": name,
        "revision": model.revision,
        "number_format": model.number_format,
        "prompt_set": prompt_set.name,
        "prompt_set_digest": prompt_set.digest,
        "n_samples": len(prompt_set),
        "total_heads": model.total_heads,
        "options": session.default_options(name).as_dict(),
        "factor": USUAL_FACTOR,
        "n_stories": N_OPENINGS + N_TASKS,
        "story_tokens": STORY.max_new_tokens,
        "answer_tokens": ANSWER.max_new_tokens,
    }
    concepts = _kept(out, head)
    originals = _Originals(model)
    for concept in wanted:
        if concept not in concepts:
            say(f"turning heads for {concept}")
            ranking = session.rank(name, find_concept(concept), prompt_set)
            concepts[concept] = _concept(model, originals, ranking)
            text = json.dumps({**head, "concepts": concepts}, indent=1)
            write_whole(out, (text + "\n").encode())
    return {**head, "concepts": concepts}


def _kept(out: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    if not out.is_file():
        return {}
    found = json.loads(out.read_text(encoding="utf-8"))
    return found.pop("concepts") if found.items() >= head.items() else {}


class _Originals:
    """What the unedited model says: shared by all concepts."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._said: dict[tuple[str, int], Text] = {}
        self._right: dict[str, bool] = {}
        self._perplexity: dict[str, float] = {}

    def texts(self, prompts: Sequence[str], sampling: Sampling) -> list[Text]:
        length = sampling.max_new_tokens
        new = [p for p in prompts if (p, length) not in self._said]
        for text in _say_all(self._model, new, [NO_EDIT] * len(new), sampling):
            self._said[text.prompt, length] = text
        return [self._said[p, length] for p in prompts]

    def perplexities(self, prompts: Sequence[str]) -> list[float]:
        new = [p for p in prompts if p not in self._perplexity]
        values = perplexities(self._model, self.texts(new, STORY))
        self._perplexity.update(zip(new, values, strict=True))
        return [self._perplexity[p] for p in prompts]

    def answered(self, items: Sequence[Item]) -> list[Item]:
        """The questions whose right answer the model says."""
        texts = self.texts([item.prompt for item in items], ANSWER)
        return [item for item, t in zip(items, texts, strict=True) if _is_right(item, t)]


def _concept(model: LoadedModel, originals: _Originals, ranking: Ranking) -> dict[str, Any]:
    edit = usual_edit(ranking)
    control = control_of(model, edit)
    first = [h for h in ranking.heads if h.head in edit.factors]
    return {
        "heads": [
            {"head": str(h.head), "score": round(h.score, 3), "chance": round(h.chance, 3)}
            for h in first
        ],
        "control": list(map(str, control.factors)),
        **_stories(model, originals, ranking, (edit, control)),
        "questions": _questions(model, originals, ranking, (edit, control)),
    }


def _stories(
    model: LoadedModel, originals: _Originals, ranking: Ranking, edits: tuple[Edit, Edit]
) -> dict[str, Any]:
    name, words = ranking.tokens.concept.name, ranking.words
    openings = [i.prompt for i in general_items("descriptions") if i.concept == name]
    tasks = [i.prompt for i in general_items("tasks")]
    prompts = openings[:N_OPENINGS] + tasks[:N_TASKS]
    arms = {"original": originals.texts(prompts, STORY)}
    rows = [edit for edit in edits for _ in prompts]
    both = list(_say_all(model, prompts * 2, rows, STORY))
    arms |= {"edited": both[: len(prompts)], "control": both[len(prompts) :]}
    usual = originals.perplexities(prompts)
    ratios = {}
    for arm in ("edited", "control"):
        values = zip(perplexities(model, arms[arm]), usual, strict=True)
        ratios[arm] = round(median(value / own for value, own in values), 3)
    said = {arm: [len(concept_spans(t.text, words)) for t in texts] for arm, texts in arms.items()}
    return {
        "words": {arm: sum(counts) for arm, counts in said.items()},
        "texts_with": {arm: sum(map(bool, counts)) for arm, counts in said.items()},
        "perplexity": {"original": round(median(usual), 3), **ratios},
    }


def _questions(
    model: LoadedModel, originals: _Originals, ranking: Ranking, edits: tuple[Edit, Edit]
) -> dict[str, Any]:
    name, asked = ranking.tokens.concept.name, general_items("questions")
    of = {c: [i for i in asked if i.concept == c] for c in CONCEPTS}
    others = [item for c in CONCEPTS if c != name for item in of[c][:N_OTHERS]]
    own, others = originals.answered(of[name][:N_OWN]), originals.answered(others)
    items = [*own, *others]
    prompts = [item.prompt for item in items] * 2
    texts = _say_all(model, prompts, [edit for edit in edits for _ in items], ANSWER)
    right = [_is_right(i, t) for i, t in zip(items * 2, texts, strict=True)]
    left = {"edited": right[: len(items)], "control": right[len(items) :]}
    n = len(own)
    return {
        "own": {"original": n, **{arm: sum(kept[:n]) for arm, kept in left.items()}},
        "others": {"original": len(others), **{arm: sum(kept[n:]) for arm, kept in left.items()}},
    }


def _is_right(item: Item, text: Text) -> bool:
    return bool(concept_spans(text.text, [item.answer]))


def _say_all(
    model: LoadedModel, prompts: Sequence[str], edits: Sequence[Edit], sampling: Sampling
) -> Iterator[Text]:
    for start in range(0, len(prompts), ROWS):
        part = prompts[start : start + ROWS]
        *_, last = generate(model, part, edits[start : start + ROWS], sampling)
        yield from map(Text, part, last.texts, last.ids)


@torch.inference_mode()
def perplexities(model: LoadedModel, texts: Sequence[Text]) -> list[float]:
    """Of each text for the unedited model; inf for an empty one."""
    values: list[float] = []
    for start in range(0, len(texts), ROWS // 2):
        part = texts[start : start + ROWS // 2]
        wholes = [encode_prompt(model, t.prompt).continued(t.ids) for t in part]
        batch = batch_of(model, wholes, left=True)
        longest = max(len(t.ids) for t in part)
        logits: Tensor = model.model(**batch.inputs(), logits_to_keep=longest + 1).logits
        for row, text in enumerate(part):
            n = len(text.ids)
            if not n:
                values.append(float("inf"))
                continue
            shares = logits[row, -n - 1 : -1].float().log_softmax(1)
            chosen = shares.gather(1, batch.ids[row, -n:, None])
            values.append(float(chosen.mean().neg().exp()))
    return values
