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

from headviz.studies.hub_data import TEXT_SPLITS, hub_files
from headviz.studies.read_rows import Row, pick, read_rows
from headviz.studies.samples import StudyError


@dataclass(frozen=True)
class Question:
    """A question and all answers that count as right; the first is the one that is meant."""

    question: str
    answers: tuple[str, ...]


def read_questions(path: Path) -> tuple[Question, ...]:
    """The questions of a file, or of all files of a folder.

    Raises StudyError for a missing file or column, naming the columns that were found.
    """
    found = [question for file in _files(path) for question in _questions(file)]
    if not found:
        raise StudyError(f"There is no question in {path.name!r}.")
    return tuple(found)


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a file or folder. Raises StudyError as `read_questions`."""
    found = [text for file in _files(path) for text in _prompts(file)]
    if not found:
        raise StudyError(f"There is no prompt in {path.name!r}.")
    return tuple(found)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        endings = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz", ".txt")
        here = sorted(p for p in path.iterdir() if p.suffix.lower() in endings)
        # A folder laid out as on the hub holds its splits, perhaps inside a folder `data`.
        return hub_files(path, TEXT_SPLITS) or here
    if not path.is_file():
        raise StudyError(f"There is no file or folder {str(path)!r}.")
    return [path]


def _questions(path: Path) -> Iterable[Question]:
    rows, document = read_rows(path, columns=("question", "answer"))
    if isinstance(document, dict):
        if "Data" in document:
            return [_of_trivia(row, path) for row in document["Data"]]
        if "samples" in document:
            return _of_relation(document, path)
        pick(document, ("Data", "samples"), path)  # raises, naming what it found
    return [_of_row(row, path) for row in rows]


def _of_trivia(row: Row, path: Path) -> Question:
    answer = pick(row, ("Answer",), path)
    return Question(
        pick(row, ("Question",), path),
        _unique([pick(answer, ("Value",), path), *answer.get("Aliases", [])]),
    )


def _of_row(row: Row, path: Path) -> Question:
    """A row of the hub's TriviaQA or of Natural Questions open."""
    question = pick(row, ("question", "Question"), path)
    answer = pick(row, ("answer", "answers", "Answer"), path)
    if isinstance(answer, dict):
        answer = [pick(answer, ("value", "Value"), path), *(answer.get("aliases") or [])]
    elif isinstance(answer, str):
        answer = _listed(answer)
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
    templates = document.get("prompt_templates_zs") or pick(document, ("prompt_templates",), path)
    questions: dict[str, list[str]] = {}
    for sample in document["samples"]:
        asked = templates[0].replace("{}", str(pick(sample, ("subject",), path)))
        questions.setdefault(asked, []).append(str(pick(sample, ("object",), path)))
    return [Question(asked, _unique(right)) for asked, right in questions.items()]


def _prompts(path: Path) -> list[str]:
    if path.suffix.lower() == ".txt":
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n") if line]
    rows, document = read_rows(path)
    if document is not None:
        raise StudyError(f"{path.name} is one JSON object; prompts come as a list or as lines.")
    found = []
    for row in rows:
        prompt = pick(row, ("prompt", "query", "text"), path)
        prompt = pick(prompt, ("text",), path) if isinstance(prompt, dict) else prompt
        if isinstance(prompt, str) and prompt.strip():
            found.append(prompt)
    return found


def _unique(answers: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for a in answers if (text := str(a).strip())))
