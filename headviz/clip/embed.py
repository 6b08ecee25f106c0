"""Pictures and texts in CLIP's joint space: embeddings, and the similarity of a picture and a text.

The similarity is the cosine of the two embeddings (Radford et al. 2021); it knows nothing of any
concept list, so it checks whether a caption still fits its picture. CLIPScore (Hessel et al. 2021)
is 2.5 · max(cosine, 0). What counts is the difference between captions of one picture: the level
itself differs from model to model, 0.2 to 0.35 for a good caption with the large public ones.
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from PIL import Image

from headviz.base.errors import CacheError, ConceptError, OptionError, PromptError, check_unicode
from headviz.base.progress import Progress, no_progress
from headviz.base.shapes import Float, Tensor
from headviz.base.store import Store, key_of
from headviz.clip.load import ClipModel

WORD_TEMPLATES = ("{}", "a photo of {}", "a photo of something {}", "a {} thing")
"""What a word of unknown kind is put into: a thing, a property and a count all fit one of them."""
BATCH = 64


def fill(template: str, word: str) -> str:
    """The word in the template, "a" turned into "an" where the word asks for it."""
    vowel = word[:1].lower() in ("a", "e", "i", "o", "u")
    return (template.replace("a {}", "an {}") if vowel else template).format(word)


@torch.inference_mode()
def embed_images(
    clip: ClipModel, images: Sequence[Image.Image]
) -> Float[Tensor, "image embedding"]:
    """Unit embeddings of the images, on the CPU. Raises PromptError where there is none."""
    if not images:
        raise PromptError("No image given. Add at least one.")
    parts = []
    for start in range(0, len(images), BATCH):
        some = [clip.preprocess(image) for image in images[start : start + BATCH]]
        features = clip.model.encode_image(torch.stack(some).to(clip.device), normalize=True)
        parts.append(features.float().cpu())
    return torch.cat(parts)


def embed_texts(
    clip: ClipModel,
    texts: Sequence[str],
    templates: Sequence[str] = ("{}",),
    store: Store | None = None,
    progress: Progress = no_progress,
) -> Float[Tensor, "text embedding"]:
    """Unit embeddings of the texts, each the mean over the templates, on the CPU.

    They are kept in `store` and read from there the next time. Raises ConceptError where there is
    no text or one is not valid Unicode, and what `progress` raises.
    """
    texts = list(texts)
    if not texts:
        raise ConceptError("No text given. Write at least one.")
    check_unicode(texts, ConceptError)
    key = key_of(
        kind="clip texts",
        model=clip.name,
        revision=clip.revision,
        texts=texts,
        templates=list(templates),
    )
    kept = store.get(key) if store else None
    if kept is not None:
        return kept[0]["embeddings"]
    every = [fill(template, text) for template in templates for text in texts]
    found = _embed(clip, every, progress).unflatten(0, (len(templates), len(texts)))
    embeddings = torch.nn.functional.normalize(found.mean(0), dim=1)
    if store:
        with suppress(CacheError):  # it is kept to save time only
            store.put(key, {"embeddings": embeddings}, {"kind": "clip texts"})
    return embeddings


@torch.inference_mode()
def _embed(
    clip: ClipModel, texts: Sequence[str], progress: Progress
) -> Float[Tensor, "text embedding"]:
    parts = []
    for start in range(0, len(texts), 4 * BATCH):
        progress(start / len(texts), f"{clip.name} reads {len(texts)} texts")
        some = clip.tokens(list(texts[start : start + 4 * BATCH]))
        parts.append(clip.model.encode_text(some, normalize=True))
    return torch.cat(parts).float().cpu()


def similarity(
    clip: ClipModel, images: Sequence[Image.Image], texts: Sequence[str]
) -> Float[Tensor, " pair"]:
    """Cosine of image i and text i in the joint space, -1 to 1.

    One image may go with many texts (original, edited and control caption of one picture). Texts
    longer than the model's context are cut. Raises OptionError where the numbers do not match.
    """
    if len(images) not in (1, len(texts)):
        raise OptionError(
            f"{len(images)} images do not go with {len(texts)} texts. Give one image, or as many."
        )
    return (embed_images(clip, images) * embed_texts(clip, texts)).sum(1)
