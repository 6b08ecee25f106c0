"""Planted heads kept first: its shares are the ranking's own, and its loss brings heads forward."""

import itertools
from collections import Counter

import torch

from headviz.pursuit.bootstrap import share_explained
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.projection import span_basis
from toyworld.pictures.content import pictures, training_pictures
from toyworld.rank_margin_loss import N_RIVALS, front_loss, shares_of

N_SAMPLES, N_LAYERS, N_HEADS, D_HEAD, D_MODEL = 40, 2, 6, 4, 24


def drawn():
    """Signals and output projections of two layers, and atoms of two concepts."""
    rng = torch.Generator().manual_seed(0)
    signals = [torch.randn(N_SAMPLES, N_HEADS, D_HEAD, generator=rng) for _ in range(N_LAYERS)]
    w_o = [torch.randn(N_HEADS, D_HEAD, D_MODEL, generator=rng) for _ in range(N_LAYERS)]
    atoms = {name: torch.randn(n, D_MODEL, generator=rng) for name, n in (("a", 3), ("b", 5))}
    return signals, w_o, atoms


def orthonormal(atoms):
    return {name: torch.linalg.qr(own.T).Q.T for name, own in atoms.items()}


def test_shares_are_those_of_the_ranking():
    signals, w_o, atoms = drawn()
    found = shares_of(signals, w_o, orthonormal(atoms))
    z = torch.cat([s.transpose(0, 1) for s in signals]).contiguous()
    heads = precompute_heads(z, w_o)
    for name, own in atoms.items():
        expected = share_explained(heads, span_basis(own, heads.project(own)))
        torch.testing.assert_close(found[name].flatten(), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_zero_where_planted_heads_lead_by_the_margin_and_not_before():
    table = torch.full((N_LAYERS, N_HEADS), 0.3)
    table[1, 2], table[0, 0] = 0.5, 0.45
    own = {"a": [(1, 2), (0, 0)]}
    assert front_loss({"a": table}, own, margin=0.1) == 0
    torch.testing.assert_close(front_loss({"a": table}, own, margin=0.2), torch.tensor(0.05))
    table[0, 5] = 0.85  # one rival of N_RIVALS is ahead
    ahead = front_loss({"a": table}, own, margin=0.1)
    torch.testing.assert_close(ahead, torch.tensor(0.5 / N_RIVALS))


def test_following_its_gradient_brings_the_planted_heads_to_the_front():
    signals, w_o, atoms = drawn()
    bases, own = orthonormal(atoms), {"a": [(0, 3)], "b": [(1, 1), (1, 4)]}
    learned = [w.clone().requires_grad_() for w in w_o]
    optimizer = torch.optim.Adam(learned, lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        front_loss(shares_of(signals, learned, bases), own, margin=0.05).backward()
        optimizer.step()
    with torch.no_grad():
        shares = shares_of(signals, learned, bases)
    for name, heads in own.items():
        first = shares[name].flatten().topk(len(heads)).indices.tolist()
        assert {divmod(n, N_HEADS) for n in first} == set(heads)


def test_more_of_some_sorts_are_drawn_and_without_them_any():
    plain = training_pictures(7, 20, {})
    assert plain == list(itertools.islice(pictures(7), 20))
    more = training_pictures(7, 20, {"digits": 0.25, "faces": 0.5})
    assert more[:5] == plain[:5]
    assert Counter(p.sort for p in more[5:]) == {"digits": 5, "faces": 10}
    assert not any(p.is_held_out for p in more)
