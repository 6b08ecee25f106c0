"""Texts are read from any honest file, and a bad one is refused in one sentence."""

import json

import pytest

from headviz.base.errors import HeadvizError, PromptError, TableError, UnknownName
from headviz.inputs.prompt_sets import (
    MAX_BYTES,
    MAX_TEXTS,
    PromptSet,
    find_prompt_set,
    make_prompt_set,
    read_prompt_set,
)

pytest_plugins = ["loaded"]

ODD = "a line\u2028separator, a form\x0cfeed"

GOOD = {
    "lines.txt": ("one\n\n  two  \r\nthree", ("one", "two", "three")),
    "bom.txt": ("\ufeffone\ntwo", ("one", "two")),
    "odd.txt": (f"{ODD}\ntwo", (ODD, "two")),
    "plain.csv": ("one\ntwo\n", ("one", "two")),
    "header.csv": ("id,Question\n1,one\n2,two\n", ("one", "two")),
    "bom.csv": ("\ufefftext,id\none,1\n", ("one",)),
    "quoted.csv": ('prompt\n"one, ""two""\nand three"\nfour\n', ('one, "two"\nand three', "four")),
    "windows.csv": ('prompt\r\n"one\r\ntwo"\r\nthree\r\n', ("one\r\ntwo", "three")),
    "short-row.csv": ("id,text\n1\n2,two\n\n", ("two",)),
    "objects.jsonl": ('{"prompt": "one", "answer": 1}\n\n{"text": "two"}\n', ("one", "two")),
    "strings.jsonl": ('"one"\n"two \\u00e9"', ("one", "two é")),
    "odd.jsonl": (json.dumps({"text": ODD}, ensure_ascii=False) + '\n"two"', (ODD, "two")),
    "bom.jsonl": ('\ufeff"one"', ("one",)),
    "no-suffix": ("one\ntwo", ("one", "two")),
    "UPPER.JSONL": ('"one"', ("one",)),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_texts_of_a_file_are_read(tmp_path, name):
    content, expected = GOOD[name]
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_prompt_set(path).texts == expected


BAD = {
    "empty.txt": (b"", "There is no text in 'empty'. Write one prompt a line."),
    "blank.txt": (b" \n\t\n", "There is no text in 'blank'"),
    "bom-only.txt": ("\ufeff".encode(), "There is no text"),
    "header-only.csv": (b"id,text\n", "There is no text in 'header-only'"),
    "empty.csv": (b"", "There is no text"),
    "empty.jsonl": (b"\n\n", "There is no text"),
    "binary.txt": (bytes(range(256)), "binary.txt is not UTF-8 text. Save it as UTF-8."),
    "nul.txt": (b"a\0b", "nul.txt is not a text file."),
    "quote.csv": (b'id,prompt\n1,"never closed', "Line 2 of quote.csv cannot be read"),
    "third.jsonl": (b'"a"\n\n{oops\n', "Line 3 of third.jsonl is not JSON"),
    "number.jsonl": (b'"a"\n7\n', "number.jsonl has no column 'text' or 'prompt'"),
    "keys.jsonl": (b'{"body": "a"}', "It has: body."),
    "listed.jsonl": (b'{"text": ["a"]}', "has a row without a text but ['a']"),
    "null.jsonl": (b'{"text": null}', "There is no text"),
    "deep.jsonl": (b"[" * 100_000, "Line 1 of deep.jsonl is not JSON"),
    "digits.jsonl": (b"9" * 5000, "Line 1 of digits.jsonl is not JSON"),
    "half.jsonl": (b'"half \\ud83d a character"', "is not valid Unicode text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_the_reason(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HeadvizError) as raised:
        read_prompt_set(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_of_50_mb_is_refused_without_being_read(tmp_path, monkeypatch):
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(50 * 2**20)
    monkeypatch.setattr("pathlib.Path.read_bytes", None)
    with pytest.raises(TableError, match=r"large\.txt has 50 MB; at most 10 MB are read"):
        read_prompt_set(path)
    assert MAX_BYTES == 10 * 2**20


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "mine.txt"
    path.write_text("secret")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(TableError, match=r"mine\.txt cannot be read \(Permission denied\)"):
        read_prompt_set(path)


def test_too_many_texts_are_refused_with_both_numbers():
    with pytest.raises(PromptError, match=f"has {MAX_TEXTS + 1} texts; at most {MAX_TEXTS}"):
        make_prompt_set("many", ["a"] * (MAX_TEXTS + 1))
    assert len(make_prompt_set("enough", ["a"] * MAX_TEXTS)) == MAX_TEXTS


def test_the_digest_changes_with_any_text_and_their_order():
    sets = [("a", "b"), ("b", "a"), ("a", "b", "c"), ("ab",), ("a", "B")]
    assert len({PromptSet("x", texts).digest for texts in sets}) == len(sets)
    assert PromptSet("x", ("a",)).digest == PromptSet("y", ("a",)).digest


def test_a_name_is_a_built_in_set_or_a_file_and_none_is_the_models_default(
    assets, texts, general_texts, tmp_path
):
    own = tmp_path / "own.txt"
    own.write_text("mine")
    assert find_prompt_set(None, "toy").texts == texts.texts
    assert find_prompt_set("questions", "toy").texts == texts.texts
    assert find_prompt_set(str(own), "toy") == PromptSet("own", ("mine",))
    assert find_prompt_set(None, "another model").texts == general_texts.texts


@pytest.mark.parametrize("name", ["question", "no/such/file.txt", "a" * 5000, "nul\0", ""])
def test_an_unknown_set_is_answered_with_the_known_ones(assets, name):
    with pytest.raises(UnknownName, match=r"Known: questions\. Or name a \.txt"):
        find_prompt_set(name, "toy")
