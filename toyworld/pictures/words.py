"""The words of the drawn world, grouped by concept, and the paint that goes with them.

Every group in `CONCEPTS` is a concept: its name is the stem of a file in assets/concepts, and each
of its words is one token of the tokenizer. Knows no sentences and no pictures.
"""

Rgb = tuple[int, int, int]

COLORS: dict[str, Rgb] = {
    "red": (214, 36, 40),
    "blue": (36, 76, 208),
    "green": (34, 140, 54),
    "yellow": (248, 218, 40),
    "orange": (250, 138, 22),
    "purple": (132, 48, 176),
    "pink": (250, 150, 196),
    "brown": (122, 74, 38),
    "black": (18, 18, 18),
    "white": (252, 252, 252),
    "gray": (132, 132, 132),
}

# word -> the phrase it comes in, its paint, and the colors that would hardly show on it
BACKGROUNDS: dict[str, tuple[str, Rgb, tuple[str, ...]]] = {
    "sky": ("in the sky", (184, 216, 246), ("white",)),
    "grass": ("on the grass", (142, 200, 96), ("green",)),
    "sand": ("on the sand", (232, 212, 164), ("yellow",)),
    "snow": ("in the snow", (236, 240, 246), ("white", "yellow")),
    "night": ("at night", (26, 30, 72), ("black",)),
    "sea": ("in the sea", (74, 146, 196), ("blue",)),
}

# singular -> plural
SHAPES: dict[str, str] = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
    "ring": "rings",
    "moon": "moons",
}

MOODS = ("happy", "sad", "angry", "tired", "scared", "calm")
TEXTURES = ("stripes", "dots", "checks", "waves", "grid", "noise", "bricks", "zigzag")
DIGITS = tuple("0123456789")
NUMBERS = ("one", "two", "three", "four", "five")
SIZES = ("small", "large", "huge")

# relation -> the word for it seen from the first group, and from the second
POSITIONS: dict[str, tuple[str, str]] = {"above": ("above", "below"), "left": ("left", "right")}

CONCEPTS: dict[str, tuple[str, ...]] = {
    "colors": tuple(COLORS),
    "numbers": NUMBERS,
    "feelings": MOODS,
    "shapes": tuple(word for pair in SHAPES.items() for word in pair),
    "textures": TEXTURES,
    "digits": DIGITS,
    "sizes": SIZES,
    "positions": tuple(word for pair in POSITIONS.values() for word in pair),
    "backgrounds": tuple(BACKGROUNDS),
}
