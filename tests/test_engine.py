"""Both engines are the textbook's pursuit, whatever the shape, the budget and the threads."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pursuing import pursue
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.pursuit.oracle import plain_somp
from headviz.base.errors import OptionError, PromptError
from headviz.pursuit.bootstrap import share_explained
from headviz.pursuit.engine.batch_omp import pursue_batch_omp
from headviz.pursuit.engine.lazy_greedy import pursue_lazily
from headviz.pursuit.engine.precision import PRECISIONS
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.projection import span_basis
from headviz.pursuit.engine.result import DEPENDENT, STOPS
from headviz.pursuit.engine.somp import BUDGET, RULES, How, pursue_precomputed

ENGINES = ("batch_omp", "lazy_greedy")
each_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The problems are small: on several threads they take longer, far longer on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        yield
    torch.set_num_threads(before)


def problem(seed=0, heads=2, samples=24, d_head=6, d_model=16, atoms=30, kind="plain"):
    """Random heads and atoms; `kind` names what makes them hard."""
    normal = np.random.default_rng(seed).standard_normal
    z = normal((heads, samples, d_head)) + normal((heads, 1, d_head))
    w_o = normal((heads, d_head, d_model)) / np.sqrt(d_model)
    d = normal((atoms, d_model))
    if kind == "duplicates":
        d[atoms // 2 :] = d[: atoms - atoms // 2]
    if kind == "near":
        d[atoms // 2 :] = d[: atoms - atoms // 2] + 0.01 * normal((atoms - atoms // 2, d_model))
    if kind == "alike":
        d = 0.2 * d + normal((1, d_model))
    if kind == "long tail":
        z *= np.exp(1.5 * normal((1, samples, 1)))
    if kind == "silent":
        z[0] = z[0, :1]
    if kind == "zero":
        z[0] = 0
    if kind == "own lengths":
        d *= np.exp(normal((atoms, 1)))
    else:
        d /= np.linalg.norm(d, axis=1, keepdims=True)
    return tuple(torch.tensor(x, dtype=torch.float32) for x in (z, w_o, d))


KINDS = ("plain", "duplicates", "near", "alike", "long tail", "silent", "zero", "own lengths")
shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "heads": st.integers(1, 3),
    "samples": st.integers(2, 30),
    "d_head": st.integers(1, 8),
    "d_model": st.integers(8, 40),
    "atoms": st.integers(1, 60),
    "kind": st.sampled_from(KINDS),
}


def picks_of(found, head):
    return [p for p in found.picks[head].tolist() if p >= 0]


def outside(atom, others):
    """Share of an atom's squared length outside the span of others."""
    rest = atom - others.T @ np.linalg.lstsq(others.T, atom, rcond=None)[0]
    return (rest**2).sum() / (atom**2).sum()


def check(found, z, w_o, atoms, centre=True, near=3e-5):
    """Every pick is the best one (ties within rounding), every share is least squares'."""
    atoms = atoms.double().numpy()
    for head in range(len(z)):
        h = oracle.head_output(z[head], w_o[head], centre)
        picks = picks_of(found, head)
        assert found.stopped[head] in STOPS
        if not picks:
            assert found.stopped[head] == "silent"
            assert (h**2).sum() <= 1e-9 * (z[head].double().numpy() ** 2).sum()
            continue
        scale = oracle.scores(h, atoms, []).max()
        for step, pick in enumerate(picks):
            values = oracle.scores(h, atoms, picks[:step])
            assert values[pick] >= values.max() - near * scale
            share = oracle.explained_by(h, atoms[picks[: step + 1]])
            assert found.explained[head, step].item() == pytest.approx(share, rel=1e-4, abs=1e-6)
        if found.stopped[head] in ("spent", "dependent"):
            left = oracle.scores(h, atoms, picks)
            more = [*picks, int(left.argmax())]
            gain = oracle.explained_by(h, atoms[more]) - oracle.explained_by(h, atoms[picks])
            assert gain < 1e-4 or outside(atoms[more[-1]], atoms[picks]) < 2 * DEPENDENT


@settings(max_examples=150)
@given(**shapes, steps=st.integers(1, 14), engine=st.sampled_from(ENGINES), centre=st.booleans())
@example(
    seed=0,
    heads=1,
    samples=3,
    d_head=8,
    d_model=16,
    atoms=20,
    kind="plain",
    steps=14,
    engine="lazy_greedy",
    centre=True,
)  # fewer samples than steps
@example(
    seed=0,
    heads=2,
    samples=9,
    d_head=4,
    d_model=16,
    atoms=1,
    kind="plain",
    steps=5,
    engine="batch_omp",
    centre=True,
)  # a concept of one word
@example(
    seed=1,
    heads=2,
    samples=20,
    d_head=3,
    d_model=8,
    atoms=40,
    kind="duplicates",
    steps=14,
    engine="lazy_greedy",
    centre=False,
)  # more steps than rank
def test_every_engine_picks_the_textbooks_best_atom(
    seed, heads, samples, d_head, d_model, atoms, kind, steps, engine, centre
):
    z, w_o, d = problem(seed, heads, samples, d_head, d_model, atoms, kind)
    check(pursue(z, w_o, d, steps, centre, engine=engine), z, w_o, d, centre)


