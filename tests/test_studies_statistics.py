"""Measures and statistics of the studies, held against their definitions and other libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from headviz.studies.agreement import agreement, auc, spearman
from headviz.studies.cider import Cider
from headviz.studies.ratios import difference, estimate
from headviz.studies.samples import belongs, cut_at, normalised
from headviz.studies.scoring import exact_match, token_f1

scores = st.lists(st.integers(-5, 5).map(float), min_size=4, max_size=30)


@given(scores, st.randoms())
def test_spearman_is_scipy_s(values, rng):
    other = values.copy()
    rng.shuffle(other)
    ours = spearman(np.array(values), np.array(other))
    if len(set(values)) == 1:
        assert ours == 0
    else:
        assert ours == pytest.approx(spearmanr(values, other).statistic)


@given(scores, st.data())
def test_area_under_the_curve_is_scikit_learn_s(values, data):
    size = len(values)
    positive = np.zeros(size, dtype=bool)
    positive[data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=size - 1))] = True
    if positive.all():
        assert np.isnan(auc(np.array(values), positive))
    else:
        assert auc(np.array(values), positive) == pytest.approx(roc_auc_score(positive, values))


def test_a_ranking_agrees_with_itself_and_not_with_its_reverse():
    truth = torch.arange(12.0).view(3, 4)
    same, reverse = agreement(truth * 2 + 1, truth, 3), agreement(-truth, truth, 3)
    assert (same.spearman, same.precision, same.area) == (pytest.approx(1), 1, 1)
    assert (reverse.spearman, reverse.precision, reverse.area) == (pytest.approx(-1), 0, 0)


@pytest.mark.parametrize(
    ("said", "right", "f1", "exact"),
    [
        ("the Eiffel Tower", ["Eiffel tower!"], 1.0, 1.0),
        ("France and Spain", ["Spain"], 0.5, 0.0),
        ("in Peru", ["Chile", "Peru", "the country of Peru"], 2 / 3, 0.0),
        ("red red", ["red"], 2 / 3, 0.0),
        ("", ["red"], 0.0, 0.0),
        ("the", ["a"], 1.0, 1.0),  # nothing is left of either, as in SQuAD's script
    ],
)
def test_token_f1_and_exact_match_are_squad_s(said, right, f1, exact):
    assert token_f1(said, right) == pytest.approx(f1)
    assert exact_match(said, right) == exact


def test_an_answer_belongs_to_a_concept_by_any_of_its_aliases():
    assert belongs(["The United Kingdom", "U.K."], ["UK"])
    assert not belongs(["Paris, France"], ["France"])
    assert normalised("  The U.K.: a  Land ") == "uk land"


def test_an_answer_ends_at_the_first_stop_after_its_first_word():
    assert cut_at((".", "\n"))("\n red. Question: what\n") == "red"
    assert cut_at(())(" all of. it ") == "all of. it"


def test_ratios_of_equal_answers_are_one_and_their_interval_has_no_width():
    base = np.array([0.0, 1.0, 1.0, 0.5])
    found = estimate([base], base)
    assert (found.ratio, found.low, found.high) == (1, 1, 1)
    assert difference([base], [base], base) == (0, 0)


def test_the_interval_is_paired():
    # Edited is half of unedited on every sample: however samples are drawn, the ratio is a half.
    base = np.linspace(1, 9, 12)
    found = estimate([base / 2], base)
    assert found.low == pytest.approx(0.5) and found.high == pytest.approx(0.5)


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        base = (generator.random(60) < 0.8).astype(float)
        edited = base * (generator.random(60) < 0.5)
        found = estimate([edited], base)
        hits += found.low <= 0.5 <= found.high
    assert 88 <= hits <= 100


def test_random_draws_give_the_median_ratio_and_its_quartiles():
    base = np.ones(10)
    draws = [np.full(10, value) for value in (0.1, 0.5, 0.9, 1.0, 1.1)]
    found = estimate(draws, base)
    assert found.ratio == pytest.approx(0.9)
    assert (found.first_quarter, found.third_quarter) == (pytest.approx(0.5), pytest.approx(1.0))


def test_where_the_unedited_model_has_nothing_there_is_no_ratio():
    found = estimate([np.ones(5)], np.zeros(5))
    assert (found.value, found.base, found.ratio, found.low) == (1, 0, None, None)


def test_surprise_becomes_a_ratio_of_perplexities():
    base = np.log([2.0, 8.0])
    found = estimate([base + np.log(3)], base, logarithmic=True)
    assert (found.base, found.value) == (pytest.approx(4), pytest.approx(12))
    assert found.ratio == pytest.approx(3)


def test_cider_gives_what_the_public_implementation_gives():
    # By CiderScorer of pycocoevalcap 1.2 (n=4, sigma=6), on these captions in lower case and
    # without punctuation.
    references = [
        [
            "A red ball lies on the green grass.",
            "A ball on grass.",
            "There is a small red ball in the garden.",
        ],
        [
            "Two dogs run along the beach.",
            "Dogs are running on sand near the sea.",
            "Two brown dogs at the beach.",
        ],
        [
            "A man in a kitchen is making pizzas.",
            "A baker is working in the kitchen rolling dough.",
            "A person standing by a stove in a kitchen.",
        ],
        ["A cat sleeps on a red sofa.", "A sleeping cat.", "The cat is lying on the sofa."],
    ]
    captions = [
        "A red ball on the grass.",
        "Two dogs on a beach run and run and run.",
        "A man is standing in a kitchen.",
        "Pizza.",
    ]
    cider = Cider(references)
    found = [cider.score(c, r) for c, r in zip(captions, references, strict=True)]
    assert found == pytest.approx([2.43374572, 0.68699274, 2.09866663, 0.0])


def test_a_caption_like_its_only_reference_has_a_cider_of_ten():
    references = [["one small red star"], ["two green hearts above a moon"]]
    assert Cider(references).score("One small red star.", references[0]) == pytest.approx(10)


def test_draws_in_which_the_unedited_model_had_nothing_are_left_out_of_a_difference():
    base = np.array([0.0, 0.0, 1.0])  # in some draws the third sample is missing
    low, high = difference([np.array([1.0, 0.0, 1.0])], [np.array([1.0, 0.0, 0.5])], base)
    assert 0 < low <= high <= 0.5
