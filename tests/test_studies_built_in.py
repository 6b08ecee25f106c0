"""The study data beside the built-in models: what the worlds tell, and read the same each time."""

import itertools
from dataclasses import replace

import pytest

from headviz.base import assets
from headviz.inputs.concepts import find_concept
from headviz.inputs.images import open_picture
from headviz.studies import built_in
from headviz.studies.built_in_pictures import classed_pictures
from headviz.studies.built_in_texts import questions, rude_stories
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from toyworld import study_data
from toyworld.__main__ import main
from toyworld.documents import is_held_out
from toyworld.pictures.drawing import SIDE, draw
from toyworld.pictures.questions import NAMED

COLORS = find_concept("colors", None).words
FEW = 20
PARTS = {"selection": (0, False), "evaluation": (0, True), "attribution": (1, False)}
"""Part -> its seed, and whether training never saw it."""


@pytest.mark.parametrize("part", PARTS)
def test_shipped_stories_are_the_world_s_and_keep_to_their_side(part):
    told = list(itertools.islice(study_data.whole_stories(*PARTS[part]), FEW))
    kept = built_in.rows("tiny-lm", f"stories/{part}")
    assert kept[:FEW] == told
    sides = {is_held_out(row["text"].removeprefix("Story: ")) for row in kept}
    assert sides == {PARTS[part][1]}


@pytest.mark.parametrize("part", ["evaluation", "attribution"])
def test_shipped_questions_are_the_world_s_and_keep_to_their_side(part):
    asked = list(itertools.islice(study_data.asked_stories(*PARTS[part]), FEW))
    kept = built_in.rows("tiny-lm", f"questions/{part}")
    assert kept[:FEW] == asked
    leads = {row["lead"].removeprefix("Story: ").rstrip() for row in kept}
    assert {is_held_out(lead) for lead in leads - {""}} == {PARTS[part][1]}


def test_plain_questions_are_the_world_s():
    assert built_in.rows("tiny-lm", "questions/selection")[:FEW] == list(
        study_data.plain_questions(FEW)
    )


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(
    ("model", "speech"),
    [("tiny-vlm", study_data.ALL_WORDS), ("smol-vlm", study_data.ENGLISH)],
    ids=["tiny-vlm", "smol-vlm"],
)
def test_shipped_pictures_are_the_world_s_pixel_by_pixel(model, speech, name):
    endless = {
        f"{name}/selection": study_data.classed(name, False, speech),
        f"{name}/evaluation": study_data.classed(name, True, speech),
        f"{name}/other": study_data.asked_otherwise(name, speech),
        "captions/selection": study_data.captioned(False, speech),
        "captions/evaluation": study_data.captioned(True, speech),
    }
    assert built_in.class_names(model)[name] == NAMED[name]
    for part, shown in endless.items():
        kept = built_in.shown_rows(part, 5, model=model)
        for (picture, row), (meant, told) in zip(kept, shown, strict=False):
            assert picture.digest == open_picture(draw(meant, SIDE)).digest
            assert row == {"file": row["file"], **told}


def test_a_class_is_asked_for_in_the_model_s_own_words_unless_in_others():
    for prompt, expected in (("", "Which digit is it?"), ("What {what}?", "What digit?")):
        request = Request("classification", "smol-vlm", "digits", prompt=prompt, limit=6)
        material, classes = classed_pictures(replace(request, selection=3), prompt or "{classes}")
        inside = [sample for sample in material.evaluation if sample.inside]
        assert {sample.prompt for sample in inside} == {expected}
        assert {answer for sample in inside for answer in sample.answers} <= {*classes}


def test_another_seed_is_another_order_of_the_same():
    one, other = (built_in.rows("tiny-lm", "questions/selection", seed) for seed in (0, 5))
    assert one != other
    assert sorted(map(repr, one)) == sorted(map(repr, other))
    shown = [built_in.shown_rows("digits/other", 9, seed) for seed in (0, 5, 5)]
    digests = [[picture.digest for picture, _ in each] for each in shown]
    assert digests[0] != digests[1] == digests[2]


def test_more_than_ships_is_refused_in_a_sentence():
    with pytest.raises(StudyError, match=r"ships 1000 samples, fewer than the 2000 .*--selection"):
        questions(Request("qa", "tiny-lm", limit=10, selection=2000), COLORS)
    with pytest.raises(StudyError, match="fewer than the 9000 that were asked for"):
        questions(Request("qa", "tiny-lm", limit=9000), COLORS)
    with pytest.raises(StudyError, match="fewer than the 9000 that were asked for"):
        rude_stories(Request("toxicity", "tiny-lm", limit=9000), COLORS, COLORS)


def test_a_model_without_its_data_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    with pytest.raises(StudyError, match="`python -m toyworld study-data tiny-vlm`"):
        built_in.class_names()


def test_the_command_writes_what_the_studies_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_data, "N_STORIES", dict.fromkeys(PARTS, 3))
    monkeypatch.setattr(study_data, "N_SELECTION_QUESTIONS", 3)
    for speech in (study_data.ALL_WORDS, study_data.ENGLISH):
        for name in ("n_pictures", "n_other"):
            monkeypatch.setitem(vars(speech), name, 3)
    shipped = built_in.shown_rows("shapes/other", 3)
    written = {}
    for again in range(2):
        for model in study_data.WRITERS:
            folder = tmp_path / str(again) / model / "studies"
            assert main(["study-data", model, "--folder", str(folder)]) == 0
        files = (p for p in (tmp_path / str(again)).rglob("*") if p.is_file())
        written[again] = {p.relative_to(tmp_path / str(again)): p.read_bytes() for p in files}
    assert written[0] == written[1], "the same bytes come out again"
    shipped_names = {p.name for p in assets.ASSETS.glob("*/studies/**/*") if p.is_file()}
    assert {path.name for path in written[0]} == shipped_names
    monkeypatch.setattr(assets, "ASSETS", tmp_path / "0")
    assert len(built_in.rows("tiny-lm", "questions/evaluation")) == 3
    assert built_in.shown_rows("shapes/other", 3) == shipped
    with pytest.raises(SystemExit):
        main(["study-data", "tiny-clip"])
    assert "invalid choice: 'tiny-clip'" in capsys.readouterr().err
