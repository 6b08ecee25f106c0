"""The CLIP models of the page: loaded at their first use, one kept in memory."""

from collections.abc import Sequence

from headviz.base.errors import HeadvizError, ModelError
from headviz.base.lru import LRU
from headviz.base.progress import Progress, no_progress
from headviz.clip.embed import similarity
from headviz.clip.load import ClipModel, built_in_clips, load_clip
from headviz.inputs.images import Picture
from headviz.session.session import Session

USUAL = "ViT-B-32"


class Clips:
    """CLIP models by name, for several visitors."""

    def __init__(self, session: Session) -> None:
        """None is loaded yet."""
        self._session = session
        self._kept: LRU[ClipModel] = LRU(1)

    def names(self) -> tuple[str, ...]:
        """CLIP models to offer: the built-in ones, and the usual one where any may be loaded."""
        return (*built_in_clips(), *([USUAL] if self._session.allowed is None else []))

    def clip(self, name: str, progress: Progress = no_progress) -> ClipModel:
        """The CLIP model of that name. Raises ModelError, in one sentence, where there is none."""
        name = name.strip()
        if self._session.allowed is not None and name not in self.names():
            offered = ", ".join(self.names()) or "none"
            raise ModelError(f"The CLIP model {name!r} is not offered here. Offered: {offered}.")
        with self._session.lock:
            kept = self._kept
            held = sum(clip.n_bytes for clip in kept.going())
            return kept.find_or_make(
                name, lambda: load_clip(name, "auto", progress, kept.make_room, held)
            )

    def fit(self, picture: Picture, texts: Sequence[str]) -> list[float] | None:
        """How well each text fits the picture: the cosine in the joint space.

        Of the model that is in memory, or else a built-in one; None where there is neither.
        """
        name = next(reversed(self._kept), next(iter(built_in_clips()), None))
        if name is None:
            return None
        try:
            with self._session.lock:
                return similarity(self.clip(name), [picture.image()], texts).tolist()
        except HeadvizError:  # a meter that is not there stops no caption
            return None
