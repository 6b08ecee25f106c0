"""Whatever comes in ends in a result or in one sentence: no traceback, no hang, no flood of memory.

About 1,500 inputs a run from a fixed seed through the readers, the command line and the page's
functions; what once failed is kept in tests/corpus and tried first.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest
import torch
from fuzzing import (
    CORPUS,
    TABLES,
    check_sentence,
    damaged,
    inputs,
    numbers,
    parquet,
    pictures,
    plain,
    read,
    safetensors,
    texts,
    watched,
    zips,
)
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import write_gguf

from headviz.__main__ import main
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.compare import Column
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept
from headviz.inputs.image_folders import open_image_folder
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import read_prompt_set
from headviz.models.gguf_header import read_header
from headviz.models.load import load_model
from headviz.models.memory_plan import weights_in_memory
from headviz.page.api import Api, checked
from headviz.page.arriving import arrive, open_file
from headviz.page.ask import Ask
from headviz.page.errors import for_program
from headviz.session.session import Session
from headviz.studies.formats import read_prompts, read_questions
from headviz.studies.image_folders import read_captioned, read_labelled

pytest_plugins = ["loaded"]


PICTURE = pictures()[0]


@pytest.fixture
def page_session(assets, tmp_path) -> Session:
    """As behind a page that others can reach: only the built-in model is offered."""
    return Session(Store(tmp_path / "store"), allowed=["toy"], device="cpu")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.png").write_bytes(PICTURE)
    return folder


def header(path: Path) -> object:
    found = read_header(path)
    return found.architecture, found.quantisation, found.alignment, found.n_numbers, found.largest


def kept(path: Path) -> object:
    """An entry of the cache: what is damaged is None."""
    path.rename(path.with_name("key.safetensors"))
    return Store(path.parent).get("key")


def labels(path: Path) -> object:
    return read_labelled(path.rename(path.with_name(f"labels{path.suffix}")).parent, 3)


READERS: dict[str, list[Callable[[Path], object]]] = {
    "picture.png": [lambda path: open_picture(path.read_bytes(), path.name)],
    "album.zip": [open_image_folder],
    **{
        f"table.{ending}": [read_prompt_set, read_questions, read_prompts]
        + [lambda path: read_captioned(path, 3)] * (ending != "txt")
        for ending in ("csv", "tsv", "json", "jsonl", "txt", "parquet")
    },
    "recipe.json": [Recipe.load],
    "link.txt": [lambda path: Recipe.from_link(path.read_bytes().decode("latin-1"))],
    "model.gguf": [header],
    "model.safetensors": [lambda path: weights_in_memory(path.parent, torch.float16), kept],
}
"""What a file is called -> what reads it."""


def seeds_of(name: str, folder: Path) -> list[bytes]:
    ending = name.rpartition(".")[2]
    if name == "recipe.json":
        return [recipe().to_json().encode()]
    if name == "link.txt":
        return [recipe().to_link().encode(), b"", b"eJwr"]
    if name == "model.gguf":
        whole = write_gguf(folder / "seed.gguf", "Q8_0").read_bytes()
        return [whole[: len(whole) // 3], whole[:20_000]]
    if name == "model.safetensors":
        return [safetensors(), safetensors({"w": {"dtype": "BF16", "shape": [0, 3]}})]
    if ending == "parquet":
        return [parquet()]
    return {"png": pictures, "zip": zips}.get(ending, lambda: TABLES[ending])()


def recipe() -> Recipe:
    trial = Trial("what color", Sampling(4), texts=(Column("original", "", "red"),))
    edit = Edit({Head(0, 1): -1.0, Head(1, 2): 0.5})
    return Recipe("toy", "abc", edit, make_concept("colors", ["red", "blue"]), trial=trial)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(name, scratch):
    seeds = seeds_of(name, scratch)

    @inputs(60)
    @given(damaged(seeds))
    def try_one(content):
        for number, reader in enumerate(READERS[name]):
            folder = scratch / f"{name}-{number}"
            folder.mkdir(exist_ok=True)
            for before in folder.iterdir():
                before.unlink()
            (folder / "a.png").write_bytes(PICTURE)
            path = folder / name
            path.write_bytes(content)
            read(reader, path)

    for file in sorted(CORPUS.glob(f"{name}--*")):
        try_one.hypothesis.inner_test(file.read_bytes())
    try_one()


# A checkpoint whose files are damaged.


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_model_is_read_or_refused_in_one_sentence(name, tiny_model_folder, scratch):
    folder = scratch / f"model-{name}"
    shutil.copytree(tiny_model_folder("llama"), folder)
    whole = (folder / name).read_bytes()

    @inputs(20)
    @given(damaged([whole[:4096] if name == "model.safetensors" else whole]))
    def try_one(content):
        rest = whole[4096:] if name == "model.safetensors" else b""
        (folder / name).write_bytes(content + rest)
        read(load_model, str(folder), device="cpu")

    try_one()


# The command line.

VALUES = st.one_of(texts, numbers.map(str), st.sampled_from(["toy", "colors", "red,blue", "FILE"]))
ARGUMENTS = {
    "rank": ["concept", "words", "probes", "criterion", "top", "pooling", "pieces", "iterations"],
    "spectrum": ["head", "steps", "probes", "out", "memory", "prompt"],
    "generate": [
        "prompt",
        "edit",
        "where",
        "image",
        "temperature",
        "seed",
        "control-seed",
        "words",
    ],
    "effect": ["concept", "heads", "factor", "top", "words", "probes"],
    "find": ["concept", "heads", "towards", "side-effects", "probes", "words"],
    "bake": ["edit", "out"],
    "check": [],
    "study": ["data", "concept", "k", "alpha", "arms", "limit", "prompt"],
    "name-concept": ["clip", "vocabulary", "top", "unlike"],
    "concepts": [],
    "models": [],
}


@st.composite
def command_lines(draw) -> list[str]:
    command = draw(st.sampled_from([*ARGUMENTS]))
    known = ARGUMENTS[command]
    named = draw(st.lists(st.sampled_from(known), max_size=4, unique=True)) if known else []
    line = [command]
    if command in ("check", "study", "name-concept"):
        line.append(draw(VALUES))
    elif command not in ("concepts", "models"):
        line += ["--model", draw(st.sampled_from(["toy", "toy", "toy", "../toy", ""]))]
    for name in named:
        within = "made-" if name == "out" else ""  # nothing is written elsewhere
        line.append(f"--{name}={within}{draw(VALUES)}")
    return line + draw(
        st.lists(st.sampled_from(["--json", "--dtype=int4", "--device=x"]), max_size=1)
    )


def test_a_command_line_ends_with_a_result_or_one_sentence(assets, scratch, capsys, monkeypatch):
    monkeypatch.chdir(scratch)
    monkeypatch.setattr("headviz.editing.find.STEPS", 2, raising=False)

    @inputs(150)
    @given(command_lines())
    def try_one(line):
        line = [part.replace("FILE", "a.png") for part in line]
        with watched():
            try:
                status = main(line)
            except SystemExit as ended:
                status = ended.code
        said = capsys.readouterr()
        assert status in (0, 1, 2), said.err
        assert "Traceback" not in said.out + said.err
        if status == 2:
            check_sentence(said.err.rstrip("\n"))

    try_one()


# The page.

ENDPOINTS = {
    "rank": [
        "model",
        "concept",
        "words",
        "texts",
        "images",
        "prompt_set",
        "prompt",
        "criterion",
        "top",
    ],
    "spectrum": ["model", "head", "texts", "images", "prompt_set", "prompt", "steps"],
    "generate": [
        "model",
        "prompt",
        "edit",
        "where",
        "concept",
        "words",
        "images",
        "max_new_tokens",
    ],
}
USUAL = {
    "model": ["toy"],
    "concept": ["colors"],
    "words": [["red", "blue"], ["red", 3]],
    "texts": [["one red", "two"], [""]],
    "head": ["L0.H1"],
    "edit": ["L0.H1=-1"],
    "max_new_tokens": [2],
    "top": [3],
}


@st.composite
def calls(draw) -> tuple[str, dict]:
    endpoint = draw(st.sampled_from([*ENDPOINTS]))
    known = [*ENDPOINTS[endpoint], *(("temperature", "seed") if endpoint == "generate" else ())]
    named = draw(st.lists(st.sampled_from(known), max_size=5, unique=True))
    values = {n: draw(st.one_of(plain, st.sampled_from(USUAL.get(n, [""])))) for n in named}
    if endpoint == "generate":
        values.setdefault("max_new_tokens", 2)
    return endpoint, values


def sentence_of(call: Callable[[], object]) -> None:
    """What a program is told, or what it gets."""
    with watched():
        try:
            call()
        except gr.Error as error:
            check_sentence(error.message)
            assert "failed inside headviz" not in error.message


@inputs(250)
@given(calls())
def test_an_endpoint_answers_or_refuses_in_one_sentence(page_session, call):
    endpoint, values = call
    handler = for_program(checked(getattr(Api(page_session), endpoint)))
    sentence_of(lambda: handler(**values))


ASKS = st.fixed_dictionaries(
    {
        "model": st.one_of(st.just("toy"), plain),
        "prompt": st.one_of(st.just("what color"), plain),
        "where": st.one_of(st.sampled_from(["everywhere", "image"]), plain),
        "heads": st.one_of(st.dictionaries(texts, numbers, max_size=3), plain),
        "concept": st.one_of(st.none(), plain),
        "tokens": numbers,
        "temperature": st.one_of(numbers, plain),
        "seed": numbers,
        "control_seed": numbers,
    }
)


@inputs(150)
@given(st.one_of(ASKS, plain))
def test_what_a_browser_asks_is_taken_or_refused_in_one_sentence(data):
    read(Ask.from_dict, data)


QUERIES = st.dictionaries(
    st.sampled_from(["recipe", "model", "concept", "head"]),
    st.one_of(texts, st.sampled_from(["toy", "colors", "L0.H1", "L999.H9"])),
)


@inputs(100)
@given(QUERIES)
def test_an_address_opens_the_page_or_is_refused_in_one_sentence(page_session, query):
    read(arrive, page_session, query)


@inputs(60)
@given(damaged([recipe().to_json().encode()]))
def test_an_uploaded_recipe_opens_the_page_or_is_refused(page_session, scratch, content):
    path = scratch / "uploaded.json"
    path.write_bytes(content)
    read(open_file, page_session, str(path))
