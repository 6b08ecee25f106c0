"""Tables as people have them: read, or refused naming the columns that were found."""

import gzip
import json
import zipfile

import pyarrow
import pytest
from pyarrow import parquet
from tiny_vision import noise

from headviz.base.errors import HeadvizError
from headviz.inputs.concepts import known_concepts
from headviz.inputs.image_folders import open_image_folder
from headviz.inputs.prompt_sets import read_prompt_set
from headviz.studies.formats import Question, read_prompts, read_questions
from headviz.studies.hub_data import TEXT_SPLITS, hub_files
from headviz.studies.image_folders import read_captioned, read_labelled

pytest_plugins = ["loaded"]

TEXTS = {
    "semicolons.csv": (b"text;label\none;1\ntwo, too;2\n", ("one", "two, too")),
    "excel.csv": (b"sep=;\r\ntext;label\r\none;1\r\n", ("one",)),
    "commas-in-one-column.csv": (b"text\none, two\nthree\n", ("one, two", "three")),
    "empty-cells.csv": (b"text,id,,\none,1,,\n", ("one",)),
    "tabs.tsv": (b"id\ttext\n1\tone\n", ("one",)),
    "quotes.tsv": (b'id\ttext\n1\t"one" he said\n2\ttwo\n', ('"one" he said', "two")),
    "rows.json": (b'[{"text": "one", "id": 1}, {"text": "two"}]', ("one", "two")),
    "strings.json": (b'["one", "two"]', ("one", "two")),
    "inside.json": (b'{"version": 1, "prompts": ["one"]}', ("one",)),
    "lines.json": (b'{"text": "one"}\n{"text": "two"}\n', ("one", "two")),
    "list.jsonl": (b'[{"text": "one"},\n {"text": "two"}]', ("one", "two")),
    "one-line.jsonl": (b'[{"text": "one"}, {"text": "two"}]', ("one", "two")),
    "capitals.jsonl": (b'{"Text": "one"}', ("one",)),
    "null.jsonl": (b'{"text": null}\n{"text": "two"}', ("two",)),
    "packed.jsonl.gz": (gzip.compress(b'{"text": "one"}'), ("one",)),
    "packed-without-saying-so.csv": (gzip.compress(b"text\none\n"), ("one",)),
    "western.txt": ("café – “naïve”".encode("cp1252"), ("café – “naïve”",)),
    "utf16.csv": ("text\tid\nœuf\t1\n".encode("utf-16"), ("œuf",)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_read_from_tables_as_programs_write_them(tmp_path, name):
    content, expected = TEXTS[name]
    (tmp_path / name).write_bytes(content)
    assert read_prompt_set(tmp_path / name).texts == expected


def test_texts_are_read_from_parquet(tmp_path):
    rows = [{"id": 1, "text": "one"}, {"id": 2, "text": None}, {"id": 3, "text": "three"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read_prompt_set(tmp_path / "a.parquet").texts == ("one", "three")


REFUSED = {
    "unknown.csv": (b"id,content\n1,one\n", "no column 'text'.* It has: id, content"),
    "unknown.tsv": (b"id\tcontent\n1\tone\n", "It has: id, content"),
    "unknown.json": (b'[{"id": 1, "content": "one"}]', "It has: id, content"),
    "prose.csv": (b"Hello, world\nGood bye\n", "It has: Hello, world"),
    "more.csv": (b"text,id\none, two,1\n", "Line 2 of more.csv has 3 cells, and 2 are named"),
    "settings.json": (b'{"name": "x", "size": 1}', r"one JSON object \(name, size\)"),
    "not.parquet": (b"PAR1", "no Parquet"),
    "cyrillic.txt": ("привет мир".encode("cp1251"), "not UTF-8 text"),
    "broken.txt": ("é à ü the rest is plain".encode()[:-1] + b"\xff", "not UTF-8 text"),
    "cut.jsonl.gz": (gzip.compress(b'{"text": "one"}')[:-9], "cannot be read"),
    "bomb.jsonl.gz": (gzip.compress(bytes(11 * 2**20)), "unpacks to more than 10 MB"),
    "sheet.csv": (b"PK\x03\x04\0\0", "Save its table as .csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_understood_is_refused_in_one_sentence(tmp_path, name):
    content, says = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HeadvizError, match=says) as raised:
        read_prompt_set(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_parquet_that_unpacks_to_far_more_is_refused(tmp_path):
    rows = pyarrow.table({"text": pyarrow.array([f"{'x' * 2**20}{n}" for n in range(256)])})
    parquet.write_table(rows, tmp_path / "a.parquet", compression="gzip", use_dictionary=False)
    with pytest.raises(HeadvizError, match="unpacks to 256 MB"):
        read_prompt_set(tmp_path / "a.parquet")


def test_a_preset_of_words_may_be_in_windows_own_letters(assets):
    (assets / "concepts" / "food.txt").write_bytes(
        "Essen und Trinken\nBrot\nKäse\n".encode("cp1252")
    )
    assert known_concepts()["food"].words == ("Brot", "Käse")


def pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(16, 16).save(folder / name)
    return folder


BESIDE = {
    "semicolons.csv": "file;caption\na.png;red, and more\n",
    "no-header.csv": 'a.png,"red, and more"\n',
    "labels.tsv": "file\tlabel\na.png\tred, and more\n",
    "paths.csv": 'file,caption\n./a.png,"red, and more"\n',
    "windows.csv": 'file,caption\nimages\\a.png,"red, and more"\n',
    "bars.csv": "image_name| comment_number| comment\na.png| 0| red, and more\n",
    "first.csv": 'file,caption\na.png,"red, and more"\na.png,another\n',
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_table_beside_pictures_is_read_as_programs_write_it(tmp_path, name):
    pictures(tmp_path, "a.png")
    (tmp_path / name).write_text(BESIDE[name])
    assert open_image_folder(tmp_path).labels == ("red, and more",)


LOST = {
    "unknown.csv": ("id,content\n1,one\n", "names no picture .* It has: id, content"),
    "unknown.jsonl": ('{"id": 1, "content": "x"}\n', "names no picture .* It has: id, content"),
    "half.csv": ("file,content\na.png,red\n", "names no picture .* It has: file, content"),
    "others.csv": ("file,caption\nz.png,red\n", "name 'z.png' and no picture"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_table_beside_pictures_is_never_lost_in_silence(tmp_path, name):
    pictures(tmp_path, "cats/a.png")
    content, says = LOST[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(HeadvizError, match=says):
        open_image_folder(tmp_path)


def test_settings_beside_pictures_are_no_table(tmp_path):
    pictures(tmp_path, "cats/a.png")
    (tmp_path / "package.json").write_text('{"name": "x", "files": ["a"], "version": 1}')
    assert open_image_folder(tmp_path).labels == ("cats",)


def test_pictures_of_one_name_in_two_folders_are_told_apart_by_their_paths(tmp_path):
    pictures(tmp_path, "x/a.png", "y/a.png")
    (tmp_path / "labels.csv").write_text("file,label\nx/a.png,one\ny/a.png,two\n")
    assert open_image_folder(tmp_path).labels == ("one", "two")


@pytest.mark.parametrize("prefix", ["./", "", "images\\"])
def test_a_zip_s_names_as_archivers_write_them(tmp_path, prefix):
    pictures(tmp_path, "a.png")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        separator = "\\" if "\\" in prefix else "/"
        data = (tmp_path / "a.png").read_bytes()
        archive.writestr(f"{prefix}cats{separator}a.png", data)
        archive.writestr(f"{prefix}.ipynb_checkpoints/a.png", data)
        archive.writestr("__MACOSX/._table.csv", b"\0")
    (label,) = open_image_folder(tmp_path / "b.zip").labels
    assert label == f"{prefix.strip('./')}cats".replace("\\", "/")


HIDDEN = (".ipynb_checkpoints/a.png", "__MACOSX/red/._b.png", "red/.a.png", "red/@eaDir/a.png")


def test_what_programs_leave_behind_is_no_class_of_a_study(tmp_path):
    pictures(tmp_path, "red/a.png", "blue/b.png", *HIDDEN)
    shown, classes = read_labelled(tmp_path, 10)
    assert (classes, len(shown)) == (("blue", "red"), 2)
    assert sorted(open_image_folder(tmp_path).labels) == ["blue", "red"]


def test_what_programs_leave_behind_is_no_data_of_a_study(tmp_path):
    for name in ("a.jsonl", "._a.jsonl"):
        (tmp_path / name).write_text('{"prompt": "one"}\n')
    assert read_prompts(tmp_path) == ("one",)
    copy = tmp_path / ".ipynb_checkpoints" / "test.jsonl"
    copy.parent.mkdir()
    copy.write_text("{}")
    assert hub_files(tmp_path, TEXT_SPLITS) == []


CAPTIONS = {
    "bars.txt": "image,caption\na.png,red | blue\n",
    "separators.txt": "image,caption\na.png,red\u2028blue\n",
    "no-header.txt": "a.png,red | blue\n",
    "semicolons.csv": "image;caption\na.png;red, blue\n",
    "numbered.token": 'a.png#0\t"red" | blue, green\n',
    "western.txt": "image,caption\na.png,café\n".encode("cp1252"),
    "comments.csv": "image_name| comment_number| comment\na.png| 0| red | blue\n",
    "lacking.csv": "image_name| comment_number| comment\na.png| 4   A red dog .\n",
    "split.csv": "file,caption,split\na.png,red,test\n",
    "lines.jsonl": json.dumps({"File": "a.png", "Caption": "red"}),
}
EXPECTED = {
    "bars.txt": "red | blue",
    "separators.txt": "red\u2028blue",
    "no-header.txt": "red | blue",
    "semicolons.csv": "red, blue",
    "numbered.token": '"red" | blue, green',
    "western.txt": "café",
    "comments.csv": "red | blue",
    "lacking.csv": "4   A red dog .",
    "split.csv": "red",
    "lines.jsonl": "red",
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions_of_a_study_are_whole(tmp_path, name):
    pictures(tmp_path, "a.png")
    content = CAPTIONS[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (shown,) = read_captioned(tmp_path / name, 10)
    assert shown.texts == (EXPECTED[name],)


def test_captions_in_several_rows_are_all_of_their_picture(tmp_path):
    pictures(tmp_path, "a.png")
    rows = [{"file": "a.png", "caption": "one"}, {"file": "a.png", "caption": "two"}]
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    (shown,) = read_captioned(tmp_path, 10)
    assert shown.texts == ("one", "two")


@pytest.mark.parametrize("table", ["file;label\na.png;red\n", "a.png,red\n"])
def test_labels_of_a_study_in_tables_as_programs_write_them(tmp_path, table):
    pictures(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(table)
    assert read_labelled(tmp_path, 10)[1] == ("red",)


def test_questions_and_prompts_of_a_study_are_read_by_the_same_reader(tmp_path):
    asked = tmp_path / "asked.csv"
    asked.write_text("question;answer\nwho, then?;me\n")
    assert read_questions(asked) == (Question("who, then?", ("me",)),)
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes("café\none\u2028line\n \n".encode("utf-16"))
    assert read_prompts(prompts) == ("café", "one\u2028line")
    prompts.write_bytes("café\n".encode("cp1252"))
    assert read_prompts(prompts) == ("café",)
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("id;content\n1;one\n")
    with pytest.raises(HeadvizError, match="It has: id, content"):
        read_prompts(unknown)


MALFORMED = {
    "data.json": '{"Data": 3}',
    "templates.json": '{"samples": [{}], "prompt_templates": []}',
    "samples.json": '{"samples": 1, "prompt_templates": ["x"]}',
    "images.json": '{"images": 3}',
    "ids.json": '{"images": [{"id": [1], "file_name": "a.png"}], "annotations": []}',
    "names.json": '{"images": [{"filename": [1], "sentences": 3}]}',
    "cut.parquet": "PAR1" + "\0" * 60 + "PAR1",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_fuzzing_found_is_refused_in_one_sentence(tmp_path, name):
    """Kept from runs of 100,000 mutated files through every reader."""
    pictures(tmp_path, "a.png")
    (tmp_path / name).write_text(MALFORMED[name])
    for read in (read_questions, lambda path: read_captioned(path, 3)):
        with pytest.raises(HeadvizError) as raised:
            read(tmp_path / name)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "answer", [2, {"value": "2", "aliases": None}, {"value": "2", "aliases": 3}]
)
def test_answers_of_a_study_may_be_numbers_and_have_no_aliases(tmp_path, answer):
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": answer}))
    assert read_questions(tmp_path / "a.jsonl") == (Question("1 + 1?", ("2",)),)
