"""A concept from pictures: the words that a CLIP model finds in them and not elsewhere.

A word's score is the mean cosine of its text embedding with the pictures, minus its mean cosine
with other pictures: those named as unlike, or else a fixed set of many different drawings. CLIP
finds some words in any picture at all (the hubs of the joint space), and subtracting what a word
gets from reference pictures takes that away: test-time distribution normalisation (Zhou et al.,
NeurIPS 2023) to first order, the same idea as content-free calibration of prompts (Zhao et al.,
ICML 2021). References of the kind one names concepts in (own photographs) do better than drawings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from headviz.base import assets
from headviz.base.errors import ConceptError, ModelError
from headviz.base.progress import Progress, no_progress
from headviz.base.store import Store
from headviz.clip.embed import WORD_TEMPLATES, embed_images, embed_texts
from headviz.clip.load import ClipModel
from headviz.inputs.concepts import Concept, known_concepts, make_concept
from headviz.models.loaded import LoadedModel
from headviz.pursuit.ranking import word_tokens

REFERENCE = "tiny-clip/reference.png"
TILE = 48  # pixels: the reference pictures lie side by side in one file
MOST_WORDS = 5000
"""Of a model's vocabulary, the most frequent first: each costs four texts to embed, once."""


@dataclass(frozen=True)
class NamedWord:
    """A word, how well it fits the pictures, and where it is listed."""

    word: str
    score: float
    """`similarity` minus `elsewhere`."""
    similarity: float
    """Mean cosine with the pictures, -1 to 1."""
    elsewhere: float
    """Mean cosine with the pictures it is compared with."""
    presets: tuple[str, ...]
    """Names of the preset concepts that hold the word."""


@dataclass(frozen=True)
class NamedConcept:
    """Words for a set of pictures, the best first, and all that they depend on."""

    model: str
    revision: str
    n_images: int
    compared_with: str
    """What the scores are relative to."""
    templates: tuple[str, ...]
    words: tuple[NamedWord, ...]
    unknown: int
    """Candidates left out because the CLIP model's tokenizer does not know them."""

    def concept(self, top: int, name: str = "from pictures") -> Concept:
        """The concept of the first `top` words."""
        return make_concept(name, (named.word for named in self.words[:top]))

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain data for JSON; `words` holds the first `top`."""
        words = [asdict(named) for named in self.words[:top]]
        return {**asdict(self), "templates": list(self.templates), "words": words}


def name_concept(
    clip: ClipModel,
    images: Sequence[Image.Image],
    unlike: Sequence[Image.Image] = (),
    candidates: Iterable[str] | None = None,
    reference: Sequence[Image.Image] | None = None,
    store: Store | None = None,
    progress: Progress = no_progress,
) -> NamedConcept:
    """The candidates in the order of how much better they fit the images than others.

    Args:
        clip: the model that sees and reads.
        images: one or more pictures of the concept.
        unlike: pictures without it; what they share with `images` cancels out.
        candidates: words to choose from; the presets' if not given. See `vocabulary_words`.
        reference: what is compared with where `unlike` is empty; the built-in drawings if not
            given. An empty list compares with nothing: then words found in any picture win.
        store: where text embeddings are kept.
        progress: told how far the reading of the words is.

    Raises:
        PromptError: where there is no image.
        ConceptError: where the model knows none of the candidates.
    """
    presets = _presets()
    wanted = list(dict.fromkeys(w.strip() for w in (candidates or presets) if w.strip()))
    words = [word for word in wanted if clip.knows(word)]
    if not words:
        raise ConceptError(f"{clip.name} knows none of the {len(wanted)} words to choose from.")
    shown = embed_images(clip, images).mean(0)
    others = list(unlike) or (reference_pictures() if reference is None else list(reference))
    texts = embed_texts(clip, words, WORD_TEMPLATES, store, progress)
    here = texts @ shown
    there = texts @ embed_images(clip, others).mean(0) if others else here * 0
    order = (here - there).argsort(descending=True, stable=True).tolist()
    score, similarity, elsewhere = (here - there).tolist(), here.tolist(), there.tolist()
    kind = "pictures it shall be unlike" if unlike else "reference pictures"
    return NamedConcept(
        model=clip.name,
        revision=clip.revision,
        n_images=len(images),
        compared_with=f"{len(others)} {kind}" if others else "nothing",
        templates=WORD_TEMPLATES,
        words=tuple(
            NamedWord(words[i], score[i], similarity[i], elsewhere[i], presets.get(words[i], ()))
            for i in order
        ),
        unknown=len(wanted) - len(words),
    )


def vocabulary_words(model: LoadedModel, most: int = MOST_WORDS) -> list[str]:
    """Whole words of a language model's vocabulary, at most `most`, the most frequent first.

    In lower case where the vocabulary has both; two letters at least.
    """
    names = model.tokenizer.convert_ids_to_tokens(list(word_tokens(model)))
    whole = [name[1:] for name in names]
    known = set(whole)
    return list(dict.fromkeys(w.lower() if w.lower() in known else w for w in whole))[:most]


def reference_pictures() -> list[Image.Image]:
    """The built-in drawings that words are compared on.

    Raises ModelError where they are missing.
    """
    path = assets.ASSETS / REFERENCE
    if not path.is_file():
        raise ModelError(f"The reference pictures (assets/{REFERENCE}) are missing. Name others.")
    with Image.open(path) as file:
        sheet = file.convert("RGB")
    return [
        sheet.crop((x, y, x + TILE, y + TILE))
        for y in range(0, sheet.height, TILE)
        for x in range(0, sheet.width, TILE)
    ]


def _presets() -> dict[str, tuple[str, ...]]:
    """Word -> the presets that hold it."""
    found: dict[str, tuple[str, ...]] = {}
    for concept in known_concepts().values():
        for word in concept.words:
            found[word] = (*found.get(word, ()), concept.name)
    return found
