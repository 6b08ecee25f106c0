"""Relations: does the model lose the answers of one relation, and keep those of the others?

Files of the form that Hernandez et al. publish ("Linearity of Relation Decoding"): pairs of subject
and object, and templates. A question stands after worked examples of its relation, so that a small
model answers more of them. As there, an answer is right where its first token is the likeliest. A
relation is used if ENOUGH of its questions are answered; half of those choose heads, half judge.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from headviz.base.progress import Progress, no_progress
from headviz.base.store import key_of
from headviz.editing.effect import Part, Reader
from headviz.editing.find import Search
from headviz.heads.chat import Chat
from headviz.heads.packed import Packed, packed
from headviz.heads.prompts import encode_prompt
from headviz.heads.replay import Replay
from headviz.inputs.concepts import in_sentence_ids, make_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.models.loaded import LoadedModel
from headviz.pursuit.options import Options
from headviz.session.session import Session
from headviz.studies.samples import StudyError
from headviz.studies.trial import Subject, Trial

EXAMPLES = 4
"""Worked examples before a question."""
ASKED = 64
"""Questions of a relation that the model is asked, at most."""
ENOUGH = 12
"""Questions that it has to answer for its relation to be used."""
BESIDE = 4
"""Other relations that are to stay, those that follow in the order of files."""
OTHERS = 8
"""Questions of each of them to judge, at most."""
KEPT = 24
"""Questions of each of them to search on, at most: of them the answers need not be right."""
WANTED = Search(side_effects=0.1, thrift=1.0, cheaper=0.8)
"""What is learnt. Nothing is gained by answers far below the others, and side effects cost some."""
PARTS = 2
"""Parts of a search's texts: the own questions in each, beside those of some other relations."""


_AS_IT_STANDS = Chat(template=False)  # a sentence to be gone on with, not a request


@dataclass(frozen=True)
class Relation:
    """A relation's pairs and how it asks for them."""

    name: str
    template: str
    """With {} for the subject; the object follows it."""
    pairs: tuple[tuple[str, str], ...]
    """Subject and object."""


@dataclass(frozen=True)
class Question:
    """A subject asked for, after worked examples."""

    beginning: str
    """The worked examples, a line each."""
    asked: str
    answer: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.beginning + self.asked

    def shuffled(self) -> "Question":
        """The same words in a drawn order; the examples of a relation in the same one."""
        return Question(f"{_shuffled(self.beginning)}\n", _shuffled(self.asked), self.answer)


@dataclass(frozen=True)
class Answered:
    """The questions of a relation that the unedited model answers, in two halves."""

    relation: Relation
    asked: int
    search: tuple[Question, ...]
    judge: tuple[Question, ...]
    beside: tuple[Question, ...]
    """What is to stay while another relation is searched on: none of those that judge."""

    @property
    def objects(self) -> tuple[str, ...]:
        """All answers of the relation: the words that heads are ranked for."""
        return tuple(dict.fromkeys(answer for _, answer in self.relation.pairs))


def read_relations(path: str) -> tuple[Relation, ...]:
    """The relations of a folder of JSON files, or of one file. Raises StudyError."""
    if not path:
        raise StudyError(
            "This study reads relations: pairs of subject and object. Name a folder of JSON files "
            "with --data."
        )
    here = Path(path)
    files = sorted(here.glob("*.json")) if here.is_dir() else [here]
    if not files:
        raise StudyError(f"The folder {here.name!r} holds no .json file of a relation.")
    return tuple(map(_relation, files))


def _relation(file: Path) -> Relation:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        pairs = {str(one["subject"]): str(one["object"]) for one in data["samples"]}
        template = next(t for t in data["prompt_templates"] if t.count("{}") == 1)
        found = Relation(str(data["name"]), template, tuple(pairs.items()))
    except OSError as error:
        raise StudyError(f"{file.name} cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise StudyError(
            f"{file.name} is no relation: it needs a name, prompt_templates with one {{}} each, "
            "and samples, each with a subject and an object."
        ) from error
    if len(found.pairs) <= EXAMPLES:
        raise StudyError(f"{file.name} has {len(found.pairs)} pairs; {EXAMPLES + 1} are needed.")
    return found


def questions_of(relation: Relation) -> list[Question]:
    """Its questions in a drawn order that content alone decides; the examples are not asked."""
    order = sorted(relation.pairs, key=lambda pair: _drawn(relation.name, pair[0]))
    seen: dict[str, tuple[str, str]] = {}
    for pair in order:  # examples of different answers, as far as there are
        seen.setdefault(pair[1], pair)
    examples = [*seen.values()][:EXAMPLES]
    examples += [pair for pair in order if pair not in examples][: EXAMPLES - len(examples)]
    ask = relation.template.format
    beginning = "".join(f"{ask(subject)} {answer}.\n" for subject, answer in examples)
    return [
        Question(beginning, ask(s), answer) for s, answer in order if (s, answer) not in examples
    ]


