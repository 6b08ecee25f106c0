"""See and steer what attention heads do.

>>> import headviz
>>> ranking = headviz.rank("tiny-lm", "colors")
>>> edit = headviz.Edit.of(ranking.top(2), factor=-1)
>>> result = headviz.compare("tiny-lm", "Question: ...", edit, ranking.words)

These functions, `spectrum`, `activations`, `zero_shot` and `bake` share one Session; make your own
for other devices or caches. All of it is described in docs/api.md.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# MKL would keep the buffers of its products for every thread that ever multiplied, also when it has
# ended; it reads this when torch is imported.
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")

from PIL import Image

from headviz.base.errors import HeadvizError
from headviz.base.head import Head
from headviz.clip.zero_shot import ZeroShot, ZeroShotRequest
from headviz.editing.bake import Checkpoint, write_checkpoint
from headviz.editing.compare import CompareRequest, Comparison, Stretch, last_of
from headviz.editing.effect import Effect
from headviz.editing.find import Found, Search
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe
from headviz.heads.capture import HeadActivations
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.edits import NO_EDIT, Edit
from headviz.inputs.concepts import Concept, find_concept
from headviz.inputs.image_folders import open_pictures
from headviz.inputs.images import Picture, open_picture
from headviz.inputs.prompt_sets import (
    PromptSet,
    make_prompt_set,
)
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import Ranking
from headviz.pursuit.spectrum import Spectrum
from headviz.session import rankings
from headviz.session.causal import Causes
from headviz.session.save import save
from headviz.session.session import Session

__all__ = [
    "Chat",
    "Checkpoint",
    "Comparison",
    "Concept",
    "Edit",
    "Effect",
    "Found",
    "Head",
    "HeadActivations",
    "HeadvizError",
    "Options",
    "Picture",
    "PromptSet",
    "Ranking",
    "Recipe",
    "Sampling",
    "Session",
    "Spectrum",
    "Stretch",
    "ZeroShot",
    "activations",
    "bake",
    "compare",
    "default_session",
    "effects",
    "find",
    "find_concept",
    "make_prompt_set",
    "open_picture",
    "rank",
    "save",
    "spectrum",
    "zero_shot",
]

ImageLike = Path | str | bytes | Image.Image | Picture


@cache
def default_session() -> Session:
    """The session that the functions below share."""
    return Session()


def rank(
    model: str,
    concept: str | Sequence[str],
    prompt_set: str | PromptSet | None = None,
    criterion: str = "somp",
    options: Options | None = None,
    images: Sequence[ImageLike] = (),
    prompt: str = "",
) -> Ranking:
    """All heads of a model, ranked for a concept.

    Args:
        model: a built-in model, a folder, or a name on the hub.
        concept: a preset's name, or a list of words.
        prompt_set: what to read the heads on: a built-in set, a file of texts, a folder or zip of
            pictures, a PromptSet of yours, or None for the model's own.
        criterion: one of headviz.session.rankings.RANKINGS.
        options: choices that the score depends on.
        images: pictures (files, bytes or PIL images) to read the heads on in place of `prompt_set`.
        prompt: what is asked about each picture; empty for the model's usual prompt.
    """
    samples = _prompt_set(model, prompt_set, images, prompt)
    return rankings.rank(default_session(), model, _concept(concept), samples, criterion, options)


def spectrum(
    model: str,
    head: str | Head,
    prompt_set: str | PromptSet | None = None,
    steps: int = 20,
    options: Options | None = None,
    images: Sequence[ImageLike] = (),
    prompt: str = "",
) -> Spectrum:
    """What a head talks about: tokens in order, its strongest samples, its logit lens."""
    head = Head.parse(head) if isinstance(head, str) else head
    samples = _prompt_set(model, prompt_set, images, prompt)
    return default_session().spectrum(model, head, samples, steps, options)


def activations(
    model: str,
    prompt_set: str | PromptSet | None = None,
    pooling: str | None = None,
    images: Sequence[ImageLike] = (),
    prompt: str = "",
) -> HeadActivations:
    """Every head's signal on every text or picture; `pooling` is the model's usual one if None."""
    samples = _prompt_set(model, prompt_set, images, prompt)
    return default_session().activations(model, samples, pooling)


def compare(
    model: str,
    prompt: str,
    edit: Edit,
    words: Sequence[str] = (),
    sampling: Sampling | None = None,
    images: Sequence[ImageLike] = (),
    control_seed: int = 0,
    earlier: Sequence[Stretch] = (),
    chat: Chat = PLAIN,
) -> Comparison:
    """Original, edited and random control from one batch, with the concept's words counted.

    A vision-language model needs one or more `images`: files, bytes or PIL images. `control_seed`
    chooses the control's heads, `chat` how the prompt is put to a model with a chat template.
    `earlier` is what the answer is written under first, where the edit is to begin in its middle.
    """
    asked = CompareRequest(
        prompt=prompt,
        edit=edit,
        words=tuple(words),
        control_seed=control_seed,
        sampling=sampling or Sampling(),
        pictures=tuple(open_pictures(images)),
        earlier=tuple(earlier),
        chat=chat,
    )
    return last_of(default_session().compare(model, asked))


def zero_shot(
    model: str,
    images: Sequence[ImageLike],
    classes: Sequence[str],
    edit: Edit = NO_EDIT,
    control_seed: int = 0,
) -> ZeroShot:
    """What a CLIP model takes pictures for, of these classes: original, edited, random control.

    Raises OptionError for a model that writes text: `compare` asks that.
    """
    pictures = [picture.image() for picture in open_pictures(images)]
    asked = ZeroShotRequest(pictures, classes, edit, control_seed=control_seed)
    return default_session().zero_shot(model, asked)


def effects(
    model: str,
    concept: str | Sequence[str],
    heads: Sequence[str | Head],
    factor: float = 0.0,
    prompt_set: str | PromptSet | None = None,
) -> dict[Head, Effect]:
    """What the model loses on a concept's words without each head, and what else moves, in nats.

    Measured by really turning each head to `factor`, on what the model itself says to the texts
    (openings of descriptions if none are named). Raises PromptError where it never says the
    concept.
    """
    causes = Causes(default_session())
    chosen = [Head.parse(head) if isinstance(head, str) else head for head in heads]
    texts = causes.prompt_set(model, prompt_set)
    return dict(causes.effects(model, _concept(concept), texts, chosen, factor))


def find(
    model: str,
    concept: str | Sequence[str],
    heads: int = 8,
    towards: str = "weaker",
    side_effects: float = 0.1,
    prompt_set: str | PromptSet | None = None,
) -> Found:
    """Search for the few heads and factors that take a concept away, or bring it forward.

    Args:
        model: as for `rank`.
        concept: as for `rank`.
        heads: at most so many are turned.
        towards: "weaker" or "stronger".
        side_effects: mean KL divergence elsewhere that is allowed, in nats.
        prompt_set: what the model answers; its words are looked at.

    Raises:
        PromptError: where the model never says the concept there.
        OptionError: for numbers out of range.
    """
    causes = Causes(default_session())
    search = Search(towards, heads, side_effects)
    texts = causes.prompt_set(model, prompt_set)
    *_, found = causes.find(model, _concept(concept), search, texts)
    assert isinstance(found, Found)
    return found


def bake(model: str, edit: Edit | Recipe, folder: Path | str) -> Checkpoint:
    """Write the model with the edit in its weights: an ordinary checkpoint in a new folder.

    Raises OptionError for an edit that weights cannot hold, CheckpointError for a folder that is
    not empty or a disk that is full.
    """
    session = default_session()
    with session.lock:
        loaded = session.model(model)
        recipe = Recipe(model, loaded.revision, edit) if isinstance(edit, Edit) else edit
        return write_checkpoint(loaded, recipe.on(loaded), Path(folder))


def _concept(concept: str | Sequence[str]) -> Concept:
    return find_concept(concept) if isinstance(concept, str) else find_concept(None, concept)


def _prompt_set(
    model: str, prompt_set: str | PromptSet | None, images: Sequence[ImageLike], prompt: str
) -> PromptSet:
    return default_session().prompt_set(model, prompt_set, prompt, open_pictures(images))
