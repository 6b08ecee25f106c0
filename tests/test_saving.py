"""Results as files: what is read back is what was saved, and no spreadsheet runs a token."""

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import headviz
from headviz.base.errors import OptionError, SaveError
from headviz.base.head import Head
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import make_concept
from headviz.pursuit.spectrum import Atom
from headviz.session.save import check_files, save, to_bytes
from headviz.session.tables import Table

pytest_plugins = ["loaded"]


def rows_of(content):
    """A CSV file's rows by column."""
    return [*csv.DictReader(io.StringIO(content.decode(), newline=""))]


@pytest.fixture
def ranking(session, llama, texts):
    return session.rank(llama.name, make_concept("colors", ["red", "blue", "green"]), texts)


@pytest.fixture
def spectrum(session, llama, texts):
    return session.spectrum(llama.name, Head(1, 2), texts, 4)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_a_csv_reads_back_as_it_was_but_for_the_apostrophe_before_a_formula(cells):
    table = Table(tuple(f"c{n}" for n in range(len(cells))), (tuple(cells), tuple(cells)))
    _, *rows = csv.reader(io.StringIO(table.to_csv(), newline=""))
    assert rows[0] == rows[1]
    for found, cell in zip(rows[0], cells, strict=True):
        assert found in (cell, f"'{cell}")
        assert found.lstrip()[:1] not in ("=", "+", "-", "@")
        assert found[:1] not in ("\t", "\r", "\n")


@pytest.mark.promise(
    "No cell of a saved table is a formula",
    "everyone",
    without={
        "headviz/session/tables.py": (
            'return f"\'{cell}" if cell and begins',
            "return cell if begins",
        )
    },
)
@pytest.mark.parametrize("token", ["=1+1", " =cmd|'/c calc'!A0", "+1", "-1", "@SUM(1)", "\t=1"])
def test_a_token_that_a_spreadsheet_would_run_is_disarmed_in_the_spectrum(spectrum, token):
    changed = replace(spectrum, atoms=(Atom(token, -0.5, 0.1),))
    (row,) = rows_of(to_bytes(changed, "csv"))
    assert row["token"] == f"'{token}"
    assert float(row["weight"]) == -0.5


def test_a_ranking_is_saved_whole_in_every_form(ranking, tmp_path):
    heads = ranking.heads
    rows = rows_of(save(ranking, tmp_path / "r.csv").read_bytes())
    assert [row["head"] for row in rows] == [str(h.head) for h in heads]
    assert [float(row["score"]) for row in rows] == [h.score for h in heads]
    assert [int(row["worst_rank"]) for row in rows] == [h.worst_rank for h in heads]
    assert json.loads(save(ranking, tmp_path / "r.json").read_bytes()) == ranking.as_dict()
    with safe_open(save(ranking, tmp_path / "r.safetensors"), "pt") as file:
        assert file.get_tensor("scores").equal(ranking.scores)
        assert file.get_tensor("chance").equal(ranking.chance)
        assert file.get_tensor("best_rank").equal(ranking.spread.best_rank)
        assert file.metadata()["format"] == "headviz-scores-1"
        about = json.loads(file.metadata()["about"])
    assert (about["revision"], about["words"]) == (ranking.revision, ["red", "blue", "green"])


def test_activations_are_saved_with_what_they_were_read_on(session, llama, texts, tmp_path):
    activations = session.activations(llama.name, texts)
    with safe_open(save(activations, tmp_path / "a.safetensors"), "pt") as file:
        assert file.get_tensor("z").equal(activations.z)
        about = json.loads(file.metadata()["about"])
    assert about["texts"] == list(texts.texts)
    assert (about["pooling"], about["revision"]) == ("prompt", llama.revision)


def test_a_spectrum_and_a_comparison_are_saved(spectrum, llama, tmp_path, monkeypatch, session):
    rows = rows_of(save(spectrum, tmp_path / "s.csv").read_bytes())
    assert [row["token"].removeprefix("'") for row in rows] == [a.token for a in spectrum.atoms]
    assert json.loads(save(spectrum, tmp_path / "s.json").read_bytes())["head"] == "L1.H2"
    monkeypatch.setattr(headviz, "default_session", lambda: session)
    edit = Edit({Head(0, 1): -1.0})
    result = headviz.compare(llama.name, "the cat is", edit, ["red"], Sampling(4))
    rows = rows_of(save(result, tmp_path / "c.csv").read_bytes())
    assert [row["column"] for row in rows] == ["original", "edited", "control"]
    assert [row["text"].lstrip("'") for row in rows] == [c.text.lstrip("'") for c in result.columns]
    assert float(rows[1]["perplexity"]) == result.columns[1].perplexity
    assert json.loads(save(result, tmp_path / "c.json").read_bytes()) == result.as_dict()


def test_the_api_reads_own_texts_and_bakes(session, llama, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(headviz, "default_session", lambda: session)
    ranking = headviz.rank(llama.name, ["red", "blue"], prompt_set=texts)
    assert ranking.prompt_set == texts.digest
    read = headviz.activations(llama.name, prompt_set=texts)
    assert read.z.equal(session.activations(llama.name, texts).z)
    recipe = Recipe.of(Edit.of(ranking.top(2), -1), ranking)
    for name, edit in (("a", recipe), ("b", recipe.edit)):
        done = headviz.bake(llama.name, edit, tmp_path / name)
        assert (done.folder / "model.safetensors").is_file()
    assert torch.equal(ranking.scores, headviz.rank(llama.name, ["red", "blue"], texts).scores)


def test_a_form_that_there_is_not_is_refused_before_anything_is_computed(spectrum, tmp_path):
    with pytest.raises(OptionError, match=r"A Spectrum is saved as .csv or .json, not as 'txt'"):
        save(spectrum, tmp_path / "s.txt")
    with pytest.raises(OptionError, match=r"'s' should end with .csv or .json"):
        check_files({type(spectrum): tmp_path / "s"})
    check_files({type(spectrum): None})


def test_a_file_that_cannot_be_written_is_one_sentence_and_the_old_one_stays(spectrum, tmp_path):
    folder = tmp_path / "files"
    with pytest.raises(SaveError, match=r"s.csv cannot be written \(No such file"):
        save(spectrum, folder / "s.csv")
    (folder / "s.csv").mkdir(parents=True)
    with pytest.raises(SaveError, match="cannot be written"):
        save(spectrum, folder / "s.csv")
    assert [p.name for p in folder.iterdir()] == ["s.csv"]
