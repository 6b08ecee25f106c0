"""Recipes: what is saved comes back, and whatever is wrong ends in one sentence."""

import json
import zlib
from base64 import urlsafe_b64encode
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from headviz.base.errors import ConceptError, HeadvizError, OptionError, RecipeError
from headviz.base.head import Head
from headviz.editing.compare import CompareRequest, compare, last_of
from headviz.editing.generate import Sampling, usual_stop
from headviz.editing.recipe import MAX_BYTES, Recipe, Scored, Trial, check_fit
from headviz.editing.recipe_schema import FORMAT, schema
from headviz.heads.edits import WHERE, Edit
from headviz.inputs.concepts import PIECES, find_concept, make_concept
from headviz.pursuit.options import Options

pytest_plugins = ["loaded"]

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
WORDS_COUNTED = ("red", "blue", "cat")
HEADS = st.tuples(st.integers(0, 999), st.integers(0, 999), st.floats(-1000, 1000))
DATA = st.fixed_dictionaries(
    {
        "format": st.just(FORMAT),
        "model": WORDS,
        "revision": st.text("0123456789abcdef", max_size=12),
        "where": st.sampled_from([*WHERE]),
        "heads": st.lists(HEADS, max_size=12, unique_by=lambda head: head[:2]).map(
            lambda heads: [{"head": f"L{a}.H{b}", "factor": factor} for a, b, factor in heads]
        ),
    },
    optional={
        "concept": st.fixed_dictionaries(
            {"name": WORDS, "words": st.lists(WORDS.map(str.strip), min_size=1, unique=True)}
        ),
        "criterion": st.just("somp"),
        "options": st.just(Options(steps=7, pooling="last").as_dict()),
        "prompt_set": st.just("abc"),
    },
)


@pytest.fixture
def ranking(session, llama, texts):
    return session.rank(llama.name, make_concept("colors", ["red", "blue", "umpteen"]), texts)


def plain(**changes):
    """A recipe's data, with these entries put in; None takes one out."""
    data = Recipe("toy", "abc", Edit({Head(0, 1): -1.0, Head(1, 2): 0.5})).as_dict()
    return {k: v for k, v in {**data, **changes}.items() if v is not None}


@given(DATA)
def test_a_recipe_comes_back_from_its_file_and_from_its_link(data):
    recipe = Recipe.from_dict(data)
    assert recipe.as_dict() == data
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_link(recipe.to_link()) == recipe


def test_the_schema_is_one_and_names_what_the_program_knows():
    Draft202012Validator.check_schema(schema())
    known = schema()["properties"]
    assert known["where"]["enum"] == [*WHERE]
    assert known["options"]["properties"].keys() == {f.name for f in fields(Options)}
    assert known["options"]["properties"]["pieces"]["enum"] == [*PIECES]


def test_a_ranking_s_recipe_holds_all_that_the_edit_came_from(ranking, tmp_path):
    heads = ranking.heads[:2]
    assert ranking.heads[0].score > 0
    recipe = Recipe.of(Edit.of([h.head for h in heads], -1, "prompt"), ranking)
    assert Recipe.load(recipe.save(tmp_path / "r.json")) == recipe
    assert (recipe.model, recipe.revision) == (ranking.model, ranking.revision)
    assert (recipe.criterion, recipe.options) == (ranking.criterion, ranking.options)
    assert recipe.prompt_set == ranking.prompt_set
    assert recipe.concept.words == ("red", "blue", "umpteen")
    Draft202012Validator(schema()).validate(recipe.as_dict())
    for h in heads:
        assert recipe.scores[h.head].score == pytest.approx(h.score, abs=1e-4)
        assert recipe.scores[h.head].chance == pytest.approx(h.chance, abs=1e-4)


def test_a_preset_comes_back_as_the_preset(ranking):
    recipe = Recipe("toy", "", Edit(), find_concept("colors"))
    assert Recipe.from_link(recipe.to_link()).concept == find_concept("colors")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ([], "no recipe of headviz"),
        ({}, "no recipe of headviz"),
        (plain(format="package.json"), "no recipe of headviz"),
        (plain(format="headviz-recipe-2"), "'headviz-recipe-2' and this headviz reads"),
        (plain(model=None), "'model' is a required property"),
        (plain(model=""), "wrong at model"),
        (plain(where="sideways"), "'sideways' is not one of"),
        (plain(heads={}), "wrong at heads"),
        (plain(heads=[{"head": "H3", "factor": 1}]), "wrong at heads[0].head"),
        (plain(heads=[{"head": "L0.H1", "factor": "x"}]), "'x' is not of type 'number'"),
        (plain(heads=[{"head": "L0.H1", "factor": 1e9}]), "greater than the maximum"),
        (plain(heads=[{"head": "L0.H1", "factor": 1}] * 2), "names head L0.H1 twice"),
        (plain(extra=1), "'extra' was unexpected"),
        (plain(options={"steps": 0}), "wrong at options.steps"),
        (plain(concept={"name": "x", "words": []}), "wrong at concept.words"),
        (plain(concept={"name": "x", "words": [" "]}), "no words"),
        (plain(model="\ud800"), "not valid Unicode"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_sentence(data, sentence):
    with pytest.raises((RecipeError, ConceptError)) as refused:
        Recipe.from_json(json.dumps(data))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "{", "no", b"\xff\xfe{", "[" * 100_000, json.dumps(plain())[:-9], "NaN"]
)
def test_what_is_not_json_is_no_recipe(text):
    with pytest.raises(RecipeError, match="not JSON"):
        Recipe.from_json(text)


