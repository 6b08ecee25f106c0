"""`python -m headviz check`: every law on a model, as a table and as JSON."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from baking import bake
from tiny_clips import make_clip

from headviz.__main__ import main
from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.clip.laws import TOWER_LAWS, TowerFixture
from headviz.heads.edits import Edit
from headviz.heads.laws.fixture import Fixture
from headviz.heads.laws.laws import LAWS
from headviz.heads.laws.post_norm import surviving_share
from headviz.heads.laws.report import check, measure
from headviz.models.families import FAMILIES
from headviz.session.open_model import open_model

pytest_plugins = ["loaded"]


@pytest.mark.skipif("tiny-lm" not in built_in_models(), reason="tiny-lm is not trained yet")
def test_the_built_in_model_passes(capsys):
    assert main(["check", "tiny-lm"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" pass  ") == len(LAWS)
    assert "FAIL" not in printed
    assert "all laws hold" in printed


def test_the_built_in_clip_model_passes_the_laws_of_towers(capsys):
    assert main(["check", "tiny-clip", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert report["kind"] == "open_clip"
    assert "open_clip" in report
    assert [f["law"] for f in report["findings"]] == list(TOWER_LAWS)


def test_a_model_that_others_trained_passes(shared_data, capsys):
    assert main(["check", str(shared_data / "stories260K"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert report["kind"] == "llama"
    assert [f["law"] for f in report["findings"]] == list(LAWS)
    for finding in report["findings"]:
        assert 0 <= finding["measured"] <= finding["limit"]
    assert {"python", "torch", "transformers", "revision", "share"} <= set(report)


def test_a_broken_law_ends_with_status_1_and_bad_input_with_2(
    tiny_model_folder, monkeypatch, capsys
):
    folder = str(tiny_model_folder("granite"))
    wrong = replace(FAMILIES["granite"], multiplier=None)
    monkeypatch.setitem(FAMILIES, "granite", wrong)
    assert main(["check", folder]) == 1
    printed = capsys.readouterr().out
    assert "broken: stream" in printed
    assert printed.count("FAIL") == 1
    assert main(["check", "no/such/folder/here", "--device", "nowhere"]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["check"])
    assert ended.value.code == 2


# A law that is broken is seen to be, and no other is blamed.


def broken_laws(model):
    return {finding.law for finding in measure(Fixture.of(model)) if finding.verdict == "FAIL"}


@pytest.mark.parametrize(
    ("family", "changed", "laws"),
    [
        ("granite", {"multiplier": None}, {"stream"}),
        ("glm4", {"norm_after": None}, {"stream"}),
        ("cohere", {"final_norm": "model.layers.0.input_layernorm"}, {"unembedding"}),
        ("smollm3", {"projection": "self_attn.q_proj"}, {"slices", "stream"}),
    ],
)
def test_a_wrong_row_breaks_its_law(load, family, changed, laws):
    model = load(family)
    wrong = replace(model, family=replace(model.family, **changed))
    assert broken_laws(wrong) >= laws
    assert not broken_laws(model)


def test_a_wrong_number_of_heads_breaks_a_law(load):
    model = load("llama")
    halves = replace(model, n_heads=8, d_head=4)
    *_, unmeasured = [f for f in measure(Fixture.of(halves)) if f.law == "slices"]
    assert unmeasured.verdict == "-"
    assert "cannot be listened to" in unmeasured.note


def test_rows_that_read_each_other_break_a_law(load, monkeypatch):
    model = load("llama")
    projection = model.projections[0]
    forward = projection.forward
    monkeypatch.setattr(projection, "forward", lambda x: forward(x) + 0.1 * x.mean() * x.shape[0])
    assert "rows" in broken_laws(replace(model))


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (lambda t: t.model.words.weight.data.mul_(1.1), "words"),
        (lambda t: t.clip.model.visual.register_forward_hook(_louder), "closed"),
    ],
)
def test_a_tower_opened_wrongly_breaks_its_law(tmp_path, broken, law):
    tower = open_model(str(make_clip(tmp_path / "clip")), "cpu", "auto")
    broken(tower)
    findings = measure(TowerFixture(tower), TOWER_LAWS)
    assert [f.law for f in findings if f.verdict == "FAIL"] == [law]


def _louder(module, args, output):
    return output * 1.01


# How much survives a norm that follows.


@torch.inference_mode()
def test_the_measured_share_is_what_a_head_turned_off_changes(load):
    """Worked out a second time with weights changed by hand, head by head."""
    model = load("gemma2")
    call = Fixture(model).calls[0]
    norm = model.layers[0].post_attention_layernorm
    signals, output = call.at_projection()
    scale = model.write_scale(0, signals)
    found = expected = 0.0
    for index in range(model.n_heads):
        baked = bake(model, Edit.of([Head(0, index)], 0.0))
        without = baked.model.layers[0].self_attn.o_proj(signals)
        change = (norm(without) - norm(output))[0]
        z = signals.view(*signals.shape[:2], model.n_heads, -1)[0, :, index]
        linear = -(z @ model.head_weights(0)[index]) * scale[0, :, None]
        found += float((change * linear).sum())
        expected += float(linear.square().sum())
    one_layer = replace(model)
    one_layer.__dict__["projections"] = {0: model.projections[0]}
    assert surviving_share(one_layer) == pytest.approx(found / expected, rel=1e-4)
    assert 0 < found / expected < 1


def test_post_norm_families_say_what_survives_and_others_say_nothing(load):
    for family in ("gemma2", "gemma3_text", "olmo2", "glm4"):
        share = surviving_share(load(family))
        assert f"takes {share:.0%} of its write along" in load(family).summary
    assert surviving_share(load("llama")) == 1
    assert load("llama").note == ""


@torch.inference_mode()
def test_all_heads_of_a_layer_scaled_alike_change_nothing_behind_a_norm(load):
    """So says the note."""
    model = load("olmo2")
    norm, call = model.norm_after(0), Fixture(model).calls[0]
    _, output = call.at_projection()
    torch.testing.assert_close(norm(3 * output), norm(output), rtol=1e-3, atol=1e-3)


def test_a_report_can_be_made_of_a_model_in_memory(load):
    report = check(Fixture.of(load("gpt2")))
    assert not report.failed
    assert report.share == 1
    assert str(report).startswith(report.model)


def test_a_copy_of_the_folder_under_another_name_gives_the_same_numbers(
    tiny_model_folder, tmp_path
):
    folder = shutil.copytree(tiny_model_folder("phi"), tmp_path / "copy")
    copy, original = (open_model(str(f), "cpu") for f in (folder, tiny_model_folder("phi")))
    measured = [[f.measured for f in measure(Fixture.of(one))] for one in (copy, original)]
    assert measured[0] == measured[1]
