"""Scores are the textbook's, chance is what random words get, a control matches its edit."""

import random
from collections import Counter
from dataclasses import replace

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import WORDS

from headviz.base.errors import OptionError, PromptError
from headviz.base.head import Head
from headviz.editing.control import matched_control, moved
from headviz.heads.capture import capture
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept, tokenize_concept
from headviz.inputs.prompt_sets import make_prompt_set
from headviz.page.figures import heat_figure
from headviz.page.html import score_text
from headviz.pursuit.criteria import CRITERIA, find_criterion
from headviz.pursuit.dictionary import concept_dictionary, vocabulary_atoms, vocabulary_labels
from headviz.pursuit.options import Options
from headviz.pursuit.ranking import rank_heads, word_tokens
from headviz.pursuit.spectrum import head_spectrum

pytest_plugins = ["loaded"]

COLORS = make_concept("colors", WORDS["colors"])
EVERYTHING = make_concept("everything", [word for words in WORDS.values() for word in words])


@pytest.fixture(scope="module")
def activations(llama, texts):
    return capture(llama, texts)


@pytest.fixture(scope="module")
def colors(llama):
    return tokenize_concept(COLORS, llama.tokenizer)


def test_a_score_is_the_variance_that_the_textbook_explains(model, texts):
    read = capture(model, texts)
    tokens = tokenize_concept(COLORS, model.tokenizer)
    ranking = rank_heads(model, read, tokens, options=Options(steps=4), lists=1)
    atoms = vocabulary_atoms(model)[list(tokens.token_ids)]
    for layer in range(model.n_layers):
        for head in range(model.n_heads):
            h = oracle.head_output(read.z[layer, head], model.head_weights(layer)[head])
            expected = oracle.somp(h, atoms, 4).explained[-1]
            assert ranking.scores[layer, head].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("changed", [{"centre": False}, {"normalise": False}, {"fold_norm": False}])
def test_every_option_of_the_pursuit_counts_and_is_kept(llama, activations, colors, changed):
    options = replace(Options(steps=4), **changed)
    plain = rank_heads(llama, activations, colors, options=Options(steps=4), lists=1)
    other = rank_heads(llama, activations, colors, options=options, lists=1)
    assert other.as_dict()["options"] == options.as_dict() != plain.as_dict()["options"]
    assert not other.scores.allclose(plain.scores)


@torch.inference_mode()
def test_an_atom_is_the_direction_that_raises_its_tokens_logit_through_the_final_norm(model):
    generator = torch.Generator().manual_seed(0)
    residual = torch.randn(model.d_model, generator=generator)
    logits = model.unembedding @ model.final_norm(residual[None])[0]
    bias = getattr(model.final_norm, "bias", None)
    logits = logits - (model.unembedding @ bias if bias is not None else 0)
    seen = vocabulary_atoms(model, normalise=False) @ residual
    torch.testing.assert_close(seen / seen.norm(), logits / logits.norm(), rtol=1e-4, atol=1e-5)
    lengths = vocabulary_atoms(model).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_the_logit_lens_is_the_mean_logit_over_words_and_samples(model, texts):
    read = capture(model, texts)
    tokens = tokenize_concept(COLORS, model.tokenizer)
    ranking = rank_heads(model, read, tokens, "logit-lens", Options(normalise=False), lists=1)
    atoms = vocabulary_atoms(model, normalise=False)[list(tokens.token_ids)]
    for layer in range(model.n_layers):
        for head in range(model.n_heads):
            h = read.z[layer, head] @ model.head_weights(layer)[head]
            expected = (h @ atoms.T).mean().item()
            assert ranking.scores[layer, head].item() == pytest.approx(expected, abs=1e-4)


def test_every_head_has_its_rank(llama, activations, colors):
    heads = rank_heads(llama, activations, colors).heads
    assert [h.rank for h in heads] == list(range(1, llama.total_heads + 1))
    assert len({h.head for h in heads}) == llama.total_heads


def test_a_head_with_planted_colors_comes_first_and_far_above_chance(llama, activations, colors):
    atoms = concept_dictionary(vocabulary_atoms(llama), colors).atoms
    planted = Head(1, 2)
    # Signals that the head's own projection turns into mixtures of three colors.
    mixture = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) @ atoms[:3]
    z = torch.randn(3, 4, 40, llama.d_head, generator=torch.Generator().manual_seed(1))
    weight = torch.zeros(llama.d_head, llama.d_model)
    weight[:3] = atoms[:3]
    changed = replace(llama)
    changed.__dict__["projections"] = llama.projections
    object.__setattr__(changed, "head_weights", with_head(llama, planted, weight))
    z[1, 2] = mixture @ torch.linalg.pinv(weight)
    ranking = rank_heads(changed, replace(activations, z=z), colors)
    first, second = ranking.heads[:2]
    assert first.head == planted
    assert first.score > 0.99
    assert first.chance < 0.7 * first.score
    assert second.score < 0.8


