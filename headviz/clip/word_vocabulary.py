"""CLIP's own heads: the image tower as a LoadedModel whose vocabulary is a list of words.

The tower's output is x = norm(h)·P for the residual stream h at the class token (or the mean over
patches). A word with the unit text embedding t is found in it by ⟨x, t⟩ = ⟨norm(h), P·t⟩, just as a
language model finds a token by ⟨norm(h), u⟩. So P·t is the word's row of an unembedding, and
dictionaries, the pursuit, the ranking and edits are those of language models, unchanged.

The final norm is made linear as Gandelsman et al. do ("Interpreting CLIP's Image Representation via
Text-Based Decomposition", ICLR 2024): LayerNorm is γ∘(h − mean)/σ + β. The mean and γ are folded
into the atoms (`dictionary.vocabulary_atoms`), β shifts all images alike, and σ is kept as it is in
the unedited run; with `frozen_norm` the signals read are divided by it, so that z·W_O·atom is the
head's exact share of ⟨x, t⟩. Knows nothing of concepts; the embeddings of words are handed in.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from torch import nn
from transformers import PreTrainedTokenizerFast

from headviz.base.errors import ConceptError, OptionError, PromptError
from headviz.base.shapes import Float, Tensor
from headviz.base.store import Store
from headviz.clip.embed import WORD_TEMPLATES, embed_texts
from headviz.clip.load import ClipModel
from headviz.clip.open_tower import open_tower
from headviz.heads.capture import HeadActivations, Progress, no_progress
from headviz.heads.hooks import projection_inputs
from headviz.models.families import Family
from headviz.models.loaded import LoadedModel

CLIP_POOLINGS = {
    "output": "the positions that the output is read from: the class token, or all patches",
    "patches": "mean over the image's patches",
}
TOWER = Family("visual.transformer.resblocks", "attn.out_proj", "visual.ln_post")
BATCH = 32
_UNKNOWN = "<unk>"


class WordTower(nn.Module):
    """The image tower and, in place of an unembedding, a row for each word."""

    def __init__(self, visual: Any, words: Float[Tensor, "word embedding"], scale: float) -> None:
        """`words` are unit text embeddings; `scale` is the model's own logit scale."""
        super().__init__()
        self.visual = visual
        self.scale = scale
        rows = words.to(visual.proj.device) @ visual.proj.detach().float().T
        self.words = nn.Linear(rows.shape[1], rows.shape[0], bias=False, device="meta")
        self.words.weight = nn.Parameter(rows, requires_grad=False)

    def get_output_embeddings(self) -> nn.Linear:
        """The words' rows, under the name that transformers gives an unembedding."""
        return self.words

    def embed(self, pixels: Float[Tensor, "row 3 height width"]) -> Float[Tensor, "row embedding"]:
        """Unit embeddings in the joint space."""
        output = self.visual(pixels)
        features = output[0] if isinstance(output, tuple) else output
        return nn.functional.normalize(features.float(), dim=-1)


def tower_model(
    clip: ClipModel,
    words: Iterable[str],
    templates: Sequence[str] = WORD_TEMPLATES,
    store: Store | None = None,
) -> LoadedModel:
    """The image tower with `words` as its vocabulary, for all that takes a LoadedModel.

    Words of several parts ("New York"), repetitions and words that the model's tokenizer does not
    know are left out. It shares the weights of `clip`.

    Raises:
        ModelError: for a tower that is no plain vision transformer; it says why.
        ConceptError: where no word is left.
    """
    kept = [w for w in dict.fromkeys(w.strip() for w in words) if len(w.split()) == 1]
    kept = [word for word in kept if clip.knows(word)]
    if not kept:
        raise ConceptError(f"{clip.name} knows none of the words. Give other words.")
    visual = open_tower(clip.model.visual, clip.name)
    embeddings = embed_texts(clip, kept, templates, store)
    scale = float(clip.model.logit_scale.exp().mean())
    tower = WordTower(visual, embeddings, scale).eval().requires_grad_(False)
    blocks = visual.transformer.resblocks
    n_heads = _heads_of(blocks[0].attn)
    d_model = blocks[0].attn.out_proj.out_features
    return LoadedModel(
        name=clip.name,
        revision=clip.revision,
        model=tower,
        tokenizer=_word_tokenizer(kept),
        family=TOWER,
        n_layers=len(blocks),
        n_heads=n_heads,
        d_head=d_model // n_heads,
        d_model=d_model,
        context=1,
        device=clip.device,
        dtype=torch.float32,
        why="the image tower, in the number format it was made for",
    )


