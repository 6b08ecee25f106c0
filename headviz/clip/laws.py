"""The laws of heads on the image tower of a CLIP model.

Most are those of `laws`, on pictures in place of texts: what a tower gives for a picture is its
product with every word's row, as logits are. A tower has no cache, and two laws of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from headviz.base.shapes import Float, Tensor
from headviz.clip.embed import WORD_TEMPLATES, embed_texts
from headviz.clip.tower import Tower
from headviz.clip.word_vocabulary import pixels_of
from headviz.heads.edits import Edit, applied, factor_table
from headviz.heads.laws.fixture import Fixture
from headviz.heads.laws.instrument import LayerCall, first, layer_calls
from headviz.heads.laws.laws import LAWS, Law, apart
from headviz.heads.laws.report import Report, check
from headviz.inputs.concepts import known_concepts

N_PICTURES, N_WORDS = 3, 8
_SIDE = 64  # of a picture, in pixels; the model's own transform scales it


@dataclass(frozen=True, eq=False)
class TowerFixture(Fixture):
    """A tower, and pictures of nothing, of which each is one prompt of one position."""

    model: Tower

    @cached_property
    def prompts(self) -> list[Float[Tensor, "3 height width"]]:  # type: ignore[override]
        """The pictures, as the tower takes them."""
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 255, (N_PICTURES, _SIDE, _SIDE, 3), dtype=np.uint8)
        return list(pixels_of(self.model.clip, [Image.fromarray(one) for one in noise]))

    @cached_property
    def calls(self) -> Mapping[int, LayerCall]:
        """How the tower calls each layer on the first picture."""
        with torch.inference_mode():
            return layer_calls(self.model, lambda: self.model.model.visual(self.prompts[0][None]))

    @torch.inference_mode()
    def logits(  # type: ignore[override]
        self,
        prompts: list[Float[Tensor, "3 height width"]],
        edits: list[Edit] | None = None,
    ) -> Float[Tensor, "row 1 embedding"]:
        """The embedding of each picture under its edit; None sets no hook at all."""
        pixels = torch.stack(prompts)
        if edits is None:
            return first(self.model.model.visual(pixels)).float()[:, None]
        with applied(self.model, factor_table(self.model, edits)):
            return first(self.model.model.visual(pixels)).float()[:, None]


@torch.inference_mode()
def opened_as_closed(fixture: TowerFixture) -> float:
    """The tower whose heads are in the open gives what open_clip's own gives."""
    closed = first(fixture.model.clip.model.visual(torch.stack(fixture.prompts))).float()
    return apart(fixture.logits(fixture.prompts)[:, 0], closed)


@torch.inference_mode()
def words_read_the_norm(fixture: TowerFixture) -> float:
    """⟨embedding, word⟩ is ⟨what the final norm gives, the word's row⟩: rows are an unembedding."""
    tower, visual = fixture.model, fixture.model.model.visual
    names = [word for concept in known_concepts().values() for word in concept.words]
    ids = {name: tower.tokenizer.convert_tokens_to_ids(f"▁{name}") for name in names}
    rows = {name: n for name, n in ids.items() if n != tower.tokenizer.unk_token_id}
    chosen = dict(list(rows.items())[:N_WORDS])
    seen: list[Tensor] = []
    handle = visual.ln_post.register_forward_hook(lambda _, args, output: seen.append(output))
    try:
        embedded = fixture.logits(fixture.prompts[:1])[:, 0]
    finally:
        handle.remove()
    normed = seen[0].float()
    if normed.ndim == 3:  # every position is normed, and then one is taken or all are averaged
        normed = normed[:, 0] if visual.pool_type == "tok" else normed[:, 1:].mean(1)
    texts = embed_texts(tower.clip, list(chosen), WORD_TEMPLATES)
    return apart(normed @ tower.unembedding[list(chosen.values())].T, embedded @ texts.T)


TOWER_LAWS: Mapping[str, Law] = {
    "closed": Law(opened_as_closed),
    **{name: law for name, law in LAWS.items() if name not in ("cache", "unembedding")},
    "words": Law(words_read_the_norm),
}
"""Name -> law."""


def check_tower(tower: Tower) -> Report:
    """Every law, measured on this tower."""
    return check(TowerFixture(tower), TOWER_LAWS, "open_clip")
