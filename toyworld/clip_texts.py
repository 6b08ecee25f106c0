"""What the contrastive model of the drawn world reads: words in templates, phrases, captions.

Every concept's words are told apart by prompts ("a red thing", "a circle", "the digit three"), each
picture against all words of the concept at once. Knows no model.
"""

import itertools
import random
import re
from collections.abc import Mapping
from functools import cache

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from headviz.clip.embed import WORD_TEMPLATES, fill
from toyworld.pictures.captions import EVERYTHING, caption
from toyworld.pictures.content import Group, Picture, pictures
from toyworld.pictures.words import (
    BACKGROUNDS,
    COLORS,
    DIGITS,
    MOODS,
    NUMBERS,
    SHAPES,
    SIZES,
    TEXTURES,
)

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SCANNED = 800  # captions whose words the tokenizer knows

WORDS: dict[str, tuple[str, ...]] = {
    "colors": tuple(COLORS),
    "shapes": tuple(SHAPES),
    "digits": DIGITS,
    "feelings": MOODS,
    "textures": TEXTURES,
    "numbers": NUMBERS,
    "sizes": SIZES,
    "backgrounds": tuple(BACKGROUNDS),
}
"""Concept -> its words, which a picture is compared with together."""

PROMPTS: dict[str, str] = {
    "colors": "a {} thing",
    "shapes": "a {}",
    "digits": "the digit {}",
    "feelings": "a {} face",
    "textures": "a pattern of {}",
    "numbers": "{} of them",
    "sizes": "a {} thing",
    "backgrounds": "the {} in the background",
}
"""Concept -> the prompt that the card measures it with."""

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NOUNS = (*SHAPES, "face", *DIGITS)
PHRASES = tuple(fill("a {}", f"{color} {noun}") for color in COLORS for noun in NOUNS)


def prompt(concept: str, word: str, rng: random.Random) -> str:
    """The word in one of the templates, now and then in another form of it."""
    template = rng.choice((*WORD_TEMPLATES, PROMPTS[concept], PROMPTS[concept]))
    if concept == "shapes" and rng.random() < 0.3:
        return fill(rng.choice(WORD_TEMPLATES), SHAPES[word])
    if concept == "digits" and rng.random() < 0.3:
        return fill(PROMPTS[concept], DIGIT_NAMES[int(word)])
    return fill(template, word)


def shown(picture: Picture) -> Mapping[str, frozenset[str]]:
    """Concept of WORDS -> its words that hold for the picture."""
    found: dict[str, set[str]] = {concept: set() for concept in WORDS}
    for group in picture.groups:
        found["colors"] |= {group.color, group.second} - {""}
        found["sizes"].add(group.size)
        kind = {"shape": "shapes", "digit": "digits", "texture": "textures"}.get(group.kind)
        if kind:
            found[kind].add(group.noun)
        if group.mood:
            found["feelings"].add(group.mood)
        if group.kind != "texture":
            found["numbers"].add(NUMBERS[group.count - 1])
    if picture.background:
        found["backgrounds"].add(picture.background)
    return {concept: frozenset(words) for concept, words in found.items()}


def phrases(picture: Picture) -> frozenset[str]:
    """The phrases of PHRASES that hold for the picture."""
    return frozenset(phrase(group) for group in picture.groups if group.kind != "texture")


def phrase(group: Group) -> str:
    """The group's color and noun."""
    return fill("a {}", f"{group.color} {group.noun}")


@cache
def known_words() -> tuple[str, ...]:
    """Every word of captions and prompts, sorted."""
    rng = random.Random("words of tiny-clip")
    texts = [caption(p, rng) for p in itertools.islice(pictures(0), SCANNED)]
    texts += [caption(p, rng, EVERYTHING) for p in itertools.islice(pictures(1), SCANNED)]
    texts += ["an", *WORD_TEMPLATES, *PROMPTS.values(), *PHRASES, *DIGIT_NAMES, *SHAPES.values()]
    texts += [word for words in WORDS.values() for word in words]
    found = {word for text in texts for word in re.findall(r"\w+|[^\w\s{}]+", text.lower())}
    return tuple(sorted(found))


def build_clip_tokenizer(context: int) -> PreTrainedTokenizerFast:
    """One token a word of the drawn world, and one for any other; texts end with a mark."""
    vocab = {token: n for n, token in enumerate((PAD, BOS, EOS, UNKNOWN, *known_words()))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([PAD, BOS, EOS, UNKNOWN])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocab[BOS]), (EOS, vocab[EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
