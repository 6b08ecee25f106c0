"""The benchmark runs, its oracle agrees, and its picture is one."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from pursuing import pursue

from benchmarks.__main__ import main
from benchmarks.pursuit import choices, growth, pursuit, tasks
from benchmarks.pursuit.machine import Rates, watched
from benchmarks.pursuit.oracle import plain_somp
from benchmarks.pursuit.tasks import CONCEPT, TASKS, compare, floor, problem, smaller

CPU = torch.device("cpu")
RATES = Rates(1e11, 1e10, 1e10)


@pytest.fixture
def tiny(monkeypatch):
    """The whole benchmark in sizes for a test."""

    def shrunk(task):
        return replace(
            smaller(task), heads=2, in_layer=1, samples=20, d_head=4, d_model=16, steps=4,
            atoms=min(task.atoms, 1100), oracle_steps=2,
        )  # fmt: skip

    monkeypatch.setattr(pursuit, "smaller", shrunk)
    monkeypatch.setattr(pursuit, "measure_rates", lambda device: RATES)
    small = [(a, replace(shrunk(t), atoms=min(t.atoms, 1100)), f) for a, t, f in growth.AXES]
    monkeypatch.setattr(growth, "AXES", small)
    for name, size in (("HEADS", 6), ("VOCABULARY", 300), ("CONCEPT", 60), ("SAMPLES", 30)):
        monkeypatch.setattr(choices, name, size)


def test_the_whole_table_is_plain_data_and_a_picture(tiny, tmp_path, capsys):
    command = ["pursuit", "--quick", "--device", "cpu", "--json", "--out", str(tmp_path)]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in found["table"]] == [task.name for task in TASKS]
    for row in found["table"]:
        same, n = row["same_picks"].split(" of ")
        assert same == n
        assert row["explained_off"] < 1e-4
    assert {p["axis"] for p in found["growth"]} == {"samples", "atoms", "heads", "vocabulary"}
    assert {c["choice"] for c in found["choices"]} >= {"l1 bfloat16", "energy float32"}
    ElementTree.parse(tmp_path / "pursuit_growth.svg")


def test_a_wrong_pick_is_counted():
    z, w_o, atoms = problem(replace(smaller(CONCEPT), heads=1, in_layer=1, d_model=64), CPU)
    found = pursue(z, w_o[0], atoms, 5)
    plain = plain_somp(z[0], w_o[0][0], atoms, 5)
    assert compare(found, [plain])[:2] == (5, 5)
    other = replace(plain, picks=[*plain.picks[:4], plain.picks[0]])
    assert compare(found, [other])[:2] == (4, 5)
    tied = replace(other, gaps=[*plain.gaps[:4], 0.0])
    assert compare(found, [tied])[:2] == (5, 5)
    off = replace(plain, explained=[share * 1.01 for share in plain.explained])
    assert compare(found, [off])[2] == pytest.approx(0.01, rel=0.02)


def test_the_floor_counts_twice_the_heads_twice_and_the_second_concept_less():
    assert floor(replace(CONCEPT, heads=2048), RATES) == pytest.approx(2 * floor(CONCEPT, RATES))
    assert floor(tasks.TASKS[1], RATES) < floor(CONCEPT, RATES)


def test_the_exponent_of_linear_growth_is_one():
    points = [growth.Point("heads", 10 * 2**k, 0.1 * 2**k, 5.0, 2.0**k) for k in range(4)]
    assert growth.exponent(points) == pytest.approx(1)
    assert growth.exponent(points, "peak_mib") == pytest.approx(0)


def test_memory_in_use_at_the_peak_is_seen():
    before = torch.ones(256 * 2**20 // 4)
    with watched(CPU) as used:
        block = torch.ones(128 * 2**20 // 4)
        for _ in range(20):
            block.add_(1)
    assert len(before)
    assert 96 * 2**20 < used.peak_bytes < 192 * 2**20
