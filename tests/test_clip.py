"""Loading open_clip models, similarity of pictures and texts, and words for pictures."""

import json
import random
from functools import partial

import pytest
import torch
from PIL import Image
from tiny_clips import make_clip

from headviz.__main__ import main
from headviz.base.errors import ConceptError, HeadvizError, ModelError, OptionError, PromptError
from headviz.base.store import Store
from headviz.clip import load as clips
from headviz.clip.embed import embed_images, embed_texts, fill, similarity
from headviz.clip.load import load_clip
from headviz.clip.name_concept import name_concept, vocabulary_words
from headviz.inputs.concepts import known_concepts
from headviz.session.session import Session

pytest_plugins = ["loaded"]

CANDIDATES = ["red", "blue", "green", "circle", "one", "happy", "large"]


def picture(seed, side=24):
    rng = random.Random(seed)
    return Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(str(folder), device="cpu")


@pytest.fixture(scope="module")
def images():
    return [picture(seed) for seed in range(5)]


# Loading.


def test_a_folder_is_loaded_as_open_clip_itself_loads_it(clip, folder, images):
    import open_clip

    own, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(CANDIDATES)
    assert torch.equal(clip.tokens(CANDIDATES), tokens)
    with torch.inference_mode():
        expected = own.eval().encode_image(preprocess(images[0])[None], normalize=True)
        texts = own.encode_text(tokens, normalize=True)
    torch.testing.assert_close(embed_images(clip, images[:1]), expected)
    torch.testing.assert_close(embed_texts(clip, CANDIDATES), texts)
    assert not any(p.requires_grad for p in clip.model.parameters())


def test_a_revision_follows_the_weights(clip, folder, tmp_path):
    assert load_clip(str(folder), "cpu").revision == clip.revision
    other = make_clip(tmp_path / "other", seed=1)
    assert load_clip(str(other), "cpu").revision != clip.revision


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "No CLIP model named"),
        ("ViT-B-33", r"Unknown CLIP model 'ViT-B-33'\. Did you mean 'ViT-B-32'"),
        ("ViT-B-32:laion3b", r"Unknown tag of ViT-B-32 'laion3b'\. .*laion2b_s34b_b79k"),
    ],
)
def test_an_unknown_name_is_said_in_one_sentence(name, says):
    with pytest.raises(HeadvizError, match=says):
        load_clip(name, "cpu")


@pytest.mark.skipif("tiny-clip" in clips.built_in_clips(), reason="tiny-clip is trained")
def test_the_usual_clip_model_without_its_weights_is_answered_with_what_makes_them():
    with pytest.raises(ModelError, match=r"headviz\.toyworld train tiny-clip"):
        load_clip(device="cpu")


def test_the_usual_weights_are_taken_where_none_are_named(monkeypatch):
    import open_clip

    asked = []

    def create(name, pretrained=None, **_):
        asked.append((name, pretrained))
        raise RuntimeError("no network\nand more")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    for name in ("ViT-B-32", "ViT-B-32:laion400m_e32", "hf-hub:somebody/clip"):
        with pytest.raises(ModelError, match=f"{name}' could not be loaded: no network$"):
            load_clip(name, "cpu")
    assert asked == [
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32", "laion400m_e32"),
        ("hf-hub:somebody/clip", None),
    ]


def test_a_folder_without_its_files_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match=r"has no open_clip_config\.json"):
        load_clip(str(tmp_path), "cpu")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has no \.safetensors weights"):
        load_clip(str(tmp_path), "cpu")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="could not be loaded"):
        load_clip(str(tmp_path), "cpu")


def test_built_in_models_are_folders_with_open_clips_config(folder, monkeypatch):
    monkeypatch.setattr("headviz.base.assets.ASSETS", folder.parent)
    assert clips.built_in_clips() == {"tiny": folder}
    assert load_clip("tiny", "cpu").name == "tiny"


# Similarity.


