"""Free text: does the model lose, or say more of, a concept's words in stories of its own?

The unedited model goes on from general openings, a little at random; its own words are the texts.
A concept is used where enough of the texts say it. One half of the openings chooses heads, the
other judges. Where it is to get stronger, the model goes on from openings of the judging half once
more under each edit: how often it says the words then, and how odd the unedited model finds that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch

from headviz.base.progress import Progress, no_progress
from headviz.base.store import key_of
from headviz.editing.control import control_of
from headviz.editing.effect import Reader
from headviz.editing.find import Search, learnt_edit
from headviz.editing.generate import Sampling, generate
from headviz.editing.measures import concept_spans
from headviz.editing.passages import Passage, begins_word, shuffled
from headviz.heads.chat import Chat
from headviz.heads.edits import NO_EDIT, Edit
from headviz.heads.forward import batch_of
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.inputs.concepts import Concept, known_concepts
from headviz.models.loaded import LoadedModel
from headviz.session.causal import JUDGE, SEARCH, Causes, chat_of, half_of
from headviz.session.session import Session
from headviz.studies.cells import RANDOM
from headviz.studies.samples import StudyError
from headviz.studies.trial import ARMS, LEARNT, Kept, Ladder, Subject, Trial, scored_heads

CONCEPTS = (
    "colors",
    "animals",
    "countries",
    "foods",
    "feelings",
    "cities",
    "numbers",
    "weather",
    "jobs",
    "months",
)
"""Presets that are tried."""
ROUNDS = 6
"""Times that the model goes on from each opening: some concepts it names in one text of forty."""
OTHER_TEXTS = 2
"""Texts beside a concept's own that say none of its words."""
MORE, OTHERS_MORE, PARTS = 2.5, 6, 4
"""Factors are learnt on so many times the concept's texts that other arms read, at most, and on so
many that say none of its words, in so many parts: a factor a head fits few texts all too well."""
FEW = 5
"""Texts of either half that have to say the concept."""
WANTED = Search(side_effects=0.28)
"""What is learnt: as much as can be, at no more than this on the texts of the search."""
STRONGER = 3.0
"""The factor of other rankings where the concept is to get stronger."""
STORIES = 24
STORY = Sampling(max_new_tokens=40, temperature=0.8, seed=7)
STRONGER_DRAWS = 3
STRONGER_STEPS = 48
STRONGER_SIDES = (0.1, 0.2, 0.4)
"""Nats elsewhere that an edit is learnt with; stories of the search's half say which is kept."""
ODD = 1.5
"""Times the perplexity that stories may have to count."""
SURELY = 0.9
"""Of that, what the stories that choose may have: those that judge come out some way off."""


@dataclass(frozen=True)
class Stronger:
    """What stories say under one edit."""

    subject: str
    arm: str
    edit: str
    words: int
    """Words of the concept in all stories together."""
    unedited: int
    """The same without an edit."""
    perplexity: float
    """Of the stories by the unedited model, divided by that of its own."""

    @property
    def is_twice(self) -> bool:
        """Whether the words come at least twice as often, at most half as odd again."""
        enough = self.words >= max(2 * self.unedited, self.unedited + 3)
        return enough and self.perplexity <= ODD


def subjects_of(
    session: Session, trial: Trial, progress: Progress = no_progress
) -> tuple[tuple[Subject, ...], tuple[str, ...]]:
    """The concepts that the model's own texts say often enough, and a sentence for each other."""
    causes = Causes(session)
    prompt_set = causes.prompt_set(trial.model, trial.data or None)
    said = causes.passages(trial.model, prompt_set, progress, ROUNDS)
    passages = [one for one in said if one.continuation]
    model = session.model(trial.model)
    found, notes = [], []
    for name in CONCEPTS:
        concept = known_concepts()[name]
        halves = {half: _half(model, passages, concept, half) for half in (SEARCH, JUDGE)}
        least = min(len(own) for own, _ in halves.values())
        if least >= min(FEW, trial.limit):
            chat = chat_of(prompt_set)
            found.append(_subject(session, model, trial, concept, halves, chat))
        else:
            notes.append(f"{name}: {least} texts of a half say it, too few.")
    if not found:
        raise StudyError(
            f"What {model.name} says to {prompt_set.name} holds next to no word of the concepts. "
            "Name openings that call for them with --data."
        )
    return tuple(found), tuple(notes)


