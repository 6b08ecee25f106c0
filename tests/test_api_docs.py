"""docs/api.md and docs/formats.md are true: their programs run, their columns are the files'."""

import re

import pytest

import headviz
from headviz.base.assets import built_in_models
from headviz.editing.recipe_schema import FORMAT, schema
from headviz.session.save import ACTIVATIONS, SCORES

pytestmark = pytest.mark.skipif("tiny-lm" not in built_in_models(), reason="tiny-lm is not there")


@pytest.fixture(scope="module")
def read(repo):
    return {n: (repo / "docs" / f"{n}.md").read_text(encoding="utf-8") for n in ("api", "formats")}


def programs(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def ran(read, tmp_path_factory):
    """What the programs leave: their names, and the folder that they ran in."""
    folder = tmp_path_factory.mktemp("docs")
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for text in (read["api"], read["formats"]):
            for program in programs(text):
                exec(program, names)
    return names, folder


def test_the_programs_run_one_after_another_and_write_what_they_say(ran):
    names, folder = ran
    assert {p.name for p in folder.iterdir()} == {
        *("no-colors.json", "tiny-lm-without-colors", "scores.csv", "spectrum.csv"),
        *("texts.json", "signals.safetensors", "heads.html", "spectrum.html"),
    }
    assert names["z"].shape[2] == len(names["about"]["texts"]) == 3


def test_the_columns_named_are_the_files_own(ran, read):
    for name in ("scores", "spectrum"):
        header = (ran[1] / f"{name}.csv").read_text().splitlines()[0].split(",")
        assert ", ".join(f"`{column}`" for column in header) in read["formats"]


def test_every_name_that_is_offered_is_described(read):
    functions = ("rank", "spectrum", "compare", "bake", "save", "activations", "make_prompt_set")
    functions += ("effects", "find")
    assert {*functions} <= {*headviz.__all__}
    for name in functions:
        assert f"headviz.{name}(" in read["api"]


def test_the_formats_named_are_the_program_s(read):
    for name in (FORMAT, SCORES, ACTIVATIONS):
        assert f"`{name}`" in read["formats"]
    for key in schema()["properties"]:
        assert f"`{key}`" in read["formats"]