def with_head(model, head, weight):
    """`head_weights` of the model with one head's projection replaced."""

    def head_weights(layer):
        weights = model.head_weights(layer).clone()
        if layer == head.layer:
            weights[head.index] = weight
        return weights

    return head_weights


@pytest.fixture
def drawn(monkeypatch):
    """The random word lists that chance was computed on, as they are drawn."""
    lists = []

    def record(atoms, ids, labels):
        lists.append(list(ids))
        return draw(atoms, ids, labels)

    from headviz.pursuit.ranking import token_dictionary as draw

    monkeypatch.setattr("headviz.pursuit.ranking.token_dictionary", record)
    return lists


@pytest.mark.parametrize("pieces", ["single", "mean", "all"])
def test_chance_is_over_lists_as_long_as_the_concept_without_its_words(
    llama, activations, drawn, pieces
):
    concept = make_concept("mixed", [*WORDS["colors"], "umpteen"])
    tokens = tokenize_concept(concept, llama.tokenizer, pieces)
    rank_heads(llama, activations, tokens, options=Options(pieces=pieces), lists=7)
    size = len(tokens.kept) if pieces == "mean" else len(tokens.token_ids)
    assert len(drawn) == 7
    for ids in drawn:
        assert len(set(ids)) == len(ids) == size
        assert not set(ids) & set(tokens.token_ids)
        assert set(ids) <= set(word_tokens(llama))
    assert len({tuple(ids) for ids in drawn}) > 1


def test_chance_is_the_mean_over_its_lists_and_the_same_every_time(
    llama, activations, colors, drawn
):
    ranking = rank_heads(llama, activations, colors, lists=3)
    atoms = vocabulary_atoms(llama)
    h = oracle.head_output(activations.z[0, 0], llama.head_weights(0)[0])
    each = [oracle.somp(h, atoms[ids], len(ids)).explained[-1] for ids in drawn]
    assert ranking.chance[0, 0].item() == pytest.approx(sum(each) / 3, rel=1e-3)
    assert ranking.chance.equal(rank_heads(llama, activations, colors, lists=3).chance)


def test_heads_stand_in_the_order_of_their_distance_from_chance(llama, activations, colors):
    ranking = rank_heads(llama, activations, colors, lists=3)
    over = [head.over for head in ranking.heads]
    assert over == sorted(over, reverse=True)
    assert all(h.over == pytest.approx(h.score - h.chance) for h in ranking.heads)
    raw = rank_heads(llama, activations, colors, options=Options(order="raw"), lists=3)
    scores = [head.score for head in raw.heads]
    assert scores == sorted(scores, reverse=True)
    assert raw.scores.equal(ranking.scores) and raw.chance.equal(ranking.chance)


def test_no_head_that_may_be_at_chance_is_preselected(llama, activations, colors):
    ranking = rank_heads(llama, activations, colors, lists=3)
    chosen = ranking.preselected(ranking.total_heads)
    above = [head.head for head in ranking.heads if head.low > 0]
    assert list(chosen) == above
    assert len(chosen) < ranking.total_heads


def test_a_list_of_random_words_does_not_stand_above_chance(llama, activations):
    """The concept's place taken by what chance is made of: no head is surely above."""
    generator = random.Random(5)
    above = 0
    for _ in range(10):
        words = generator.sample(EVERYTHING.words, 5)
        tokens = tokenize_concept(make_concept("random", words), llama.tokenizer)
        ranking = rank_heads(llama, activations, tokens)
        above += sum(head.above_chance for head in ranking.heads)
    assert above / (10 * ranking.total_heads) < 0.15


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_concept_of_all_words_still_has_a_chance_level(llama, activations, criterion, drawn):
    tokens = tokenize_concept(EVERYTHING, llama.tokenizer)
    ranking = rank_heads(llama, activations, tokens, criterion, lists=2)
    assert ranking.chance.isfinite().all()
    for ids in drawn:
        assert len(set(ids)) == len(tokens.token_ids)
        assert not set(ids) & set(tokens.token_ids)


def test_an_unknown_criterion_lists_the_known_ones():
    with pytest.raises(OptionError, match=r"'magic'\. Known: somp, logit-lens"):
        find_criterion("magic")


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(OptionError, match=f"steps is {steps}; choose 1 to 1000"):
        Options(steps=steps)


# The random control.

layers_of_8 = st.dictionaries(
    st.integers(0, 3), st.sets(st.integers(0, 7), min_size=1, max_size=4), max_size=4
)


@given(chosen=layers_of_8, seed=st.integers(0, 100))
def test_a_control_has_as_many_other_heads_in_each_layer(chosen, seed):
    heads = [Head(layer, index) for layer, indices in chosen.items() for index in indices]
    control = matched_control(heads, range(4), 8, seed)
    assert Counter(h.layer for h in control) == Counter(h.layer for h in heads)
    assert len(set(control)) == len(control)
    assert not set(control) & set(heads)
    assert all(0 <= h.index < 8 for h in control)
    assert control == matched_control(heads, range(4), 8, seed)


