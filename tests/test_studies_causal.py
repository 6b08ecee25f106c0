"""Gradient and ablation: they are what they say, head by head."""

import pytest
import torch
from tiny_vision import VISION_CONFIGS

from headviz.base.head import Head
from headviz.heads.edits import Edit, factor_table
from headviz.inputs.concepts import in_sentence_ids
from headviz.session.open_model import open_model
from headviz.studies.causal import SILENT, _by_layers, _whole_passes, ablation, attribution
from headviz.studies.layer_replay import trace
from headviz.studies.samples import Sample, StudyError
from headviz.studies.teacher_forcing import force, log_probability, read

pytest_plugins = ["loaded", "seeing"]

SAMPLES = (
    Sample("what color has the house", ("red",)),
    Sample("the cat saw two fish and the", ("dog was blue",)),
    Sample("a horse is in the house of a", ("zebra",)),
)


@pytest.fixture(scope="session", params=["llama", "mistral", "qwen3", "gpt2"])
def family(request):
    return request.param


def likelihood(model, edit):
    """Mean log-probability of the right answers under an edit, a sample at a time."""
    values = []
    for sample in SAMPLES:
        batch, scored = read(model, [force(model, sample)])
        table = factor_table(model, [edit])
        values.append(log_probability(model, batch, scored, table).item())
    return sum(values) / len(values)


def test_the_log_probability_is_that_of_the_answer_s_tokens(llama):
    sample = SAMPLES[1]
    prompt = llama.tokenizer(sample.prompt)["input_ids"]
    answer = list(in_sentence_ids(sample.answers[0], llama.tokenizer))
    with torch.inference_mode():
        logits = llama.model(torch.tensor([prompt + answer])).logits[0].log_softmax(1)
    alone = [logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)]
    batch, scored = read(llama, [force(llama, s) for s in SAMPLES])
    table = factor_table(llama, [Edit()] * 3)
    found = log_probability(llama, batch, scored, table)[1].item()
    assert found == pytest.approx(sum(alone) / len(alone), abs=1e-5)


def test_attribution_is_the_slope_by_each_head_s_factor(model):
    found = attribution(model, [force(model, sample) for sample in SAMPLES])
    step = 2e-3  # the random model is strongly curved
    for head in (Head(0, 1), Head(1, 3), Head(model.n_layers - 1, 0)):
        up, down = (likelihood(model, Edit({head: 1 + s})) for s in (step, -step))
        slope = (up - down) / (2 * step)
        assert found[head.layer, head.index].item() == pytest.approx(slope, abs=2e-3)


def test_exhaustive_ablation_is_each_head_left_out_by_itself(model):
    found = ablation(model, [force(model, sample) for sample in SAMPLES])
    base = likelihood(model, Edit())
    for layer in range(model.n_layers):
        for index in range(model.n_heads):
            alone = base - likelihood(model, Edit({Head(layer, index): 0.0}))
            assert found[layer, index].item() == pytest.approx(alone, abs=1e-4)


def test_a_silent_head_costs_by_the_gradient_what_it_costs_by_a_pass_without_it(tiny_model_folder):
    model = open_model(str(tiny_model_folder("llama")), device="cpu")
    with torch.no_grad():
        for projection in model.projections.values():  # of every head but the first
            projection.weight[:, model.d_head :] *= 1e-3
    for sample in SAMPLES:
        one = force(model, sample)
        found = trace(model, one)
        assert (found.shares[:, 1:] <= SILENT).all() and (found.shares[:, 0] > SILENT).all()
        costs, passes = _by_layers(model, one, found), _whole_passes(model, one)
        assert torch.allclose(costs, passes, rtol=0.03, atol=5e-6)
        assert costs[:, 1:].abs().max() > 1e-3, "none of them would do nothing"


def test_layers_without_heads_have_none_to_leave_out(load):
    model = load("lfm2")
    found = ablation(model, [force(model, SAMPLES[0])])
    assert {layer for layer in range(model.n_layers) if found[layer].any()} == {*model.head_layers}


def test_neither_leaves_a_hook_or_a_gradient_behind(llama):
    forced = [force(llama, SAMPLES[0])]
    attribution(llama, forced)
    ablation(llama, forced)
    assert not any(p._forward_pre_hooks for p in llama.projections.values())
    assert all(not p.requires_grad and p.grad is None for p in llama.model.parameters())


def test_pictures_take_part(llava, pictures):
    samples = [Sample("what color", ("red",), True, (picture,)) for picture in pictures]
    forced = [force(llava, sample) for sample in samples]
    assert attribution(llava, forced).abs().sum() > 0
    batch, scored = read(llava, [forced[0]])
    head = Head(1, 2)
    base, alone = (
        log_probability(llava, batch, scored, factor_table(llava, [edit])).item()
        for edit in (Edit(), Edit({head: 0.0}))
    )
    one = ablation(llava, forced[:1])
    assert one[head.layer, head.index].item() == pytest.approx(base - alone, abs=1e-4)


@pytest.mark.parametrize("family", sorted(VISION_CONFIGS))
def test_layers_run_by_themselves_say_what_whole_passes_say(load_seeing, pictures, family):
    seeing = load_seeing(family)
    forced = force(seeing, Sample("what color", ("red",), True, pictures[:1]))
    found = trace(seeing, forced)
    if family == "qwen3_vl":  # it adds what its tower saw between the layers: only whole passes do
        assert found is None
        return
    assert found is not None, "the slow way would be taken"
    assert torch.allclose(
        _by_layers(seeing, forced, found), _whole_passes(seeing, forced), atol=2e-4
    )


def test_a_sample_without_a_token_to_score_is_refused(load):
    with pytest.raises(StudyError, match="no token to score"):
        force(load("gpt2"), Sample("a"))