def answered(session: Session, model: LoadedModel, relation: Relation, limit: int) -> Answered:
    """Ask the model, and keep what it answers: `limit` questions to search on, as many to judge."""
    asked = questions_of(relation)[:ASKED]
    key = key_of(
        kind="said next",
        model=model.name,
        revision=model.revision,
        dtype=model.number_format,
        prompts=[question.text for question in asked],
    )
    if (kept_before := session.store.get(key)) is None:
        laid = _laid(model, [asked])
        with torch.inference_mode(), session.lock:
            said = model.model(**laid.batch.inputs(), use_cache=False).logits[laid.ends].argmax(1)
        session.store.put(key, {"said": said}, {})
    else:
        said = kept_before[0]["said"]
    right = [token == _answer(model, q) for token, q in zip(said.tolist(), asked, strict=True)]
    kept = [question for question, is_right in zip(asked, right, strict=True) if is_right]
    search, judge = kept[::2][:limit], kept[1::2]
    wrong = [question for question, is_right in zip(asked, right, strict=True) if not is_right]
    beside = [*search, *wrong][:KEPT]
    return Answered(relation, len(asked), tuple(search), tuple(judge[:limit]), tuple(beside))


def _laid(model: LoadedModel, groups: Sequence[Sequence[Question]]) -> Packed:
    encode = partial(encode_prompt, model, reserve=1, chat=_AS_IT_STANDS)
    return packed(model, [[encode(question.text) for question in group] for group in groups])


def _answer(model: LoadedModel, question: Question) -> int:
    """The token that the answer begins with."""
    return in_sentence_ids(question.answer, model.tokenizer)[0]


def read(model: LoadedModel, groups: Sequence[Sequence[Question]], own: Sequence[bool]) -> Part:
    """Questions relation by relation in one part; `own` says which of these are the subject's."""
    chosen = [
        (question, mine) for group, mine in zip(groups, own, strict=True) for question in group
    ]
    laid = _laid(model, groups)
    replay = Replay.of(model, laid.batch)
    tokens = [_answer(model, question) for question, _ in chosen]
    device = model.device
    ones = torch.ones(len(laid.ends), model.n_layers, model.n_heads, device=device)
    with torch.no_grad():
        base = replay.logits(ones, laid.ends).log_softmax(1)
    return Part(
        replay,
        laid.ends,
        torch.tensor(tokens, device=device),
        torch.tensor([mine for _, mine in chosen], device=device),
        torch.arange(len(chosen), device=device),
        len(chosen),
        base,
    )


def subjects_of(
    session: Session, trial: Trial, progress: Progress = no_progress
) -> tuple[tuple[Subject, ...], tuple[str, ...]]:
    """The relations that are used, and a sentence for each that is not. Raises StudyError."""
    model = session.model(trial.model, progress)
    found: list[Answered] = []
    notes = []
    relations = read_relations(trial.data)
    for number, relation in enumerate(relations):
        progress(number / len(relations), f"asking: {relation.name}")
        one = answered(session, model, relation, trial.limit)
        right = len(one.search) + len(one.judge)
        if right >= min(ENOUGH, 2 * trial.limit):
            found.append(one)
        else:
            notes.append(f"{relation.name}: {right} of {one.asked} questions answered, too few.")
    if len(found) < 2:
        raise StudyError(
            f"{model.name} answers {ENOUGH} questions of {len(found)} of the {len(relations)} "
            "relations; two are needed, one to take away and one to keep. Give easier relations, "
            "or a larger model."
        )
    texts = PromptSet("relations", tuple(q.text for one in found for q in one.search))
    return tuple(_subject(session, model, trial, texts, one, found) for one in found), tuple(notes)


def _subject(
    session: Session,
    model: LoadedModel,
    trial: Trial,
    texts: PromptSet,
    one: Answered,
    found: Sequence[Answered],
) -> Subject:
    here = next(number for number, other in enumerate(found) if other is one)
    others = [*found[here + 1 :], *found[:here]][:BESIDE]
    concept = make_concept(one.relation.name, one.objects)
    is_whole = any(len(in_sentence_ids(word, model.tokenizer)) == 1 for word in one.objects)
    # Questions are read as they stand, at their last word, where the answer is decided.
    options = Options(pooling="last", template=False, pieces="single" if is_whole else "all")

    def search() -> Reader:
        shares = [others[start::PARTS] for start in range(min(PARTS, len(others)))]
        parts = [
            read(model, [one.search, *(o.beside for o in share)], _first(1 + len(share)))
            for share in shares
        ]
        return Reader(model, tuple(parts), (), lambda: session.lock)

    def judge() -> Reader:
        groups = [one.judge, *(other.judge[:OTHERS] for other in others)]
        return Reader(model, (read(model, groups, _first(len(groups))),), (), lambda: session.lock)

    def own(questions: Sequence[Question]) -> Reader:
        return Reader(model, (read(model, [questions], [True]),), (), lambda: session.lock)

    return Subject(
        name=one.relation.name,
        model=model,
        sizes=(len(one.search), len(one.judge)),
        depends_on={
            "search": [q.text for q in one.search],
            "judge": [q.text for q in one.judge],
            "texts": texts.digest,
            "others": [[q.text for q in other.judge[:OTHERS]] for other in others],
            "beside": [[q.text for q in other.beside] for other in others],
        },
        make_search=search,
        make_own=lambda: own(one.search),
        make_shuffled=lambda: own([question.shuffled() for question in one.search]),
        make_judge=judge,
        ranked=lambda criterion: session.rank(trial.model, concept, texts, criterion, options),
        wanted=WANTED,
    )


def _first(n: int) -> list[bool]:
    return [True, *[False] * (n - 1)]


def _shuffled(text: str) -> str:
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)


def _drawn(name: str, subject: str) -> str:
    return hashlib.sha256(f"{name} {subject}".encode()).hexdigest()
