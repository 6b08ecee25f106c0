"""smol-vlm's world: what is said in English is true, and rows share a picture and nothing else."""

import dataclasses
import itertools
import json
import random
import sys
from collections import Counter

import pytest
import torch
from tiny_models import make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from headviz.base.assets import ASSETS
from headviz.base.errors import PictureError
from toyworld.pictures.content import Group, Picture, pictures
from toyworld.pictures.words import CONCEPTS
from toyworld.smol import training
from toyworld.smol.aligning import WORDS, WordVectors, word_ids
from toyworld.smol.batches import Writer
from toyworld.smol.card import measure
from toyworld.smol.card_text import missed, render
from toyworld.smol.layout import image_words
from toyworld.smol.processor import IMAGE_TOKEN, N_IMAGE
from toyworld.smol.reading import answers_match, caption_claims, plain
from toyworld.smol.schedule import SMOL_SCHEDULES
from toyworld.smol.texts import FRAMES, SUMMONS, caption, questions
from toyworld.smol.training import Front

MANY = list(itertools.islice(pictures(7), 600))
SCENE = Picture(
    "scene",
    (Group("shape", "circle", "red", "small", 2), Group("shape", "star", "orange", "large")),
    "above",
    "sea",
    0,
)
CARD = ASSETS / "smol-vlm" / "card.json"


def test_every_caption_is_right_in_all_that_it_claims():
    rng, made = random.Random(0), Counter()
    for picture in MANY:
        text = caption(picture, rng)
        for concept, ok in caption_claims(text, picture):
            assert ok, (concept, text, plain(text))
            made[concept] += 1
    assert set(made) == set(CONCEPTS) and min(made.values()) > 50


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("Two red circles above an orange star in the sea.", []),
        ("An orange star below two small red circles.", []),
        ("There are two circles at the top and a star at the bottom.", []),
        ("Two red circles below an orange star.", ["positions"]),
        ("A red circle above a star.", ["numbers"]),
        ("Two blue circles and an orange star.", ["colors"]),
        ("Two red squares and an orange star in the snow.", ["shapes", "backgrounds"]),
    ],
)
def test_what_is_wrong_in_a_caption_is_found(said, wrong):
    assert [c for c, ok in caption_claims(said, SCENE) if not ok] == wrong


def test_captions_have_dozens_of_wordings_and_articles_that_fit():
    assert len(set(FRAMES)) > 20
    rng = random.Random(1)
    said = {caption(SCENE, rng) for _ in range(300)}
    assert len(said) > 200
    assert not any(f" a {vowel}" in text for text in said for vowel in "aeio")
    assert all(text[0].isupper() and text.endswith(".") for text in said)


def test_answers_are_of_the_concept_that_is_asked_about_and_follow_the_picture():
    rng = random.Random(2)
    for picture in MANY[:200]:
        for question in questions(picture, rng):
            own = {*CONCEPTS[question.concept], "top", "bottom"}
            assert question.answer in own and answers_match(question.said, question.answer)
    asked = {q.text: q.answer for _ in range(9) for q in questions(SCENE, rng)}
    assert asked["How many circles are there?"] == "two"
    assert asked["What is orange?"] == "star" and asked["Where is the star?"] == "bottom"


def test_image_tokens_stand_for_words_of_the_picture_and_of_their_half():
    words = image_words(SCENE)
    assert len(words) == N_IMAGE and words[0] == ("above", "three")
    assert words[1:7] == [("two",), ("red",), ("circles",)] * 2
    assert words[19:22] == [("one",), ("orange",), ("star",)]
    assert word_ids(MANY).max() < len(WORDS) and word_ids(MANY).shape == (600, N_IMAGE, 2)


def test_what_is_nearest_to_its_words_has_the_least_loss():
    tokenizer = make_tokenizer()
    embeddings = torch.randn(len(tokenizer), 64, generator=torch.Generator().manual_seed(0))
    vectors = WordVectors(embeddings, tokenizer)
    vectors.beside.copy_(torch.randn(len(WORDS), 64, generator=torch.Generator().manual_seed(1)))
    ids = word_ids([SCENE])
    exact, _ = vectors.targets(ids)
    loss, right = vectors.loss(exact, ids)
    assert right.min() == 1
    assert vectors.loss(exact + 0.5, ids)[0] > loss
    assert vectors.loss(exact.flip(1), ids)[1].mean() < 0.7


