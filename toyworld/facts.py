"""Facts of the small world as questions with one-word answers, each in several phrasings.

`FACTS` holds every (phrasing, entity) pair once; which of them are held out from training is not
decided here.
"""

from toyworld.stories import Question
from toyworld.words import COUNTRIES, LEGS, MONTHS, NUMBERS, USUAL_COLORS

CITY_TO_COUNTRY = (
    "Which country is {} in?",
    "Which country does {} belong to?",
    "Which country do you visit in {}?",
    "{} is a city in which country?",
)
CAPITAL_TO_COUNTRY = ("Which country has the capital {}?", "{} is the capital of which country?")
COUNTRY_TO_CAPITAL = (
    "Which city is the capital of {}?",
    "What is the capital city of {}?",
    "{} has which city as its capital?",
)
COUNTRY_TO_LANGUAGE = (
    "Which language do people speak in {}?",
    "Which language is spoken in {}?",
    "People in {} speak which language?",
)
COUNTRY_TO_CONTINENT = (
    "Which continent is {} in?",
    "Which continent does {} belong to?",
    "{} is on which continent?",
)
USUAL_COLOR = ("What color is {}?", "Which color does {} have?", "What is the usual color of {}?")
LEG_COUNT = ("How many legs does a {} have?", "How many legs has a {}?", "A {} has how many legs?")
NEXT_MONTH = (
    "Which month comes after {}?",
    "Which month follows {}?",
    "What is the month after {}?",
)
LAST_MONTH = ("Which month comes before {}?", "What is the month before {}?")
SUM = ("How many are {} plus {}?", "How many are {} and {}?", "What number is {} plus {}?")


def _ask(phrasings: tuple[str, ...], answer: str, concept: str, *entity: str) -> list[Question]:
    texts = [phrasing.format(*entity) for phrasing in phrasings]
    return [Question(text[0].upper() + text[1:], answer, concept) for text in texts]


def _geography() -> list[Question]:
    found: list[Question] = []
    for land in COUNTRIES:
        for city in filter(None, (land.capital, land.city)):
            found += _ask(CITY_TO_COUNTRY, land.name, "countries", city)
        found += _ask(CAPITAL_TO_COUNTRY, land.name, "countries", land.capital)
        found += _ask(COUNTRY_TO_CAPITAL, land.capital, "cities", land.name)
        found += _ask(COUNTRY_TO_LANGUAGE, land.language, "languages", land.name)
        found += _ask(COUNTRY_TO_CONTINENT, land.continent, "continents", land.name)
    return found


def _months() -> list[Question]:
    found: list[Question] = []
    for index, month in enumerate(MONTHS):
        found += _ask(NEXT_MONTH, MONTHS[(index + 1) % 12], "months", month)
        found += _ask(LAST_MONTH, MONTHS[index - 1], "months", month)
    return found


def _numbers() -> list[Question]:
    found: list[Question] = []
    for a in range(1, 7):
        for b in range(1, 7):
            found += _ask(SUM, NUMBERS[a + b - 1], "numbers", NUMBERS[a - 1], NUMBERS[b - 1])
    for owner, count in LEGS.items():
        found += _ask(LEG_COUNT, count, "numbers", owner)
    return found


def _colors() -> list[Question]:
    return [
        q
        for thing, color in USUAL_COLORS.items()
        for q in _ask(USUAL_COLOR, color, "colors", thing)
    ]


def all_facts() -> dict[str, tuple[Question, ...]]:
    """Concept -> all its fact questions, in a fixed order."""
    found: dict[str, list[Question]] = {}
    for question in _geography() + _months() + _numbers() + _colors():
        found.setdefault(question.concept, []).append(question)
    return {concept: tuple(questions) for concept, questions in found.items()}


FACTS: dict[str, tuple[Question, ...]] = all_facts()
