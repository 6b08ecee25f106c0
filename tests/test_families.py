"""Every law of headviz.laws on every family, and the table of families that these tests write."""

from pathlib import Path

import family_table
import pytest
from family_table import SECTIONS, Found, listed, read_table
from tiny_clips import KINDS, REFUSED, make_clip
from tiny_models import CONFIGS, UNKNOWN
from tiny_vision import VISION_CONFIGS
from transformers import AutoConfig

from headviz.base.errors import ModelError
from headviz.clip.laws import TOWER_LAWS, TowerFixture
from headviz.heads.laws.fixture import Fixture
from headviz.heads.laws.laws import LAWS
from headviz.heads.laws.report import measure
from headviz.models.families import FAMILIES, UNSUITED, VISION_FAMILIES
from headviz.session.open_model import open_model

pytest_plugins = ["loaded", "seeing"]

NO_STRUCTURE = ("diffllama", "bert", "recurrent_gemma", "mamba")
"""Classes of UNKNOWN that discovery refuses; tests/test_discovery.py says with which sentence."""
ASKED_FOR = (
    *("Llama 2 and 3", "Mistral", "Mixtral", "Qwen2 and Qwen2.5", "Qwen3", "Qwen3-MoE", "Gemma 2"),
    *("Gemma 3 (text)", "Phi-3", "Phi (1 and 2)", "GPT-2", "GPT-Neo", "GPT-J", "OPT", "BLOOM"),
    *("GPT-NeoX and Pythia", "Falcon", "MPT", "OLMo 2", "SmolLM3", "Granite", "Cohere", "StableLM"),
    *("GPT-OSS", "DeepSeek V2", "DeepSeek V3", "GLM 4", "Qwen3-Next", "LFM2", "Jamba", "LLaVA"),
    *("LLaVA-NeXT", "LLaVA-OneVision", "Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL", "Gemma 3", "BLIP-2"),
    *("PaliGemma", "Idefics 3", "SmolVLM", "InternVL", "Mistral 3", "Llama 3.2 Vision"),
)
"""What people use: each is proven, or refused with a reason."""
EVERY = {*FAMILIES, *VISION_FAMILIES, *UNSUITED, *KINDS, *REFUSED, *UNKNOWN}


@pytest.fixture(scope="module")
def found():
    """What the tests of this file have found so far."""
    return Found()


@pytest.fixture
def written(repo):
    """The table as it stands in docs/families.md, which a test may have written a moment ago."""
    return read_table((repo / "docs" / "families.md").read_text(encoding="utf-8"))


def hold(model, found, section):
    """Every law holds on the model, which is noted."""
    findings = held(measure(Fixture.of(model)))
    found.prove(section, model, findings)


def held(findings):
    """The findings, which must all be passes."""
    findings = tuple(findings)
    assert {f.law: f.measured for f in findings if f.verdict != "pass"} == {}
    return findings


@pytest.mark.parametrize("family", CONFIGS)
def test_every_law_holds(load, found, family):
    hold(load(family), found, "text")


@pytest.mark.parametrize("family", VISION_CONFIGS)
def test_every_law_holds_with_pictures(load_seeing, found, family):
    hold(load_seeing(family), found, "pictures")


@pytest.mark.parametrize("kind", UNSUITED)
def test_a_class_that_cannot_be_right_is_refused_with_its_reason(kind, tmp_path, found):
    config = AutoConfig.for_model(kind)
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError) as raised:
        open_model(str(tmp_path), device="cpu")
    assert UNSUITED[kind] in str(raised.value)
    found.refuse("pictures", kind, "", UNSUITED[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_law_holds_on_image_towers(kind, tmp_path, found):
    tower = open_model(str(make_clip(tmp_path / kind, **KINDS[kind])), "cpu", "auto")
    found.prove_tower(kind, tower, held(measure(TowerFixture(tower), TOWER_LAWS)))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tower_that_cannot_be_right_is_refused_with_its_reason(kind, tmp_path, found):
    with pytest.raises(ModelError, match="its image tower") as raised:
        open_model(str(make_clip(tmp_path / kind, **REFUSED[kind])), "cpu", "auto")
    reason = str(raised.value).split("its image tower ")[1]
    found.refuse("clip", kind, "", f"it {reason.rstrip('.')}")


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_class_without_a_row_is_proven_too_or_refused(load, found, kind):
    if kind not in NO_STRUCTURE:
        hold(load(kind), found, "discovered")
        return
    with pytest.raises(ModelError, match="could not be discovered") as raised:
        load(kind)
    reason = str(raised.value).split("discovered: ")[1]
    found.refuse("discovered", kind, "", reason.split(" Measured")[0].rstrip("."))


def test_every_row_of_headviz_has_a_tiny_model(load, load_seeing):
    assert {load(kind).model.config.model_type for kind in CONFIGS} == set(FAMILIES)
    assert {load_seeing(kind).model.config.model_type for kind in VISION_CONFIGS} == set(
        VISION_FAMILIES
    )


def test_the_table_says_what_these_tests_found(request, found, repo: Path, written):
    """Whatever of them ran; the numbers themselves are the machine's own."""
    if request.config.getoption("--write-families"):
        assert set(found.rows) == EVERY, "run the whole file"
        family_table.write(repo, found.rows.values())
        return
    for kind, row in found.rows.items():
        assert written[kind][0] == row.cells


def test_the_table_has_every_family_and_every_refused_class_with_its_reason(written, repo):
    assert set(written) == EVERY
    states = {kind: cells[-1] for kind, (cells, _) in written.items()}
    refused = {kind: state for kind, state in states.items() if state != "proven"}
    assert set(refused) == {*UNSUITED, *NO_STRUCTURE, *REFUSED}
    for kind, reason in UNSUITED.items():
        assert refused[kind] == f"refused: {reason}"
    for kind, (_, number) in written.items():
        if kind not in refused:
            measured, law = number.split(" (")
            assert 0 <= float(measured) <= 1e-4
            assert law.rstrip(")") in {*LAWS, *TOWER_LAWS}
    known = {cells[0] for cells, _ in written.values()}
    assert set(ASKED_FOR) <= known
    assert "docs/families.md" in (repo / "README.md").read_text(encoding="utf-8")


def test_readme_lists_the_families_of_the_table(repo, written):
    told = listed((repo / "README.md").read_text(encoding="utf-8"))
    for kind, (cells, _) in written.items():
        assert (kind in UNKNOWN) or cells[0] in told
    text = (repo / "docs" / "families.md").read_text(encoding="utf-8")
    assert all(f"## {title}" in text for title in SECTIONS.values())
