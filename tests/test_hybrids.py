"""Models in which only some layers have attention heads: the others stay empty, all the way."""

import pytest
import torch

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.editing.compare import CompareRequest, compare, last_of
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling
from headviz.heads.capture import capture
from headviz.heads.edits import Edit
from headviz.inputs.concepts import Concept, tokenize_concept
from headviz.pursuit.all_spectra import all_spectra
from headviz.pursuit.criteria import CRITERIA
from headviz.pursuit.ranking import rank_heads
from headviz.pursuit.spectrum import head_spectrum

pytest_plugins = ["loaded"]

COLORS = Concept("colors", "Colors", ("red", "blue", "green"))


@pytest.fixture(scope="module", params=["qwen3_next", "lfm2", "jamba"])
def hybrid(request, load):
    return load(request.param)


@pytest.fixture(scope="module")
def activations(hybrid, texts):
    return capture(hybrid, texts)


def test_layers_with_heads_keep_their_own_number(hybrid, activations):
    assert (hybrid.n_layers, hybrid.head_layers, hybrid.total_heads) == (4, (1, 3), 8)
    assert "8 heads (2 of 4 layers × 4" in hybrid.summary
    assert activations.z.shape[:2] == (4, 4)
    empty = activations.z.abs().amax((1, 2, 3)) == 0
    assert empty.tolist() == [True, False, True, False]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_ranking_holds_the_heads_that_there_are(hybrid, activations, criterion):
    ranking = rank_heads(hybrid, activations, tokenize_concept(COLORS, hybrid.tokenizer), criterion)
    assert {ranked.head.layer for ranked in ranking.heads} == {1, 3}
    assert [ranked.rank for ranked in ranking.heads] == list(range(1, 9))
    assert ranking.as_dict()["n_heads"] == ranking.total_heads == 8
    for table in (ranking.scores, ranking.chance, ranking.spread.low):
        assert table.isnan().all(1).tolist() == [True, False, True, False]
        assert table[[1, 3]].isfinite().all()
    for ranked in ranking.heads:
        assert 1 <= ranked.best_rank <= ranked.worst_rank <= 8
    over_chance = [ranked.over for ranked in ranking.heads]
    assert over_chance == sorted(over_chance, reverse=True)


def test_every_head_has_the_spectrum_that_it_has_alone(hybrid, activations):
    spectra = all_spectra(hybrid, activations, steps=3)
    assert set(spectra) == {Head(layer, index) for layer in (1, 3) for index in range(4)}
    head = Head(3, 2)
    alone = head_spectrum(hybrid, activations, head, steps=3)
    assert [a.token for a in spectra[head].atoms] == [a.token for a in alone.atoms]


def test_the_random_control_stays_within_the_layers_that_are_edited(hybrid):
    control = control_of(hybrid, Edit.of([Head(3, 0), Head(3, 1)], 0.0))
    assert set(control.factors) == {Head(3, 2), Head(3, 3)}
    found = last_of(
        compare(
            hybrid,
            CompareRequest("the cat is", Edit.of([Head(3, 0)], -1.0), sampling=Sampling(3)),
        )
    )
    assert [column.name for column in found.columns] == ["original", "edited", "control"]


def test_a_head_of_an_empty_layer_is_refused(hybrid):
    with pytest.raises(OptionError, match=r"no head L2\.H0: layer 2 .* Layers with heads: 1, 3\."):
        compare(hybrid, CompareRequest("the cat is", Edit.of([Head(2, 0)], 0.0)))


def test_the_heat_map_says_which_layers_are_empty(hybrid, activations):
    from headviz.page import heat_map

    ranking = rank_heads(hybrid, activations, tokenize_concept(COLORS, hybrid.tokenizer))
    drawn = heat_map.grid(ranking)
    assert drawn.count('class="hv-cell"') == 8
    assert drawn.count(heat_map.NO_HEADS) == 2
    assert "nan" not in drawn.lower()
    assert not torch.isnan(ranking.scores).all()
