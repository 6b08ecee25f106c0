"""What ships with a built-in model is what a fresh run gives, or it is not shown."""

import json
import shutil
from dataclasses import asdict, astuple, replace

import pytest
import torch

from headviz.base.assets import ASSETS
from headviz.base.errors import ModelError
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.compare import Column, CompareRequest, compare, last_of
from headviz.editing.measures import concept_spans
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.edits import NO_EDIT, Edit
from headviz.inputs.concepts import known_concepts, make_concept
from headviz.inputs.examples import examples_of, named_pictures
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.models.known import known_models
from headviz.page.choose import shipped_scene
from headviz.page.model_handlers import concept_words
from headviz.page.view import first_view
from headviz.session import causal
from headviz.session.causal import (
    ROUNDS,
    SAID,
    Causes,
    chat_of,
    heads_that_matter,
    usual_texts,
)
from headviz.session.session import Session
from headviz.session.ship import EXAMPLES, choose_captions, ship, ship_answers
from headviz.session.shipped import (
    SPECTRUM_STEPS,
    clearest,
    is_clear,
    load_said,
    load_shipped,
    usual_edit,
)

pytest_plugins = ["loaded"]

ROUNDING = 1e-4


def check_ranking(shipped, fresh):
    assert (shipped.scores - fresh.scores).abs().max() <= ROUNDING
    assert (shipped.chance - fresh.chance).abs().max() <= ROUNDING
    assert shipped.tokens == fresh.tokens
    assert shipped.top(1) == fresh.top(1)
    plain, other = shipped.as_dict(), fresh.as_dict()
    assert {**plain, "heads": None} == {**other, "heads": None}


@pytest.fixture
def shipped(assets, session):
    ship(session, "toy")
    return load_shipped("toy")


def test_a_shipped_ranking_is_a_fresh_one(shipped, session, texts):
    assert shipped.concepts == tuple(known_concepts())
    for name, concept in known_concepts().items():
        check_ranking(shipped.ranking(name), session.rank("toy", concept, texts))


def test_a_shipped_spectrum_is_a_fresh_one(shipped, session, texts):
    for head in (Head(0, 0), Head(2, 3)):
        kept = shipped.spectrum(head)
        fresh = session.spectrum("toy", head, texts, SPECTRUM_STEPS)
        assert [a.token for a in kept.atoms] == [a.token for a in fresh.atoms]
        assert [s.text for s in kept.samples] == [s.text for s in fresh.samples]
        assert [t.token for t in kept.lens] == [t.token for t in fresh.lens]
        for field, number in (("atoms", "weight"), ("atoms", "explained"), ("samples", "share")):
            pairs = zip(getattr(kept, field), getattr(fresh, field), strict=True)
            assert all(abs(getattr(a, number) - getattr(b, number)) <= ROUNDING for a, b in pairs)
        assert (kept.model, kept.head, kept.options) == (fresh.model, fresh.head, fresh.options)
        assert kept.n_samples == fresh.n_samples


def test_shipped_effects_are_fresh_ones(shipped, session):
    causes = Causes(session)
    said = [name for name in shipped.concepts if shipped.effects(name) is not None]
    assert said and {*said} <= {*EXAMPLES}
    kept, concept = shipped.effects(said[0]), known_concepts()[said[0]]
    texts = causes.prompt_set("toy", kept.texts)
    fresh = causes.estimate("toy", concept, texts)
    torch.testing.assert_close(kept.estimate, fresh, rtol=0, atol=ROUNDING)
    assert {*heads_that_matter(shipped.ranking(said[0]), fresh)} == {*kept.measured}
    head = next(iter(kept.measured))
    ((_, effect),) = causes.effects("toy", concept, texts, [head])
    assert astuple(kept.measured[head]) == pytest.approx(astuple(effect), abs=ROUNDING)


def test_what_was_made_from_other_weights_is_not_shown(shipped, assets):
    weights = assets / "toy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_shipped("toy") is None


def test_nothing_ships_with_another_model(assets, tiny_model_folder):
    assert load_shipped("toy") is None
    assert load_shipped(str(tiny_model_folder("llama"))) is None


def test_a_concept_without_a_token_of_the_model_does_not_ship(assets, session):
    (assets / "concepts" / "zebras.txt").write_text("Zebras\nzebras\numpteen\n")
    ship(session, "toy")
    assert load_shipped("toy").concepts == ("colors", "numbers")


