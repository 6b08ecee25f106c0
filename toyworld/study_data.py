"""What the studies read: questions, stories and pictures of the worlds, as files beside a model.

assets/MODEL/studies/SET/PART.jsonl.gz holds a row a story or question; SET/PART.zip holds pictures,
and in samples.jsonl a row for each; classes.json has the names of the classes. Selection and
attribution come from the side of the split that training saw, evaluation and other questions from
the held-out one. Nothing here depends on a model's weights: the files are made once, and the same
bytes come out again.
"""

import gzip
import io
import itertools
import json
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from toyworld.documents import pick_fact, sample_items, tell_story, told_stories
from toyworld.pictures.captions import caption
from toyworld.pictures.content import Group, Picture, pictures
from toyworld.pictures.drawing import SIDE, draw
from toyworld.pictures.questions import NAMED, questions
from toyworld.smol import texts as english

Row = dict[str, Any]
Shown = tuple[Picture, Row]
"""A picture, and what its row says beside the file's name."""

FACTS_SHARE = 0.25  # of the questions are plain facts
N_REFERENCES = 5
ALONE = {"digits": "digits", "textures": "textures", "shapes": "scene"}
"""Class -> the sort of pictures that show one."""
N_STORIES = {"selection": 7200, "evaluation": 6000, "attribution": 3000}
"""Thirty for each sample that a study takes: few stories have the words of some concepts."""
N_SELECTION_QUESTIONS = 1000


def asked_stories(seed: int, held_out: bool) -> Iterator[Row]:
    """Endless beginnings of a prompt, each with what may be asked then in the order to try it."""
    rng = random.Random(f"studies {held_out} {seed}")
    while True:
        if rng.random() < FACTS_SHARE:
            lead, found = "", [pick_fact(rng, held_out)]
        else:
            story = tell_story(rng, held_out)
            lead, found = f"Story: {story.text} ", rng.sample(story.questions, len(story.questions))
        yield {
            "lead": lead,
            "questions": [
                {"question": q.text, "answer": q.answer, "concept": q.concept} for q in found
            ],
        }


def plain_questions(n: int) -> Iterator[Row]:
    """Questions of the training split, the concepts in turn."""
    for item in sample_items(n, 0, held_out=False):
        yield {"prompt": item.prompt, "answer": item.answer, "concept": item.concept}


def whole_stories(seed: int, held_out: bool) -> Iterator[Row]:
    """Endless stories without questions."""
    return ({"text": text} for text in told_stories(seed, held_out))


@dataclass(frozen=True)
class Speech:
    """How pictures are spoken of to a model, and how many ship with it."""

    caption: Callable[[Picture, random.Random], str]
    questions: Callable[[Picture, random.Random], Sequence[Any]]
    """Each with text, answer and concept."""
    nouns: Callable[[Group], list[str]] = lambda group: [group.noun]
    """What a group may be called."""
    class_question: Mapping[str, str] = field(default_factory=dict)
    """Classes -> the question about them, where the model knows no list of classes."""
    n_pictures: int = 400
    n_other: int = 200


ALL_WORDS = Speech(caption, questions)
"""The drawn world's own words."""
ENGLISH = Speech(
    english.caption,
    english.questions,
    lambda group: list(dict.fromkeys([group.noun, english.plural(group)])),
    {
        "digits": "Which digit is it?",
        "textures": "Which pattern is it?",
        "shapes": "Which shape is shown?",
        "backgrounds": "What is the background?",
    },
    n_pictures=240,
    n_other=100,
)


def captioned(held_out: bool, speech: Speech = ALL_WORDS) -> Iterator[Shown]:
    """Endless pictures, each with captions that leave different things out."""
    for shown in pictures(2, held_out):
        rng = random.Random(shown.seed)
        yield shown, {"answers": [speech.caption(shown, rng) for _ in range(N_REFERENCES)]}


def classed(concept: str, held_out: bool, speech: Speech = ALL_WORDS) -> Iterator[Shown]:
    """Endless pictures with one answer to the class question."""
    own = speech.class_question.get(concept)
    asked = {"question": own} if own else {}
    for shown in pictures(3, held_out, ALONE.get(concept)):
        answers = [shown.background] if shown.background else []
        if concept != "backgrounds":
            if len(shown.groups) != 1 or shown.groups[0].noun not in NAMED[concept]:
                continue
            answers = speech.nouns(shown.groups[0])
        if answers:
            yield shown, asked | {"answers": answers}


def asked_otherwise(concept: str, speech: Speech = ALL_WORDS) -> Iterator[Shown]:
    """Endless held-out pictures of any sort with a question that is not about the classes."""
    rng = random.Random("other 0")
    for shown in pictures(4, True):
        fitting = [q for q in speech.questions(shown, rng) if q.concept != concept]
        if fitting:
            question = rng.choice(fitting)
            yield shown, {"prompt": question.text, "answers": [question.answer]}


def write_stories_data(folder: Path) -> None:
    """What the studies of questions and of rude words read."""
    seeds = {"selection": 0, "evaluation": 0, "attribution": 1}
    for part, n in N_STORIES.items():
        held_out = part == "evaluation"
        stories = itertools.islice(whole_stories(seeds[part], held_out), n)
        _write_rows(folder / "stories" / f"{part}.jsonl.gz", stories)
        if part != "selection":
            asked = itertools.islice(asked_stories(seeds[part], held_out), n)
            _write_rows(folder / "questions" / f"{part}.jsonl.gz", asked)
    plain = plain_questions(N_SELECTION_QUESTIONS)
    _write_rows(folder / "questions" / "selection.jsonl.gz", plain)


def write_pictures_data(folder: Path, speech: Speech = ALL_WORDS) -> None:
    """What the studies of captions and of classes read."""
    for part, held_out in (("selection", False), ("evaluation", True)):
        shown = captioned(held_out, speech)
        _write_pictures(folder / "captions" / f"{part}.zip", shown, speech.n_pictures)
        for concept in NAMED:
            shown = classed(concept, held_out, speech)
            _write_pictures(folder / concept / f"{part}.zip", shown, speech.n_pictures)
    for concept in NAMED:
        shown = asked_otherwise(concept, speech)
        _write_pictures(folder / concept / "other.zip", shown, speech.n_other)
    (folder / "classes.json").write_text(json.dumps(NAMED, indent=1) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Path], None]] = {
    "tiny-lm": write_stories_data,
    "tiny-vlm": write_pictures_data,
    "smol-vlm": partial(write_pictures_data, speech=ENGLISH),
}
"""Built-in model -> what writes its folder `studies`."""


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(_lines(rows), 9, mtime=0))


def _write_pictures(path: Path, endless: Iterator[Shown], n: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for number, (picture, row) in enumerate(itertools.islice(endless, n)):
            name = f"{number:03}.webp"
            content = io.BytesIO()
            draw(picture, SIDE).save(content, "WEBP", lossless=True, quality=100, method=6)
            _add(archive, name, content.getvalue(), zipfile.ZIP_STORED)
            rows.append({"file": name, **row})
        _add(archive, "samples.jsonl", _lines(rows), zipfile.ZIP_DEFLATED)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, how: int) -> None:
    # Without a date, so that the same bytes come out again.
    archive.writestr(zipfile.ZipInfo(name), content, how)


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
