"""Recipes, baking and files on the command line."""

import json
from functools import partial

import pytest

from headviz.__main__ import main
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept
from headviz.session.open_model import open_model
from headviz.session.session import Session

pytest_plugins = ["loaded"]

PROMPT = ("--prompt", "the cat is", "--max-new-tokens", "4", "--json")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`command("rank", …)` runs it with a cache of its own: (status, stdout, stderr)."""
    monkeypatch.setattr("headviz.__main__.Session", partial(Session, Store(tmp_path / "cache")))

    def run(*arguments):
        status = main([str(a) for a in arguments])
        return status, *capsys.readouterr()

    return run


def test_rank_writes_scores_signals_and_a_recipe_of_the_top_heads(assets, command, tmp_path):
    out = {name: tmp_path / name for name in ("s.csv", "a.safetensors", "r.json")}
    status, _, err = command(
        *("rank", "--model", "toy", "--concept", "colors", "--top", "2", "--factor", "0.5"),
        *("--out", out["s.csv"], "--activations", out["a.safetensors"]),
        *("--recipe", out["r.json"], "--order", "raw"),
    )
    assert (status, err) == (0, "")
    rows = out["s.csv"].read_text().splitlines()
    assert len(rows) == 1 + 12
    recipe = Recipe.load(out["r.json"])
    assert [str(head) for head in recipe.edit.factors] == [r.split(",")[1] for r in rows[1:3]]
    assert {*recipe.edit.factors.values()} == {0.5}
    assert recipe.concept.name == "colors"
    assert out["a.safetensors"].stat().st_size > 1000


def test_no_recipe_is_written_of_heads_that_may_be_at_chance(assets, command, tmp_path):
    """The toy model's heads say nothing of colors."""
    path = tmp_path / "r.json"
    status, _, err = command("rank", "--model", "toy", "--concept", "colors", "--recipe", path)
    assert status == 2 and "None of the first 10 heads is surely above chance" in err
    assert not path.exists()


def test_generate_follows_a_recipe_as_it_follows_the_edit_written_out(assets, command, tmp_path):
    words = make_concept("my words", ["red"])
    edit = Edit({Head(0, 1): -1.0, Head(1, 2): 5.0}, "generated")
    path = Recipe("toy", "", edit, words).save(tmp_path / "r.json")
    status, by_recipe, err = command("generate", "--edit", path, *PROMPT)
    assert (status, err) == (0, "")
    written = ("--edit", "L0.H1=-1,L1.H2=5", "--where", "generated", "--words", "red")
    status, by_hand, err = command("generate", "--model", "toy", *written, *PROMPT)
    assert (status, err) == (0, "")
    assert json.loads(by_recipe) == json.loads(by_hand)
    assert json.loads(by_recipe)["where"] == "generated"


def test_generate_and_spectrum_write_tables(assets, command, tmp_path):
    for name in ("g.csv", "g.json"):
        path = tmp_path / name
        given = ("--model", "toy", "--edit", "L0.H1=0", "--out", path)
        assert command("generate", *given, *PROMPT)[0] == 0
        assert "original" in path.read_text()
    path = tmp_path / "s.csv"
    assert command("spectrum", "--model", "toy", "--head", "L0.H1", "--out", path)[0] == 0
    assert path.read_text().startswith("step,token,weight,explained")


def test_a_recipe_of_another_revision_is_followed_with_a_warning(assets, command, tmp_path):
    path = Recipe("toy", "0123", Edit({Head(0, 1): -1.0})).save(tmp_path / "r.json")
    status, _, err = command("generate", "--edit", path, *PROMPT)
    assert status == 0
    assert "made for revision 0123 of toy" in err


def test_bake_writes_what_a_recipe_or_a_text_says(assets, command, tmp_path):
    edit = Edit({Head(0, 1): -1.0})
    path = Recipe("toy", "", edit).save(tmp_path / "r.json")
    status, out, err = command("bake", "--edit", path, "--out", tmp_path / "a", "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert (result["model"], result["edit"]) == ("toy", "L0.H1=-1")
    status, _, _ = command("bake", "--model", "toy", "--edit", edit, "--out", tmp_path / "b")
    assert status == 0
    first, second = (open_model(str(tmp_path / name), device="cpu") for name in ("a", "b"))
    assert first.revision == second.revision
    assert result["bytes"] == sum(p.stat().st_size for p in (tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bake", "--edit", "gone.json", "--out", "x"), "The recipe gone.json cannot be read"),
        (("bake", "--model", "toy", "--edit", "L9.H0=1.5", "--out", "x"), "no head L9.H0"),
        (("bake", "--model", "toy", "--edit", "L0.H0=x", "--out", "x"), "is no factor"),
        (("bake", "--model", "toy", "--edit", "", "--out", "x"), "nothing to bake"),
        (("bake", "--edit", "{wide}", "--out", "x"), "no head L0.H77"),
        (("bake", "--edit", "{placed}", "--out", "x"), "holds only in places (prompt)"),
        (("generate", "--edit", "{placed}", "--where", "image", "--prompt", "a"), "leave --where"),
        (("rank", "--model", "toy", "--concept", "colors", "--out", "x.txt"), "should end with"),
        (("rank", "--concept", "colors", "--recipe", "x.csv"), "should end with .json"),
        (("spectrum", "--model", "toy", "--head", "L0.H0", "--out", "x"), "should end with"),
        (("generate", "--prompt", "a", "--out", "x.safetensors"), "should end with .csv or .json"),
    ],
)
def test_bad_edits_and_files_are_refused_in_one_sentence(
    assets, command, tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    wide = Recipe("toy", "", Edit({Head(0, 77): 0.0})).save(tmp_path / "wide.json")
    placed = Recipe("toy", "", Edit({Head(0, 1): 0.0}, "prompt")).save(tmp_path / "placed.json")
    given = [a.format(wide=wide, placed=placed) for a in arguments]
    status, out, err = command(*given)
    assert (status, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