def test_presets_of_too_few_words_are_named_as_left_out(assets, session):
    (assets / "concepts" / "zebras.txt").write_text("Zebras\nred\numpteen\n")
    ship(session, "toy")
    assert load_shipped("toy").left_out == {"zebras": "1 of its 2 words are single tokens"}


def test_examples_are_the_first_whose_answer_says_a_word(assets, session, texts):
    shutil.rmtree(assets / "toy" / "prompt_sets")
    rows = [{"prompt": text, "concept": "colors"} for text in texts.texts]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("questions", "descriptions"):
        (assets / "prompt_sets" / f"{name}.jsonl").write_text(lines)
    model = session.model("toy")
    said = [last_of(compare(model, CompareRequest(t, NO_EDIT, control=False))) for t in texts.texts]
    word = next(w for c in said for w in c.columns[0].text.split() if w.isalpha())
    (assets / "concepts" / "colors.txt").write_text(f"Colors\n{word}\nred\nblue\n")
    words = known_concepts()["colors"].words
    fitting = [c.prompt for c in said if concept_spans(c.columns[0].text, words)]
    ship(session, "toy")
    examples = examples_of("toy")
    assert [e.prompt for e in examples if e.kind == "question"] == fitting[:2]
    assert [e.prompt for e in examples if e.kind == "story"] == fitting[:1]
    answers = load_shipped("toy").answers("colors")
    assert [a.trial.prompt for a in answers] == [e.prompt for e in examples]


def test_a_shipped_answer_is_a_fresh_one(assets, session, texts):
    examples = [{"prompt": "the cat is", "concept": "colors"}]
    (assets / "toy" / "examples.json").write_text(json.dumps(examples))
    ship(session, "toy")
    shipped = load_shipped("toy")
    (kept,) = shipped.answers("colors")
    ranking = session.rank("toy", known_concepts()["colors"], texts)
    assert kept.edit == usual_edit(ranking)
    asked = CompareRequest("the cat is", kept.edit, ranking.words)
    fresh = last_of(session.compare("toy", asked)).columns
    for column, other in zip(kept.trial.texts, fresh, strict=True):
        assert column.perplexity == pytest.approx(other.perplexity, abs=ROUNDING)
        assert replace(column, perplexity=None) == replace(other, ids=(), perplexity=None)
    assert shipped.answer("numbers") is None


def test_results_show_before_the_weights_are_here(assets, session):
    path = ship(session, "toy")
    row = {"name": "far", "title": "Far", "kind": "language", "licence": "MIT", "layers": 3}
    package = {"requirement": "far==1", "file": "far.gguf", "n_bytes": 1, "wheel_bytes": 1}
    row |= {"heads": 4, "parameters": 1, "n_bytes": 1, "package": package | {"sha256": "ab" * 32}}
    (assets / "models.json").write_text(json.dumps([row]))
    (assets / "far").mkdir()
    data = json.loads(path.read_text()) | {"model": "far", "revision": "ab" * 6}
    (assets / "far" / "shipped.json").write_text(json.dumps(data))
    assert load_shipped("far").ranking("colors").model == "far"
    (assets / "far" / "shipped.json").write_text(json.dumps(data | {"revision": "ac" * 6}))
    assert load_shipped("far") is None


def test_only_a_model_known_by_name_ships(assets, session, tiny_model_folder):
    with pytest.raises(ModelError, match=r"Nothing ships with .*\. Known by name: toy\."):
        ship(session, str(tiny_model_folder("llama")))


def test_shipping_twice_writes_the_same_file(assets, session, tmp_path):
    first = ship(session, "toy").read_bytes()
    shutil.rmtree(tmp_path / "cache")
    again = ship(Session(Store(tmp_path / "other"), device="cpu"), "toy").read_bytes()
    assert json.loads(again) == json.loads(first)


@pytest.mark.skipif(
    not (ASSETS / "tiny-lm" / "shipped.json").is_file(), reason="assets/tiny-lm is not here yet"
)
def test_what_ships_with_tiny_lm_is_what_it_gives(tmp_path):
    shipped = load_shipped("tiny-lm")
    assert shipped is not None, "made from other weights: run python -m headviz ship"
    session = Session(Store(tmp_path), device="cpu")
    prompt_set = find_prompt_set(None, "tiny-lm")
    assert shipped.data["prompt_set_digest"] == prompt_set.digest
    for name in shipped.concepts:
        fresh = session.rank("tiny-lm", known_concepts()[name], prompt_set)
        kept = shipped.ranking(name)
        torch.testing.assert_close(kept.scores, fresh.scores, rtol=0, atol=2 * ROUNDING)
        torch.testing.assert_close(kept.chance, fresh.chance, rtol=0, atol=2 * ROUNDING)
        assert kept.tokens == fresh.tokens


