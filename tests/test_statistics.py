"""Scores of samples drawn again, and intervals that hold what they promise."""

import numpy as np
import pytest
import torch

from headviz.pursuit.bootstrap import N_DRAWS, draw_counts, drawn_shares, share_explained, spread_of
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.projection import span_basis
from headviz.pursuit.engine.somp import pursue_precomputed


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_draw_of_every_sample_once_is_the_score():
    z, w_o, atoms = normal(0, 3, 40, 6), normal(1, 3, 6, 20), normal(2, 5, 20)
    for centre in (True, False):
        heads = precompute_heads(z + 1, [w_o], centre)
        basis = span_basis(atoms, heads.project(atoms))
        once = drawn_shares(heads, basis.mT @ basis, torch.ones(1, 40), centre)[0]
        torch.testing.assert_close(once, share_explained(heads, basis), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("centre", [True, False])
def test_a_draw_is_the_score_of_the_samples_drawn(centre):
    z, w_o, atoms = normal(0, 2, 30, 6) + 0.5, normal(1, 2, 6, 20), normal(2, 4, 20)
    heads = precompute_heads(z, [w_o], centre)
    basis = span_basis(atoms, heads.project(atoms))
    counts = draw_counts(30, 3, seed=5)
    drawn = drawn_shares(heads, basis.mT @ basis, counts, centre)
    for row, count in enumerate(counts):
        again = precompute_heads(z.repeat_interleave(count.long(), 1), [w_o], centre)
        expected = share_explained(again, span_basis(atoms, again.project(atoms)))
        torch.testing.assert_close(drawn[row], expected, rtol=1e-4, atol=1e-5)


def test_counts_are_draws_with_replacement_and_the_same_for_a_seed():
    counts = draw_counts(25, 50, seed=1)
    assert counts.sum(1).eq(25).all()
    assert (counts == 0).any() and (counts > 1).any()
    assert counts.equal(draw_counts(25, 50, seed=1))
    assert not counts.equal(draw_counts(25, 50, seed=2))


def test_intervals_cover_the_score_that_endless_samples_would_give():
    """200 sets of 100 samples from one population: some 95 % of the intervals hold its score."""
    w_o, atoms, d_head = normal(1, 1, 6, 20), normal(2, 4, 20), 6
    fall = torch.arange(1, d_head + 1).pow(-0.5)
    truth = precompute_heads(normal(3, 1, 200_000, d_head) * fall, [w_o])
    basis = span_basis(atoms, truth.project(atoms))
    score = share_explained(truth, basis).item()
    held = 0
    for seed in range(200):
        heads = precompute_heads(normal(1000 + seed, 1, 100, d_head) * fall, [w_o])
        drawn = drawn_shares(heads, basis.mT @ basis, draw_counts(100, N_DRAWS, seed), True)
        spread = spread_of(drawn[:, None], drawn[:, None])
        held += spread.low.item() <= score <= spread.high.item()
    assert 0.88 <= held / 200 <= 0.99


def test_ranks_of_heads_far_apart_are_sure_and_of_equal_ones_are_not():
    drawn = torch.tensor(np.random.default_rng(0).normal([0.9, 0.5, 0.5, 0.1], 0.02, (200, 4)))
    spread = spread_of(drawn.float()[:, None], drawn.float()[:, None])
    assert spread.best_rank.tolist() == [[1, 2, 2, 4]]
    assert spread.worst_rank.tolist() == [[1, 3, 3, 4]]
    assert (spread.low <= spread.high).all()


def test_a_picked_basis_is_drawn_from_too():
    z, w_o, atoms = normal(0, 3, 40, 6), normal(1, 3, 6, 20), normal(2, 50, 20)
    heads = precompute_heads(z, [w_o])
    found = pursue_precomputed(heads, atoms, 4)
    share = share_explained(heads, found.basis)
    torch.testing.assert_close(share, found.explained[:, -1], rtol=1e-4, atol=1e-5)