def _heads_of(attention: Any) -> int:
    n_heads: int = getattr(attention, "n_heads", None) or attention.num_heads
    return n_heads


def _word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token a word, in the order of the words; "▁" marks a word's start, as elsewhere."""
    vocab = {f"▁{word}": n for n, word in enumerate(words)}
    # Unknown words get an id past the vocabulary's rows: no atom belongs to it.
    tokenizer = Tokenizer(token_models.WordLevel({**vocab, _UNKNOWN: len(vocab)}, _UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=_UNKNOWN, pad_token=_UNKNOWN
    )


def pixels_of(
    clip: ClipModel, images: Sequence[Image.Image]
) -> Float[Tensor, "row 3 height width"]:
    """The images as the tower takes them."""
    return torch.stack([clip.preprocess(image) for image in images]).to(clip.device)


@torch.inference_mode()
def capture_images(
    clip: ClipModel,
    tower: LoadedModel,
    images: Sequence[Image.Image],
    names: Sequence[str] | None = None,
    pooling: str = "output",
    frozen_norm: bool = True,
    progress: Progress = no_progress,
) -> HeadActivations:
    """Every head's signal on every image.

    Args:
        clip: the model that `tower` was made of.
        tower: its image tower (`tower_model`).
        images: one or more.
        names: what stands for each image in results; its number if not given.
        pooling: one of CLIP_POOLINGS.
        frozen_norm: divide the signals by σ of the final norm (see above).
        progress: called with the share done.

    Raises:
        OptionError: for an unknown pooling.
        PromptError: where there is no image, or a signal is not finite.
    """
    if pooling not in CLIP_POOLINGS:
        raise OptionError(f"Unknown pooling {pooling!r}. Known: {', '.join(CLIP_POOLINGS)}.")
    if not images:
        raise PromptError("No image given. Add at least one.")
    parts, digest, n_positions = [], hashlib.sha256(), 0
    for start in range(0, len(images), BATCH):
        progress(start / len(images), f"image {start + 1} of {len(images)}")
        pixels = pixels_of(clip, images[start : start + BATCH])
        digest.update(pixels.cpu().contiguous().numpy().tobytes())
        z, each = _pooled(tower, pixels, pooling, frozen_norm)
        parts.append(z)
        n_positions += each * len(pixels)
    z = torch.cat(parts, 2)
    if not bool(z.isfinite().all()):
        raise PromptError(
            "The tower gives numbers that are not finite. Use another image or model."
        )
    progress(1.0, "heads read")
    return HeadActivations(
        z,
        tuple(names or (f"image {number}" for number in range(1, len(images) + 1))),
        tower.name,
        tower.revision,
        digest.hexdigest()[:32],
        f"{pooling}, σ of the final norm" if frozen_norm else pooling,
        n_positions,
    )


def _pooled(
    tower: LoadedModel,
    pixels: Float[Tensor, "row 3 height width"],
    pooling: str,
    frozen_norm: bool,
) -> tuple[Float[Tensor, "layer head row d_head"], int]:
    """The pooled signals, and the number of positions read for each image."""
    visual = tower.model.visual
    class_token = pooling == "output" and visual.pool_type == "tok"
    found: list[Tensor] = [torch.empty(0)] * tower.n_layers
    # σ is one number per position where the norm comes before the mean over patches.
    with _norm_input(visual) as seen:

        def read(layer: int, signals: Tensor) -> None:
            found[layer] = signals.float().unflatten(2, (tower.n_heads, -1))

        with projection_inputs(tower, read):
            visual(pixels)
    z = torch.stack(found)  # layer row position head d_head
    places = slice(0, 1) if class_token else slice(1, None)
    z = z[:, :, places]
    if frozen_norm:
        h = seen[0].float()
        sigma = (h.var(-1, unbiased=False) + visual.ln_post.eps).sqrt()
        z = z / (sigma[:, None, None, None] if h.ndim == 2 else sigma[:, places, None, None])
    return z.mean(2).permute(0, 2, 1, 3), z.shape[2]


@contextmanager
def _norm_input(visual: Any) -> Iterator[list[Tensor]]:
    """While open, collects what the final norm gets."""
    seen: list[Tensor] = []
    handle = visual.ln_post.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()
