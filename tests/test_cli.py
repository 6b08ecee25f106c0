"""The command line: the JSON that scripts depend on, and one sentence for every bad input."""

import json
import os
import subprocess
import sys
import time
from functools import partial

import pytest
from tiny_models import CONTEXT, WORDS

import headviz
from headviz.__main__ import main
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.clip import load as clip
from headviz.editing.compare import CompareRequest
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept
from headviz.session.session import Session

pytest_plugins = ["loaded"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`command("rank", …)` runs it with a cache of its own: (status, stdout, stderr)."""
    monkeypatch.setattr("headviz.__main__.Session", partial(Session, Store(tmp_path / "cache")))

    def run(*arguments):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def answer(command):
    """The JSON of a command that has to succeed in silence."""

    def run(*arguments):
        status, out, err = command(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


# The shapes that scripts depend on.


def test_models_and_concepts_list_what_there_is(assets, answer):
    assert answer("models") == [{"name": "toy", "here": True, "prompt_set": ["questions"]}]
    assert answer("concepts") == [
        {"name": name, "title": f"Names of {name}", "words": [*WORDS[name], "umpteen"]}
        for name in ("colors", "numbers")
    ]


def test_rank_gives_the_heads_in_order_and_all_that_they_depend_on(assets, answer, texts, session):
    result = answer("rank", "--model", "toy", "--concept", "colors", "--top", "3")
    ranking = session.rank("toy", make_concept("colors", [*WORDS["colors"], "umpteen"]), texts)
    assert (result["model"], result["concept"], result["criterion"]) == ("toy", "colors", "somp")
    assert (result["n_samples"], result["n_heads"]) == (len(texts), 12)
    assert result["options"] == ranking.options.as_dict()
    assert result["heads"] == [h.as_dict() for h in ranking.heads[:3]]
    assert [h["rank"] for h in result["heads"]] == [1, 2, 3]


def test_rank_takes_own_words_own_texts_and_every_option(tmp_path, llama, answer):
    file = tmp_path / "own.csv"
    file.write_text("prompt\nthe cat is red\na dog\n")
    result = answer(
        *("rank", "--model", llama.name, "--words", "red, blue", "--probes", str(file)),
        *("--criterion", "logit-lens", "--pooling", "last", "--pieces", "mean"),
        *("--iterations", "7", "--no-centre", "--raw-atoms", "--no-final-norm"),
        *("--order", "raw", "--no-template", "--thinking"),
    )
    assert (result["concept"], result["words"]) == ("my words", ["red", "blue"])
    assert (result["n_samples"], result["criterion"]) == (2, "logit-lens")
    assert result["options"] == {
        "steps": 7,
        "centre": False,
        "normalise": False,
        "fold_norm": False,
        "pooling": "last",
        "pieces": "mean",
        "order": "raw",
        "template": False,
        "system": None,
        "thinking": True,
    }


def test_spectrum_gives_a_heads_atoms_in_order(assets, answer):
    result = answer("spectrum", "--model", "toy", "--head", "L1.H2", "--steps", "4")
    assert result["head"] == "L1.H2"
    assert len(result["atoms"]) == 4
    assert all(atom.keys() == {"token", "weight", "explained"} for atom in result["atoms"])
    explained = [atom["explained"] for atom in result["atoms"]]
    assert explained == sorted(explained)


@pytest.mark.parametrize("control", [True, False])
def test_generate_gives_the_texts_by_name(assets, answer, session, control):
    asked = ("--prompt", "the cat is", "--edit", "L0.H1=-1,L1.H2=5", "--max-new-tokens", "5")
    more = ("--control",) if control else ()
    result = answer("generate", "--model", "toy", *asked, "--concept", "colors", *more)
    edit = Edit({Head(0, 1): -1.0, Head(1, 2): 5.0})
    sampling = headviz.Sampling(max_new_tokens=5)
    asked = CompareRequest("the cat is", edit, control=control, sampling=sampling)
    *_, expected = session.compare("toy", asked)
    texts = {column.name: column.text for column in expected.columns}
    assert {name: result[name] for name in ("original", "edited", "control")} == {
        "control": None,
        **texts,
    }
    assert result["measures"]["edited"].keys() == {
        "edit",
        "concept_words",
        "differs_at",
        "perplexity",
    }


def test_without_an_edit_both_columns_are_the_same(assets, answer):
    result = answer("generate", "--model", "toy", "--prompt", "a dog", "--max-new-tokens", "4")
    assert result["original"] == result["edited"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("models",), "toy"),
        (("concepts",), "Names of colors (9: red, blue, green, yellow, black …)"),
        (("rank", "--concept", "colors"), "12 heads, 6 texts, 8 words, 1 dropped (umpteen"),
        (("spectrum", "--head", "l0h1"), "L0.H1 of toy, over 6 texts"),
        (("generate", "--prompt", "a", "--words", "red"), "[edited] ("),
    ],
)
def test_without_json_a_person_can_read_it(assets, command, arguments, shown):
    model = () if arguments[0] in ("models", "concepts") else ("--model", "toy")
    status, out, err = command(*arguments, *model)
    assert (status, err) == (0, "")
    assert shown in out


def test_models_that_are_not_trained_yet_are_named_as_such(assets, command):
    said = command("models")[1]
    assert (
        "Not trained yet: tiny-lm, tiny-vlm, tiny-clip, smol-vlm (python -m toyworld train" in said
    )
    (assets / "tiny-clip").mkdir()
    (assets / "tiny-clip" / clip.CONFIG).touch()
    said = command("models")[1]
    assert "Not trained yet: tiny-lm, tiny-vlm, smol-vlm (" in said
    assert "tiny-clip        CLIP model" in said


# Bad input.


@pytest.fixture
def files(tmp_path, tiny_model_folder):
    """Paths by name, for {braces} in the arguments below."""
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "bad.jsonl").write_text('"one"\n{oops\n')
    with (tmp_path / "large.txt").open("wb") as large:
        large.truncate(50 * 2**20)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text('{"model_type": "llama"}')
    (pickled / "pytorch_model.bin").touch()
    return {"tmp": tmp_path, "long": "red " * CONTEXT}


RANK = ("rank", "--model", "toy")
COLORS = (*RANK, "--concept", "colors")
GENERATE = ("generate", "--model", "toy", "--prompt")
BAD = {
    "unknown model": (
        ("rank", "--model", "nope", "--concept", "colors"),
        "Unknown model 'nope': not built in (toy)",
    ),
    "model folder without safetensors": (
        ("rank", "--model", "{tmp}/pickled", "--concept", "colors"),
        "has no .safetensors weights",
    ),
    "unknown concept": ((*RANK, "--concept", "color"), "Did you mean 'colors'? Known: colors, num"),
    "no concept": (RANK, "Known: colors, numbers"),
    "empty concept": ((*RANK, "--words", " , "), "The concept has no words"),
    "words that are no tokens": ((*RANK, "--words", "umpteen"), "is a single token of this model"),
    "too many words": (
        (*RANK, "--words", ",".join(map(str, range(5000)))),
        "has 5000 words; at most 2000",
    ),
    "half a character": ((*RANK, "--words", "\udcff"), "is not valid Unicode text"),
    "empty file": ((*COLORS, "--probes", "{tmp}/empty.txt"), "There is no text in 'empty'"),
    "50 MB file": ((*COLORS, "--probes", "{tmp}/large.txt"), "has 50 MB; at most 10 MB"),
    "binary file": ((*COLORS, "--probes", "{tmp}/binary.txt"), "binary.txt is not UTF-8 text"),
    "bad line": ((*COLORS, "--probes", "{tmp}/bad.jsonl"), "Line 2 of bad.jsonl is not JSON"),
    "a folder": ((*COLORS, "--probes", "{tmp}"), "There is no picture in"),
    "unknown texts": ((*COLORS, "--probes", "nope.txt"), "Known: questions"),
    "unknown criterion": ((*COLORS, "--criterion", "magic"), "Known: somp, logit-lens"),
    "unknown pooling": ((*COLORS, "--pooling", "sum"), "Known: prompt, last, generated"),
    "unknown pieces": ((*COLORS, "--pieces", "some"), "Known: single, all, mean"),
    "no steps": ((*COLORS, "--iterations", "0"), "choose 1 to 1000"),
    "unknown device": ((*COLORS, "--device", "meta"), "Use auto, cpu, cuda, mps or spread"),
    "unknown dtype": ((*COLORS, "--dtype", "int3"), "Known: auto, float32"),
    "head that is none": (
        ("spectrum", "--model", "toy", "--head", "3.7"),
        "'3.7' is no head. Write layer and head as in L3.H7.",
    ),
    "head that does not exist": (
        ("spectrum", "--model", "toy", "--head", "L3.H0"),
        "There is no head L3.H0: this model has layers 0 to 2 with heads 0 to 3 each.",
    ),
    "α that is not a number": ((*GENERATE, "a", "--edit", "L0.H0=much"), "'much' is no factor"),
    "α that is infinite": ((*GENERATE, "a", "--edit", "L0.H0=inf"), "'inf' is no factor"),
    "edit that is none": ((*GENERATE, "a", "--edit", "L0.H0"), "'L0.H0' is no edit"),
    "edit of no head": ((*GENERATE, "a", "--edit", "L0.H9=0"), "There is no head L0.H9"),
    "no control left": (
        (
            *GENERATE,
            "a",
            "--edit",
            ",".join(f"L{n}.H{i}=0" for n in range(2) for i in range(4)),
            "--control",
        ),
        "too few are left for a random control",
    ),
    "empty prompt": ((*GENERATE, "  "), "The prompt is empty"),
    "prompt longer than the context": ((*GENERATE, "{long}"), "reads at most 128. Shorten it."),
    "no tokens": ((*GENERATE, "a", "--max-new-tokens", "0"), "choose 1 to 2048"),
    "negative temperature": ((*GENERATE, "a", "--temperature", "-1"), "choose 0 to 10"),
    "not a number": ((*COLORS, "--top", "many"), "--top: invalid int value: 'many'"),
    "nothing to open": (("spectrum", "--model", "toy"), "required: --head"),
    "no command": ((), "required: command"),
    "unknown command": (("sing",), "invalid choice: 'sing'"),
    "unknown flag": ((*COLORS, "--colour"), "unrecognized arguments: --colour"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_status_2_and_one_sentence(assets, files, command, case):
    arguments, message = BAD[case]
    status, out, err = command(*(argument.format(**files) for argument in arguments))
    assert status == 2
    assert out == ""
    assert message in err
    assert err.startswith("headviz: ")
    assert err.count("\n") == 1 and err.endswith("\n")


def test_a_disk_without_room_costs_a_notice_and_not_the_result(assets, command, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    status, out, err = command(*COLORS, "--json")
    assert status == 0
    assert json.loads(out)["n_heads"] == 12
    assert err.startswith("headviz: The result was not kept in the cache")
    assert err.count("\n") == 1


def test_a_damaged_cache_costs_nothing(assets, answer, tmp_path):
    fresh = answer(*COLORS)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:-5])
    assert answer(*COLORS) == fresh


# As a process of its own.


def process(repo, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "headviz", *arguments],
        cwd=repo,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_process_ends_with_status_2_and_one_line(repo, llama):
    done = process(repo, "spectrum", "--model", llama.name, "--head", "L9.H9", "--probes", __file__)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("headviz: There is no head L9.H9")
    assert done.stderr.count("\n") == 1


def test_a_hub_that_cannot_be_reached_is_said_at_once(repo):
    begun = time.monotonic()
    done = process(
        repo,
        *("rank", "--model", "someone/some-model", "--words", "red"),
        HF_HUB_OFFLINE="0",
        TRANSFORMERS_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9",  # nothing listens there
    )
    assert done.returncode == 2
    assert "the hub cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - begun < 60
