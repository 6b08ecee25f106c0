"""Classes without a row: the structure is discovered where the laws hold, else they are refused."""

from dataclasses import replace

import pytest
import torch
from anatomy import layers_of, projection_in
from tiny_models import UNKNOWN

from headviz.base.errors import ModelError
from headviz.base.head import Head
from headviz.editing.generate import Sampling, generate
from headviz.heads.edits import Edit
from headviz.heads.laws import discover as discovery
from headviz.heads.laws.fixture import Fixture
from headviz.heads.laws.report import Finding, measure
from headviz.models.families import FAMILIES

pytest_plugins = ["loaded"]

REFUSED = {
    "diffllama": r"law 'slices' holds for none .* Measured.*self_attn\.o_proj: \d",
    "bert": r"law 'stream' does not hold: A head that is turned up .* Measured \d.* at most 1e-04",
    "recurrent_gemma": r"law 'rows' does not hold: .* Measured \d",
    "mamba": "names no attention heads",
}
"""Class -> what is said of it."""
FOUND = [name for name in UNKNOWN if name not in REFUSED]


@pytest.mark.parametrize("name", FOUND)
def test_an_unknown_structure_is_found_checked_and_said_to_be(load, name):
    model = load(name)
    assert name not in FAMILIES
    assert "structure discovered, checked by the laws" in model.summary
    projections = [projection_in(layer) for layer in layers_of(model.model)]
    if name != "ctrl":  # whose feed-forward part has no name of its own
        assert list(model.projections.values()) == projections
    assert all(finding.verdict == "pass" for finding in measure(Fixture.of(model)))


@pytest.mark.parametrize("name", REFUSED)
def test_a_guess_that_breaks_a_law_is_refused_with_the_law_and_the_number(
    load, tiny_model_folder, name
):
    with pytest.raises(ModelError, match=REFUSED[name]) as raised:
        load(name)
    assert f"type {name!r} have no row" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_stands_between_attention_and_the_stream_is_found(load):
    assert load("exaone4").family.norm_after == "post_attention_layernorm"
    assert "evens out" in load("exaone4").summary
    assert load("granitemoe").family.multiplier == "residual_multiplier"
    assert load("granitemoe").multiplier(0) == 0.5


def test_a_discovered_model_generates_under_an_edit(load):
    model = load("starcoder2")
    edits = [Edit(), Edit.of([Head(0, 1), Head(1, 2)], 0.0)]
    *_, last = generate(model, ["the cat is red and"] * 2, edits, Sampling(5))
    assert last.texts[0] != last.texts[1]


@pytest.mark.parametrize("law", ["cache", "unembedding"])
def test_every_law_has_to_hold(load, monkeypatch, law):
    """A structure that a later law breaks is not used either."""
    model = load("starcoder2")

    def broken(fixture):
        for finding in measure(fixture):
            wrong = finding.law == law
            yield Finding(law, "A law.", 0.5, 1e-4, 0.0) if wrong else finding

    monkeypatch.setattr(discovery, "measure", broken)
    with pytest.raises(ModelError, match=rf"the law '{law}' does not hold: A law\. Measured 0\.5"):
        discovery.discover(model.model, lambda family: replace(model, family=family))


def test_a_projection_of_the_wrong_width_is_not_taken(load):
    model = load("starcoder2")
    layers = torch.nn.ModuleList(model.layers)
    assert discovery._candidates(model.model, layers, 4)[-1] == "mlp.c_proj"
    assert discovery._candidates(model.model, layers, 7) == []
