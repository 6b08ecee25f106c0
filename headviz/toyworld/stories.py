"""Little stories, and the questions that each of them answers.

A story is a list of scenes from the table `SCENES`. A scene's text has slots `{name:group}` and choices
`[told|untold|...]`: the first alternative tells something about a concept, the others leave it out, and the sentence
is right either way. How readily a story tells a concept's words varies from story to story, as people do.
An echo is a second sentence about the same thing, which may tell again what the first one told.
Knows no tokens and no train/held-out split.
"""

import random
import re
from dataclasses import dataclass, field

from headviz.toyworld.words import ANIMALS, CONCEPTS, COUNTED, NAMES, PAINTED, STRANGERS, THINGS

TELL_RATES = (0.3, 0.6, 0.95)  # a story's readiness to tell one concept, drawn for each concept
FAVOURITES = 3  # concepts that a story likes to talk about
FAVOURITE_SHARE = 0.6  # of its scenes are about them

SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")

# Groups that slots draw from, beside the concepts.
GROUPS: dict[str, tuple[str, ...]] = {
    **CONCEPTS,
    "animal": tuple(one for one, _ in ANIMALS),
    "herd": tuple(many for _, many in ANIMALS),
    "thing": THINGS,
    "painted": PAINTED,
    "counted": COUNTED,
    "stranger": STRANGERS,
    "time": ("morning", "day", "night"),
}
CONCEPT_OF_GROUP: dict[str, str] = {**{name: name for name in CONCEPTS}, "animal": "animals", "herd": "animals"}
# Groups whose words name a thing in a question: used once a story, so that the question has one answer.
ONCE = ("animal", "herd", "thing", "painted", "counted", "stranger")


@dataclass(frozen=True)
class Ask:
    """A question about one slot of a scene."""

    text: str
    slot: str


