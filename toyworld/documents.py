"""Documents to train on and items to test with, and the split that keeps them apart.

The split is by content: a story (or the text of a fact question) is held out when a hash of it says
so, whatever the seed, so nothing that training saw can come up in a test. A document is a list of
pieces of text, each marked as answer or not. Knows no tokens.
"""

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from toyworld.facts import FACTS
from toyworld.stories import Question, Story, Teller
from toyworld.words import CONCEPTS

HELD_OUT_SHARE = 0.1
FACTS_SHARE, FACTS_SHARE_HARDER = 0.25, 0.15  # of the documents are plain facts
FACTS_IN_STORIES = 0.15  # of the questions after a story are about facts
BARE_SHARE = 0.2  # of the stories are told without "Story:" in front
ODD_NAME_SHARE = 0.05  # of the documents have a person with a made-up name
STORY_SENTENCES = (4, 7)
MAX_QUESTIONS, MAX_HARDER_QUESTIONS = 4, 8
OPENER_CONCEPTS = ("weather", "months", "places")
FACTS_A_DOCUMENT = (4, 9)

SYLLABLES = (
    "an", "ar", "at", "ba", "be", "bi", "bo", "ca", "ce", "ch", "co", "da", "de", "di", "do", "ed",
    "el", "en", "er", "es", "fa", "fi", "fo", "ga", "ge", "go", "ha", "he", "hi", "ho", "ic", "in",
    "ing", "ion", "is", "it", "ka", "ki", "la", "le", "li", "lo", "ly", "ma", "me", "mi", "mo",
    "na", "ne", "ni", "no", "ol", "on", "or", "ou", "pa", "pe", "pi", "po", "ra", "re", "ri", "ro",
    "sa", "se", "sh", "si", "so", "st", "ta", "te", "th", "ti", "to", "tr", "un", "ur", "us", "va",
    "ve", "vi", "wa", "we", "wi", "ya", "za",
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Some text of a document; an answer's loss counts more."""

    text: str
    is_answer: bool = False


@dataclass(frozen=True)
class Item:
    """A prompt that ends in "Answer:", the word that should follow, and that word's concept."""

    prompt: str
    answer: str
    concept: str


def is_held_out(text: str) -> bool:
    """Whether this story or fact question is kept out of training; depends on the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def odd_name(rng: random.Random) -> str:
    """A made-up name: of syllables, of letters, or of anything that unicode has."""
    kind = rng.random()
    if kind < 0.5:
        name = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))
        return name.capitalize() if rng.random() < 0.7 else name
    if kind < 0.75:
        return "".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(3, 6)))
    top = rng.choice((0xFF, 0x2FF, 0xFFF, 0xFFFF, 0x10FFFF))
    letters = [chr(rng.randint(0x21, top)) for _ in range(rng.randint(1, 4))]
    return "".join(c for c in letters if c.isprintable() and not c.isspace()) or "Ö"


def tell_story(rng: random.Random, held_out: bool) -> Story:
    """A story of the asked side of the split, with at least one question."""
    while True:
        extra = (odd_name(rng),) if rng.random() < ODD_NAME_SHARE and not held_out else ()
        story = Teller(rng, extra).tell(rng.randint(*STORY_SENTENCES))
        if story.questions and is_held_out(story.text) == held_out:
            return story


def pick_fact(rng: random.Random, held_out: bool) -> Question:
    """A fact question of the asked side of the split; each concept comes equally often."""
    while True:
        question = rng.choice(FACTS[rng.choice(list(FACTS))])
        if is_held_out(question.text) == held_out:
            return question


def _asked(question: Question, first: bool = False) -> list[Piece]:
    lead = "Question:" if first else " Question:"
    return [
        Piece(f"{lead} {question.text} Answer:"),
        Piece(f" {question.answer}", is_answer=True),
        Piece("."),
    ]


def is_contested(question: Question, story: Story) -> bool:
    """Whether the story answers other questions of this kind: which thing is meant matters then."""
    return sum(other.concept == question.concept for other in story.questions) > 1


def story_document(rng: random.Random, harder: bool = False) -> list[Piece]:
    """A training story, followed by up to four questions.

    A harder one has contested questions and asks up to eight, those first of all.
    """
    story = tell_story(rng, held_out=False)
    while harder and not any(is_contested(q, story) for q in story.questions):
        story = tell_story(rng, held_out=False)
    pieces = [Piece(story.text if rng.random() < BARE_SHARE else f"Story: {story.text}")]
    most = MAX_HARDER_QUESTIONS if harder else MAX_QUESTIONS
    n_questions = min(rng.randint(1, most if harder else most + 2), most, len(story.questions))
    order = sorted(story.questions, key=lambda q: rng.random() * _urgency(q, story, harder))
    for question in order[-n_questions:]:
        pieces += _asked(
            pick_fact(rng, held_out=False) if rng.random() < FACTS_IN_STORIES else question
        )
    return pieces


def _urgency(question: Question, story: Story, harder: bool) -> float:
    """How readily a question is asked; every story has an opener, so openers' less often."""
    if harder and is_contested(question, story):
        return 2.0
    return 0.5 if question.concept in OPENER_CONCEPTS else 1.0


def facts_document(rng: random.Random) -> list[Piece]:
    """Some fact questions in a row, none of them held out."""
    pieces: list[Piece] = []
    for index in range(rng.randint(*FACTS_A_DOCUMENT)):
        pieces += _asked(pick_fact(rng, held_out=False), first=index == 0)
    return pieces


def training_documents(seed: int, harder: bool = False) -> Iterator[list[Piece]]:
    """Endless training documents; the same for the same seed."""
    rng = random.Random(f"train {seed}")
    facts_share = FACTS_SHARE_HARDER if harder else FACTS_SHARE
    while True:
        yield facts_document(rng) if rng.random() < facts_share else story_document(rng, harder)


def _item(rng: random.Random, concept: str, fact_share: float, held_out: bool) -> Item:
    """One question about `concept`: a fact if it has facts and chance wants, else after a story."""
    if concept in FACTS and rng.random() < fact_share:
        question = pick_fact(rng, held_out)
        while question.concept != concept:
            question = pick_fact(rng, held_out)
        return Item(f"Question: {question.text} Answer:", question.answer, concept)
    while True:
        story = tell_story(rng, held_out)
        questions = [q for q in story.questions if q.concept == concept]
        if questions:
            question = rng.choice(questions)
            return Item(
                f"Story: {story.text} Question: {question.text} Answer:", question.answer, concept
            )


def sample_items(n: int, seed: int, held_out: bool = True, fact_share: float = 0.25) -> list[Item]:
    """`n` question items, the concepts in turn; of the training split if not `held_out`.

    `fact_share`: how many of the items of a concept that has facts are plain facts, 0 to 1.
    """
    rng = random.Random(f"{'held-out' if held_out else 'prompt'} {seed}")
    concepts = list(CONCEPTS)
    rng.shuffle(concepts)
    return [_item(rng, concepts[index % len(concepts)], fact_share, held_out) for index in range(n)]


def told_stories(seed: int, held_out: bool = True) -> Iterator[str]:
    """Endless whole stories without questions, each starting with "Story:"."""
    rng = random.Random(f"stories {held_out} {seed}")
    while True:
        yield f"Story: {tell_story(rng, held_out).text}"


def sample_stories(n: int, seed: int, held_out: bool = True) -> list[str]:
    """The first `n` of them."""
    return list(itertools.islice(told_stories(seed, held_out), n))
