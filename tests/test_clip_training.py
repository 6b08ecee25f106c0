"""The contrastive model of the drawn world: what it reads, how it is trained and saved."""

import dataclasses
import itertools
import json
import math
import random

import pytest
import torch
from PIL import ImageChops

pytest.importorskip("open_clip")

from headviz.clip import name_concept as naming
from headviz.clip.embed import embed_images, embed_texts
from headviz.clip.load import load_clip
from toyworld import clip_measuring, clip_texts
from toyworld.clip_card import REFERENCE_SEED, write_clip_card, write_reference
from toyworld.clip_schedule import ClipSchedule
from toyworld.clip_seeing import CLASSES, classes_of, patch_labels
from toyworld.clip_training import Towers, multi_positive, save_clip, train_clip
from toyworld.pictures.captions import EVERYTHING, caption
from toyworld.pictures.content import pictures
from toyworld.pictures.drawing import SIDE, draw, draw_placed

torch.set_num_threads(1)
TINY = ClipSchedule(
    embed_dim=8,
    seeing_steps=2,
    seeing_batch=4,
    vision_layers=2,
    vision_width=16,
    d_head=8,
    text_layers=1,
    text_width=16,
    text_heads=2,
    batch=6,
    phrases=5,
    steps=3,
    warm_up=1,
)


def test_the_tokenizer_knows_every_word_that_is_read_and_marks_the_end():
    tokenizer = clip_texts.build_clip_tokenizer(32)
    rng = random.Random(1)
    texts = [caption(p, rng, EVERYTHING) for p in itertools.islice(pictures(9, True), 300)]
    words = [(c, word) for c, group in clip_texts.WORDS.items() for word in group]
    texts += [clip_texts.prompt(concept, word, rng) for concept, word in words for _ in range(20)]
    for ids in tokenizer(list(texts) + list(clip_texts.PHRASES))["input_ids"]:
        assert tokenizer.unk_token_id not in ids
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert len(ids) <= 32
    assert tokenizer.unk_token_id in tokenizer("a zebra")["input_ids"]


def test_what_holds_for_a_picture_is_what_its_full_caption_says():
    for picture in itertools.islice(pictures(4), 200):
        said = caption(picture, random.Random(0), EVERYTHING)
        for concept, words in clip_texts.shown(picture).items():
            for word in words:
                plural = clip_texts.SHAPES.get(word, word)
                assert word in said or plural in said, (concept, word, said)
        for text in clip_texts.phrases(picture):
            _, color, noun = text.split()
            assert color in said and noun[:3] in said


def test_targets_with_several_right_texts_are_met_by_sharing_the_probability():
    holds = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    best = torch.tensor([[20.0, 20.0, 0.0], [0.0, 0.0, 20.0], [3.0, 1.0, 2.0]])
    assert float(multi_positive(best, holds)) == pytest.approx(math.log(2) / 2, abs=1e-4)
    one_sided = best.clone()
    one_sided[0, 1] = 0.0
    assert multi_positive(one_sided, holds) > multi_positive(best, holds) + 1


