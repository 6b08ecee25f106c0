"""Pictures through the command line and the library: captions, rankings, and what is refused."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from tiny_vision import noise

import headviz
from headviz import __main__
from headviz.base.errors import ModelError
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.heads.edits import Edit
from headviz.heads.prompts import default_prompt, encode_prompt, prompts_of
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.models.families import family_of
from headviz.pursuit.options import Options
from headviz.session.session import Session

pytest_plugins = ["loaded", "seeing"]

CAPTION = "Provide a one-sentence caption for the provided image."


@pytest.fixture
def world(assets, tmp_path, vision_folder, monkeypatch):
    """A folder with the built-in models `toy` and `eye`, photographs, and a cache of its own."""
    shutil.copytree(vision_folder("llava"), assets / "eye")
    image_folder = assets / "eye" / "prompt_sets" / "scenes"
    image_folder.mkdir(parents=True)
    for number in range(4):
        noise(20 + number, 16, number).save(image_folder / f"{number}.png")
    (image_folder / "labels.csv").write_text("file,label\n0.png,red\n")
    monkeypatch.setattr(__main__, "Session", lambda **o: Session(Store(tmp_path / "cache"), **o))
    monkeypatch.chdir(tmp_path)
    noise(30, 20).save("photo.jpg")
    noise(20, 30, 1).save("other.webp")
    return image_folder


@pytest.fixture
def run(world, capsys):
    """`run("rank", ...)` is (status, what was printed, what was complained about)."""

    def run_it(*arguments):
        try:
            status = __main__.main([*arguments, "--device", "cpu"])
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


GENERATE = ("generate", "--model", "eye", "--max-new-tokens", "4")


def test_a_picture_is_captioned_with_and_without_an_edit(run):
    asked = (*GENERATE, "--image", "photo.jpg", "--edit", "L0.H1=-1,L1.H2=5", "--control")
    status, out, _ = run(*asked, "--json")
    result = json.loads(out)
    assert status == 0
    assert result["prompt"] == CAPTION, "nothing was asked, so it is the paper's prompt"
    assert result["pictures"] == ["photo.jpg"]
    assert len({result[name] for name in ("original", "edited", "control")}) > 1
    status, out, _ = run(*asked)
    assert status == 0 and result["edited"].strip() in out


def test_several_pictures_and_a_place_may_be_named(run):
    asked = (*GENERATE, "--image", "photo.jpg", "--image", "other.webp", "--prompt", "what color")
    texts = {}
    for where in ("everywhere", "image", "generated"):
        options = ("--edit", "L0.H1=-5,L1.H2=5", "--where", where, "--json")
        status, out, _ = run(*asked, *options)
        result = json.loads(out)
        assert status == 0 and result["pictures"] == ["photo.jpg", "other.webp"]
        assert result.get("where", "everywhere") == where
        texts[where] = result["edited"]
    assert len(set(texts.values())) > 1


def test_heads_are_ranked_on_a_models_own_pictures_and_on_a_folder(run, world):
    rank = ("rank", "--model", "eye", "--concept", "colors", "--json")
    status, out, _ = run(*rank)
    own = json.loads(out)
    assert status == 0
    assert (own["n_samples"], own["n_positions"], own["n_heads"]) == (4, 4 * 16, 8)
    assert own["options"]["pooling"] == "image"
    status, out, _ = run(*rank, "--probes", str(world))
    assert json.loads(out)["heads"] == own["heads"]
    status, out, _ = run(*rank, "--probes", str(world), "--prompt", "what mood")
    scores = [{h["head"]: h["score"] for h in r["heads"]} for r in (own, json.loads(out))]
    assert scores[1] == pytest.approx(scores[0]), "what is asked comes after the picture"
    status, out, _ = run(*rank, "--pooling", "prompt", "--prompt", "what mood")
    assert json.loads(out)["heads"] != own["heads"]
    status, out, _ = run("rank", "--model", "eye", "--concept", "colors")
    assert "4 pictures, " in out and "read at 64 positions (image)" in out


def test_a_heads_strongest_pictures_are_named(run):
    status, out, _ = run("spectrum", "--model", "eye", "--head", "L1.H2", "--steps", "3", "--json")
    samples = json.loads(out)["samples"]
    assert status == 0
    assert {sample["picture"] for sample in samples} == {f"{n}.png" for n in range(4)}
    assert all(sample["picture"] == f"{sample['number']}.png" for sample in samples)


BAD = {
    "an image for a language model": (
        ("generate", "--model", "toy", "--prompt", "a dog", "--image", "photo.jpg"),
        "is a language model and reads no pictures",
    ),
    "no image for a model that sees": (
        (*GENERATE, "--prompt", "a dog"),
        "is a vision-language model and needs a picture",
    ),
    "no picture of that name": ((*GENERATE, "--image", "gone.png"), "There is no file 'gone.png'"),
    "a text": ((*GENERATE, "--image", "a.txt"), "a.txt is no picture that can be read"),
    "an unknown place": (
        (*GENERATE, "--image", "photo.jpg", "--where", "sky"),
        "Known: everywhere, image, prompt, generated",
    ),
    "image positions of a language model": (
        ("generate", "--model", "toy", "--prompt", "a", "--edit", "L0.H0=0", "--where", "image"),
        "there is no picture in the prompt",
    ),
    "a mark in the prompt": (
        (*GENERATE, "--image", "photo.jpg", "--prompt", "see <image>"),
        "one of the model's own marks. Leave it out",
    ),
    "pictures for a language model": (
        ("rank", "--model", "toy", "--concept", "colors", "--probes", "pictures"),
        "is a language model and reads no pictures",
    ),
    "image pooling of a language model": (
        ("rank", "--model", "toy", "--concept", "colors", "--pooling", "image"),
        "reads no pictures: pool over one of prompt, last, generated",
    ),
    "texts for a model that sees": (
        ("rank", "--model", "eye", "--concept", "colors", "--probes", "a.txt"),
        "needs a picture with the prompt",
    ),
    "more pictures than the context holds": (
        (*GENERATE, *(["--image", "photo.jpg"] * 40)),
        "give fewer or smaller pictures",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_with_one_sentence(run, what, tmp_path):
    (tmp_path / "a.txt").write_text("the cat is red\n")
    (tmp_path / "pictures").mkdir()
    noise(8, 8).save(tmp_path / "pictures" / "a.png")
    arguments, message = BAD[what]
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


# The library.


def test_the_library_takes_files_and_open_pictures(world, monkeypatch, tmp_path):
    session = Session(Store(tmp_path / "cache"), device="cpu")
    monkeypatch.setattr(headviz, "default_session", lambda: session)
    given = [str(world / "0.png"), noise(40, 30), (world / "1.png").read_bytes()]
    ranking = headviz.rank("eye", "colors", images=given)
    assert ranking.n_samples == 3
    assert ranking.options.pooling == "image"
    edit = Edit.of(ranking.top(1), factor=-1, where="image")
    result = headviz.compare("eye", "", edit, ranking.words, headviz.Sampling(4), images=[given[1]])
    assert result.done
    assert result.pictures == ("picture",)
    assert len(headviz.spectrum("eye", Head(0, 0), images=given, steps=2).samples) == 3


def test_signals_of_pictures_are_kept_on_the_disk_and_equal_fresh_ones(
    session, load_seeing, image_folder
):
    name = load_seeing("llava").name
    fresh = session.activations(name, image_folder, "image")
    again = Session(session.store, device="cpu")
    kept = again.activations(name, image_folder, "image")
    assert again.model(name).vision.n_encoded == 0, "nothing was encoded anew"
    assert torch.equal(fresh.z, kept.z)
    assert (kept.n_positions, kept.pictures) == (fresh.n_positions, image_folder.pictures)


# The models.


def test_what_a_model_reads_its_heads_on_depends_on_whether_it_sees(session, load_seeing, llama):
    assert session.default_options(llama.name) == Options(pooling="prompt")
    assert session.default_options(load_seeing("llava").name) == Options(pooling="image")


def test_every_family_has_prompts_that_it_can_take(seeing, pictures):
    for task, prompt in prompts_of(seeing).items():
        filled = prompt.format(what="digit", classes="0, 1") if task == "class" else prompt
        assert encode_prompt(seeing, filled, 0, pictures[:1]).ids
    assert default_prompt(seeing) == prompts_of(seeing)["caption"]


def test_a_models_own_chat_template_is_used(load_seeing, pictures):
    model = load_seeing("llava")
    prompt = encode_prompt(model, "a dog", 0, pictures[:1])
    said = model.tokenizer.decode(
        [i for i, image in zip(prompt.ids, prompt.image, strict=True) if not image]
    )
    assert said == "<bos>User: a dog Answer:"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("mllama", "mllama_text_model", "cannot be supported: its pictures enter by cross-att"),
        ("t5", "t5", "'t5' are not supported yet, .* Supported: llama, .*llava"),
        ("llava", "t5", "This 'llava' model has a text model of type 't5', which is not"),
    ],
)
def test_a_class_that_cannot_be_supported_is_refused_with_the_reason(kind, text, message):
    inner = SimpleNamespace(model_type=text)
    config = SimpleNamespace(model_type=kind, get_text_config=lambda: inner)
    with pytest.raises(ModelError, match=message):
        family_of(config)


def test_photographs_go_through(shared_data, load_seeing):
    model = load_seeing("llava_next")
    found = find_prompt_set(str(shared_data / "photos"), model.name, True)
    assert len(found) == 24
    assert all(found.labels), "captions.json names every photograph"
    assert encode_prompt(model, CAPTION, 0, found.pictures[:1]).image.count(True) > 16