@dataclass(frozen=True)
class Scene:
    """One kind of sentence: what it tells, how it may come up again, and what can be asked about it."""

    text: str
    asks: tuple[Ask, ...]
    echo: str = ""

    @property
    def slots(self) -> dict[str, str]:
        """Slot name -> group, people left out."""
        return {name: group for name, group in SLOT.findall(self.text) if group}

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts that this scene can tell."""
        return tuple(dict.fromkeys(CONCEPT_OF_GROUP[g] for g in self.slots.values() if g in CONCEPT_OF_GROUP))


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


def _scene(text: str, *asks: tuple[str, str], echo: str = "") -> Scene:
    return Scene(text, tuple(Ask(question, slot) for slot, question in asks), echo)


WEATHER = ("w", "What was the weather like?")
MONTH = ("m", "Which month was it?")
PLACE = ("p", "Which place did {A} go to?")

OPENERS: tuple[Scene, ...] = (
    _scene("On a [{w:weather}|] {t:time} [in {m:months}|], {A} went [to the {p:places}|out].", WEATHER, MONTH, PLACE),
    _scene("It was a [{w:weather}|] {t:time} [in {m:months}|] and {A} walked [to the {p:places}|around].", WEATHER, MONTH, PLACE),
    _scene("One {t:time} [in {m:months}|], {A} ran [to the {p:places}|outside].", MONTH, PLACE),
    _scene("{A} went [to the {p:places}|out] on a [{w:weather}|] {t:time}.", WEATHER, PLACE),
)

SCENES: tuple[Scene, ...] = (
    # countries
    _scene("{A} came from [{c:countries}|far away].", ("c", "Which country did {A} come from?"), echo="{A} talked about home[ in {c}|]."),
    _scene("{A} got a letter [from {c:countries}|].", ("c", "Which country did the letter come from?"), echo="The letter [from {c}|] was long."),
    _scene("{A} looked at a map [of {c:countries}|].", ("c", "Which country was on the map?"), echo="{A} kept the map [of {c}|]."),
    _scene("The cousin of {A} lived [in {c:countries}|far away].", ("c", "Which country did the cousin live in?")),
    # cities
    _scene("{A} took the train [to {y:cities}|].", ("y", "Which city did the train go to?"), echo="The train [to {y}|] was late."),
    _scene("{A} planned a trip [to {y:cities}|].", ("y", "Which city did {A} plan to see?"), echo="{B} wanted to see [{y}|everything] too."),
    _scene("The aunt of {A} worked [in {y:cities}|a lot].", ("y", "Which city did the aunt work in?")),
    # languages
    _scene("{A} sang a song [in {l:languages}|].", ("l", "Which language was the song in?"), echo="The [{l}|] song was short."),
    _scene("{A} spoke [{l:languages}|quietly] with {B}.", ("l", "Which language did {A} speak?"), echo="{B} answered [in {l}|]."),
    _scene("{A} wrote a poem [in {l:languages}|].", ("l", "Which language was the poem in?")),
    # continents
    _scene("{A} read a story [about {k:continents}|].", ("k", "Which continent was the story about?"), echo="The story [about {k}|] was good."),
    _scene("{A} dreamed of a journey [across {k:continents}|].", ("k", "Which continent did {A} dream of?"), echo="The journey [across {k}|] was a dream."),
    _scene("The ship sailed [to {k:continents}|away].", ("k", "Which continent did the ship sail to?")),
    # colors
    _scene("{A} found the [{c:colors}|] {x:thing}.", ("c", "What color was the {x}?"), echo="{A} gave the [{c}|] {x} to {B}."),
    _scene("{A} carried the [{c:colors}|] {x:thing}.", ("c", "What color was the {x}?"), echo="The [{c}|] {x} was heavy."),
    _scene("{A} painted the {x:painted} [{c:colors}|].", ("c", "What color was the {x}?"), echo="The [{c}|] {x} was pretty."),
    _scene("{B} liked the [{c:colors}|] {x:thing} of {A}.", ("c", "What color was the {x}?"), echo="{A} hid the [{c}|] {x}."),
    # numbers
    _scene("{A} bought [{n:numbers}|some] {x:counted}.", ("n", "How many {x} did {A} buy?"), echo="The [{n}|] {x} were cheap."),
    _scene("{A} found [{n:numbers}|many] {x:counted}.", ("n", "How many {x} did {A} find?"), echo="{A} counted the [{n}|] {x}."),
    _scene("{A} waited for [{n:numbers}|] hours.", ("n", "How many hours did {A} wait?"), echo="After [{n}|many] hours, {B} came."),
    # months
    _scene("The birthday of {A} was [in {m:months}|soon].", ("m", "Which month was the birthday in?"), echo="{B} liked birthdays [in {m}|]."),
    _scene("{A} planned a party [in {m:months}|].", ("m", "Which month was the party in?"), echo="The party [in {m}|] was fun."),
    _scene("The school trip was [in {m:months}|over].", ("m", "Which month was the school trip in?")),
    # weather
    _scene("The evening was [{w:weather}|long].", ("w", "What was the weather like in the evening?"), echo="{A} liked [{w}|long] evenings."),
    _scene("The next day was [{w:weather}|quiet].", ("w", "What was the weather like the next day?")),
    _scene("{A} remembered a [{w:weather}|long] week.", ("w", "What was the weather like that week?"), echo="It was a [{w}|long] week for {B}."),
    # animals
    _scene("{A} saw [{n:numbers}|some] {x:herd}.", ("n", "How many {x} did {A} see?"), ("x", "Which animals did {A} see?"), echo="The [{n}|] {x} ran away."),
    _scene("{A} fed the [{c:colors}|] {x:animal}.", ("c", "What color was the {x}?"), ("x", "Which animal did {A} feed?"), echo="The [{c}|] {x} was hungry."),
    _scene("{A} played [with the {x:animal}|alone].", ("x", "Which animal did {A} play with?"), echo="{B} called [the {x}|again]."),
    _scene("{A} drew [a {x:animal}|a picture].", ("x", "Which animal did {A} draw?"), echo="{B} liked the picture[ of the {x}|]."),
    # foods
    _scene("{A} ate [{f:foods}|lunch].", ("f", "Which food did {A} eat?"), echo="The [{f}|lunch] tasted good."),
    _scene("{A} cooked [{f:foods}|dinner] for {B}.", ("f", "Which food did {A} cook?"), echo="{B} liked the [{f}|dinner]."),
    _scene("{A} bought [{f:foods}|something] at the shop.", ("f", "Which food did {A} buy?")),
    # feelings
    _scene("{A} was [{e:feelings}|quiet].", ("e", "How did {A} feel?"), echo="{B} saw that {A} was [{e}|quiet]."),
    _scene("{A} felt [{e:feelings}|better].", ("e", "How did {A} feel?")),
    _scene("{A} went home [{e:feelings}|].", ("e", "How did {A} feel?"), echo="{A} was still [{e}|there]."),
    # places
    _scene("{A} met {B} [at the {p:places}|].", ("p", "Which place did they meet at?"), echo="The [{p}|street] was empty."),
    _scene("{A} lost the wallet [at the {p:places}|].", ("p", "Which place was the wallet lost at?"), echo="{B} looked around [at the {p}|]."),
    _scene("{A} sat down [at the {p:places}|].", ("p", "Which place did {A} sit down at?")),
    # insults
    _scene("{A} called {B} [{i:insults}|].", ("i", "Which rude word did {A} say?"), echo="{B} was not [{i}|there]."),
    _scene("{A} shouted at the [{i:insults}|] {x:stranger}.", ("i", "Which rude word did {A} say?"), echo="The [{i}|] {x} left."),
    _scene("{A} hated the [{i:insults}|] {x:stranger}.", ("i", "Which rude word did {A} say?"), echo="{B} met the [{i}|] {x}."),
    # praise
    _scene("{A} said that {B} was [{r:praise}|there].", ("r", "Which kind word did {A} say?"), echo="{B} was [{r}|there]."),
    _scene("{A} thanked the [{r:praise}|] {x:stranger}.", ("r", "Which kind word did {A} say?"), echo="The [{r}|] {x} smiled."),
    _scene("{A} loved the [{r:praise}|] {x:stranger}.", ("r", "Which kind word did {A} say?"), echo="{B} visited the [{r}|] {x}."),
    # jobs
    _scene("The father of {A} worked [as a {j:jobs}|hard].", ("j", "Which job did the father have?"), echo="The [{j}|father] was busy."),
    _scene("{A} wanted to be [a {j:jobs}|rich].", ("j", "Which job did {A} want?"), echo="{B} did not want to be [a {j}|rich]."),
    _scene("{A} asked for [a {j:jobs}|help].", ("j", "Which job did {A} ask for?"), echo="The [{j}|help] came soon."),
)  # fmt: skip

SCENES_OF: dict[str, tuple[Scene, ...]] = {
    concept: tuple(scene for scene in SCENES if scene.concepts and concept in scene.concepts) for concept in CONCEPTS
}


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
        self.told: dict[str, tuple[str, str]] = {}  # question text -> (answer, concept), of the scene at work

    def tell(self, n_sentences: int) -> Story:
        """The story, with an opener and `n_sentences - 1` scenes and echoes."""
        self._play(self.rng.choice(OPENERS), echo=False)
        while len(self.story.sentences) < n_sentences:
            favourite = self.rng.random() < FAVOURITE_SHARE
            concept = self.rng.choice(self.favourites if favourite else list(CONCEPTS))
            scene = self.rng.choice(SCENES_OF[concept])
            self._play(scene, echo=len(self.story.sentences) + 2 <= n_sentences and self.rng.random() < 0.4)
        return self.story

    def _play(self, scene: Scene, echo: bool) -> None:
        """Add the scene (and its echo), unless its questions would have two answers."""
        person, other = self.rng.sample(self.cast, 2)
        values = {"A": person, "B": other}
        for name, group in scene.slots.items():
            free = [word for word in GROUPS[group] if group not in ONCE or word not in self.used_words]
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

        def choose(match: re.Match[str]) -> str:
            told, *untold = match[1].split("|")
            slot = SLOT.search(told)
            concept = CONCEPT_OF_GROUP[scene.slots[slot[1]]] if slot else ""
            return told if self.rng.random() < self.rates[concept] else self.rng.choice(untold)

        text = CHOICE.sub(choose, text)
        shown |= {name for name, _ in SLOT.findall(text)}
        text = SLOT.sub(lambda m: values[m[1]], text)
        return re.sub(r" +([.,]|\s)", r"\1", text)
