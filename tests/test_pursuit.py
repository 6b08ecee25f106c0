"""The pursuit in head space is the textbook's, and it stops where nothing is left."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pursuing import pursue
from sklearn.linear_model import orthogonal_mp
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="module")
def one_thread_for_the_oracle():
    """Its many small problems are slower on several threads, far slower on a busy machine."""
    with threadpool_limits(1, user_api="blas"):
        yield


def problem(seed=0, heads=2, samples=20, d_head=6, d_model=16, atoms=24, unit=True, like=0.0):
    """Random signals, projections and atoms; `like` (0 to 1) makes the atoms alike."""
    normal = np.random.default_rng(seed).standard_normal
    z = normal((heads, samples, d_head)) + normal((heads, 1, d_head))
    w_o = normal((heads, d_head, d_model)) / np.sqrt(d_model)
    d = like * normal((1, d_model)) + (1 - like) * normal((atoms, d_model))
    d *= 1 / np.linalg.norm(d, axis=1, keepdims=True) if unit else 3.0
    return tuple(torch.tensor(x, dtype=torch.float32) for x in (z, w_o, d))


def picks_of(found, head=0):
    return [p for p in found.picks[head].tolist() if p >= 0]


def check_against_textbook(z, w_o, atoms, steps, centre, rounding=2e-5):
    """Every pick is the textbook's best (ties within rounding), every share is least squares'."""
    found = pursue(z, w_o, atoms, steps, centre)
    atoms = atoms.double().numpy()
    for head in range(len(z)):
        h = oracle.head_output(z[head], w_o[head], centre)
        picks = picks_of(found, head)
        scale = oracle.scores(h, atoms, []).max()
        for step, pick in enumerate(picks):
            values = oracle.scores(h, atoms, picks[:step])
            assert values[pick] >= values.max() - rounding * scale
            share = oracle.explained_by(h, atoms[picks[: step + 1]])
            assert found.explained[head, step].item() == pytest.approx(share, rel=1e-4, abs=1e-6)
        if len(picks) < min(steps, len(atoms)):
            left = oracle.scores(h, atoms, picks)
            best = [*picks, int(left.argmax())]
            gain = oracle.explained_by(h, atoms[best]) - oracle.explained_by(h, atoms[picks])
            assert left.max() <= 5e-3 * scale
            assert gain < 1e-4
    return found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    heads=st.integers(1, 4),
    samples=st.integers(2, 30),
    d_head=st.integers(1, 8),
    d_model=st.integers(8, 40),
    atoms=st.integers(1, 60),
    steps=st.integers(1, 12),
    centre=st.booleans(),
    unit=st.booleans(),
)
def test_the_fast_pursuit_picks_what_the_textbook_picks_and_explains_the_same(
    seed, heads, samples, d_head, d_model, atoms, steps, centre, unit
):
    check_against_textbook(
        *problem(seed, heads, samples, d_head, d_model, atoms, unit), steps, centre
    )


def test_picks_explained_and_weights_equal_the_plain_pursuits():
    z, w_o, atoms = problem(seed=3, heads=5, samples=40, d_head=8, d_model=32, atoms=200)
    found = pursue(z, w_o, atoms, 10)
    for head in range(5):
        plain = oracle.somp(oracle.head_output(z[head], w_o[head]), atoms, 10)
        assert picks_of(found, head) == plain.picks
        np.testing.assert_allclose(found.explained[head], plain.explained, rtol=1e-4)
        np.testing.assert_allclose(found.weights[head], plain.weights, rtol=1e-3)


@pytest.mark.parametrize("like", [0.0, 0.5, 0.8])
def test_sixty_steps_in_float32_stay_exact(like):
    z, w_o, atoms = problem(1, 1, 60, 64, 512, 700, like=like)
    check_against_textbook(z, w_o, atoms, 60, True)


def test_one_sample_is_ordinary_matching_pursuit():
    z, w_o, atoms = problem(seed=5, heads=1, samples=1, d_head=8, d_model=32, atoms=50)
    found = pursue(z, w_o, atoms, 5, centre=False)
    coefficients = orthogonal_mp(
        atoms.double().numpy().T, (z[0] @ w_o[0])[0].double().numpy(), n_nonzero_coefs=5
    )
    assert sorted(picks_of(found)) == np.flatnonzero(coefficients).tolist()
    np.testing.assert_allclose(
        found.weights[0], np.abs(coefficients[picks_of(found)]), rtol=1e-3, atol=1e-5
    )


def test_planted_atoms_are_found_and_then_it_stops():
    _, _, atoms = problem(seed=2, d_model=64, atoms=300)
    planted = torch.tensor([7, 99, 250])
    z = torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0))
    found = pursue(z, atoms[planted][None], atoms, 20)
    picks = picks_of(found)
    assert sorted(picks[:3]) == planted.tolist()
    assert found.explained[0, 2].item() == pytest.approx(1, abs=1e-5)
    assert len(picks) == 3, "what is left after the planted atoms is rounding"


def test_a_head_gets_alone_what_it_gets_among_others():
    z, w_o, atoms = problem(seed=4, heads=3)
    together = pursue(z, w_o, atoms, 6)
    for head in range(3):
        alone = pursue(z[head : head + 1], w_o[head : head + 1], atoms, 6)
        assert torch.equal(alone.picks[0], together.picks[head])
        torch.testing.assert_close(alone.explained[0], together.explained[head])


def test_centring_takes_the_mean_over_samples_away():
    z, w_o, atoms = problem(seed=6)
    shifted = pursue(z + 5, w_o, atoms, 5)
    torch.testing.assert_close(
        shifted.explained, pursue(z, w_o, atoms, 5).explained, rtol=1e-3, atol=1e-4
    )
    raw = pursue(z + 5, w_o, atoms, 5, centre=False)
    assert (raw.explained - shifted.explained).abs().max() > 0.1


def test_the_size_of_signals_and_atoms_does_not_change_what_is_explained():
    z, w_o, atoms = problem(seed=8)
    plain = pursue(z, w_o, atoms, 5)
    for scaled in (pursue(z * 1e-6, w_o, atoms, 5), pursue(z * 1e4, w_o, atoms * 1e-3, 5)):
        assert torch.equal(scaled.picks, plain.picks)
        torch.testing.assert_close(scaled.explained, plain.explained)


def duplicates():
    z, w_o, atoms = problem(seed=1, atoms=10)
    return z, w_o, torch.cat([atoms, atoms, -atoms])


def nearly_parallel():
    z, w_o, atoms = problem(seed=1, atoms=12)
    return z, w_o, torch.cat([atoms, torch.nn.functional.normalize(atoms + 0.02 * atoms.roll(1))])


def long_and_nearly_parallel():
    z, w_o, atoms = problem(seed=1, atoms=12)
    return z, w_o, torch.cat([atoms, 1000 * atoms + atoms.roll(1)])


def a_zero_head():
    z, w_o, atoms = problem(seed=1)
    z[1] = 0
    return z, w_o, atoms


def a_constant_head():
    z, w_o, atoms = problem(seed=1)
    z[1] = z[1, :1]
    return z, w_o, atoms


def a_zero_atom():
    z, w_o, atoms = problem(seed=1)
    atoms[3] = 0
    return z, w_o, atoms


HARD = {
    "duplicate atoms": duplicates,
    "nearly parallel atoms": nearly_parallel,
    "long and nearly parallel atoms": long_and_nearly_parallel,
    "a zero head": a_zero_head,
    "a constant head": a_constant_head,
    "a zero atom": a_zero_atom,
    "one atom": lambda: problem(atoms=1),
    "fewer samples than steps": lambda: problem(samples=2),
    "one sample": lambda: problem(samples=1),
    "more steps than the head's rank": lambda: problem(d_head=1),
    "more steps than d_model": lambda: problem(d_model=8, atoms=100),
    "more steps than atoms": lambda: problem(atoms=5),
    "tiny signals": lambda: (lambda z, w, d: (z * 1e-12, w, d))(*problem()),
    "signals beyond the square root of float32": lambda: (lambda z, w, d: (z * 1e18, w, d))(
        *problem()
    ),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("centre", [True, False], ids=["centred", "raw"])
def test_in_hard_cases_shares_rise_from_0_to_1_and_spent_heads_stop(case, centre):
    z, w_o, atoms = HARD[case]()
    found = pursue(z, w_o, atoms, 30, centre)
    assert found.picks.shape == found.explained.shape == found.weights.shape
    assert found.picks.shape == (len(z), min(30, len(atoms)))
    for numbers in (found.explained, found.weights, found.variance):
        assert numbers.isfinite().all()
    assert (found.explained.diff(dim=1) >= 0).all()
    assert ((found.explained >= 0) & (found.explained <= 1)).all()
    for head in range(len(z)):
        picks = picks_of(found, head)
        assert len(set(picks)) == len(picks), "no atom twice"
        assert (found.picks[head, len(picks) :] == -1).all(), "once stopped it stays so"
        assert (found.weights[head, len(picks) :] == 0).all()


@pytest.mark.parametrize("case", ["duplicate atoms", "nearly parallel atoms"])
def test_atoms_that_add_nothing_do_not_hide_those_that_do(case):
    z, w_o, atoms = HARD[case]()
    found = pursue(z, w_o, atoms, 30)
    for head in range(len(z)):
        h = oracle.head_output(z[head], w_o[head])
        everything = oracle.explained_by(h, atoms.double().numpy())
        assert found.explained[head, -1].item() == pytest.approx(everything, abs=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_head_that_says_the_same_to_all_has_no_atoms_and_a_score_of_0(scale):
    """Its mean over samples is exact up to rounding, and rounding is not a signal."""
    z, w_o, atoms = problem(heads=16, samples=37)
    z[1:] = scale * z[1:, :1]
    found = pursue(z, w_o, atoms, 5)
    assert (found.picks[1:] == -1).all()
    assert (found.explained[1:] == 0).all()
    assert found.explained[0, -1] > 0