def test_a_file_that_is_missing_or_huge_is_refused_by_its_name(tmp_path):
    with pytest.raises(RecipeError, match=r"gone.json cannot be read \(No such file"):
        Recipe.load(tmp_path / "gone.json")
    (tmp_path / "big.json").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="too large"):
        Recipe.load(tmp_path / "big.json")
    with pytest.raises(RecipeError, match="cannot be written"):
        Recipe("toy", "", Edit()).save(tmp_path / "gone" / "r.json")


def packed(text):
    return urlsafe_b64encode(zlib.compress(text)).decode().rstrip("=")


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "cut off"),
        ("no link", "cut off"),
        ("abcd", "cut off"),
        (Recipe("toy", "abc", Edit()).to_link()[:-8], "cut off"),
        ("A" * 10_000, "cut off"),
        (packed(b"0" * (MAX_BYTES + 9)), "cut off"),
        (packed(b"not json"), "not JSON"),
        (packed(b'{"a": 1}'), "no recipe of headviz"),
    ],
)
def test_a_wrong_link_is_refused_in_one_sentence(token, sentence):
    with pytest.raises(RecipeError, match=sentence):
        Recipe.from_link(token)


def test_a_recipe_too_long_for_a_link_says_to_save_it():
    words = [f"word{n * 7919 % 100_003}" for n in range(2000)]
    with pytest.raises(RecipeError, match="save it as a file"):
        Recipe("toy", "", Edit(), make_concept("many", words)).to_link()


def test_a_recipe_of_another_model_or_revision_is_told_so(llama, load):
    edit = Edit({Head(0, 1): -1.0})
    own = Recipe(llama.name, llama.revision, edit, scores={Head(0, 1): Scored(0.5, 0.1)})
    assert check_fit(own, llama) is None
    assert check_fit(replace(own, revision=""), llama) is None
    assert own.on(llama) == own
    older = replace(own, revision="0123")
    assert "revision 0123" in check_fit(older, llama)
    other = load("qwen2")
    assert f"made for {llama.name}" in check_fit(own, other)
    moved = own.on(other)
    assert (moved.model, moved.revision, moved.edit) == (other.name, other.revision, edit)
    assert moved.scores == {}


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Edit({Head(9, 0): 0.0}), "There is no head L9.H0"),
        (Edit({Head(0, 0): 0.0}, "image"), "reads no pictures"),
    ],
)
def test_a_recipe_that_a_model_cannot_follow_is_refused(llama, edit, sentence):
    with pytest.raises(OptionError, match=sentence):
        check_fit(Recipe(llama.name, llama.revision, edit), llama)


def test_all_refusals_are_shown_to_a_person():
    assert issubclass(RecipeError, HeadvizError)


def test_what_an_edit_was_tried_on_comes_back(llama):
    edit = Edit.of([Head(0, 1)], -1)
    asked = CompareRequest("the cat is red", edit, WORDS_COUNTED, sampling=Sampling(6))
    trial = Trial.of(last_of(compare(llama, asked)), asked.sampling, asked.control_seed)
    concept = make_concept("mine", WORDS_COUNTED)
    recipe = Recipe(llama.name, llama.revision, edit, concept, trial=trial)
    again = Recipe.from_json(recipe.to_json())
    close = [replace(c, perplexity=round(c.perplexity, 4)) for c in trial.texts]
    assert again.trial == replace(trial, texts=tuple(close))
    assert again.trial.comparison().columns[0].text == trial.texts[0].text
    assert again.on(llama).trial == again.trial
    assert replace(again, revision="other").on(llama).trial.comparison() is None


def test_an_answer_ends_before_its_stop(llama):
    prompt = "Question: what color is the dog? Answer:"
    assert usual_stop(prompt) == "Question:" and usual_stop("the dog was") == ""
    whole = last_of(compare(llama, CompareRequest("the dog", Edit(), sampling=Sampling(12))))
    text = whole.columns[0].text
    stop = text[len(text) // 2 :][:4]
    sampling = Sampling(12, stop=stop)
    cut = last_of(compare(llama, CompareRequest("the dog", Edit(), sampling=sampling)))
    assert cut.columns[0].text == text.partition(stop)[0].rstrip()
    assert len(cut.columns[0].ids) < len(whole.columns[0].ids)
