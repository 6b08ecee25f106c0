"""Cases from other tools' issue trackers; docs/log.md names the source of each."""

import pytest
from fuzzing import picture, zipped

from headviz.base.errors import HeadvizError
from headviz.inputs.image_folders import open_image_folder
from headviz.inputs.prompt_sets import read_prompt_set
from headviz.models.places import locate


def refused(call, *args) -> str:
    with pytest.raises(HeadvizError) as told:
        call(*args)
    return str(told.value)


def test_names_in_a_zip_are_utf_8_also_where_it_does_not_say_so(tmp_path):
    raw = zipped({"XXXXXX/a.png": picture()})
    (tmp_path / "a.zip").write_bytes(raw.replace(b"XXXXXX", "кот".encode()))
    assert open_image_folder(tmp_path / "a.zip").labels == ("кот",)


def test_names_in_a_zip_of_the_old_code_page_stay(tmp_path):
    raw = zipped({"XXXXXX/a.png": picture()})
    (tmp_path / "a.zip").write_bytes(raw.replace(b"XXXXXX", "Mädels".encode("cp437")))
    assert open_image_folder(tmp_path / "a.zip").labels == ("Mädels",)


def test_photographs_of_a_telephone_are_not_left_out_in_silence(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "b.HEIC").write_bytes(b"ftypheic")
    assert "such as b.HEIC. Save them as JPEG" in refused(open_image_folder, tmp_path)


def test_of_two_columns_of_one_name_none_is_taken(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,text\na,b,c\n")
    assert "has 2 columns 'text'" in refused(read_prompt_set, tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("text,,\na,,\n")  # empty ones harm nobody
    assert read_prompt_set(tmp_path / "b.csv").texts == ("a",)


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.txt"])
def test_a_spreadsheet_is_told_for_what_it_is(tmp_path, name):
    (tmp_path / name).write_bytes(zipped({"[Content_Types].xml": b"<x/>" * 30}))
    assert "is a spreadsheet" in refused(read_prompt_set, tmp_path / name)


@pytest.mark.parametrize("name", ["lora.safetensors", "pytorch_model.bin", "config.json"])
def test_one_file_of_a_model_is_no_model(tmp_path, name):
    (tmp_path / name).write_bytes(b"{}")
    assert "is one file of a model" in refused(locate, str(tmp_path / name))
