"""Every law of headviz.laws on every family, and that a law that is broken is seen to be."""

import pytest
import torch
from tiny_models import CONFIGS

from headviz.families import FAMILIES
from headviz.laws import LAWS
from headviz.trial import Trial

pytest_plugins = ["loaded"]


@pytest.fixture(scope="module")
def trial_of(load):
    """`trial_of("llama")`: what its laws are tried on, made once."""
    made = {}
    return lambda family: made.setdefault(family, Trial(load(family)))


@pytest.mark.parametrize("family", CONFIGS)
def test_every_law_holds(trial_of, family):
    trial = trial_of(family)
    found = {name: law.measure(trial) for name, law in LAWS.items()}
    limits = {name: law.limit(torch.float32) for name, law in LAWS.items()}
    assert not {name: value for name, value in found.items() if not value <= limits[name]}


def test_every_row_has_a_tiny_model(load):
    tried = {load(kind).model.config.model_type for kind in CONFIGS}
    assert tried == set(FAMILIES)
