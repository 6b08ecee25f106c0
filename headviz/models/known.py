"""Models that are known by name: what they are, what they take, and where they come from.

The table is assets/models.json; adding a model is a row. Any other folder or hub name works as
well. Knows nothing of how a model is fetched and loaded.
"""

import json
from dataclasses import dataclass

from headviz.base import assets
from headviz.base.assets import built_in_models
from headviz.models.converted import is_converted
from headviz.models.devices import choose_device
from headviz.models.hub import cached_weights
from headviz.models.joined import KIND, parts_of
from headviz.models.memory import memory_left
from headviz.models.package import PackagedFile

DEFAULT = "smollm2-135m"
"""What the page opens on, once it is here."""
KINDS = ("language", "vision", "clip")
SMALL = 1_100_000_000
"""Bytes of weights that a stranger may have a public page fetch."""


@dataclass(frozen=True)
class KnownModel:
    """One row of the table."""

    name: str
    """What to call it by; also that of the hub for those that come from there alone."""
    title: str
    kind: str
    """Of KINDS."""
    licence: str
    layers: int
    heads: int
    """Query heads of a layer."""
    parameters: int
    """How many numbers; of models of the hub, rounded."""
    n_bytes: int
    """What is downloaded or ships, without the small files; of models of the hub, rounded."""
    hub: str = ""
    """Its name on the hub; empty where it comes from elsewhere."""
    package: PackagedFile | None = None
    """The package that holds it, which is asked before the hub."""
    language_model: str = ""
    """The known model that it is joined with (`models.joined`); empty for one that is whole."""
    gated: bool = False
    """Whether the hub gives it only to those who accepted its licence."""
    note: str = ""
    """What it is good for, in a few words."""

    @property
    def total_heads(self) -> int:
        """Heads of all layers."""
        return self.layers * self.heads

    @property
    def is_here(self) -> bool:
        """Whether it opens without a network."""
        if self.package is not None and is_converted(self.package.sha256):
            return True
        if self.hub:
            return cached_weights(self.hub) is not None
        if self.language_model:
            return self._can_be_joined
        folder = assets.ASSETS / self.name
        return any(folder.glob("*.safetensors"))

    @property
    def sees(self) -> bool:
        """Whether it answers about pictures."""
        return self.kind == "vision"

    @property
    def to_fetch(self) -> int:
        """Bytes that would come over the network: of one that is joined, its language model's."""
        if self.language_model:
            return known_models()[self.language_model].n_bytes
        return self.n_bytes

    @property
    def can_be_had(self) -> bool:
        """Whether a network would bring what is not here of it."""
        return bool(self.hub) or (bool(self.language_model) and parts_of(self.name) is not None)

    @property
    def _can_be_joined(self) -> bool:
        parts = parts_of(self.name)
        return parts is not None and (
            is_converted(parts.sha256) or is_converted(parts.content, KIND)
        )

    def memory(self, bytes_each: int) -> int:
        """Bytes of memory that it takes, with numbers of so many bytes and room to work in."""
        return int(self.parameters * bytes_each * 1.1)


def known_models() -> dict[str, KnownModel]:
    """Name -> row, in the order of the table: the default, the built-in ones, then by size."""
    file = assets.ASSETS / "models.json"
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))
    return {row["name"]: _model(**row) for row in rows}


def _model(package: dict[str, str | int] | None = None, **row: object) -> KnownModel:
    packaged = PackagedFile(**package) if package else None  # type: ignore[arg-type]
    return KnownModel(**row, package=packaged)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Offer:
    """What a known model means on this machine."""

    model: KnownModel
    is_here: bool
    """Whether it opens without a network."""
    memory: int
    """Bytes of memory that it would take here."""
    fits: bool
    """Whether that is left on the device that would be chosen, as far as is known."""


def offers() -> tuple[Offer, ...]:
    """All known models, for somebody who chooses one."""
    device, dtype, _ = choose_device("auto", "auto")
    left = memory_left(device)
    found = []
    for model in known_models().values():
        memory = model.memory(4 if model.kind == "clip" else dtype.itemsize)
        found.append(Offer(model, model.is_here, memory, left is None or memory <= left))
    return tuple(found)


def small_models() -> tuple[str, ...]:
    """Names of small models of the hub that need no licence to be accepted: for a public page."""
    return tuple(
        model.name
        for model in known_models().values()
        if model.hub == model.name and not model.gated and model.n_bytes <= SMALL
    )


def offered_models() -> tuple[str, ...]:
    """Names to begin with: the default where it is here, and the built-in ones."""
    default = known_models().get(DEFAULT)
    first = (DEFAULT,) if default is not None and default.is_here else ()
    joined = [m.name for m in known_models().values() if m.language_model and m.is_here]
    return (*first, *built_in_models(), *joined)
