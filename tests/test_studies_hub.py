"""Data sets by their name on the hub: how it lays them out, and one sentence where it fails."""

import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
from fake_hub import PAD, stopping
from huggingface_hub import constants
from PIL import Image
from pyarrow import parquet

from headviz.base.errors import Cancelled, TableError
from headviz.studies.captioning import plan as captioning_plan
from headviz.studies.classification import plan
from headviz.studies.formats import read_prompts, read_questions
from headviz.studies.hub_data import KNOWN, PICTURE_SPLITS, TEXT_SPLITS, chosen, is_on_hub, located
from headviz.studies.image_folders import read_captioned, read_labelled
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from headviz.studies.toxicity import plan as toxicity_plan

pytest_plugins = ["fake_hub", "loaded", "seeing"]


CARD = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': annual_crop
          '1': forest
---
# EuroSAT
"""


def cell(shade):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, dtype=np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write_pictures(file, first, n, names=None):
    """As `datasets` writes a file: pictures as structs, class numbers, its features beside them."""
    rows = [{"image": cell(first + i), "label": (first + i) % 2} for i in range(n)]
    table = pyarrow.Table.from_pylist(rows)
    if names:
        label = {"names": names, "_type": "ClassLabel"}
        told = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file, row_group_size=3)


@pytest.fixture
def eurosat(tmp_path):
    """Two splits in `data`, class names in the card."""
    folder = tmp_path / "eurosat"
    write_pictures(folder / "data" / "train-00000-of-00001.parquet", 100, 6)
    write_pictures(folder / "data" / "test-00000-of-00002.parquet", 0, 8)
    write_pictures(folder / "data" / "test-00001-of-00002.parquet", 8, 4)
    (folder / "README.md").write_text(CARD)
    return folder


def shades(shown):
    return [np.asarray(s.picture.image())[0, 0, 0] for s in shown]


def test_a_folder_as_on_the_hub_gives_its_test_split_and_the_card_s_class_names(eurosat):
    shown, classes = read_labelled(eurosat, 100)
    assert classes == ("annual crop", "forest")
    assert sorted(shades(shown)) == list(range(12))
    assert all(
        s.texts == (classes[shade % 2],) for s, shade in zip(shown, shades(shown), strict=True)
    )
    some = shades(read_labelled(eurosat, 5)[0])
    assert some == shades(shown)[:5] != shades(read_labelled(eurosat, 5, seed=1)[0])


def test_class_names_are_read_from_the_files_themselves(tmp_path):
    write_pictures(tmp_path / "mnist" / "test-00000-of-00001.parquet", 0, 4, ["zero", "one"])
    shown, classes = read_labelled(tmp_path, 4)
    assert classes == ("zero", "one")
    assert {s.texts[0] for s in shown} == {"zero", "one"}


def test_a_file_without_a_label_is_named_with_what_it_has(tmp_path):
    parquet.write_table(
        pyarrow.Table.from_pylist([{"image": cell(1), "caption": "x"}]),
        tmp_path / "test-00000-of-00001.parquet",
    )
    with pytest.raises(TableError, match=r"no column 'label' or .* It has: image, caption"):
        read_labelled(tmp_path, 4)


def test_questions_and_prompts_of_folders_as_on_the_hub(tmp_path):
    trivia = tmp_path / "trivia"
    trivia.mkdir()
    for split, answer in (("train", "a"), ("validation", "b"), ("test", "<unk>")):
        row = {"question": f"{split}?", "answer": {"value": answer, "aliases": [answer]}}
        table = pyarrow.Table.from_pylist([row])
        parquet.write_table(table, trivia / f"{split}-00000-of-00001.parquet")
    (found,) = read_questions(trivia)
    assert (found.question, found.answers) == ("validation?", ("b",))
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "prompts.jsonl").write_text('{"prompt": {"text": "You are"}}\n')
    assert read_prompts(prompts) == ("You are",)


def test_of_several_parts_one_has_to_be_named():
    files = [f"{part}/test-00000-of-00001.parquet" for part in ("cropped_digits", "full_numbers")]
    with pytest.raises(StudyError, match="several parts: cropped_digits, full_numbers"):
        chosen(files, PICTURE_SPLITS, "", "svhn")
    assert chosen(files, PICTURE_SPLITS, "cropped_digits", "svhn") == files[:1]
    with pytest.raises(StudyError, match=r"no part 'digits'\. It has: cropped_digits"):
        chosen(files, PICTURE_SPLITS, "digits", "svhn")
    noisy = ["data/blur-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"]
    assert chosen(noisy, PICTURE_SPLITS, "", "gtsrb") == noisy[1:]


def test_a_data_set_is_fetched_by_its_name(hub, eurosat, load_seeing, monkeypatch):
    monkeypatch.setitem(KNOWN, "eurosat", "owner/eurosat")
    hub.folders["datasets/owner/eurosat"] = eurosat
    request = Request("classification", "llava", data="eurosat", limit=4, selection=4)
    made = plan(request, load_seeing("llava"))
    assert made.concept.words == ("annual crop", "forest")
    assert len(made.material.evaluation) == 4
    asked = {path for path, *_ in hub.asked}
    assert not any("train" in path for path in asked), "a split that is not read was fetched"
    hub.unavailable = True  # what was fetched is enough
    assert len(read_labelled(located("eurosat", PICTURE_SPLITS), 100)[0]) == 12


def test_captions_of_folders_as_on_the_hub(tmp_path):
    """Flickr30k has lists in `caption`, COCO in `answer`, and none in its test split."""
    for name, split, column in (("flickr", "test", "caption"), ("coco", "val", "answer")):
        rows = [{"image": cell(i), column: [f"thing {i} .", f"a {i}"]} for i in range(6)]
        file = tmp_path / name / "data" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=4)
    none = [{"image": cell(0), "answer": None}]
    file = tmp_path / "coco" / "data" / "test-00000-of-00001.parquet"
    parquet.write_table(
        pyarrow.Table.from_pylist(none, pyarrow.Table.from_pylist(rows).schema), file
    )
    for name in ("flickr", "coco"):
        shown = read_captioned(tmp_path / name, 100)
        texts = {shade: s.texts for s, shade in zip(shown, shades(shown), strict=True)}
        assert texts == {i: (f"thing {i} .", f"a {i}") for i in range(6)}
        assert shades(read_captioned(tmp_path / name, 2)) == shades(shown)[:2]
    (tmp_path / "coco" / "data" / "val-00000-of-00001.parquet").unlink()
    with pytest.raises(StudyError, match="no captions in its column 'answer'"):
        read_captioned(tmp_path / "coco", 4)


def test_captions_are_fetched_by_the_data_set_s_name(hub, load_seeing, tmp_path, monkeypatch):
    rows = [{"image": cell(i), "caption": [f"red thing {i}"]} for i in range(8)]
    file = tmp_path / "published" / "data" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    hub.folders["datasets/owner/flickr30k"] = tmp_path / "published"
    monkeypatch.setitem(KNOWN, "flickr30k", "owner/flickr30k")
    request = Request("captioning", "llava", data="flickr30k", limit=4, selection=4)
    made = captioning_plan(request, load_seeing("llava"))
    assert made.material.name == "flickr30k"
    assert len(made.material.evaluation) == 4
    assert made.material.evaluation[0].answers[0].startswith("red thing")


@pytest.fixture
def prompts(hub, tmp_path):
    """owner/prompts: two prompts and more bytes than come at once; its line stalls."""
    folder = tmp_path / "published"
    folder.mkdir()
    rows = [{"prompt": "You are", "padding": "x" * PAD}, *({"prompt": f"{n}"} for n in range(9))]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hub.folders["datasets/owner/prompts"] = folder
    hub.stall.set()
    return Request("toxicity", "llama", data="owner/prompts", limit=4, selection=4)


def test_a_data_set_s_download_tells_how_far_it_is_and_stops_at_once(hub, prompts, load):
    told = []
    with pytest.raises(Cancelled):
        toxicity_plan(prompts, load("llama"), stopping(told))
    assert re.fullmatch(r"downloading owner/prompts: .* MB of 26 MB", told[-1][1])
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))
    hub.stall.clear()
    assert len(toxicity_plan(prompts, load("llama")).material.evaluation) == 4
    asked = len(hub.asked)
    hub.unavailable = True  # what was fetched is enough
    assert len(toxicity_plan(prompts, load("llama")).material.evaluation) == 4
    assert len(hub.asked) == asked


def test_a_data_set_without_room_is_one_sentence(hub, prompts, load, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        StudyError, match=r"data set 'owner/prompts' is 26 MB to download.*1 kB left"
    ):
        toxicity_plan(prompts, load("llama"))


def test_a_gated_data_set_is_one_sentence(hub, prompts, load):
    hub.gated.add("datasets/owner/prompts")
    with pytest.raises(StudyError, match=r"gated: accept its licence at .*/datasets/owner/prompts"):
        toxicity_plan(prompts, load("llama"))


def test_what_cannot_be_had_is_one_sentence(hub):
    for name in ("gone.tsv", "nosuch"):
        assert not is_on_hub(name)
        with pytest.raises(StudyError, match=f"no file or folder '{name}'.*mnist.*owner/name"):
            located(name, TEXT_SPLITS)
    with pytest.raises(StudyError, match="The hub has no data set 'owner/gone'"):
        located("owner/gone", TEXT_SPLITS)
    hub.unavailable = True
    with pytest.raises(StudyError, match=r"'owner/other' could not be fetched.*Download it"):
        located("owner/other", TEXT_SPLITS)