REAL = "smollm2-135m"  # its weights are not here: tests have a cache of their own


def test_what_ships_with_the_real_model_loads_without_its_weights():
    assert not known_models()[REAL].is_here
    shipped = load_shipped(REAL)
    assert shipped is not None, f"not made yet: run python -m headviz ship --model {REAL}"
    # A preset added since then is ranked when it is asked for.
    assert {*shipped.concepts} | {*shipped.left_out} <= {*known_concepts()}
    assert not {*shipped.concepts} & {*shipped.left_out}
    prompt_set = find_prompt_set(None, REAL)
    assert shipped.data["prompt_set_digest"] == prompt_set.digest
    assert shipped.data["texts"] == list(prompt_set.texts)
    row = known_models()[REAL]
    heads = [Head(layer, index) for layer in range(row.layers) for index in range(row.heads)]
    for head in heads:
        assert len(shipped.spectrum(head).atoms) == SPECTRUM_STEPS
    for name in shipped.concepts:
        ranking = shipped.ranking(name)
        assert ranking.tokens.concept == known_concepts()[name] and len(ranking.tokens.kept) >= 2
        assert sorted(ranking.top(len(heads))) == heads


SEES = "tiny-vlm"


def test_what_ships_with_tiny_vlm_shows_answers_on_pictures_of_its_own():
    shipped = load_shipped(SEES)
    assert shipped is not None, (
        f"made from other weights: run python -m headviz ship --model {SEES}"
    )
    examples = examples_of(SEES)
    assert {e.concept for e in examples} == {*shipped.concepts}
    for name in shipped.concepts:
        answers = shipped.answers(name)
        pictures = [(e.picture,) for e in examples if e.concept == name]
        assert [answer.trial.pictures for answer in answers] == pictures
        for answer in answers:
            assert len(named_pictures(SEES, answer.trial.pictures)) == 1
            assert answer.edit == usual_edit(shipped.ranking(name))
            original, edited, control = answer.trial.texts
            assert original.concept_words and control.edit != edited.edit == str(answer.edit)
    assert is_clear(shipped.answer(shipped.first_concept))


def test_what_tiny_vlm_ships_on_a_picture_is_what_it_says_of_it(tmp_path):
    session, shipped = Session(Store(tmp_path), device="cpu"), load_shipped(SEES)
    model, concept = session.model(SEES), shipped.first_concept
    examples = choose_captions(model, [known_concepts()[concept]])
    assert examples == tuple(e for e in examples_of(SEES) if e.concept == concept)
    kept = shipped.answer(concept)
    seen = named_pictures(SEES, kept.trial.pictures)
    asked = CompareRequest(kept.trial.prompt, kept.edit, kept.concept.words, pictures=seen)
    fresh = last_of(session.compare(SEES, asked)).columns
    assert [column.text for column in fresh] == [column.text for column in kept.trial.texts]


def test_answers_alone_are_made_anew_and_nothing_else(assets, session, texts):
    examples = [{"prompt": "the cat is", "concept": "colors"}]
    with pytest.raises(ModelError, match=r"No ranking ships with 'toy'\."):
        ship_answers(session, "toy")
    path = ship(session, "toy")
    before = json.loads(path.read_text())
    (assets / "toy" / "examples.json").write_text(json.dumps(examples))
    ship_answers(session, "toy")
    after = json.loads(path.read_text())
    assert [a["trial"]["prompt"] for a in after["answers"]["colors"]] == ["the cat is"]
    assert {**after, "answers": None} == {**before, "answers": None}


