"""Weights of 8 and 4 bits: the laws as far as rounding lets them hold; tiny-lm on a CPU."""

import pytest
import torch

from headviz.base.assets import built_in_models
from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.editing.bake import write_checkpoint
from headviz.editing.generate import Sampling, generate
from headviz.editing.recipe import Recipe
from headviz.heads.capture import capture
from headviz.heads.edits import Edit, applied, factor_table
from headviz.heads.forward import batch_of
from headviz.heads.hooks import projection_inputs
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import find_concept, tokenize_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.pursuit.ranking import rank_heads
from headviz.session.open_model import open_model

pytest.importorskip("bitsandbytes")
if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

QUESTION = "Question: What is the usual color of a {}? Answer:"
PROBES = PromptSet("few", tuple(QUESTION.format(t) for t in ("tomato", "lemon", "frog", "crow")))
ROUNDING = {"int8": 0.03, "int4": 0.25}
"""Relative; the matrices of tiny-lm lose this much to 8 and to 4 bits."""


@pytest.fixture(scope="module")
def whole():
    return open_model("tiny-lm", "cpu")


@pytest.fixture(scope="module", params=list(ROUNDING))
def few_bits(request):
    torch.set_num_threads(1)
    return open_model("tiny-lm", "cpu", request.param)


def loss(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


@torch.inference_mode()
def parts(model, layer, edit=None):
    """A layer's signals and its attention output."""
    signals, outputs = [], []
    batch = batch_of(model, [encode_prompt(model, text) for text in PROBES.texts], left=True)
    handle = model.projections[layer].register_forward_hook(lambda *io: outputs.append(io[2]))

    def read(at, z):
        if at == layer:
            signals.append(z)

    try:
        with (
            applied(model, factor_table(model, [edit or Edit()] * len(PROBES))),
            projection_inputs(model, read),
        ):
            model.model(**batch.inputs())
    finally:
        handle.remove()
    return signals[0].float(), outputs[0].float()


def test_they_are_what_was_asked_for(few_bits, whole):
    name = few_bits.quantised
    assert name in few_bits.summary and f"{name} weights as asked" in few_bits.summary
    assert few_bits.n_bytes < 0.5 * whole.n_bytes
    assert few_bits.number_format != whole.number_format


def test_the_heads_writes_sum_to_the_attention_output(few_bits, whole):
    """Read once before and once after the first pass: a CPU packs 4 bits anew in between."""
    allowed = ROUNDING[few_bits.quantised]
    early = few_bits.head_weights(0).clone()
    signals, output = parts(few_bits, 3)
    weights = few_bits.head_weights(3)
    assert loss(weights, whole.head_weights(3)) < allowed
    heads = signals.unflatten(-1, (few_bits.n_heads, few_bits.d_head))
    assert loss(torch.einsum("sphk,hkd->spd", heads, weights), output) < 0.02
    assert few_bits.head_weights(0).equal(early)
    assert loss(early, whole.head_weights(0)) < allowed


def test_factor_1_changes_nothing_and_factor_0_removes_the_heads(few_bits):
    """Half of a layer's heads: the share of one drowns in the rounding of all products."""
    heads = [Head(2, index) for index in range(few_bits.n_heads // 2)]
    signals, output = parts(few_bits, 2)
    same, unchanged = parts(few_bits, 2, Edit.of(heads, 1))
    assert same.equal(signals) and unchanged.equal(output)
    _, without = parts(few_bits, 2, Edit.of(heads, 0))
    own = signals.unflatten(-1, (few_bits.n_heads, few_bits.d_head))[:, :, : len(heads)]
    share = torch.einsum("sphk,hkd->spd", own, few_bits.head_weights(2)[: len(heads)])
    assert loss(output - without, share) < 0.1


def test_heads_are_ranked_as_without_rounding(few_bits, whole):
    ranked = []
    for model in (few_bits, whole):
        tokens = tokenize_concept(find_concept("colors"), model.tokenizer)
        ranked.append(rank_heads(model, capture(model, PROBES), tokens).scores)
    assert loss(*ranked) < 0.5
    both = torch.corrcoef(torch.stack([scores.flatten() for scores in ranked]))
    assert both[0, 1] > 0.8


def test_an_edit_changes_what_is_said(few_bits):
    heads = range(few_bits.n_heads)
    every = Edit.of([Head(layer, index) for layer in range(5) for index in heads], 0)
    texts = [PROBES.texts[0]] * 2
    *_, last = generate(few_bits, texts, [Edit(), every], Sampling(max_new_tokens=3))
    assert last.texts[0].strip().startswith("red") and last.texts[1] != last.texts[0]


def test_they_are_not_baked(few_bits, tmp_path):
    recipe = Recipe(few_bits.name, few_bits.revision, Edit({Head(0, 0): 0.0}))
    with pytest.raises(OptionError, match=r"are quantised: .* --dtype bfloat16"):
        write_checkpoint(few_bits, recipe, tmp_path / "baked")
    assert [*tmp_path.iterdir()] == []
