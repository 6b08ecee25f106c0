"""Studies as a grid of cells: disjoint samples, content keys, kill and resume, honest findings."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from headviz.base.assets import built_in_models
from headviz.base.errors import Cancelled, HeadvizError
from headviz.base.head import Head
from headviz.inputs.concepts import find_concept
from headviz.studies.cells import BASE, Setting, grid, head_counts, settings_of, shards_of
from headviz.studies.finding import find
from headviz.studies.folder import StudyFolder
from headviz.studies.qa import plan as plan_qa
from headviz.studies.request import Request
from headviz.studies.run_cells import run_batch
from headviz.studies.samples import Material, Sample, StudyError, split
from headviz.studies.study import Finished, lay_out, run
from headviz.studies.summary import as_csv, rows_of
from headviz.studies.toxicity import halves
from headviz.studies.write import write_outcome

pytest_plugins = ["loaded"]

trained = pytest.mark.skipif("tiny-lm" not in built_in_models(), reason="tiny-lm is not trained")


def write_questions(file, n=100):
    """Natural-Questions-like lines; half of the answers are colors."""
    colors = ("red", "blue", "green", "yellow")
    lines = [
        f"what color has the house {i} in\t['{colors[i % 4] if i % 2 else 'cat'}']"
        for i in range(n)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def request_qa(tmp_path, tiny_model_folder):
    """A small study of the tiny random Llama on questions from a file."""
    return Request(
        "qa",
        str(tiny_model_folder("llama")),
        data=str(write_questions(tmp_path / "questions.tsv")),
        concept="colors",
        ks=("1", "25%"),
        alphas=(-1.0, 2.0),
        draws=2,
        selection=10,
        limit=12,
        prompt="{question}",
        max_new_tokens=3,
    )


def test_selection_and_evaluation_share_no_sample():
    samples = [Sample(f"question {i % 40}", ("x",), i % 3 == 0) for i in range(60)]
    selection, evaluation = split("data", samples, 15, 20)
    assert len(selection) == 15 and len(evaluation) == 20
    assert not {s.key for s in selection} & {s.key for s in evaluation}
    assert len({s.key for s in selection + evaluation}) == 35
    with pytest.raises(StudyError, match="1 samples of x would be both"):
        Material("x", (*samples[:2],), (Sample("question 1"),))


def test_the_evaluation_is_half_inside_the_concept_while_there_are_enough():
    samples = [Sample(f"question {i}", ("x",), i % 4 == 0) for i in range(400)]
    _, evaluation = split("data", samples, 40, 60)
    assert sum(s.inside for s in evaluation) == 30
    again = split("data", samples[::-1], 40, 60)[1]
    assert again == evaluation, "the order of the rows must not matter"


@trained
def test_the_built_in_questions_keep_to_their_sides_of_the_split(session):
    from toyworld.documents import is_held_out

    request = Request("qa", "tiny-lm", limit=30, selection=60)
    plan = plan_qa(request, session.model("tiny-lm"))
    judged = {s.key for s in plan.material.evaluation}
    assert not judged & {s.key for s in (*plan.material.selection, *plan.causal)}
    assert plan.material.n_inside == 15
    for sample in plan.material.evaluation:
        told = sample.prompt.split("Question: ")
        assert is_held_out(told[0].removeprefix("Story: ").strip() or told[1].split(" Answer")[0])


def test_random_heads_are_others_of_the_same_layers():
    order = [Head(n // 8, n % 8) for n in (3, 9, 1, 17, 4, 12, 20)]
    orders = {"pursuit": order, "random": ()}
    settings = settings_of(orders, (2, 5), (-1.0,), 10, (range(3), 8))
    assert len(settings) == 1 + 2 * 11
    for setting, edit in settings.items():
        if setting.arm == "random":
            chosen = order[: setting.k]
            assert not set(edit.factors) & set(chosen)
            assert Counter(h.layer for h in edit.factors) == Counter(h.layer for h in chosen)


def test_heads_are_counted_or_a_share_of_all():
    assert head_counts(("8", "2%", " 16 ", "8"), 320) == (8, 6, 16)
    for wrong in ("x", "0", "0%", "400", "101%", "nan%", "inf%"):
        with pytest.raises(StudyError):
            head_counts((wrong,), 320)


def test_a_cell_is_known_by_its_content():
    samples = tuple(Sample(f"q {i}", ("a",)) for i in range(3))
    material = Material("m", (Sample("s"),), samples)
    orders = {"pursuit": [Head(0, 1), Head(1, 1)], "logit-lens": [Head(0, 1), Head(0, 2)]}
    settings = settings_of(orders, (1, 2), (-1.0,), 1, (range(2), 4))
    shards = shards_of(material, 2)
    cells = grid(settings, shards, {"revision": "one"})
    keys = {(c.setting, c.shard.number): c.key for c in cells}
    assert keys[Setting("pursuit", 1, -1.0), 0] == keys[Setting("logit-lens", 1, -1.0), 0]
    assert keys[Setting("pursuit", 2, -1.0), 0] != keys[Setting("logit-lens", 2, -1.0), 0]
    assert keys[BASE, 0] != keys[BASE, 1]
    others = grid(settings, shards, {"revision": "two"})
    assert not {c.key for c in others} & {c.key for c in cells}
    other_answers = replace(material, evaluation=tuple(replace(s, answers=("b",)) for s in samples))
    assert not {c.key for c in grid(settings, shards_of(other_answers, 2), {"revision": "one"})} & {
        c.key for c in cells
    }


def test_every_sample_is_in_one_cell_of_each_setting(session, request_qa, tmp_path):
    study = lay_out(session, request_qa, tmp_path / "out")
    settings = {cell.setting for cell in study.cells}
    assert len(settings) == 1 + 2 * 2 * (2 + 2)
    for setting in settings:
        keys = [
            s.key for cell in study.cells if cell.setting == setting for s in cell.shard.samples
        ]
        assert sorted(keys) == sorted(s.key for s in study.plan.material.evaluation)


def test_a_column_of_arms_in_one_batch_says_what_each_cell_says_alone(
    session, request_qa, tmp_path
):
    study = lay_out(session, request_qa, tmp_path / "out")
    cells = [c for c in study.cells if c.shard.number == 0]
    together = {c.key: r for c, r in run_batch(study.model, cells, study.task)}
    assert len({tuple(r["texts"]) for r in together.values()}) > 1, "the edits have to do something"
    for cell in cells:
        ((_, alone),) = run_batch(study.model, [cell], study.task)
        assert alone["texts"] == together[cell.key]["texts"]
        assert alone["values"] == together[cell.key]["values"]


def test_a_stopped_run_goes_on_without_redoing_or_losing_a_cell(session, request_qa, tmp_path):
    whole = run(session, lay_out(session, request_qa, tmp_path / "whole"))
    out = tmp_path / "out"
    study = replace(lay_out(session, request_qa, out))
    batches = iter(range(1))

    def stop_after_the_first(share, what):
        if next(batches, None) is None:
            raise Cancelled("stopped")

    import headviz.studies.run_cells as running

    small = running.row_tokens
    running.row_tokens = lambda model: 200  # several batches
    try:
        with pytest.raises(Cancelled):
            run(session, study, stop_after_the_first)
    finally:
        running.row_tokens = small
    written = {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*.jsonl")}
    assert 0 < len(study.pending) < len({c.key for c in study.cells})
    finished = run(session, lay_out(session, request_qa, out))
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert finished.results == whole.results
    assert as_csv(rows_of(finished)) == as_csv(rows_of(whole))


def test_a_damaged_cell_is_made_again(session, request_qa, tmp_path):
    finished = run(session, lay_out(session, request_qa, tmp_path / "out"))
    study = finished.study
    victim = tmp_path / "out" / "cells" / f"{study.cells[3].key}.jsonl"
    content = victim.read_text()
    victim.write_text(content.replace("values", "volues"))
    assert [cell.key for cell in study.pending] == [study.cells[3].key]
    assert run(session, study).results == finished.results
    assert victim.read_text() == content


def test_a_folder_of_another_study_or_of_something_else_is_refused(session, request_qa, tmp_path):
    out = tmp_path / "out"
    lay_out(session, request_qa, out)
    before = sorted(p.name for p in out.rglob("*"))
    with pytest.raises(StudyError, match=r"another study: its alphas is \[-1.0, 2.0\], not"):
        lay_out(session, replace(request_qa, alphas=(5.0,)), out)
    assert sorted(p.name for p in out.rglob("*")) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_text("x")
    with pytest.raises(StudyError, match=r"holds 'me.png' and no config.json"):
        lay_out(session, request_qa, tmp_path / "photos")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StudyError, match="cannot be made"):
        lay_out(session, request_qa, tmp_path / "file")


@contextmanager
def no_room_beyond(n_bytes):
    """Files cannot grow beyond this: the write fails as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_half_way_is_one_sentence_and_nothing_is_lost(tmp_path):
    folder = StudyFolder.open(tmp_path / "out", {"a": 1})
    folder.write("first", {"texts": ["x"]})
    with (
        no_room_beyond(4096),
        pytest.raises(StudyError, match=r"was not written.*kept.*run the same command again"),
    ):
        folder.write("second", {"texts": ["x" * 10_000]})
    assert folder.read("first") == {"texts": ["x"]}
    assert folder.read("second") is None
    assert not list(folder.path.rglob(".writing-*"))