def test_what_ships_with_the_real_model_is_small():
    files = [path for path in (ASSETS / REAL).rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 10 * 2**20


def test_what_ships_with_the_real_model_answers_every_example():
    shipped = load_shipped(REAL)
    examples = examples_of(REAL)
    assert {e.concept for e in examples} == set(EXAMPLES)
    for name in EXAMPLES:
        about = [e.prompt for e in examples if e.concept == name]
        answers = shipped.answers(name)
        assert [a.trial.prompt for a in answers] == about
        for answer in answers:
            assert answer.edit == usual_edit(shipped.ranking(name))
            original, edited, control = answer.trial.texts
            assert original.concept_words and control.edit != edited.edit == str(answer.edit)


def answer_of(original, edited, control, prompt="a question"):
    words = make_concept("colors", ["red", "blue", "green"])
    texts = zip(("original", "edited", "control"), (original, edited, control), strict=True)
    columns = tuple(Column(name, "", text) for name, text in texts)
    return Recipe("toy", "", Edit(), words, trial=Trial(prompt, texts=columns))


@pytest.mark.parametrize(
    ("original", "edited", "control", "clear"),
    [
        ("It is red.", "It is small.", "It is red.", True),
        ("It is red.", "It is blue.", "a red one", True),
        ("It is red.", "It is red!", "It is red.", False),
        ("It is red.", "It is small.", "It is blue.", False),
        ("It is small.", "It is big.", "It is small.", False),
        ("red or blue", "small", "red", False),
    ],
)
def test_an_answer_is_clear_where_only_the_edit_takes_the_words_away(
    original, edited, control, clear
):
    assert is_clear(answer_of(original, edited, control)) is clear


def test_of_clear_answers_the_page_opens_on_the_one_whose_control_is_most_like_the_original():
    loose = answer_of("It is red.", "It is big.", "It is red, the house on the hill.")
    close = answer_of("It is red.", "It is big.", "It is red.")
    unclear = answer_of("It is red.", "It is red.", "It is red.")
    assert clearest([unclear, loose, close]) is close
    assert clearest([unclear]) is clearest([]) is None


def test_the_real_model_opens_on_a_clear_example():
    shipped = load_shipped("smollm2-135m")
    found = shipped.answer(shipped.first_concept)
    assert is_clear(found)
    assert load_shipped("tiny-lm").first_concept == "colors"


@pytest.mark.parametrize(
    ("model", "concept", "opens_on"),
    [
        ("smol-vlm", "countries", "colors"),  # it ships, and no picture shows a country
        ("smol-vlm", "shapes", "shapes"),
        ("tiny-vlm", "animals", "colors"),
        ("tiny-lm", "cities", "cities"),
    ],
)
def test_another_model_keeps_the_concept_where_it_has_something_to_say(model, concept, opens_on):
    scene = shipped_scene(model, concept_words(concept))
    assert (scene.view.model, scene.view.concept.name) == (model, opens_on)


# What the model said, on which effects are measured.

ABOUT = {"model": "toy", "revision": "ab" * 6, "rounds": 1}


def test_words_that_ship_are_those_of_that_model_on_those_texts_alone(assets):
    (assets / "toy" / "said.json").write_text(json.dumps({**ABOUT, "ids": [[[1, 2], []]]}))
    assert load_said("toy", ABOUT) == [[[1, 2], []]]
    for name, other in (("model", "other"), ("revision", "ac" * 6), ("rounds", 2)):
        assert load_said("toy", {**ABOUT, name: other}) is None
    assert load_said("nobody", ABOUT) is None


@pytest.mark.parametrize("name", [REAL, "smol-vlm"])
def test_the_real_models_words_are_those_that_an_effect_is_measured_on(name):
    sees = name.endswith("vlm")
    texts = find_prompt_set(usual_texts(name, sees), name, sees)
    shipped = load_shipped(name)
    assert shipped is not None
    said = json.loads((ASSETS / name / "said.json").read_text())
    ids = said.pop("ids")
    assert said == {
        "model": name,
        "revision": shipped.data["revision"],
        "dtype": "float32",
        "prompt_set": texts.digest,
        "sampling": asdict(SAID),
        "rounds": ROUNDS,
        "chat": asdict(chat_of(texts)),
    }, f"made from something else: run python -m headviz ship --model {name}"
    assert [len(rows) for rows in ids] == [len(texts)] * ROUNDS


def test_captions_that_ship_are_read_with_the_picture_that_they_were_said_of(monkeypatch):
    session = Session()
    whole = session.prompt_set("tiny-vlm")
    few = replace(whole, name="few", texts=whole.texts[:3], pictures=whole.pictures[:3])
    ids = [[[5 + number, 6 + turn] for number in range(3)] for turn in range(ROUNDS)]
    monkeypatch.setattr(causal, "load_said", lambda name, about: ids)
    found = Causes(session).passages("tiny-vlm", few)
    assert [list(one.continuation) for one in found] == [row for rows in ids for row in rows]
    assert [one.prompt.pictures for one in found] == [(p,) for p in few.pictures] * ROUNDS


@pytest.mark.parametrize("name", ["tiny-lm", "tiny-vlm", "smol-vlm", "smollm2-135m"])
def test_what_ships_is_the_first_view_before_any_weight_is_read(name):
    view = first_view(name, "colors")
    assert view is not None and view.shipped
    assert view.has_vision == bool(view.prompt_set.pictures) == name.endswith("vlm")
