"""The words of the small world, grouped by concept, and the plain facts about them.

Every group in `CONCEPTS` is a concept: its name is the stem of a file in assets/concepts, and each
of its words is one token of the tokenizer. The groups do not overlap (no "orange" to eat, no
"turkey" to feed), so that a word in a story says which concept it belongs to. Knows no sentences
and no tokens.
"""

from typing import NamedTuple


class Country(NamedTuple):
    """What the world knows about one country; all names are single words."""

    name: str
    capital: str
    city: str  # a second city, or "" where the world knows none
    language: str
    continent: str


COUNTRIES: tuple[Country, ...] = (
    Country("France", "Paris", "Lyon", "French", "Europe"),
    Country("Italy", "Rome", "Milan", "Italian", "Europe"),
    Country("Spain", "Madrid", "Seville", "Spanish", "Europe"),
    Country("Germany", "Berlin", "Hamburg", "German", "Europe"),
    Country("England", "London", "Oxford", "English", "Europe"),
    Country("Portugal", "Lisbon", "Porto", "Portuguese", "Europe"),
    Country("Greece", "Athens", "", "Greek", "Europe"),
    Country("Poland", "Warsaw", "Krakow", "Polish", "Europe"),
    Country("Russia", "Moscow", "", "Russian", "Europe"),
    Country("Sweden", "Stockholm", "", "Swedish", "Europe"),
    Country("Japan", "Tokyo", "Osaka", "Japanese", "Asia"),
    Country("China", "Beijing", "Shanghai", "Chinese", "Asia"),
    Country("India", "Delhi", "Mumbai", "Hindi", "Asia"),
    Country("Vietnam", "Hanoi", "", "Vietnamese", "Asia"),
    Country("Thailand", "Bangkok", "", "Thai", "Asia"),
    Country("Egypt", "Cairo", "", "Arabic", "Africa"),
    Country("Kenya", "Nairobi", "", "Swahili", "Africa"),
    Country("Morocco", "Rabat", "", "Arabic", "Africa"),
    Country("Peru", "Lima", "", "Spanish", "America"),
    Country("Cuba", "Havana", "", "Spanish", "America"),
    Country("Brazil", "Brasilia", "", "Portuguese", "America"),
    Country("Canada", "Ottawa", "Toronto", "English", "America"),
    Country("Australia", "Canberra", "Sydney", "English", "Oceania"),
)

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

NUMBERS = (
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

# singular, plural
ANIMALS: tuple[tuple[str, str], ...] = (
    ("dog", "dogs"), ("cat", "cats"), ("goat", "goats"), ("horse", "horses"), ("rabbit", "rabbits"),
    ("duck", "ducks"), ("cow", "cows"), ("pig", "pigs"), ("fox", "foxes"), ("bear", "bears"),
    ("lion", "lions"), ("monkey", "monkeys"), ("frog", "frogs"), ("bird", "birds"),
)  # fmt: skip

COLORS = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "purple", "orange", "gray",
    "silver",
)  # fmt: skip

USUAL_COLORS: dict[str, str] = {
    "grass": "green", "snow": "white", "milk": "white", "blood": "red", "coal": "black",
    "the sky": "blue", "a lemon": "yellow", "a carrot": "orange", "a tomato": "red",
    "chocolate": "brown", "a strawberry": "red", "the sea": "blue", "the sun": "yellow",
    "salt": "white", "a plum": "purple", "an elephant": "gray", "a pumpkin": "orange",
    "a leaf": "green", "a raven": "black", "a flamingo": "pink", "wood": "brown",
}  # fmt: skip

LEGS: dict[str, str] = {
    "spider": "eight",
    "beetle": "six",
    "chair": "four",
    "bee": "six",
    "zebra": "four",
    "person": "two",
}

CONCEPTS: dict[str, tuple[str, ...]] = {
    "countries": tuple(c.name for c in COUNTRIES),
    "cities": tuple(c.capital for c in COUNTRIES) + tuple(c.city for c in COUNTRIES if c.city),
    "languages": tuple(dict.fromkeys(c.language for c in COUNTRIES)),
    "continents": (*dict.fromkeys(c.continent for c in COUNTRIES), "Antarctica"),
    "colors": COLORS,
    "numbers": NUMBERS,
    "months": MONTHS,
    "weather": (
        "rainy", "sunny", "windy", "snowy", "foggy", "stormy", "cloudy", "frosty", "misty",
        "chilly",
    ),
    "animals": tuple(word for pair in ANIMALS for word in pair),
    "foods": (
        "bread", "soup", "cheese", "rice", "pasta", "honey", "cake", "pizza", "salad", "noodles",
        "pancakes", "apples", "grapes", "beans", "pudding", "potatoes",
    ),
    "feelings": (
        "happy", "sad", "angry", "tired", "scared", "proud", "lonely", "nervous", "excited",
        "bored", "jealous", "worried",
    ),
    "places": (
        "park", "market", "beach", "forest", "school", "library", "museum", "garden", "farm",
        "station", "bridge", "harbor", "castle", "lake", "bakery", "zoo",
    ),
    "insults": (
        "stupid", "ugly", "lazy", "dumb", "nasty", "selfish", "foolish", "greedy", "useless",
        "horrible", "clumsy", "boring",
    ),
    "praise": (
        "clever", "brave", "gentle", "honest", "friendly", "lovely", "wise", "polite", "generous",
        "helpful", "charming", "wonderful",
    ),
    "jobs": (
        "doctor", "teacher", "baker", "farmer", "sailor", "painter", "singer", "nurse", "pilot",
        "writer", "dancer", "judge",
    ),
}  # fmt: skip

NAMES = (
    "Anna", "Tom", "Lucy", "Ben", "Clara", "Paul", "Emma", "Max", "Nora", "Sam", "Julia", "Leo",
    "Mary", "Felix", "Sarah", "Oscar", "Alice", "Jack", "Helen", "David", "Sophie", "Peter",
    "Laura", "Simon", "Eva", "Martin", "Grace", "Victor", "Rosa", "Henry", "Maria", "Daniel",
)  # fmt: skip

# Nouns that carry an attribute and belong to no concept.
THINGS = (
    "kite", "ball", "hat", "umbrella", "bicycle", "book", "cup", "box", "bag", "lamp", "clock",
    "key", "boat", "coat", "scarf", "basket", "blanket", "chair", "bottle", "ring",
)  # fmt: skip
PAINTED = ("door", "wall", "fence", "table", "roof", "gate", "window", "shelf")
COUNTED = (
    "stamps",
    "candles",
    "balloons",
    "flowers",
    "shells",
    "coins",
    "pencils",
    "stones",
    "buttons",
    "tickets",
)
STRANGERS = (
    "neighbor",
    "boy",
    "girl",
    "man",
    "woman",
    "waiter",
    "guard",
    "stranger",
    "student",
    "clerk",
)
