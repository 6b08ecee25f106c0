"""Little stories, and the questions that each of them answers.

A story is a list of scenes. How readily it tells the words of a concept varies from story to story,
as people do, and it likes to come back to a few concepts. Knows no tokens and no
train/held-out split.
"""

import random
import re
from dataclasses import dataclass, field

from toyworld.scenes import CHOICE, CONCEPT_OF_GROUP, GROUPS, ONCE, OPENERS, SCENES_OF, SLOT, Scene
from toyworld.words import CONCEPTS, NAMES

TELL_RATES = (0.3, 0.6, 0.95)  # a story's readiness to tell one concept, drawn for each concept
FAVOURITES = 3  # concepts that a story likes to talk about
FAVOURITE_SHARE = 0.6  # of its scenes are about them
ECHO_SHARE = 0.4  # of the scenes come up again


@dataclass(frozen=True)
class Question:
    """A question with its one-word answer and the concept that the answer belongs to."""

    text: str
    answer: str
    concept: str


@dataclass
class Story:
    """Sentences and all the questions that they answer."""

    sentences: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)


class Teller:
    """Tells one story: keeps who is in it, what was used, and how readily each concept is told."""

    def __init__(self, rng: random.Random, extra_names: tuple[str, ...] = ()) -> None:
        """Cast two people, `extra_names` first."""
        self.rng = rng
        self.cast = [*extra_names, *rng.sample(NAMES, 2)][:2]
        self.rates = {concept: rng.choice(TELL_RATES) for concept in CONCEPTS}
        self.favourites = rng.sample(list(CONCEPTS), FAVOURITES)
        self.story = Story()
        self.used_words: set[str] = set()
        self.used_asks: set[str] = set()

    def tell(self, n_sentences: int) -> Story:
        """The story, with an opener and `n_sentences - 1` scenes and echoes."""
        self._play(self.rng.choice(OPENERS), echo=False)
        while len(self.story.sentences) < n_sentences:
            favourite = self.rng.random() < FAVOURITE_SHARE
            concept = self.rng.choice(self.favourites if favourite else list(CONCEPTS))
            scene = self.rng.choice(SCENES_OF[concept])
            room = len(self.story.sentences) + 2 <= n_sentences
            self._play(scene, echo=room and self.rng.random() < ECHO_SHARE)
        return self.story

    def _play(self, scene: Scene, echo: bool) -> None:
        """Add the scene (and its echo), unless its questions would have two answers."""
        person, other = self.rng.sample(self.cast, 2)
        values = {"A": person, "B": other}
        for name, group in scene.slots.items():
            free = [
                word for word in GROUPS[group] if group not in ONCE or word not in self.used_words
            ]
            values[name] = self.rng.choice(free)
        asks = {SLOT.sub(lambda m: values[m[1]], ask.text): ask.slot for ask in scene.asks}
        if self.used_asks & asks.keys():
            return
        self.used_asks |= asks.keys()
        self.used_words |= {values[name] for name, group in scene.slots.items() if group in ONCE}
        shown: set[str] = set()
        self.story.sentences.append(self._render(scene.text, scene, values, shown))
        if echo and scene.echo:
            self.story.sentences.append(self._render(scene.echo, scene, values, shown))
        for question, slot in asks.items():
            if slot in shown:
                concept = CONCEPT_OF_GROUP[scene.slots[slot]]
                self.story.questions.append(Question(question, values[slot], concept))

    def _render(self, text: str, scene: Scene, values: dict[str, str], shown: set[str]) -> str:
        """Fill in a template; `shown` collects the slots whose words are in the text."""
        text = CHOICE.sub(lambda match: self._choose(match[1], scene), text)
        shown |= {name for name, _ in SLOT.findall(text)}
        text = SLOT.sub(lambda m: values[m[1]], text)
        return re.sub(r" +([.,]|\s)", r"\1", text)

    def _choose(self, choice: str, scene: Scene) -> str:
        """The first alternative as readily as the story tells its concept, else one of the rest."""
        told, *untold = choice.split("|")
        slot = SLOT.search(told)
        concept = CONCEPT_OF_GROUP[scene.slots[slot[1]]] if slot else ""
        return told if self.rng.random() < self.rates[concept] else self.rng.choice(untold)
