"""A dictionary that keeps the results used last."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class LRU(OrderedDict[Any, T]):
    """Keeps the last `size` results used."""

    def __init__(self, size: int) -> None:
        """An empty one."""
        super().__init__()
        self._size = size
        self._lock = threading.RLock()

    def find(self, key: Any) -> T | None:
        """What is kept under `key`, which counts as a use; never waits for what is being made."""
        kept = self.get(key)
        with suppress(KeyError):
            self.move_to_end(key)
        return kept

    def find_or_make(self, key: Any, make: Callable[[], T]) -> T:
        """What is kept under `key`, or what `make` gives, which is then kept."""
        with self._lock:  # two visitors may ask at once
            if key not in self:
                made = self[key] = make()
                while len(self) > self._size:
                    self.popitem(last=False)
                return made
            self.move_to_end(key)
            return self[key]

    def clear(self) -> None:
        """Let everything go, once what is being made is made."""
        with self._lock:
            super().clear()

    def going(self) -> list[T]:
        """What would be let go for one more."""
        return list(self.values())[: max(len(self) + 1 - self._size, 0)]

    def make_room(self) -> None:
        """Let it go now rather than after the next one is made."""
        with self._lock:
            for _ in self.going():
                self.popitem(last=False)
