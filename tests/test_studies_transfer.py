"""Several data sets of pictures held against one another, and the figures of a study."""

import csv
import io
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from PIL import Image
from tiny_clips import make_clip
from tiny_vision import noise

from headviz.studies.figures import bars, files, matrix, over_factors, over_heads
from headviz.studies.request import Measure, Request
from headviz.studies.study import lay_out, run
from headviz.studies.summary import Row, rows_of
from headviz.studies.transfer import names_of, sentence, transfer, write_transfer

pytest_plugins = ["loaded", "seeing"]


@pytest.fixture
def request_two(tmp_path, vision_folder):
    """Two folders of pictures with classes, for a tiny random model that sees."""
    for place, classes in (("one", ("red", "blue")), ("two", ("cat", "dog"))):
        for number in range(8):
            folder = tmp_path / place / classes[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            noise(20, 16, number + len(place)).save(folder / f"{number}.png")
    data = f"{tmp_path / 'one'},{tmp_path / 'two'}"
    return Request(
        "classification", str(vision_folder("llava")), data, ks=("2",), alphas=(-3.0,), draws=2,
        selection=3, limit=4, max_new_tokens=2,
    )  # fmt: skip


def test_each_data_set_s_heads_are_judged_on_each(session, request_two, tmp_path):
    names = names_of(request_two)
    assert names == (str(tmp_path / "one"), str(tmp_path / "two"))
    found = transfer(session, request_two, names, tmp_path / "out")
    for index in range(2):
        assert found.overlap[index][index] == 1
    assert found.overlap[0][1] == found.overlap[1][0]
    assert len(found.ratios) == 3, "two data sets and random heads"
    # On its own data set a choice does what a study of it alone says.
    alone = replace(request_two, data=names[1], arms=("pursuit", "random"))
    own = rows_of(run(session, lay_out(session, alone, tmp_path / "alone")))
    again = {(r.arm, r.measure, r.part): r for r in rows_of(found.finished[1])}
    assert all(again[r.arm, r.measure, r.part] == r for r in own)
    # And those of the other are its heads: both ways round.
    for at, other in ((0, 1), (1, 0)):
        edits = {c.setting.arm: c.edit for c in found.finished[at].study.cells}
        theirs = {c.setting.arm: c.edit for c in found.finished[other].study.cells}
        assert edits[f"heads of {names[other]}"] == theirs["pursuit"]

    written = write_transfer(found, tmp_path / "out")
    assert {"transfer.csv", "transfer.md", "overlap.svg", "overlap.png"} <= set(written)
    assert sentence(found) in (tmp_path / "out" / "transfer.md").read_text()
    with (tmp_path / "out" / "transfer.csv").open() as file:
        assert {line["arm"] for line in csv.DictReader(file)} == {
            f"{arm}, judged on {names[at]}"
            for at, other in ((0, 1), (1, 0))
            for arm in ("pursuit", "random", f"heads of {names[other]}")
        }


def test_one_folder_is_no_comparison_even_with_a_comma_in_its_name(request_two, tmp_path):
    (tmp_path / "a,b").mkdir()
    assert names_of(replace(request_two, data=str(tmp_path / "a,b"))) == ()
    assert len(names_of(replace(request_two, data="digits"))) == 1
    assert names_of(replace(request_two, study="captioning")) == ()


def test_clip_proposes_the_words_of_a_classification(session, request_two, tmp_path):
    clip = make_clip(tmp_path / "clip")
    asked = replace(
        request_two, data=str(tmp_path / "one"), concept="from-pictures", clip=str(clip)
    )
    plan = lay_out(session, asked, tmp_path / "out").plan
    assert len(plan.concept.words) == 10
    assert "finds in the pictures" in plan.concept.name
    judged = {answer for sample in plan.material.evaluation for answer in sample.answers}
    assert judged == {"red", "blue"}, "what is right stays the class"


def row(arm, k, alpha, ratio):
    low, high = (None, None) if ratio is None else (ratio - 0.1, ratio + 0.1)
    return Row(arm, k, alpha, "f1", "inside", 9, 0.5, 1.0, ratio, low, high, None, None, 1)


MEASURE = Measure("f1", "inside", "token F1 <inside>")


def test_sweeps_draw_a_line_an_arm_and_a_point_a_ratio():
    rows = [row(a, k, f, 0.5) for a in ("pursuit", "random") for k in (1, 8) for f in (-1.0, 5.0)]
    rows.append(row("pursuit", 16, -1.0, None))
    for draw, panels in ((over_heads, 2), (over_factors, 3)):
        figure = draw(rows, MEASURE)
        assert len(figure.axes) == panels
        lines = [line for axes in figure.axes for line in axes.containers]
        assert len(lines) == 2 * panels
        assert sum(len(line.lines[0].get_xdata()) for line in lines) == 8
    assert over_factors([r for r in rows if r.alpha == 5.0], MEASURE) is None


def test_bars_stand_as_high_as_their_ratios_and_say_where_they_are_cut():
    rows = [row("pursuit", 1, -1.0, 0.5), row("random", 1, -1.0, 4.2), row("raw", 1, -1.0, None)]
    (axes,) = bars(rows, MEASURE).axes
    assert [patch.get_height() for patch in axes.patches] == [0.5, 3.0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["4.2"]


def test_a_matrix_says_each_number_and_leaves_out_what_is_none():
    figure = matrix(["a<b", "c"], ["x", "y"], [[0.25, None], [1.5, 0.0]], "title", ("of", "on"))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.25", "–", "1.50", "0.00"]


def test_the_same_figure_is_the_same_bytes_in_letters_that_can_be_searched():
    drawn, again = (files({"a": bars([row("<raw>", 1, -1.0, 0.5)], MEASURE)}) for _ in range(2))
    assert drawn == again
    texts = [t.text for t in ElementTree.fromstring(drawn["a.svg"]).findall(".//{*}text")]
    assert {"<raw>", "1 head", "α = -1"} <= set(texts)
    picture = Image.open(io.BytesIO(drawn["a.png"]))
    assert len(picture.convert("RGB").getcolors(100_000)) > 10, "it is empty"