def test_another_seed_draws_another_control():
    heads = [Head(layer, 0) for layer in range(4)]
    assert len({matched_control(heads, range(4), 8, seed) for seed in range(10)}) > 5


@given(
    chosen=st.sets(st.builds(Head, st.sampled_from([0, 2, 3, 7]), st.integers(0, 4)), max_size=10),
    seed=st.integers(0, 20),
)
def test_a_control_can_always_be_drawn_from_the_nearest_layers(chosen, seed):
    layers = (0, 2, 3, 7)
    control = matched_control(chosen, layers, 5, seed)
    assert len(set(control)) == len(control) == len(chosen)
    assert not set(control) & chosen
    assert {head.layer for head in control} <= set(layers)
    stayed = Counter(h.layer for h in chosen) & Counter(h.layer for h in control)
    for layer, n_chosen in Counter(h.layer for h in chosen).items():
        assert stayed[layer] >= min(n_chosen, 5 - n_chosen), "a layer serves itself first"


def test_what_a_layer_has_too_few_heads_for_comes_from_the_next_and_is_counted():
    edit = Edit.of([Head(2, i) for i in range(4)], 0)
    control = Edit.of(matched_control(edit.factors, range(4), 5), 0)
    assert Counter(head.layer for head in control.factors) == {2: 1, 1: 3}
    assert moved(edit, control) == 3


def test_a_control_of_more_heads_than_are_left_is_refused():
    with pytest.raises(OptionError, match="5 of 8 heads are edited: too few are left"):
        matched_control([Head(i // 4, i % 4) for i in range(5)], range(2), 4)


# A head opened.


def test_a_spectrum_is_the_textbook_pursuit_over_the_whole_vocabulary(model, texts):
    read = capture(model, texts)
    labels = vocabulary_labels(model)
    head = Head(2, 1)
    h = oracle.head_output(read.z[2, 1], model.head_weights(2)[1])
    expected = oracle.somp(h, vocabulary_atoms(model), 4)
    found = head_spectrum(model, read, head, steps=4)
    assert [atom.token for atom in found.atoms] == [labels[pick] for pick in expected.picks]
    assert [a.explained for a in found.atoms] == pytest.approx(expected.explained, rel=1e-3)
    assert [a.weight for a in found.atoms] == pytest.approx(expected.weights, rel=1e-2)
    assert (found.head, found.options.steps, found.n_samples) == (head, 4, len(texts))


def test_the_strongest_samples_are_those_farthest_from_the_mean(llama, activations, texts):
    found = head_spectrum(llama, activations, Head(0, 3), n_samples=len(texts))
    h = oracle.head_output(activations.z[0, 3], llama.head_weights(0)[3])
    shares = (h**2).sum(1) / (h**2).sum()
    by_share = sorted(zip(texts.texts, shares, strict=True), key=lambda pair: -pair[1])
    assert [s.text for s in found.samples] == [text for text, _ in by_share]
    assert [s.share for s in found.samples] == pytest.approx([s for _, s in by_share], rel=1e-3)
    assert sum(s.share for s in found.samples) == pytest.approx(1, abs=1e-5)


def test_the_lens_shows_the_tokens_that_the_mean_write_raises_most(llama, activations):
    found = head_spectrum(llama, activations, Head(0, 3), n_lens=3)
    mean = (activations.z[0, 3] @ llama.head_weights(0)[3]).mean(0)
    logits = vocabulary_atoms(llama) @ mean
    labels = vocabulary_labels(llama)
    assert [t.token for t in found.lens] == [labels[i] for i in logits.topk(3).indices]
    assert found.lens[0].logit == pytest.approx(logits.max().item(), rel=1e-4)


def test_a_head_that_is_not_there_cannot_be_opened(llama, activations):
    with pytest.raises(OptionError, match=r"There is no head L3\.H0"):
        head_spectrum(llama, activations, Head(3, 0))


@pytest.mark.parametrize("criterion", ["somp", "energy"])
def test_one_text_is_refused_where_the_variance_over_texts_is_asked_for(criterion, llama):
    one = capture(llama, make_prompt_set("one", ["the cat is red"]))
    tokens = tokenize_concept(COLORS, llama.tokenizer)
    with pytest.raises(PromptError, match="only one text"):
        rank_heads(llama, one, tokens, criterion, lists=1)
    assert rank_heads(llama, one, tokens, criterion, Options(centre=False), lists=1).heads


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_score_is_told_in_per_cent_where_it_is_a_share(criterion, llama, activations, colors):
    ranking = rank_heads(llama, activations, colors, criterion, lists=1)
    assert ("%" in score_text(criterion, 0.5, 0.1)) == CRITERIA[criterion].is_share
    bar = heat_figure(ranking).data[0].colorbar.tickformat
    assert bar.endswith("%") == CRITERIA[criterion].is_share
