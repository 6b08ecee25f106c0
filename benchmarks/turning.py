"""What turning a concept's first heads down does to a language model: measured for its card.

For each concept the usual edit of its ranking, beside random controls of the same layers: what
becomes of stories, and of questions that the model answers right. Stories are openings gone on with
as plain text, and stories asked for in the same wordings for every concept; questions are the first
ones of the general sets. All are the same for every arm; nothing is tuned for a concept.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import torch

from headviz.base.errors import PromptError
from headviz.base.shapes import Tensor
from headviz.base.write_whole import write_whole
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.forward import batch_of
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import Item, general_items
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import Ranking
from headviz.session.causal import JUDGE, Causes
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
WORDINGS = (
    "Write a short story about {}.",
    "Tell a bedtime story about {}.",
    "Write a letter to a friend about {}.",
    "Write a short poem about {}.",
    "Write a diary entry about {}.",
    "Tell a funny story about {}.",
    "Write a fable about {}.",
    "Describe a dream about {}.",
    "Write a story for children about {}.",
    "Write a dialogue between two friends about {}.",
    "Tell a story about a girl who learns about {}.",
    "Tell a story about an old man who talks about {}.",
    "Write a paragraph of a novel about {}.",
    "Write a short speech about {}.",
)
"""How a story of a concept is asked for."""
N_OPENINGS = 10
"""Openings that are marked with the concept, gone on with beside them: all there are."""
STORY = Sampling(max_new_tokens=64)
ROUNDS, WARMTH = 6, 0.8
"""Times that each story is told once more, at this temperature, to count words: one telling holds
so few of them that chance decides. Each round has a random control of its own."""
N_OWN, N_OTHERS = 24, 6
"""Questions of the concept, and of each other concept."""
ANSWER = Sampling(max_new_tokens=20)
CONTROLS = 3
"""Random draws of as many heads in the same layers, each an arm of its own; the card tells their
mean. One draw of three heads varies more than what is to be seen."""
ROWS = 48
"""Of one batch."""
FLUENT = 1.5
"""A text stays one up to this multiple of the original's perplexity."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """A prompt, and how it is put to the model."""

    prompt: str
    sampling: Sampling
    chat: Chat = PLAIN


@dataclass(frozen=True)
class Text:
    """What the model said."""

    asked: Asked
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
        "n_stories": N_OPENINGS + len(WORDINGS),
        "n_controls": CONTROLS,
        "n_rounds": ROUNDS,
        "temperature": WARMTH,
        "story_tokens": STORY.max_new_tokens,
        "answer_tokens": ANSWER.max_new_tokens,
    }
    concepts = _kept(out, head)
    originals, causes = _Originals(model), Causes(session)
    for concept in wanted:
        ranking = session.rank(name, find_concept(concept), prompt_set)
        parts: dict[str, Callable[[], Any]] = {
            "perplexity": partial(_perplexity, model, originals, ranking),
            "words": partial(_words, model, ranking),
            "needed": partial(_needed, causes, name, ranking),
            "questions": partial(_questions, model, originals, ranking),
        }
        row = concepts.setdefault(concept, _turned(model, ranking))
        for part in [name for name in parts if name not in row]:
            say(f"turning heads for {concept}: {part}")
            row[part] = parts[part]()
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
        self._said: dict[Asked, Text] = {}

    def texts(self, asked: Sequence[Asked]) -> list[Text]:
        new = [one for one in asked if one not in self._said]
        for text in say_all(self._model, new, [NO_EDIT] * len(new)):
            self._said[text.asked] = text
        return [self._said[one] for one in asked]

    def answered(self, items: Sequence[Item]) -> list[Item]:
        """The questions whose right answer the model says."""
        texts = self.texts([Asked(item.prompt, ANSWER) for item in items])
        return [item for item, t in zip(items, texts, strict=True) if _is_right(item, t)]


def _arms(model: LoadedModel, ranking: Ranking) -> tuple[Edit, ...]:
    """The edit that the page begins with, and its controls."""
    edit = usual_edit(ranking)
    return edit, *(control_of(model, edit, seed) for seed in range(CONTROLS))


def _turned(model: LoadedModel, ranking: Ranking) -> dict[str, Any]:
    edit, *controls = _arms(model, ranking)
    first = [h for h in ranking.heads if h.head in edit.factors]
    return {
        "heads": [
            {"head": str(h.head), "score": round(h.score, 3), "chance": round(h.chance, 3)}
            for h in first
        ],
        "controls": [list(map(str, control.factors)) for control in controls],
    }


def stories_of(concept: str) -> list[Asked]:
    """What a story of the concept is asked for with."""
    openings = [i.prompt for i in general_items("descriptions") if i.concept == concept]
    told = [Asked(prompt, STORY, Chat(template=False)) for prompt in openings[:N_OPENINGS]]
    return told + [Asked(wording.format(concept), STORY) for wording in WORDINGS]