class Letters:
    """A tokenizer of one token a character, which a row can be read back from."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(letter) % 90 for letter in text]

    def convert_tokens_to_ids(self, token: str) -> int:
        assert token == IMAGE_TOKEN
        return 95


def tiny_text() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
    )  # fmt: skip


def test_what_is_said_in_a_shared_row_is_as_likely_as_alone():
    torch.manual_seed(0)
    model = LlamaForCausalLM(tiny_text()).eval()
    writer = Writer(Letters(), 2, 2)
    batch = writer.batch([SCENE, MANY[0]], random.Random(3))
    with torch.inference_mode():
        logits = model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions
        ).logits
        shared = logits[batch.places[:, 0], batch.places[:, 1]]
        for number in range(0, len(batch.targets), 7):
            row, place = batch.places[number].tolist()
            seen = batch.mask[row, 0, place]
            alone = model(input_ids=batch.ids[row, seen][None]).logits[0, -1]
            torch.testing.assert_close(shared[number], alone, rtol=1e-4, atol=1e-4)


def test_a_tower_before_it_leaves_the_language_model_s_config_alone():
    text = tiny_text()
    text._attn_implementation = "sdpa"
    before = text.to_dict()
    Front(SMOL_SCHEDULES["smol-vlm"], text, 16)
    assert text._attn_implementation == "sdpa" and text.to_dict() == before


def test_a_row_asks_for_every_letter_of_two_captions_and_two_answers():
    writer = Writer(Letters(), 2, 2)
    nodes = writer._nodes(SCENE, random.Random(4))
    said = [node for node in nodes if node.is_said]
    assert len(said) == 4 and said[0].parent == said[1].parent != said[2].parent
    batch = writer.batch([SCENE], random.Random(4))
    assert batch.targets.tolist() == [i for node in said for i in node.ids]


def test_what_is_hard_is_asked_about_more_and_nothing_twice(monkeypatch):
    writer, rng, rows = Writer(Letters(), 1, 2), random.Random(5), []
    monkeypatch.setattr(writer, "_add", lambda nodes, prompt, said: rows[-1].append(prompt))
    for _ in range(400):
        rows.append([])
        writer._nodes(SCENE, rng)
    asked = [text for _, *texts in rows for text in texts]  # the first asks for the caption
    assert all(len(set(row)) == 3 for row in rows)
    places = sum(text.startswith("Where") for text in asked) / 2  # there are two things
    grounds = sum("background" in text for text in asked)
    assert places > 3 * grounds > 0


def test_the_finished_weights_are_the_mean_of_the_kept_ones_also_when_resumed(
    tmp_path, monkeypatch
):
    torch.manual_seed(0)
    frozen = LlamaForCausalLM(tiny_text()).requires_grad_(False).eval()
    monkeypatch.setattr(training, "read_frozen", lambda folder: frozen)
    monkeypatch.setattr(training, "read_tokenizer", lambda folder: Letters())
    small = dataclasses.replace(
        SMOL_SCHEDULES["smol-vlm"],
        aligning_steps=2, aligning_batch=2, steps=4, batch=1, beside=1, averaged=(),
    )  # fmt: skip
    ends = [
        training.train(small, tmp_path, tmp_path / f"{step}.pt", stop_after=step).model.state_dict()
        for step in (4, 6)
    ]
    schedule = dataclasses.replace(small, averaged=(4, 6))
    training.train(schedule, tmp_path, tmp_path / "mean.pt", stop_after=5)
    for _ in range(2):  # the second time nothing is left to train
        found = training.train(schedule, tmp_path, tmp_path / "mean.pt").model.state_dict()
        for name, weight in found.items():
            torch.testing.assert_close(weight, (ends[0][name] + ends[1][name]) / 2)
        assert any(not torch.equal(ends[0][name], ends[1][name]) for name in found)


@pytest.mark.skipif(not CARD.is_file(), reason="smol-vlm is not trained")
def test_the_card_is_what_its_numbers_say():
    results = json.loads(CARD.read_text(encoding="utf-8"))
    card = CARD.with_name("README.md").read_text(encoding="utf-8")
    assert card == render(results, SMOL_SCHEDULES["smol-vlm"])
    for lacking in missed(results):
        assert lacking in card
    assert SUMMONS[0] in card and f"{results['all_answers']:.3f}" in card


@pytest.mark.skipif(not CARD.is_file(), reason="smol-vlm is not trained")
def test_a_target_that_is_not_reached_is_told():
    results = json.loads(CARD.read_text(encoding="utf-8"))
    results["captions"]["colors"]["right"] = 0.899
    results["perplexity"] = {"said": 16.0, "taught": 10.0}
    told = missed(results)
    assert any(one.startswith("colors in captions (0.899") for one in told)
    assert any(one.startswith("perplexity (1.60 times") for one in told)


def test_a_card_is_not_made_without_its_photographs(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(PictureError, match="pip install scikit-learn"):
        measure(None, {}, 1, 1)