@each_engine
def test_all_is_as_the_plain_pursuit_of_the_benchmark_finds_it(engine):
    z, w_o, atoms = problem(3, 3, 40, 8, 32, 300)
    found = pursue(z, w_o, atoms, 12, engine=engine)
    for head in range(3):
        plain = plain_somp(z[head], w_o[head], atoms, 12)
        assert picks_of(found, head) == plain.picks
        assert found.explained[head].tolist() == pytest.approx(plain.explained, rel=1e-5)
        textbook = oracle.somp(oracle.head_output(z[head], w_o[head]), atoms, 12)
        assert textbook.picks == plain.picks
        np.testing.assert_allclose(found.weights[head], textbook.weights, rtol=1e-3)


@settings(max_examples=60)
@given(
    **shapes, budget=st.sampled_from([1, 10_000, 200_000, 10**9]), rule=st.sampled_from(list(RULES))
)
def test_tiles_and_groups_do_not_change_a_pick(
    seed, heads, samples, d_head, d_model, atoms, kind, budget, rule
):
    z, w_o, d = problem(seed, heads, samples, d_head, d_model, atoms, kind)
    for engine in ENGINES:
        whole = pursue(z, w_o, d, 6, rule=rule, engine=engine)
        tiled = pursue(z, w_o, d, 6, rule=rule, engine=engine, budget=budget)
        torch.testing.assert_close(tiled.explained, whole.explained, rtol=1e-3, atol=1e-4)
        if kind not in ("duplicates", "near") and d_head > 2:
            assert tiled.picks[:, :3].equal(whole.picks[:, :3])


@pytest.mark.parametrize("kind", ["plain", "long tail", "alike"])
def test_the_smallest_tiles_find_the_best_among_many(kind):
    z, w_o, atoms = problem(8, 2, 60, 12, 40, 500, kind)
    tiled = pursue(z, w_o, atoms, 8, engine="lazy_greedy", budget=1)
    assert tiled.picks.tolist() == pursue(z, w_o, atoms, 8, engine="batch_omp").picks.tolist()
    check(tiled, z, w_o, atoms)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("run", [pursue_batch_omp, pursue_lazily])
def test_heads_padded_to_the_longest_find_the_same(kind, rule, run):
    """What a GPU does, on a CPU: many heads at once, padded; whole tables rather than tiles."""
    z, w_o, atoms = problem(9, 4, 30, 8, 40, 200, kind)
    heads = precompute_heads(z, [w_o])
    whole, tiled = (run(heads, atoms, 6, rule, BUDGET, tiled) for tiled in (False, True))
    if rule == "l1":
        check(whole, z, w_o, atoms)
    torch.testing.assert_close(whole.explained, tiled.explained, rtol=1e-3, atol=1e-4)


@each_engine
def test_threads_do_not_change_a_pick(engine):
    z, w_o, atoms = problem(5, 4, 100, 16, 64, 400)
    alone = pursue(z, w_o, atoms, 15, engine=engine)
    torch.set_num_threads(2)
    together = pursue(z, w_o, atoms, 15, engine=engine)
    torch.set_num_threads(1)
    assert together.picks.equal(alone.picks)


def product_flops(x, y, *_, **__):
    return 2 * x[0] * x[1] * y[0]


def test_bounds_leave_most_atoms_of_a_large_vocabulary_unscored():
    n_samples, d_head, n_atoms, steps = 1000, 16, 3000, 10
    z, w_o, atoms = problem(2, 1, n_samples, d_head, 64, n_atoms)
    other_library = {torch.ops.mkldnn._linear_pointwise: product_flops}
    with FlopCounterMode(display=False, custom_mapping=other_library) as counted:
        found = pursue(z, w_o, atoms, steps)
    assert picks_of(found, 0) == plain_somp(z[0], w_o[0], atoms, steps).picks
    all_scored = 2 * n_samples * d_head * n_atoms * steps
    assert counted.get_total_flops() < 0.1 * all_scored


@each_engine
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_number_format_changes_rounding_only(engine, precision):
    before = torch.backends.mkldnn.matmul.fp32_precision
    z, w_o, atoms = problem(7, 3, 50, 8, 32, 200)
    exact = pursue(z, w_o, atoms, 8, engine=engine)
    other = pursue(z, w_o, atoms, 8, engine=engine, precision=precision)
    tolerance = 0.05 if precision == "bfloat16" else 1e-5
    torch.testing.assert_close(
        other.explained.float(), exact.explained, rtol=tolerance, atol=tolerance
    )
    if precision == "float64":
        assert other.explained.dtype == torch.float64
        assert other.picks.equal(exact.picks)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


