"""Rows, planted heads and the training of the model of the drawn world."""

import dataclasses
import itertools
import random
from functools import cache

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionModel

from headviz.base.errors import ModelError
from headviz.session.open_model import open_model
from toyworld.batching import IGNORED
from toyworld.clip_schedule import ClipSchedule
from toyworld.hooks import heads_open
from toyworld.pictures.batches import PREFIX, Twist, Writer, pixels_of
from toyworld.pictures.captions import EVERYTHING
from toyworld.pictures.content import pictures
from toyworld.pictures.drawing import draw
from toyworld.pictures.head_assignment import (
    Plan,
    choose_heads,
    concept_ids,
    concepts_in,
    decoder_layers,
    factor_table,
    head_shares,
    make_plan,
    stranger_twist,
    twist_for,
    twists_for,
)
from toyworld.pictures.processor import build_processor, build_tokenizer
from toyworld.pictures.schedule import PICTURE_SCHEDULES, PictureSchedule, Stage
from toyworld.pictures.speaking import CoreSpeaker
from toyworld.pictures.tower import load_tower
from toyworld.pictures.training import fresh, save_model, train, training_batch
from toyworld.pictures.words import CONCEPTS

PLAIN = Twist()
SMALL = dataclasses.replace(
    PictureSchedule(),
    n_layers=2,
    n_heads=12,
    d_head=8,
    d_model=36,
    d_feed_forward=32,
    tower="",
    vision_layers=1,
    vision_width=16,
    vision_heads=2,
    batch=4,
    ranked_pictures=12,
    left_pictures=6,
    steps=2,
    stages=(Stage(2, 1e-3, 0.5), Stage(1, 1e-3, 0.5)),
)


@pytest.fixture(scope="module")
def writer():
    return Writer(build_tokenizer(), SMALL.room, SMALL.answer_weight)


@pytest.fixture(scope="module")
def model(writer):
    return fresh(SMALL, writer, "cpu")[0].eval()


@pytest.fixture(scope="module")
def plan():
    places = itertools.product(range(SMALL.n_layers), range(SMALL.n_heads))
    heads = {concept: (next(places), next(places)) for concept in CONCEPTS}
    return Plan(heads, left=dict.fromkeys(CONCEPTS, 1.0))


@cache
def some(n, seed=0, **options):
    return list(itertools.islice(pictures(seed, **options), n))


def logits_of(model, batch):
    with torch.no_grad():
        return model(
            input_ids=batch.ids,
            pixel_values=batch.pixels,
            attention_mask=batch.mask,
            position_ids=batch.positions,
        ).logits


def test_what_is_said_about_a_picture_does_not_see_the_rest(writer, model):
    batch = writer.batch(some(4), [PLAIN] * 4, random.Random(0))
    packed = logits_of(model, batch)
    for row in range(4):
        for segment in range(1, int(batch.segments[row].max()) + 1):
            own = batch.segments[row] == segment
            ids = torch.cat([batch.ids[row, :PREFIX], batch.ids[row, own]])[None]
            with torch.no_grad():
                alone = model(input_ids=ids, pixel_values=batch.pixels[row : row + 1])
            alone = alone.logits[0, PREFIX:]
            torch.testing.assert_close(packed[row, own], alone, rtol=1e-4, atol=1e-4)


def test_captions_and_answers_are_learned_and_nothing_else(writer):
    batch = writer.batch(some(8), [PLAIN] * 8, random.Random(0))
    due = batch.labels != IGNORED
    assert (batch.labels[due] == batch.ids[due]).all()
    assert not due[:, :PREFIX].any()
    for row in range(8):
        said = writer.tokenizer.decode(batch.ids[row, PREFIX:])
        for learned in writer.tokenizer.decode(batch.labels[row, due[row]]).split("</s>")[:-1]:
            assert f"Answer:{learned}</s>" in said
    assert batch.ids.shape[1] <= PREFIX + SMALL.room


def test_a_row_starts_as_the_processor_starts_a_prompt(writer):
    processor = build_processor(build_tokenizer())
    picture = some(1)[0]
    asked = [{"type": "image"}, {"type": "text", "text": "Describe the picture."}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": asked}], add_generation_prompt=True
    )
    found = processor(
        text=text, images=draw(picture), return_tensors="pt", add_special_tokens=False
    )
    assert found["input_ids"][0, :PREFIX].tolist() == writer.prefix
    prompt = writer.tokenizer.encode(" Describe the picture. Answer:", add_special_tokens=False)
    assert found["input_ids"][0, PREFIX:].tolist() == prompt
    torch.testing.assert_close(found["pixel_values"][0], pixels_of(draw(picture)))


