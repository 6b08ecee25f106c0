"""The benchmark of studies: both ways say the same, and what it tells is plain data."""

import json

import pytest

from benchmarks.studies import bench_studies
from headviz.base.assets import built_in_models

pytest_plugins = ["loaded"]


@pytest.mark.skipif("tiny-lm" not in built_in_models(), reason="tiny-lm is not trained")
def test_both_ways_answer_alike_and_lose_the_same_to_each_head(session):
    told = []
    data, text = bench_studies(session, quick=True, say=told.append)
    answers, heads = json.loads(json.dumps(data))["table"]
    assert answers["same"] == "50 of 50 answers"
    off = float(heads["same"].split("within ")[1].split()[0])
    assert off < 1e-3
    assert all(line in text for line in told)
    for row in (answers, heads):
        assert row["ratio"] == pytest.approx(row["plain"] / row["seconds"])
