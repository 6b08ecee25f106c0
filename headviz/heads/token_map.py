"""How strongly a head writes at each word of a text: a number a token.

The number is ‖(z − μ)·W_O‖, as for the patches of a picture (`patch_map`): how far what the head
writes at that position is from its mean μ. Only the prompt's own words are looked at; a template
around them is the same for every text. Knows nothing of drawing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headviz.base.head import Head
from headviz.base.shapes import Float, Tensor
from headviz.heads.chat import PLAIN, Chat
from headviz.heads.forward import batch_of
from headviz.heads.hooks import projection_inputs
from headviz.heads.prompts import EncodedPrompt, encode_prompt
from headviz.models.loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class TokenMap:
    """How strongly a head writes at each token of one text."""

    pieces: tuple[str, ...]
    """The text, cut where its tokens begin."""
    strength: Float[Tensor, " token"]
    """Length in units of the residual stream, on the CPU."""


@torch.inference_mode()
def head_signals(
    model: LoadedModel, encoded: EncodedPrompt, head: Head
) -> Float[Tensor, "position d_head"]:
    """The head's signal at every position, scaled as it reaches the residual stream.

    Raises OptionError for a head that is not there.
    """
    model.check_heads([head])
    found: list[Tensor] = []

    def read(layer: int, signals: Tensor) -> None:
        if layer != head.layer:
            return
        z = signals.float().unflatten(2, (model.n_heads, model.d_head))[0, :, head.index]
        scale = model.write_scale(layer, signals)
        found.append((z if scale is None else z * scale[0, :, None]).to(model.home))

    batch = batch_of(model, [encoded], left=False)
    with projection_inputs(model, read):
        model.model.base_model(**batch.inputs(), use_cache=False)
    return found[0]


@torch.inference_mode()
def token_map(
    model: LoadedModel,
    text: str,
    head: Head,
    mean: Float[Tensor, " d_head"] | None = None,
    chat: Chat = PLAIN,
) -> TokenMap:
    """The map of one head on one text.

    Args:
        model: a language model.
        text: what it reads, put to it as `chat` says.
        head: whose signal is read.
        mean: the head's mean signal, which is taken away; nothing is where it is not given.
        chat: as the texts were read that the head's strongest samples are of.

    Raises:
        OptionError: for a head that is not there.
        PromptError: for a text that cannot be put to the model.
    """
    encoded = encode_prompt(model, text, chat=chat)
    z = head_signals(model, encoded, head)
    if mean is not None:
        z = z - mean
    lengths = (z @ model.head_weights(head.layer)[head.index]).norm(dim=1)
    own = torch.tensor(encoded.own, device=lengths.device)
    pieces = _pieces(model, [i for i, o in zip(encoded.ids, encoded.own, strict=True) if o])
    return TokenMap(pieces, lengths[own].float().cpu())


def _pieces(model: LoadedModel, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token adds to the text: a letter of several tokens stands at its last."""
    pieces, before = [], ""
    for n in range(1, len(ids) + 1):
        # A letter that is not complete yet is decoded as a mark of its own.
        whole = model.tokenizer.decode(ids[:n]).rstrip("�")
        pieces.append(whole[len(before) :])
        before = whole if len(whole) >= len(before) else before
    return tuple(pieces)