def test_similarity_is_the_cosine_of_each_pair(clip, images):
    texts = CANDIDATES[:5]
    expected = torch.stack(
        [
            embed_images(clip, [i])[0] @ embed_texts(clip, [t])[0]
            for i, t in zip(images, texts, strict=True)
        ]
    )
    found = similarity(clip, images, texts)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.abs().max() <= 1 + 1e-5
    one = similarity(clip, images[:1], texts)
    torch.testing.assert_close(one[0], found[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(OptionError, match="2 images do not go with 5 texts"):
        similarity(clip, images[:2], texts)


def test_embeddings_have_unit_length_also_over_templates(clip, images):
    templates = ("{}", "a photo of {}")
    both = embed_texts(clip, CANDIDATES, templates)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(len(CANDIDATES)))
    torch.testing.assert_close(embed_images(clip, images).norm(dim=1), torch.ones(5))
    parts = sum(embed_texts(clip, [fill(t, w) for w in CANDIDATES]) for t in templates)
    torch.testing.assert_close(both, torch.nn.functional.normalize(parts, dim=1))


def test_kept_text_embeddings_are_the_fresh_ones_and_are_read_back(clip, tmp_path, monkeypatch):
    store = Store(tmp_path)
    fresh = embed_texts(clip, CANDIDATES, store=store)
    monkeypatch.setattr(clip.model, "encode_text", None)  # it must not be asked again
    assert torch.equal(embed_texts(clip, CANDIDATES, store=store), fresh)
    with pytest.raises(TypeError):
        embed_texts(clip, CANDIDATES[1:], store=store)


def test_an_article_fits_its_word():
    assert fill("a {} thing", "orange") == "an orange thing"
    assert fill("a {} thing", "red") == "a red thing"
    assert fill("a photo of {}", "ice") == "a photo of ice"


# Words for pictures.


def test_a_word_scores_its_cosine_here_minus_there(clip, images):
    named = name_concept(clip, images[:2], images[2:], CANDIDATES)
    texts = embed_texts(clip, CANDIDATES, named.templates)
    here, there = (embed_images(clip, part).mean(0) for part in (images[:2], images[2:]))
    expected = dict(zip(CANDIDATES, (texts @ (here - there)).tolist(), strict=True))
    assert {w.word for w in named.words} == set(CANDIDATES)
    for word in named.words:
        assert word.score == pytest.approx(expected[word.word], abs=1e-5)
        assert word.score == pytest.approx(word.similarity - word.elsewhere, abs=1e-5)
    scores = [word.score for word in named.words]
    assert scores == sorted(scores, reverse=True)
    assert named.compared_with == "3 pictures it shall be unlike"


def test_what_both_sets_share_cancels_out(clip, images):
    named = name_concept(clip, images, images, CANDIDATES)
    assert max(abs(word.score) for word in named.words) < 1e-6


def test_reference_pictures_cancel_where_there_are_unlike_ones(clip, images):
    first = name_concept(clip, images[:1], images[1:2], CANDIDATES, reference=images[2:])
    second = name_concept(clip, images[:1], images[1:2], CANDIDATES, reference=[])
    assert first.words == second.words
    alone = name_concept(clip, images[:1], (), CANDIDATES, reference=[])
    assert alone.compared_with == "nothing"
    assert all(word.elsewhere == 0 for word in alone.words)


def test_candidates_are_the_presets_where_none_are_given(clip, images):
    named = name_concept(clip, images[:1], images[1:])
    presets = known_concepts()
    assert {w.word for w in named.words} == {w for c in presets.values() for w in c.words}
    red = next(word for word in named.words if word.word == "red")
    assert "colors" in red.presets


def test_the_first_words_become_a_concept(clip, images):
    named = name_concept(clip, images[:1], images[1:], CANDIDATES)
    assert named.concept(3).words == tuple(word.word for word in named.words[:3])
    assert [w["word"] for w in named.as_dict(2)["words"]] == [w.word for w in named.words[:2]]


def test_what_cannot_be_named_is_said(clip, images):
    with pytest.raises(PromptError, match="No image given"):
        name_concept(clip, [], images, CANDIDATES)
    with pytest.raises(ConceptError, match="knows none of the 0 words"):
        name_concept(clip, images, images, ["  "])


def test_whole_words_of_a_vocabulary_come_in_its_order(llama):
    words = vocabulary_words(llama)
    assert {"red", "cat", "horse"} <= set(words)
    assert all(word.isalpha() and len(word) > 1 for word in words)
    assert len(words) == len(set(words))
    assert vocabulary_words(llama, 3) == words[:3]


# The command.


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`command(…)` runs name-concept with a cache of its own: (status, stdout, stderr)."""
    monkeypatch.setattr("headviz.__main__.Session", partial(Session, Store(tmp_path / "cache")))

    def run(*arguments):
        status = main(["name-concept", "--device", "cpu", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def test_the_command_says_what_the_function_finds(command, folder, clip, tmp_path):
    files = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, file in enumerate(files):
        picture(seed).save(file)
    options = ("--unlike", files[2], "--clip", folder, "--top", 4)
    status, out, err = command(*files[:2], *options, "--json")
    assert (status, err) == (0, "")
    named = name_concept(clip, [picture(0), picture(1)], [picture(2)])
    found = json.loads(out)["words"]
    assert [w["word"] for w in found] == [w.word for w in named.words[:4]]
    assert found[0].keys() == {"word", "score", "similarity", "elsewhere", "presets"}
    status, out, err = command(*files[:2], *options)
    assert (status, len(out.splitlines())) == (0, 6)
    assert out.splitlines()[2].split()[1] == found[0]["word"]


def test_a_file_that_is_no_picture_ends_the_command_with_one_sentence(command, folder, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    status, out, err = command(tmp_path / "notes.png", "--clip", folder)
    assert (status, out) == (2, "")
    assert "notes.png is no picture" in err and len(err.splitlines()) == 1