def _perplexity(model: LoadedModel, originals: _Originals, ranking: Ranking) -> dict[str, Any]:
    asked = stories_of(ranking.tokens.concept.name)
    told = [originals.texts(asked)]
    told += [list(say_all(model, asked, [e] * len(asked))) for e in _arms(model, ranking)]
    usual, *others = (perplexities(model, texts) for texts in told)
    ratios = [median(map(truediv, values, usual)) for values in others]
    return _by_arm([round(value, 3) for value in (median(usual), *ratios)])


def _words(model: LoadedModel, ranking: Ranking) -> dict[str, list[int]]:
    """Arm -> words of the concept that each story holds, in all rounds together.

    A story, its edited one and its control are sampled with the same noise.
    """
    edit = usual_edit(ranking)
    counts: dict[str, list[int]] = {}
    for seed in range(ROUNDS):
        told = Sampling(STORY.max_new_tokens, WARMTH, seed)
        asked = [replace(one, sampling=told) for one in stories_of(ranking.tokens.concept.name)]
        arms = {"original": NO_EDIT, "edited": edit, "control": control_of(model, edit, seed)}
        turned = [one for one in arms.values() for _ in asked]
        said = list(say_all(model, asked * len(arms), turned))
        for n, arm in enumerate(arms):
            part = said[n * len(asked) : (n + 1) * len(asked)]
            found = [len(concept_spans(text.text, ranking.words)) for text in part]
            before = counts.get(arm, [0] * len(asked))
            counts[arm] = [a + b for a, b in zip(before, found, strict=True)]
    return counts


def _needed(causes: Causes, name: str, ranking: Ranking) -> dict[str, Any] | None:
    """What the edit costs the concept's words and moves elsewhere, in nats, and its controls.

    None where the model says none of these words.
    """
    try:
        reader = causes.reader(name, ranking.tokens.concept, causes.prompt_set(name), JUDGE)
    except PromptError:
        return None
    found = [reader.measure(one).effect() for one in _arms(reader.model, ranking)]
    rounded = [{k: round(v, 3) for k, v in effect.as_dict().items()} for effect in found]
    return {"edited": rounded[0], "controls": rounded[1:]}


def _by_arm(values: Sequence[float]) -> dict[str, Any]:
    original, edited, *controls = values
    return {"original": original, "edited": edited, "controls": controls}


def _questions(model: LoadedModel, originals: _Originals, ranking: Ranking) -> dict[str, Any]:
    name, asked = ranking.tokens.concept.name, general_items("questions")
    of = {c: [i for i in asked if i.concept == c] for c in CONCEPTS}
    others = [item for c in CONCEPTS if c != name for item in of[c][:N_OTHERS]]
    own, others = originals.answered(of[name][:N_OWN]), originals.answered(others)
    items = [*own, *others]
    right = [[True] * len(items)]
    for edit in _arms(model, ranking):
        texts = say_all(model, [Asked(i.prompt, ANSWER) for i in items], [edit] * len(items))
        right.append([_is_right(i, t) for i, t in zip(items, texts, strict=True)])
    n = len(own)
    return {
        "own": _by_arm([sum(kept[:n]) for kept in right]),
        "others": _by_arm([sum(kept[n:]) for kept in right]),
    }


def _is_right(item: Item, text: Text) -> bool:
    return bool(concept_spans(text.text, [item.answer]))


def say_all(model: LoadedModel, asked: Sequence[Asked], edits: Sequence[Edit]) -> Iterator[Text]:
    """What the model says to each under its edit, those that are put to it alike in one batch."""
    said: dict[int, Text] = {}
    for way in dict.fromkeys((one.sampling, one.chat) for one in asked):
        rows = [n for n, one in enumerate(asked) if (one.sampling, one.chat) == way]
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            prompts, by_row = [asked[n].prompt for n in part], [edits[n] for n in part]
            *_, last = generate(model, prompts, by_row, way[0], chat=way[1])
            for n, text, ids in zip(part, last.texts, last.ids, strict=True):
                said[n] = Text(asked[n], text, ids)
    yield from (said[n] for n in range(len(asked)))


@torch.inference_mode()
def perplexities(model: LoadedModel, texts: Sequence[Text]) -> list[float]:
    """Of each text for the unedited model; inf for an empty one."""
    values: list[float] = []
    for start in range(0, len(texts), ROWS // 2):
        part = texts[start : start + ROWS // 2]
        wholes = [
            encode_prompt(model, t.asked.prompt, chat=t.asked.chat).continued(t.ids) for t in part
        ]
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
