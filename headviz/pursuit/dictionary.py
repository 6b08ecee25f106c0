"""Tokens -> atoms: the unembedding rows that a pursuit may pick from.

Options, with their defaults, because the paper is silent on them (they are kept in every result):
atoms of unit length, and the final norm's gain folded into them, so that an atom is the direction
of the residual stream that raises its token's logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headviz.base.shapes import Float, Tensor
from headviz.inputs.concepts import ConceptTokens, token_texts
from headviz.models.loaded import LoadedModel
from headviz.models.norms import read_norm


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Directions of the residual stream with a name each."""

    atoms: Float[Tensor, "atom d_model"]
    labels: tuple[str, ...]


class TokenAtoms:
    """An atom for every token, worked out for those asked for: a list takes few of a vocabulary."""

    def __init__(self, model: LoadedModel, normalise: bool = True, fold_norm: bool = True) -> None:
        """Of unit length, and with the final norm's gain folded in, if so asked."""
        self._rows = model.unembedding
        self._norm = read_norm(model.final_norm) if fold_norm else None
        self._normalise = normalise

    def __getitem__(self, ids: list[int] | slice) -> Float[Tensor, "atom d_model"]:
        """Of these tokens. Float32."""
        rows = self._rows[ids]
        if self._norm is not None:
            rows = self._norm.direction(rows)
        return _unit(rows) if self._normalise else rows


def vocabulary_atoms(
    model: LoadedModel, normalise: bool = True, fold_norm: bool = True
) -> Float[Tensor, "vocab d_model"]:
    """An atom for every token of the vocabulary, in the order of token ids. Float32."""
    return TokenAtoms(model, normalise, fold_norm)[:]


def concept_dictionary(
    atoms: Float[Tensor, "vocab d_model"] | TokenAtoms,
    tokens: ConceptTokens,
    normalise: bool = True,
) -> Dictionary:
    """The concept's atoms: a token each, or a word each where pieces are averaged."""
    if tokens.policy != "mean":
        labels = {i: piece for w in tokens.kept for i, piece in zip(w.ids, w.pieces, strict=True)}
        return token_dictionary(atoms, list(labels), list(labels.values()))
    means = torch.stack([atoms[list(w.ids)].mean(0) for w in tokens.kept])
    return Dictionary(_unit(means) if normalise else means, tuple(w.word for w in tokens.kept))


def token_dictionary(
    atoms: Float[Tensor, "vocab d_model"] | TokenAtoms, ids: Sequence[int], labels: Sequence[str]
) -> Dictionary:
    """The atoms of these tokens."""
    return Dictionary(atoms[list(ids)], tuple(labels))


def vocabulary_labels(model: LoadedModel) -> list[str]:
    """Every token as text, in the order of the unembedding's rows."""
    size = model.unembedding.shape[0]
    known = min(size, len(model.tokenizer))
    return token_texts(range(known), model.tokenizer) + ["<unused>"] * (size - known)


def _unit(rows: Float[Tensor, "atom d_model"]) -> Float[Tensor, "atom d_model"]:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
