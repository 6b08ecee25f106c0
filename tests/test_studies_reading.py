"""What the paper found, held against a study's numbers: each verdict follows from its rows."""

from dataclasses import replace

import pytest

from headviz.__main__ import build_parser
from headviz.base.assets import built_in_models
from headviz.studies import captioning, classification, qa, reports, toxicity
from headviz.studies import planted_heads as planted
from headviz.studies.compare_with_paper import (
    AGREES,
    CLAIMS,
    DISAGREES,
    LEANS,
    MAIN,
    OPEN,
    Verdict,
    alike,
    falls,
    in_words,
    lower,
    rises,
    stays,
    unharmed,
)
from headviz.studies.presets import PRESETS
from headviz.studies.summary import Row

pytest_plugins = ["loaded"]

MEASURES = {
    "qa": qa.MEASURES,
    "toxicity": toxicity.MEASURES,
    "classification": classification.MEASURES,
    "captioning": captioning.MEASURES,
}


def row(ratio, low=None, high=None):
    return Row("pursuit", 8, -1.0, "f1", "inside", 30, 0.5, 1.0, ratio, low, high, None, None, 1)


@pytest.mark.parametrize(
    ("holds", "rows", "verdict"),
    [
        (falls, [row(0.5, 0.4, 0.6)], AGREES),
        (falls, [row(0.9, 0.7, 1.1)], LEANS),
        (falls, [row(1.0, 0.9, 1.1)], DISAGREES),
        (falls, [row(None)], OPEN),
        (rises, [row(1.5, 1.2, 2.0)], AGREES),
        (rises, [row(1.1, 0.9, 1.3)], LEANS),
        (rises, [row(0.9, 0.8, 1.2)], DISAGREES),
        (stays, [row(1.0, 0.95, 1.1)], AGREES),
        (stays, [row(0.93, 0.8, 1.1)], LEANS),
        (stays, [row(0.8, 0.7, 1.1)], DISAGREES),
        (stays, [row(1.0, 0.95, 2.0)], LEANS),
        (stays, [row(1.5, 1.2, 2.0)], DISAGREES),
        (stays, [row(None)], OPEN),
        (unharmed, [row(1.0, 0.95, 2.0)], AGREES),
        (unharmed, [row(0.8, 0.7, 1.1)], DISAGREES),
        (lower, [row(0.3, 0.2, 0.4), row(0.8, 0.7, 0.9)], AGREES),
        (lower, [row(0.6, 0.4, 0.8), row(0.8, 0.7, 0.9)], LEANS),
        (lower, [row(0.8, 0.7, 0.9), row(0.3, 0.2, 0.4)], DISAGREES),
        (lower, [row(0.3, 0.2, 0.4), row(None)], OPEN),
        (alike, [row(0.5, 0.4, 0.6), row(0.55, 0.4, 0.7)], AGREES),
        (alike, [row(0.5, 0.4, 0.6), row(0.9, 0.8, 0.95)], DISAGREES),
        (alike, [row(1.0, 0.9, 1.1), row(1.0, 0.9, 1.1)], DISAGREES),
    ],
)
def test_a_verdict_asks_the_interval_and_then_the_ratio(holds, rows, verdict):
    assert holds(*rows) == verdict


def test_every_claim_is_about_something_that_its_study_measures():
    assert CLAIMS.keys() == MEASURES.keys()
    for study, claims in CLAIMS.items():
        known = {f"{m.column} {m.part}" for m in MEASURES[study]} | {MAIN}
        assert {name for claim in claims for name, _ in claim.rows} <= known


def test_what_did_not_come_out_is_named():
    found = [Verdict("it falls", AGREES, ""), Verdict("it stays", DISAGREES, "")]
    text = in_words(found)
    assert "Of 2 findings of the paper 1 came out here clearly" in text
    assert "1 did not (it stays)" in text


@pytest.mark.timeout(600)
@pytest.mark.skipif("tiny-lm" not in built_in_models(), reason="tiny-lm is not trained")
def test_reports_judge_each_finding_say_where_planted_heads_stand_and_go_on(
    session, tmp_path, monkeypatch
):
    arms = ("pursuit", "logit-lens", "random")
    small = replace(PRESETS["qa-countries"], ks=("1",), alphas=(-1.0,), arms=arms, selection=60)
    monkeypatch.setattr(reports, "PRESETS", {"qa-countries": small})
    heads = dict(list(planted.planted_heads().items())[:2])
    monkeypatch.setattr(planted, "planted_heads", lambda: heads)
    monkeypatch.setattr(planted, "ASKED", 1)
    asked = ["reports", "--out", str(tmp_path / "reports"), "--limit", "6", "--draws", "2"]
    out, kept = tmp_path / "reports", session.store.folder.parent / "studies"

    def made():
        reports.run_command(session, build_parser().parse_args(asked))
        return (out / "README.md").read_text(), (out / "planted.md").read_text()

    text, ranks = made()
    for claim in CLAIMS["qa"]:
        assert f"| {claim.text} | **" in text
    assert "The paper shows a figure, no table" in text
    assert (out / "qa-countries" / "report.md").is_file()
    assert all(f"| {concept} ({len(found)}) |" in ranks for concept, found in heads.items())
    cells = {p: p.stat().st_mtime_ns for p in kept.rglob("*.jsonl")}
    assert made() == (text, ranks)
    assert {p: p.stat().st_mtime_ns for p in kept.rglob("*.jsonl")} == cells, "done twice"
