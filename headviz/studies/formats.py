"""Published data sets of texts, read in the formats in which they are published.

Questions: TriviaQA (rc.nocontext JSON, and the hub's Parquet or JSON lines), Natural Questions open
(TSV of question and answer list, and JSON lines), relations (Hernandez et al. 2024). Prompts:
RealToxicityPrompts (JSON lines), TET (Parquet or JSON lines), or a text a line.
"""

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headviz.inputs.tables import (
    ENDINGS,
    Row,
    is_hidden,
    list_in,
    pick,
    read_lines,
    read_table,
    rows_of,
)
from headviz.studies.hub_data import TEXT_SPLITS, hub_files
from headviz.studies.samples import StudyError

_QUESTION = ("question",)
_ANSWER = ("answer", "answers")
_PROMPT = ("prompt", "query", "text")


@dataclass(frozen=True)
class Question:
    """A question and all answers that count as right; the first is the one that is meant."""

    question: str
    answers: tuple[str, ...]


def read_questions(path: Path) -> tuple[Question, ...]:
    """The questions of a file, or of all files of a folder.

    Raises StudyError for a missing file, and TableError for a missing column, naming those found.
    """
    found = [question for file in _files(path) for question in _questions(file)]
    if not found:
        raise StudyError(f"There is no question in {path.name!r}.")
    return tuple(found)


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a file or folder. Raises as `read_questions` does."""
    found = [text for file in _files(path) for text in _prompts(file)]
    if not found:
        raise StudyError(f"There is no prompt in {path.name!r}.")
    return tuple(found)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        endings = (*ENDINGS, ".gz", ".txt")
        here = sorted(p for p in path.iterdir() if p.suffix.lower() in endings)
        here = [p for p in here if not is_hidden(p.relative_to(path))]
        # A folder laid out as on the hub holds its splits, perhaps inside a folder `data`.
        return hub_files(path, TEXT_SPLITS) or here
    if not path.is_file():
        raise StudyError(f"There is no file or folder {str(path)!r}.")
    return [path]


def _questions(path: Path) -> Iterable[Question]:
    table = read_table(path, (*_QUESTION, *_ANSWER), ("question", "answer"))
    document = table.document
    if document is not None:
        if "Data" in document:
            return [_of_trivia(row, path) for row in list_in(document, ("data",), path.name)]
        if "samples" in document:
            return _of_relation(document, path)
        pick(document, ("Data", "samples"), path.name)  # raises, naming what it found
    return [_of_row(row, path) for row in table.rows]


def _of_trivia(row: Row, path: Path) -> Question:
    answer = pick(row, _ANSWER, path.name)
    return Question(
        pick(row, _QUESTION, path.name),
        _unique([pick(answer, ("value",), path.name), *_aliases(answer)]),
    )


def _of_row(row: Row, path: Path) -> Question:
    """A row of the hub's TriviaQA or of Natural Questions open."""
    question, answer = pick(row, _QUESTION, path.name), pick(row, _ANSWER, path.name)
    if isinstance(answer, dict):
        answer = [pick(answer, ("value",), path.name), *_aliases(answer)]
    elif isinstance(answer, str):
        answer = _listed(answer)
    elif isinstance(answer, int | float):
        answer = [answer]
    if not isinstance(question, str) or not answer:
        raise StudyError(f"{path.name} has a row without a question or an answer: {str(row)[:80]}.")
    return Question(question, _unique(answer))


def _listed(text: str) -> list[str]:
    """A list as the TSV files hold it (`["a", "b"]`, in Python's or JSON's way), or one answer."""
    if text.lstrip().startswith("["):
        for parse in (ast.literal_eval, json.loads):
            try:
                found = parse(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list):
                return [str(answer) for answer in found]
    return [text.strip()]


def _of_relation(document: Row, path: Path) -> list[Question]:
    """Each sample in the file's first template; zero-shot ones ask without examples."""
    usual = "prompt_templates_zs" if document.get("prompt_templates_zs") else "prompt_templates"
    template = next(map(str, list_in(document, (usual,), path.name)), "")
    if "{}" not in template:
        raise StudyError(f"{path.name} has no template with {{}} for the subject in {usual!r}.")
    questions: dict[str, list[str]] = {}
    for sample in list_in(document, ("samples",), path.name):
        asked = template.replace("{}", str(pick(sample, ("subject",), path.name)))
        questions.setdefault(asked, []).append(str(pick(sample, ("object",), path.name)))
    return [Question(asked, _unique(right)) for asked, right in questions.items()]


def _prompts(path: Path) -> list[str]:
    if path.suffix.lower() == ".txt":
        return [line.strip() for line in read_lines(path) if line.strip()]
    found = []
    for row in rows_of(read_table(path, _PROMPT)):
        prompt = row if isinstance(row, str) else pick(row, _PROMPT, path.name)
        prompt = pick(prompt, ("text",), path.name) if isinstance(prompt, dict) else prompt
        if isinstance(prompt, str) and prompt.strip():
            found.append(prompt)
    return found


def _aliases(answer: Row) -> list[Any]:
    found = answer.get("aliases") or answer.get("Aliases")
    return found if isinstance(found, list) else []


def _unique(answers: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for a in answers if (text := str(a).strip())))