def table(folder):
    return (folder / "summary.csv").read_text()


def test_a_run_killed_half_way_resumes_to_the_same_table(request_qa, tmp_path):
    def command(out):
        options = {
            "--model": request_qa.model,
            "--data": request_qa.data,
            "--concept": "colors",
            "--k": "1,25%",
            "--alpha": "-1,2",
            "--draws": "2",
            "--selection": "10",
            "--limit": "12",
            "--prompt": "{question}",
            "--max-new-tokens": "3",
            "--out": str(out),
        }
        given = [f"{name}={value}" for name, value in options.items()]
        return [sys.executable, "-m", "headviz", "study", "qa", *given]

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HEADVIZ_CACHE": str(tmp_path / "cache")}
    out = tmp_path / "killed"
    # The first argument slows nothing down: it only makes batches so small that there are many.
    slow = (
        "import sys, runpy, headviz.studies.run_cells as r; r.row_tokens = lambda model: 150; "
        "sys.argv = ['headviz', *sys.argv[1:]]; runpy.run_module('headviz', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *command(out)[3:]],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list(out.glob("cells/*.jsonl"))) < 8:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("cells/*.jsonl")}
    assert not (out / "summary.csv").exists()
    for folder in (out, tmp_path / "whole"):
        done = subprocess.run(
            command(folder), env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert {n: (out / "cells" / n).stat().st_mtime_ns for n in kept} == kept
    assert table(out) == table(tmp_path / "whole")
    assert len(list(csv.DictReader(io.StringIO(table(out))))) == 2 * 2 * 3 * 5


@trained
def test_the_study_of_questions_finds_the_planted_heads(session, tmp_path):
    request = Request("qa", "tiny-lm", ks=("2",), draws=3, limit=40, selection=120)
    finished = run(session, lay_out(session, request, tmp_path / "out"))
    finding = find(finished)
    assert finding.clear and not finding.disagree
    rows = {(r.arm, r.measure, r.part): r for r in rows_of(finished)}
    assert rows["pursuit", "f1", "inside"].ratio < 0.5 < 0.8 < rows["random", "f1", "inside"].ratio
    assert rows["pursuit", "f1", "outside"].ratio > 0.8
    files = write_outcome(finished, rows_of(finished), finding)
    assert {"config.json", "summary.csv", "report.md"} < set(files)
    report = (tmp_path / "out" / "report.md").read_text()
    assert finding.text in report
    assert "python -m headviz study qa --model tiny-lm" in report
    for arm in request.arms:
        assert f"| {arm} |" in report


def finished_with(study, **effects):
    """A study whose arms say what `effects` tell: arm -> token F1 inside the concept."""
    inside = np.array([s.inside for s in study.plan.material.evaluation])
    values = {}
    for setting in {c.setting for c in study.cells}:
        level = effects.get(setting.arm.replace("-", "_"), 1.0)
        said = np.where(inside, level, 1.0) * np.linspace(0.9, 1.0, len(inside))
        values[setting] = {m: tuple(said) for m in ("f1", "exact", "repetition")}
    return Finished(study, values, {"answers": study.plan.material.evaluation}, 0.0)


def test_a_finding_names_the_arms_that_disagree(session, request_qa, tmp_path):
    study = lay_out(session, replace(request_qa, limit=60), tmp_path / "out")
    alone = find(finished_with(study, pursuit=0.2))
    assert alone.clear and not alone.disagree and "no other arm does as much" in alone.text
    beaten = find(finished_with(study, pursuit=0.5, logit_lens=0.3))
    assert beaten.disagree == ("logit-lens",) and "logit-lens do as much or more" in beaten.text
    chance = find(finished_with(study, pursuit=0.5, random=0.5))
    assert not chance.clear and "random" in chance.disagree and "not clear" in chance.text


def test_lift_and_learnt_factors_rank_all_heads(session, request_qa, tmp_path):
    request = replace(request_qa, arms=("lift", "learnt", "random"))
    study = lay_out(session, request, tmp_path / "out")
    for arm in ("lift", "learnt"):
        assert study.scores[arm].shape == (study.model.n_layers, study.model.n_heads)
        assert study.scores[arm].isfinite().all() and study.scores[arm].any()
    assert (study.scores["learnt"] > 0).sum() <= 8


def test_half_of_the_toxic_words_are_held_out_from_picking_heads():
    concept = find_concept("insults")
    picked, held_out = halves(concept)
    assert set(picked.words) | set(held_out.words) == set(concept.words)
    assert not set(picked.words) & set(held_out.words)
    assert abs(len(picked.words) - len(held_out.words)) <= 1
    with pytest.raises(HeadvizError, match="half of its words are held out"):
        halves(find_concept("mine", "stupid"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--concept", "kolors"], "Unknown concept 'kolors'"),
        (["--words", " , "], "The concept has no words"),
        (["--words", "zygomorphic"], "None of the .* has an answer inside"),
        (["--limit", "500"], "fewer than the 500 that were asked for"),
        (["--limit", "0"], "--limit is 0"),
        (["--arms", "pursuit,best"], "Unknown arm 'best'"),
        (["--arms", "random"], "first arm has to be one that scores"),
        (["--k", "0"], "choose 1 to 12"),
        (["--k", ","], "--k is empty"),
        (["--alpha", "x"], "'x' is no factor"),
        (["--data", "gone.tsv"], "no file or folder 'gone.tsv'"),
        (["--data", ""], "Name the data: only tiny-lm has"),
        (["--prompt", "Say something."], "has no {question} in it"),
    ],
)
def test_bad_input_is_one_sentence(session, request_qa, tmp_path, capsys, options, says):
    from headviz.__main__ import build_parser
    from headviz.studies.command import run_command

    arguments = ["study", "qa", "--model", request_qa.model, "--data", request_qa.data]
    arguments += ["--concept", "colors", "--prompt", "{question}", "--out", str(tmp_path / "out")]
    parsed = build_parser().parse_args([*arguments, *options])
    with pytest.raises(HeadvizError, match=says) as caught:
        run_command(session, parsed)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "cells").exists()


def test_an_unknown_study_is_answered_with_the_known_ones(capsys):
    from headviz.__main__ import main

    assert main(["study", "captions"]) == 2
    assert "Unknown study 'captions'. Did you mean 'captioning'?" in capsys.readouterr().err


def test_the_command_prints_json(session, request_qa, tmp_path):
    from headviz.__main__ import build_parser
    from headviz.studies.command import run_command

    arguments = ["study", "qa", "--model", request_qa.model, "--data", request_qa.data]
    arguments += ["--concept=colors", "--prompt={question}", "--limit=6", "--selection=8", "--k=1"]
    arguments += ["--draws=1", "--max-new-tokens=2", "--out", str(tmp_path / "out")]
    result, text = run_command(session, build_parser().parse_args(arguments))
    again, _ = run_command(session, build_parser().parse_args(arguments))
    assert json.loads(json.dumps(result))["rows"] == again["rows"]
    assert (result["cells_run"], again["cells_run"]) == (result["cells"], 0)
    assert result["finding"] in text