# The energy rule.


def plain_energy_picks(z, w_o, atoms, steps):
    """Matching pursuit by squared correlations, as a textbook would write it."""
    h, d = oracle.head_output(z, w_o), atoms.double().numpy()
    picks = []
    for _ in range(steps):
        residual = oracle.fit(h, d[picks])[1] if picks else h
        scores = ((residual @ d.T) ** 2).sum(0)
        scores[picks] = -1
        picks.append(int(scores.argmax()))
    return picks


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), samples=st.integers(4, 80), engine=st.sampled_from(ENGINES))
def test_the_energy_rule_picks_by_squares(seed, samples, engine):
    z, w_o, atoms = problem(seed, 2, samples, 8, 32, 60)
    found = pursue(z, w_o, atoms, 3, rule="energy", engine=engine)
    for head in range(2):
        assert picks_of(found, head) == plain_energy_picks(z[head], w_o[head], atoms, 3)


# Precomputed heads.


@each_engine
def test_prepared_heads_serve_every_dictionary_as_fresh_ones_would(engine):
    z, w_o, atoms = problem(6, 5, 30, 8, 32, 120)
    heads = precompute_heads(z, [w_o[:2], w_o[2:]])
    for part in (atoms[:50], atoms[50:], atoms):
        shared = pursue_precomputed(heads, part, 7, How(engine=engine))
        fresh = pursue(z, w_o, part, 7, engine=engine)
        assert shared.picks.equal(fresh.picks)
        torch.testing.assert_close(shared.explained, fresh.explained)
    some = pursue_precomputed(heads.group(1, 4), atoms, 7, How(engine=engine))
    assert some.picks.equal(fresh.picks[1:4])


@settings(max_examples=60)
@given(**shapes)
def test_the_span_of_all_atoms_explains_what_a_pursuit_of_all_does(
    seed, heads, samples, d_head, d_model, atoms, kind
):
    assume(kind != "near")  # such atoms are dependent for one and not quite for the other
    z, w_o, d = problem(seed, heads, samples, d_head, d_model, atoms, kind)
    precomputed = precompute_heads(z, [w_o])
    share = share_explained(precomputed, span_basis(d, precomputed.project(d)))
    pursued = pursue_precomputed(precomputed, d, len(d)).explained[:, -1]
    torch.testing.assert_close(share, pursued, rtol=1e-3, atol=1e-3)


# Where a pursuit ends, and why.


@each_engine
def test_every_end_has_its_reason(engine):
    z, w_o, atoms = problem(1, 4, 40, 8, 64, 300)
    z[0] = z[0, :1]  # says the same to every sample
    z[1, :, 2:] = z[1, :1, 2:]  # two directions only
    found = pursue(z, w_o, atoms, 4, engine=engine)
    assert found.stopped == ("silent", "steps", "steps", "steps")
    z, w_o, _ = problem(1, 1, 40, 2, 64, 10)
    own = w_o[0] / w_o[0].norm(dim=1, keepdim=True)
    exact = torch.cat([own, torch.zeros(1, 64)])
    assert pursue(z, w_o, exact, 3, engine=engine).stopped == ("spent",)
    z, w_o, atoms = problem(1, 1, 40, 8, 64, 3)
    assert pursue(z, w_o, atoms, 50, engine=engine).stopped == ("atoms",)
    twice = torch.cat([atoms, atoms, atoms])
    assert pursue(z, w_o, twice, 9, engine=engine).stopped[0] in ("dependent", "spent")
    assert len(picks_of(pursue(z, w_o, twice, 9, engine=engine), 0)) == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("centre", [True, False])
def test_a_head_that_is_not_finite_is_named(bad, centre):
    z, w_o, atoms = problem()
    z[1, 3, 2] = bad
    with pytest.raises(PromptError, match="Head number 1 has activations that are not finite"):
        pursue(z, w_o, atoms, 3, centre)
    with pytest.raises(PromptError, match=r"Head L0\.H1 has"):
        precompute_heads(z, [w_o], centre, name_of="L0.H{}".format)


@pytest.mark.parametrize("what", ["rule", "engine", "precision"])
def test_an_unknown_choice_lists_the_known_ones(what):
    with pytest.raises(OptionError, match=f"Unknown {what} 'magic'. Known: "):
        pursue(*problem(), 3, **{what: "magic"})


def test_a_watcher_sees_the_share_done_and_may_stop():
    z, w_o, atoms = problem(0, 2, 20, 6, 16, 2000)
    heads, seen = precompute_heads(z, [w_o]), []
    pursue_precomputed(heads, atoms, 5, How(budget=1), seen.append)
    assert seen == sorted(seen) and len(seen) == 10 and seen[-1] == 1

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pursue_precomputed(heads, atoms, 5, watch=stop)
