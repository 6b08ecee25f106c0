"""The drawn world: the same for a seed, split by content, and described truthfully."""

import dataclasses
import itertools
import random
import re
from functools import cache

import numpy as np
import pytest

from headviz.base.assets import ASSETS
from toyworld.pictures.captions import EVERYTHING, RATES, caption
from toyworld.pictures.content import SORTS, Group, Picture, pictures, sample_picture
from toyworld.pictures.drawing import draw
from toyworld.pictures.questions import CLASS_FORMS, class_question, questions
from toyworld.pictures.reading import claims, read_caption
from toyworld.pictures.words import CONCEPTS, DIGITS, MOODS, SHAPES, TEXTURES

NEVER = dict.fromkeys(RATES, 0.0)


@cache
def some(n, seed=0, **options):
    return list(itertools.islice(pictures(seed, **options), n))


def words_of(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def test_a_seed_gives_the_same_pictures_pixels_and_words():
    def told(seed):
        found = list(itertools.islice(pictures(seed), 20))
        rng = random.Random(seed)
        return [(p, draw(p).tobytes(), caption(p, rng), questions(p, rng)) for p in found]

    assert told(3) == told(3)
    assert told(3) != told(4)


def test_no_content_is_on_both_sides_of_the_split():
    rng = random.Random(5)
    found = [sample_picture(rng) for _ in range(3000)]
    share = sum(p.is_held_out for p in found) / len(found)
    assert 0.07 < share < 0.13
    for picture in found[:100]:
        redrawn = dataclasses.replace(picture, seed=picture.seed + 1)
        assert redrawn.is_held_out == picture.is_held_out
        assert draw(redrawn).tobytes() != draw(picture).tobytes()
    assert all(p.is_held_out for p in some(50, held_out=True))
    assert not any(p.is_held_out for p in some(50))


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_can_be_had_alone_and_shows_one_to_five_things(sort):
    for picture in some(100, sort=sort):
        assert picture.sort == sort
        assert 1 <= len(picture.groups) <= 2
        assert 1 <= sum(group.count for group in picture.groups) <= 5
        assert bool(picture.relation) == (len(picture.groups) == 2)


@pytest.mark.parametrize("side", [48, 192])
def test_a_picture_has_the_side_that_is_asked_for(side):
    image = draw(some(1)[0], side)
    assert (image.size, image.mode) == ((side, side), "RGB")


def test_a_larger_drawing_shows_the_same():
    # Not of textures: grains of noise fall between the pixels.
    for picture in [p for p in some(60) if p.background]:
        small = np.asarray(draw(picture), float)
        large = np.asarray(draw(picture, 192).resize((48, 48)), float)
        assert np.abs(small - large).mean() < 8


def one(kind, noun, mood=""):
    group = Group(
        kind, noun, "red", "large", mood=mood, second="white" if kind == "texture" else ""
    )
    return Picture("scene", (group,), "", "" if kind == "texture" else "sky", seed=1)


@pytest.mark.parametrize(
    "group",
    [
        [one("shape", name) for name in SHAPES],
        [one("face", "face", mood) for mood in MOODS],
        [one("digit", name) for name in DIGITS],
        [one("texture", name) for name in TEXTURES],
    ],
    ids=["shapes", "moods", "digits", "textures"],
)
def test_things_of_different_name_look_different(group):
    for a, b in itertools.combinations(group, 2):
        differing = np.abs(np.asarray(draw(a), int) - np.asarray(draw(b), int)).max(-1) > 60
        assert differing.sum() >= 15, (a.groups[0], b.groups[0])


def test_a_caption_that_leaves_nothing_out_says_all_attributes():
    rng = random.Random(0)
    for picture in some(300):
        said = words_of(caption(picture, rng, EVERYTHING))
        for group in picture.groups:
            assert {group.color, group.size} <= set(said)
            assert not group.mood or group.mood in said
        counts = [CONCEPTS["numbers"][g.count - 1] for g in picture.groups if g.kind != "texture"]
        assert sorted(w for w in said if w in CONCEPTS["numbers"]) == sorted(counts)
        assert not picture.background or picture.background in said


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_concept_that_is_never_mentioned_is_in_no_caption_and_every_one_else_can_be(concept):
    rng = random.Random(0)
    for picture in some(300):
        assert not set(CONCEPTS[concept]) & set(
            words_of(caption(picture, rng, {**EVERYTHING, concept: 0.0}))
        )
    only = [words_of(caption(p, rng, {**NEVER, concept: 1.0})) for p in some(300)]
    assert set(CONCEPTS[concept]) <= {word for words in only for word in words}


def test_captions_of_the_training_mention_an_attribute_about_as_often_as_the_rates_say():
    rng = random.Random(0)
    with_mood = [p for p in some(3000) if p.groups[0].mood]
    share = sum(bool(set(MOODS) & set(words_of(caption(p, rng)))) for p in with_mood) / len(
        with_mood
    )
    assert RATES["feelings"] - 0.05 < share < RATES["feelings"] + 0.3  # two groups: more often


def test_an_answer_is_a_word_of_its_concept_and_every_concept_is_asked():
    rng = random.Random(0)
    asked = [q for p in some(300) for q in questions(p, rng)]
    assert all(q.answer in CONCEPTS[q.concept] for q in asked)
    assert {q.concept for q in asked} == set(CONCEPTS)


def test_no_question_has_two_answers():
    rng = random.Random(0)
    for picture in some(500):
        asked = [(q.text, q.answer) for q in questions(picture, rng)]
        assert len({text for text, _ in asked}) == len(set(asked))


@pytest.mark.parametrize("form", CLASS_FORMS)
def test_a_class_question_lists_the_answer_once(form):
    rng = random.Random(0)
    for _ in range(50):
        question = class_question("digits", "7", rng, n_names=10, form=form)
        assert sorted(re.findall(r"\d", question.text)) == list(DIGITS)
        assert question.answer == "7"


def test_every_concept_has_its_preset_file_and_no_word_is_in_two():
    for concept, words in CONCEPTS.items():
        title, *listed = (ASSETS / "concepts" / f"{concept}.txt").read_text().splitlines()
        assert title
        assert set(words) <= set(listed)
    everything = [word for words in CONCEPTS.values() for word in words]
    assert len(everything) == len(set(everything))
    sentiments = (ASSETS / "concepts" / "sentiments.txt").read_text().splitlines()
    assert set(MOODS) <= set(sentiments)


def test_a_caption_read_back_claims_what_the_picture_shows():
    rng = random.Random(0)
    for picture in some(400):
        for rates in (RATES, EVERYTHING):
            text = caption(picture, rng, rates)
            assert read_caption(text).is_sound, text
            assert all(ok for _, ok in claims(text, picture)), (text, picture)


@pytest.mark.parametrize("concept", CONCEPTS)
def test_one_wrong_word_is_one_wrong_claim(concept):
    rng = random.Random(0)
    tried = 0
    for picture in [p for p in some(300) if len(p.groups) == 1 and p.sort != "textures"] + [
        p for p in some(300) if concept in ("textures", "positions") and p.background == ""
    ]:
        words = caption(picture, rng, EVERYTHING).removesuffix(".").split()
        places = [i for i, word in enumerate(words) if word in CONCEPTS[concept]]
        if not places:
            continue
        plural = len(words[places[0]]) > 1 and words[places[0]].endswith("s")
        others = [
            w
            for w in CONCEPTS[concept]
            if w not in words and (concept != "shapes" or w.endswith("s") == plural)
        ]
        words[places[0]] = rng.choice(others)
        wrong = [name for name, ok in claims(" ".join(words), picture) if not ok]
        assert wrong and set(wrong) == {concept}, (words, picture)
        tried += 1
    assert tried >= 5


def test_a_caption_outside_the_grammar_is_not_sound():
    for text in ("", "red red red circle", "a circle a square a star", "a circle above", "hello"):
        reading = read_caption(text)
        assert not reading.is_sound or text == "a circle above"