def _half(
    model: LoadedModel, passages: Sequence[Passage], concept: Concept, half: str
) -> tuple[list[Passage], list[Passage]]:
    """Texts of one half that say a word of the concept, and those that say none."""
    here = [one for one in passages if half_of(one.text, one.pictures) == half]
    says = [any(begins_word(model, one.continuation, concept.words)) for one in here]
    return (
        [one for one, yes in zip(here, says, strict=True) if yes],
        [one for one, yes in zip(here, says, strict=True) if not yes],
    )


def _subject(
    session: Session,
    model: LoadedModel,
    trial: Trial,
    concept: Concept,
    halves: Mapping[str, tuple[list[Passage], list[Passage]]],
    chat: Chat,
) -> Subject:
    own = {half: texts[: trial.limit] for half, (texts, _) in halves.items()}
    others = {half: texts[:OTHER_TEXTS] for half, (_, texts) in halves.items()}
    says, says_not = halves[SEARCH]
    more = says[: int(MORE * trial.limit)], says_not[:OTHERS_MORE]
    usual = session.prompt_set(trial.model)

    def reader(texts: Sequence[Passage]) -> Reader:
        return Reader.of(model, texts, concept.words, lock=lambda: session.lock)

    def in_parts(n: int, says: Sequence[Passage], says_not: Sequence[Passage]) -> Reader:
        """A step of a search reads one part."""
        parts = [reader([*says[at::n], *says_not[at::n]]).parts for at in range(n)]
        return Reader(model, tuple(chain(*parts)), concept.words, lambda: session.lock)

    return Subject(
        name=concept.name,
        model=model,
        sizes=(len(own[SEARCH]) + len(others[SEARCH]), len(own[JUDGE]) + len(others[JUDGE])),
        depends_on={
            "words": list(concept.words),
            "texts": {h: [list(one.prompt.ids) for one in (*own[h], *others[h])] for h in own},
            "read_on": usual.digest,
        },
        make_search=lambda: in_parts(2, own[SEARCH], others[SEARCH]),
        make_own=lambda: reader(own[SEARCH]),
        make_shuffled=lambda: reader([shuffled(model, one, chat) for one in own[SEARCH]]),
        make_judge=lambda: reader([*own[JUDGE], *others[JUDGE]]),
        ranked=lambda criterion: session.rank(trial.model, concept, usual, criterion),
        wanted=WANTED,
        make_learning=lambda: in_parts(PARTS, *more),
        learnt_on=key_of(texts=[list(one.prompt.ids) for one in chain(*more)], parts=PARTS),
    )


