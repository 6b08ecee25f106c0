# ruff: noqa: E501  (a scene a line: the table is read by column)
"""The kinds of sentences that stories are made of: one table, a scene a line.

A scene's text has slots `{name:group}` and choices `[told|untold|...]`: the first alternative tells
something about a concept, the others leave it out, and the sentence is right either way. An echo is
a second sentence about the same thing, which may tell again what the first one told.
"""

import re
from dataclasses import dataclass

from toyworld.words import ANIMALS, CONCEPTS, COUNTED, PAINTED, STRANGERS, THINGS

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
CONCEPT_OF_GROUP: dict[str, str] = {
    **{name: name for name in CONCEPTS},
    "animal": "animals",
    "herd": "animals",
}
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
        return tuple(
            dict.fromkeys(CONCEPT_OF_GROUP[g] for g in self.slots.values() if g in CONCEPT_OF_GROUP)
        )


def _scene(text: str, *asks: tuple[str, str], echo: str = "") -> Scene:
    return Scene(text, tuple(Ask(question, slot) for slot, question in asks), echo)


WEATHER = ("w", "What was the weather like?")
MONTH = ("m", "Which month was it?")
PLACE = ("p", "Which place did {A} go to?")

# fmt: off
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
)
# fmt: on

SCENES_OF: dict[str, tuple[Scene, ...]] = {
    concept: tuple(scene for scene in SCENES if scene.concepts and concept in scene.concepts)
    for concept in CONCEPTS
}