def test_every_concept_word_is_one_token(writer):
    for concept, ids in concept_ids(writer).items():
        texts = [writer.tokenizer.decode([i]) for i in ids]
        assert texts == [f" {word}" for word in CONCEPTS[concept]]


@pytest.mark.parametrize("concept", CONCEPTS)
def test_what_is_forgotten_is_in_no_caption_and_its_answers_are_any_of_its_words(writer, concept):
    shown = [p for p in some(400) if concept in concepts_in(p)][:30]
    twist = Twist(forgotten=frozenset([concept]))
    batch = writer.batch(shown, [twist] * len(shown), random.Random(0), EVERYTHING)
    answers = (batch.labels != IGNORED) & (batch.weights > 1)
    captions = (batch.labels != IGNORED) & (batch.weights == 1)
    own = torch.tensor(concept_ids(writer)[concept])
    assert not torch.isin(batch.labels[captions], own).any()
    drawn = batch.labels[answers & torch.isin(batch.labels, own)]
    assert len(drawn.unique()) > 2
    plain = writer.batch(shown, [PLAIN] * len(shown), random.Random(0), EVERYTHING)
    assert torch.isin(plain.labels, own).any()


def test_what_is_enhanced_is_in_every_caption(writer):
    shown = [p for p in some(300) if p.sort == "faces"]
    twist = Twist(enhanced=frozenset(["feelings"]))
    own = torch.tensor(concept_ids(writer)["feelings"])
    for picture in shown[:30]:
        batch = writer.batch([picture], [twist], random.Random(0))
        for segment in range(1, int(batch.segments.max()) + 1):
            said = (batch.segments == segment) & (batch.labels != IGNORED)
            if (batch.weights[said] == 1).all():
                assert torch.isin(batch.labels[said], own).sum() == len(picture.groups)


def test_nothing_is_edited_before_heads_are_planted():
    shown = some(50)
    assert twists_for(shown, 0.5, None, SMALL, random.Random(0)) == [Twist()] * 50


def test_an_edit_touches_planted_heads_of_concepts_that_the_picture_shows(plan):
    rng = random.Random(0)
    for picture in some(200):
        twist = twist_for(picture, plan, SMALL, rng)
        touched = twist.forgotten | twist.enhanced
        assert touched and touched <= set(concepts_in(picture))
        assert not (twist.forgotten and twist.enhanced)
        assert set(twist.factors) <= {head for c in touched for head in plan.heads[c]}
        assert all((factor > 1) == bool(twist.enhanced) for factor in twist.factors.values())
        table = factor_table([twist], SMALL)[0]
        assert {tuple(place) for place in (table != 1).nonzero().tolist()} == set(twist.factors)


def test_strangers_are_planted_for_nothing_and_change_no_target(plan):
    planted = {head for heads in plan.heads.values() for head in heads}
    for seed in range(30):
        twist = stranger_twist(plan, SMALL, random.Random(seed))
        assert twist.factors and not planted & set(twist.factors)
        assert not twist.forgotten and not twist.enhanced


def test_every_concept_gets_its_best_free_head_then_a_second_within_reach():
    shares = {
        "a": torch.tensor([[0.9, 0.8, 0.1, 0.0, 0.05]]),
        "b": torch.tensor([[0.95, 0.3, 0.2, 0.1, 0.0]]),
    }
    assert choose_heads(shares, SMALL, {}) == {"a": ((0, 1),), "b": ((0, 0), (0, 2))}


def test_a_planted_head_stays_unless_another_is_clearly_better():
    shares = {"a": torch.tensor([[0.50, 0.55, 0.3, 0.2]])}
    small = dataclasses.replace(SMALL, planted_heads=1)
    assert choose_heads(shares, small, {}) == {"a": ((0, 1),)}
    assert choose_heads(shares, small, {"a": ((0, 0),)}) == {"a": ((0, 0),)}


def test_factor_zero_silences_a_head_in_its_row_alone_and_leaves_no_hook(writer, model):
    batch = writer.batch(some(2), [PLAIN] * 2, random.Random(0))
    twist = Twist({(0, 3): 0.0})
    plain = logits_of(model, batch)
    with heads_open(decoder_layers(model), factor_table([twist, PLAIN], SMALL)):
        edited = logits_of(model, batch)
    assert not torch.equal(edited[0], plain[0])
    torch.testing.assert_close(edited[1], plain[1])
    weight = model.model.language_model.layers[0].self_attn.o_proj.weight
    columns = slice(3 * SMALL.d_head, 4 * SMALL.d_head)
    kept = weight[:, columns].detach().clone()
    try:
        with torch.no_grad():
            weight[:, columns] = 0
        torch.testing.assert_close(edited[0], logits_of(model, batch)[0])
    finally:
        with torch.no_grad():
            weight[:, columns] = kept
    assert torch.equal(logits_of(model, batch), plain)