def stories(session: Session, trial: Trial, ladder: Ladder, subject: Subject) -> list[Stronger]:
    """What the model tells under edits that are to make the concept stronger, and without."""
    kept = ladder.kept(subject)
    k = ladder.ks[len(ladder.ks) // 2]
    searches = [Search("stronger", k, side, STRONGER_STEPS) for side in STRONGER_SIDES]
    openings = Causes(session).prompt_set(trial.model, trial.data or None)
    halves = {
        half: [text for text in openings.texts if half_of(text) == half][:STORIES]
        for half in (SEARCH, JUDGE)
    }

    def tell(half: str, edits: Mapping[str, Edit]) -> dict[str, tuple[int, float]]:
        return _told(subject, chat_of(openings), halves[half], edits)

    def make() -> Mapping[str, Any]:
        edits = _stronger_edits(subject, kept, searches, tell)
        told = tell(JUDGE, {"unedited": NO_EDIT, **edits})
        unedited, usual = told.pop("unedited")
        rows = [
            Stronger(
                subject.name, name, str(edits[name]), n, unedited, round(math.exp(odd - usual), 4)
            )
            for name, (n, odd) in told.items()
        ]
        return {"rows": [asdict(row) for row in rows]}

    tried = [asdict(search) for search in searches]
    made = kept(f"stronger: {tried}, {STORIES} stories of {STORY.max_new_tokens}", make)
    return [Stronger(**row) for row in made["rows"]]


def _told(
    subject: Subject, chat: Chat, openings: Sequence[str], edits: Mapping[str, Edit]
) -> dict[str, tuple[int, float]]:
    """Under each edit, how often all stories say the concept; nats a token, by the model as it is.

    A story for each opening.
    """
    model, words = subject.model, subject.depends_on["words"]
    rows = [(edit, text) for edit in edits.values() for text in openings]
    texts, turned = [text for _, text in rows], [edit for edit, _ in rows]
    *_, said = generate(model, texts, turned, STORY, chat=chat)
    encoded = [encode_prompt(model, text, STORY.max_new_tokens, chat=chat) for text in texts]
    odd = _surprise(model, encoded, said.ids)
    found = {}
    for number, name in enumerate(edits):
        part = slice(number * len(openings), (number + 1) * len(openings))
        nats, tokens = (sum(column) for column in zip(*odd[part], strict=True))
        count = sum(len(concept_spans(text, words)) for text in said.texts[part])
        found[name] = count, nats / max(1, tokens)
    return found


def _stronger_edits(
    subject: Subject,
    kept: Kept,
    searches: Sequence[Search],
    tell: Callable[[str, Mapping[str, Edit]], Mapping[str, tuple[int, float]]],
) -> dict[str, Edit]:
    """Name -> edit, all of as many heads as the searches have."""

    def learn(search: Search) -> Mapping[str, Any]:
        return {"edit": str(learnt_edit(subject.learning, search))}

    learnt = {
        str(search.side_effects): Edit.parse(
            kept(f"stronger: {asdict(search)}", partial(learn, search))["edit"]
        )
        for search in searches
    }
    told = tell(SEARCH, {"unedited": NO_EDIT, **learnt})
    usual = told["unedited"][1]
    fair = [name for name in learnt if math.exp(told[name][1] - usual) <= SURELY * ODD]
    # Of two that bring as many words the stronger: what few stories do not show, others may.
    best = max(fair or [*learnt][:1], key=lambda name: (told[name][0], float(name)))
    edits = {LEARNT: learnt[best]}
    for arm in ("pursuit", "attribution", "lift"):
        function = ARMS[arm]
        assert function is not None
        first = scored_heads(function(subject, kept))[: searches[0].heads]
        edits[arm] = Edit.of(first, STRONGER)
    for draw in range(STRONGER_DRAWS):
        edits[f"{RANDOM} {draw + 1}"] = control_of(subject.model, edits[LEARNT], draw)
    return edits


@torch.inference_mode()
def _surprise(
    model: LoadedModel, prompts: Sequence[EncodedPrompt], said: Sequence[Sequence[int]]
) -> list[tuple[float, int]]:
    """For each story, the nats that the unedited model needs for it, and its tokens."""
    found: list[tuple[float, int]] = []
    for start in range(0, len(prompts), 16):
        part = [
            (prompt.continued(ids), len(prompt.ids))
            for prompt, ids in zip(
                prompts[start : start + 16], said[start : start + 16], strict=True
            )
        ]
        batch = batch_of(model, [whole for whole, _ in part], left=False)
        logits = model.model(**batch.inputs(), use_cache=False).logits
        for row, (whole, first) in enumerate(part):
            own = torch.tensor(whole.ids[first:], device=logits.device)
            values = logits[row, first - 1 : len(whole.ids) - 1].float().log_softmax(1)
            found.append((-float(values.gather(1, own[:, None]).sum()), len(own)))
    return found
