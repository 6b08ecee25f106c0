"""The models in memory: each loaded at its first use, old ones freed before the next is read.

Knows nothing of how a model is opened and used.
"""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from headviz.base.lru import LRU
from headviz.models.loaded import LoadedModel


class ModelCache:
    """Keeps the models that were used last."""

    def __init__(self, size: int, beside: Sequence[LRU[Any]]) -> None:
        """An empty one for `size` models; `beside` are results that hold parts of them."""
        self._models: LRU[LoadedModel] = LRU(size)
        self._beside = beside

    def find(self, name: str) -> LoadedModel | None:
        """The model of that name where it is in memory; it then counts as used."""
        return self._models.find(name)

    def find_or_open(
        self, name: str, open_model: Callable[[Callable[[], None], int], LoadedModel]
    ) -> LoadedModel:
        """The model of that name, opened if it is not there.

        `open_model` gets a function to call before it reads weights, which frees the models that
        have to go, and how many bytes that will free.
        """
        return self._models.find_or_make(
            name,
            lambda: open_model(
                self._make_room, sum(model.n_bytes for model in self._models.going())
            ),
        )

    def loaded(self) -> list[tuple[str, LoadedModel]]:
        """The models in memory, by name."""
        return list(self._models.items())

    def keep(self, name: str, model: LoadedModel) -> None:
        """Have a model that was opened elsewhere."""
        self._models.find_or_make(name, lambda: model)

    def __contains__(self, name: str) -> bool:
        """Whether the model of that name is in memory."""
        return name in self._models

    def _make_room(self) -> None:
        self._models.make_room()
        for results in self._beside:
            results.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