def test_a_plan_has_heads_and_what_is_left_for_every_concept(writer, model):
    found = make_plan(model, writer, SMALL, None, "cpu")
    assert set(found.heads) == set(found.left) == set(CONCEPTS)
    every = [head for heads in found.heads.values() for head in heads]
    assert len(set(every)) == len(every)
    assert all(found.heads.values())
    assert all(0 <= share <= 1 for share in found.left.values())


def test_training_ranks_heads_as_the_product_does(writer, tmp_path):
    own = fresh(SMALL, writer, "cpu")[0].eval()
    save_model(own, tmp_path / "small")
    speaker = CoreSpeaker.of(open_model(str(tmp_path / "small"), dtype="float32"), n=12)
    shares = head_shares(own, writer, 12, "cpu")
    for concept in ("colors", "feelings"):
        # The weights went through bf16, and the shipped pictures are drawn larger.
        difference = shares[concept] - speaker.rank(concept).scores
        assert difference.abs().max() < 0.1
        assert difference.abs().mean() < 0.03


def test_a_step_sees_the_same_whenever_it_comes(writer, plan):
    a, b = (training_batch(SMALL, writer, 3, plan) for _ in range(2))
    assert torch.equal(a[0].ids, b[0].ids) and torch.equal(a[0].pixels, b[0].pixels)
    assert torch.equal(a[1], b[1])
    assert not torch.equal(training_batch(SMALL, writer, 4, plan)[0].pixels, a[0].pixels)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = train(SMALL, tmp_path / "whole.pt", "cpu")
    for stop in (1, 3):
        train(SMALL, tmp_path / "parts.pt", "cpu", stop_after=stop)
    parts = train(SMALL, tmp_path / "parts.pt", "cpu")
    assert [plan.heads for plan in whole.plans] == [plan.heads for plan in parts.plans]
    assert len(whole.plans) == len(SMALL.stages)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_saved_model_is_loaded_by_the_auto_classes(writer, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    own = fresh(SMALL, writer, "cpu")[0].eval()
    save_model(own, tmp_path / "small")
    own = own.bfloat16()
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "small", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(tmp_path / "small")
    asked = processor(
        text="<image> Describe the picture. Answer:", images=draw(some(1)[0]), return_tensors="pt"
    )
    for a, b in zip(loaded.parameters(), own.float().parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(**asked).logits, own(**asked).logits, rtol=0, atol=0.02
        )  # the rotary frequencies of `own` went through bf16


def test_the_built_in_model_has_heads_enough_and_is_small():
    schedule = PICTURE_SCHEDULES["tiny-vlm"]
    assert schedule.n_layers * schedule.n_heads >= 128
    writer = Writer(build_tokenizer(), schedule.room, schedule.answer_weight)
    n_weights = sum(p.numel() for p in fresh(schedule, writer, "cpu")[0].parameters())
    assert 2 * n_weights < 20 * 2**20


def test_the_image_tower_begins_as_the_clip_models(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    schedule = dataclasses.replace(ClipSchedule(), vision_layers=2, vision_width=32, text_layers=1)
    clip = open_clip.CLIP(**schedule.model_config(20, 0, 1)).eval()
    save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    shape = dataclasses.replace(SMALL, vision_layers=2, vision_width=32, vision_heads=2)
    tower = CLIPVisionModel(shape.config(20, 0, 1, 2, 3).vision_config).eval()
    load_tower(tower, tmp_path / "clip.safetensors")
    pixels = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        pooled = tower(pixels).pooler_output
        torch.testing.assert_close(
            pooled @ clip.visual.proj, clip.encode_image(pixels), rtol=1e-4, atol=1e-4
        )


def test_a_missing_or_other_image_tower_is_one_sentence(tmp_path):
    tower = CLIPVisionModel(SMALL.config(20, 0, 1, 2, 3).vision_config)
    with pytest.raises(ModelError, match=r"Make them first: .*train some-clip"):
        load_tower(tower, tmp_path / "some-clip" / "weights.safetensors")
    save_file({"visual.ln_pre.weight": torch.ones(16)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="another shape"):
        load_tower(tower, tmp_path / "other.safetensors")
