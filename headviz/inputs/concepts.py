"""A concept is a list of words; here words become tokens, and the page learns what each became.

A preset is a file assets/concepts/NAME.txt: a title line, then a word a line. Knows nothing of
heads. Sub-word pieces pull in heads that merely spell letters (the paper kept one-token words on
Gemma 3), so words of several tokens are dropped by default, with the reason kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from headviz.base import assets
from headviz.base.errors import ConceptError, OptionError, TableError, UnknownName, check_unicode
from headviz.inputs.tables import read_lines

PIECES = {
    "single": "only words that are one token (default)",
    "all": "every piece of every word is an atom of its own",
    "mean": "the mean of a word's pieces is one atom",
}
MAX_WORDS = 2000


@dataclass(frozen=True)
class Concept:
    """A name and its words."""

    name: str
    title: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class WordTokens:
    """What one word became in one model's vocabulary."""

    word: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    kept: bool
    why: str
    """Why the word was dropped, or '' if it was kept."""


@dataclass(frozen=True)
class ConceptTokens:
    """A concept in a model's vocabulary."""

    concept: Concept
    words: tuple[WordTokens, ...]
    policy: str
    """One of PIECES."""

    @property
    def kept(self) -> tuple[WordTokens, ...]:
        """The words that take part."""
        return tuple(w for w in self.words if w.kept)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of all tokens that take part, each once."""
        return tuple(dict.fromkeys(i for w in self.kept for i in w.ids))


def known_concepts() -> dict[str, Concept]:
    """The presets in assets/concepts, by name. Raises ConceptError, naming a broken file."""
    concepts = {}
    for path in sorted((assets.ASSETS / "concepts").glob("*.txt")):
        try:
            title, *words = read_lines(path)
        except TableError as error:
            raise ConceptError(str(error)) from error
        if not any(word.strip() for word in words):
            raise ConceptError(f"{path.name} has no words. Write a title line, then a word a line.")
        concepts[path.stem] = make_concept(path.stem, words, title.strip())
    return concepts


def find_concept(name: str | None, words: Iterable[str] | str | None = None) -> Concept:
    """The preset called `name`, or the given words under that name.

    Raises UnknownName, with the known presets, or ConceptError where no word is left.
    """
    if words is not None:
        words = words.replace("\n", ",").split(",") if isinstance(words, str) else words
        return make_concept(name or "my words", words)
    known = known_concepts()
    if name not in known:
        hint = f"Add your own words, or a file assets/concepts/{name}.txt." if name else ""
        raise UnknownName("concept", name or "", known, hint)
    return known[name]


def make_concept(name: str, words: Iterable[str], title: str | None = None) -> Concept:
    """A concept of these words, blanks and repetitions left out. Raises ConceptError if empty."""
    kept = tuple(dict.fromkeys(w.strip() for w in words if w.strip()))
    check_unicode(kept, ConceptError)
    if not kept:
        raise ConceptError("The concept has no words. Type some, separated by commas.")
    if len(kept) > MAX_WORDS:
        raise ConceptError(f"The concept has {len(kept)} words; at most {MAX_WORDS} are read.")
    return Concept(name, title or name, kept)


def tokenize_concept(
    concept: Concept, tokenizer: Any, policy: str = "single", n_tokens: int | None = None
) -> ConceptTokens:
    """What each word becomes in this vocabulary, and which words take part under `policy`.

    A word is read as it stands inside a sentence, after a space; `n_tokens` of the vocabulary have
    weights (None: all). Raises OptionError for an unknown
    policy and ConceptError where no word is left.
    """
    if policy not in PIECES:
        raise OptionError(f"Unknown choice of pieces {policy!r}. Known: {', '.join(PIECES)}.")
    words = tuple(_word_tokens(word, tokenizer, policy, n_tokens) for word in concept.words)
    if not any(w.kept for w in words):
        raise ConceptError(
            f"No word of {concept.name!r} is a single token of this model. Choose other words, "
            "or let words of several tokens in (pieces: all or mean)."
        )
    return ConceptTokens(concept, words, policy)


def in_sentence_ids(word: str, tokenizer: Any) -> tuple[int, ...]:
    """The word's token ids inside a sentence, where a space stands before it."""
    # Tokenizers disagree on what a leading space alone does, so a word is set before and cut off.
    before = tokenizer("a", add_special_tokens=False)["input_ids"]
    both = tokenizer(f"a {word}", add_special_tokens=False)["input_ids"]
    if both[: len(before)] == before:
        return tuple(both[len(before) :])
    return tuple(tokenizer(word, add_special_tokens=False)["input_ids"])


def token_texts(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """Each token as a person reads it, its leading space kept; bytes of no character as <0x..>."""
    texts = []
    for token in tokenizer.convert_ids_to_tokens(list(ids)):
        text = tokenizer.convert_tokens_to_string([token])
        marked = token.startswith(("▁", "Ġ")) and not text.startswith(" ")
        texts.append(" " + text if marked else token if "�" in text or not text else text)
    return texts


def _word_tokens(word: str, tokenizer: Any, policy: str, n_tokens: int | None) -> WordTokens:
    ids = in_sentence_ids(word, tokenizer)
    pieces = tuple(token_texts(ids, tokenizer))
    unknown = tokenizer.unk_token_id in ids if tokenizer.unk_token_id is not None else False
    why = ""
    if not ids or unknown:
        why = "not in the vocabulary"
    elif n_tokens is not None and max(ids) >= n_tokens:
        why = "added to the vocabulary, without weights"
    elif len(ids) > 1 and policy == "single":
        why = f"{len(ids)} tokens"
    return WordTokens(word, ids, pieces, not why, why)