def test_a_patch_is_labelled_with_the_thing_that_lies_on_it():
    side, n_things = SIDE // TINY.patch, 0
    for picture in itertools.islice(pictures(6), 60):
        _, placed = draw_placed(picture)
        labels = patch_labels(picture, placed, TINY.patch)
        kinds = [CLASSES["kinds"][n] for n in labels["kinds"].tolist()]
        for thing in placed:
            left, top, right, bottom = thing.box
            column, row = ((a + b) / 2 // TINY.patch for a, b in ((left, right), (top, bottom)))
            patch = int(row * side + column)
            if right - left < 1.5 * TINY.patch or kinds[patch] == "nothing":
                continue  # a small thing may lie between the middles of patches
            group = picture.groups[thing.group]
            told = classes_of(group)
            seen = {c: CLASSES[c][int(row[patch])] for c, row in labels.items() if row[patch] >= 0}
            assert seen == told
            n_things += 1
        bare = dataclasses.replace(picture, groups=(), relation="")
        assert (patch_labels(bare, (), TINY.patch)["kinds"] == 0).all()
    assert n_things > 60


def test_things_lie_in_their_boxes():
    for picture in itertools.islice(pictures(8, sort="digits"), 20):
        group = dataclasses.replace(picture.groups[0], color="red")
        alone = dataclasses.replace(picture, groups=(group,), relation="")
        other = dataclasses.replace(alone, groups=(dataclasses.replace(group, color="blue"),))
        image, placed = draw_placed(alone)
        found = ImageChops.difference(image, draw(other)).getbbox()
        assert found is not None
        (left, top, right, bottom), (thing,) = found, placed
        assert left >= thing.box[0] - 2 and top >= thing.box[1] - 2
        assert right <= thing.box[2] + 2 and bottom <= thing.box[3] + 2


@torch.no_grad()
def test_the_saved_model_is_loaded_by_open_clip_and_says_the_same(tmp_path):
    towers = Towers(TINY).eval()
    save_clip(towers, tmp_path)
    clip = load_clip(str(tmp_path), "cpu")
    chosen = list(itertools.islice(pictures(2), 3))
    images = [draw(picture) for picture in chosen]
    texts = ["a red circle", "the digit 3", "two happy faces at night."]
    pixels = torch.stack([clip.preprocess(image) for image in images])
    seen, read, *_ = towers(pixels, texts)
    torch.testing.assert_close(embed_images(clip, images), seen, rtol=2e-2, atol=4e-3)
    torch.testing.assert_close(embed_texts(clip, texts), read, rtol=2e-2, atol=4e-3)
    assert clip.knows("red") and not clip.knows("zebra")


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    whole = train_clip(TINY, tmp_path / "whole.pt")
    for steps in (1, 3):  # within the first part, and within the second
        train_clip(TINY, tmp_path / "parts.pt", stop_after=steps)
    parts = train_clip(TINY, tmp_path / "parts.pt")
    pairs = zip(whole.clip.parameters(), parts.clip.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    start = Towers(TINY).clip.visual.proj
    assert not torch.equal(start, whole.clip.visual.proj)
    other = train_clip(dataclasses.replace(TINY, seed=1), tmp_path / "whole.pt")
    assert not torch.equal(other.clip.visual.proj, whole.clip.visual.proj)


def test_the_card_says_what_was_measured_of_which_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_measuring, "KS", (1,))
    monkeypatch.setattr(clip_measuring, "CONTROLS", 1)
    monkeypatch.setattr(clip_measuring, "RANKED", 8)
    save_clip(Towers(TINY).eval(), tmp_path)
    write_clip_card(tmp_path, "tiny-clip", quick=True)
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    clip = load_clip(str(tmp_path), "cpu")
    assert card["revision"] == clip.revision and clip.revision in text
    assert card["accuracy"].keys() == card["edits"].keys() == clip_texts.WORDS.keys()
    task = clip_measuring.tasks(20)["colors"]
    tower = clip_measuring.words_tower(clip)
    again = clip_measuring.zero_shot_accuracy(clip, tower, {"colors": task})
    assert again["colors"] == card["accuracy"]["colors"]
    assert f"| colors | a {{}} thing | 11 | {again['colors']:.3f} | 0.9 |" in text


def test_tasks_are_of_held_out_pictures_with_one_right_word():
    for concept, task in clip_measuring.tasks(5).items():
        assert len(task.images) == len(task.truth) == 5
        assert set(task.truth) <= set(clip_texts.WORDS[concept])


def test_the_reference_pictures_are_training_pictures(tmp_path, monkeypatch):
    (tmp_path / "tiny-clip").mkdir()
    write_reference(tmp_path / "tiny-clip")
    monkeypatch.setattr("headviz.base.assets.ASSETS", tmp_path)
    found = naming.reference_pictures()
    chosen = list(itertools.islice(pictures(REFERENCE_SEED), len(found)))
    assert len(found) == 64
    assert [i.tobytes() for i in found] == [draw(picture).tobytes() for picture in chosen]
