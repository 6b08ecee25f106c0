"""The page with a model that sees: a real browser, a tiny random LLaVA, pictures in all forms."""

import zipfile
from pathlib import Path

import pytest
from paging import (
    DRAWN,
    ask,
    choose_model,
    drawn,
    sampling,
    serving,
    settled,
    slide,
    visiting,
)
from PIL import Image
from tiny_clips import make_clip
from tiny_vision import noise

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.inputs.images import open_picture
from headviz.models.vision import Vision
from headviz.page.ask import Ask
from headviz.page.curve import curve
from headviz.page.image_input import example_pictures
from headviz.session.session import Session

pytest_plugins = ["loaded", "seeing"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(Session(store=Store(tmp_path_factory.mktemp("cache")))) as served:
        yield served


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Six pictures, always the same: one of them gray and one as large as a photograph."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        size = (900, 600) if number == 0 else (40, 30)
        image = noise(*size, number).convert("L" if number == 1 else "RGB")
        image.save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def page(server, browser, vision_folder):
    """A visitor who has chosen the model, the box of pictures empty."""
    with visiting(browser, server[0]) as visitor:
        see(visitor, vision_folder("llava"))
        yield visitor


def see(page, folder):
    """Choose a model that sees, and take the first example out of the box."""
    assert not page.locator("#pictures").is_visible()
    choose_model(page, str(folder))
    page.locator("#pictures").wait_for()
    if example_pictures(str(folder)):
        page.locator("#pictures .caption-label").wait_for()
        page.locator("#pictures .delete-button").click(force=True)
        page.locator("#pictures .caption-label").wait_for(state="detached")


def choose_files(page, files):
    """What the button above the boxes takes: pictures to read heads on."""
    page.locator("#choose input[type=file]").first.set_input_files(files)


def put(page, box, files, n):
    """Put files into a box and wait until it shows n pictures."""
    page.locator(f"#{box} input[type=file]").set_input_files(files)
    page.wait_for_function(f"document.querySelectorAll('#{box} .caption-label').length == {n}")


def all_described(page, n):
    """Wait until a run has come to the end of n pictures."""
    page.wait_for_function(
        """n => document.querySelector('.hv-captions h4')?.textContent == 'All pictures' &&
            document.querySelectorAll('.hv-captions li').length == n""",
        arg=n,
    )


def rank(page, files):
    choose_files(page, files)
    page.wait_for_selector("#status:has-text('pictures uploaded')")
    # Words of which one head of the random model speaks far above chance on these pictures.
    page.locator("#words textarea").fill("black, in, saw")
    page.locator("#rank").click()
    page.wait_for_selector("#status:has-text('computed here')")


def describe_two(page, files, tokens):
    """Rank heads on the files, and have two of them described in so many tokens."""
    rank(page, files)
    sampling(page, tokens=tokens)
    put(page, "pictures", files[:2], 2)
    all_described(page, 2)
    settled(page)


def test_heads_are_ranked_on_pictures_and_show_where_they_look(page, files):
    rank(page, files)
    told = page.locator("#status").inner_text()
    assert f"read on {len(files)} pictures" in told
    assert f"({16 * len(files)} positions)" in told
    page.locator(".hv-map .opened").click()
    page.wait_for_selector("#samples .hv-veil i", state="attached")
    assert (
        page.locator("#samples .hv-look").count() == page.locator("#samples .hv-veil").count() > 2
    )


@pytest.fixture
def encoded(monkeypatch):
    """Digests of the pictures that a tower is shown; others are, while effects are measured."""
    seen, encode = [], Vision._encode

    def noted(vision, picture, whole):
        seen.append(picture.digest)
        return encode(vision, picture, whole)

    monkeypatch.setattr(Vision, "_encode", noted)
    return seen


def test_captions_stream_and_a_slider_never_encodes_a_picture_again(page, files, encoded):
    describe_two(page, files, 6)
    assert page.locator(".hv-totals p").count() == 3
    described = [open_picture(file).digest for file in files[:2]]
    before = [encoded.count(digest) for digest in described]
    slide(page, "#alpha", 5)
    settled(page)
    all_described(page, 2)
    assert [encoded.count(digest) for digest in described] == before
    page.locator("#pictures .delete-button").first.click(force=True)
    page.wait_for_function("document.querySelectorAll('#pictures .caption-label').length == 1")
    page.locator("#where").select_option("image")
    page.wait_for_selector("#where-told:has-text('only at the positions that hold the picture')")
    assert "Turned there alone" in page.locator("#where-told").inner_text()
    assert len(settled(page)) == 3
    assert page.locator(".hv-captions").count() == 0
    choose_model(page, "tiny-lm")
    page.locator("#pictures").wait_for(state="hidden")
    page.wait_for_function("document.querySelector('#prompt').value != ''")
    settled(page)


def test_an_answer_about_one_picture_has_its_curve_and_its_ribbon(page, server, files, encoded):
    describe_two(page, files, 4)
    assert not page.locator("#every").is_visible(), "one sentence, and there are two pictures"
    page.wait_for_timeout(1500)
    assert not page.locator(DRAWN).count()
    page.locator("#pictures .delete-button").first.click(force=True)
    page.wait_for_function("headviz.state.ask.pictures.length === 1")
    settled(page)
    found = drawn(page)
    assert found["ask"]["pictures"] == [open_picture(files[1]).digest]
    asked = Ask.from_dict(ask(page))
    pictures = (open_picture(files[1]),)
    fresh = curve(server[1], asked, None, lambda *_: None, pictures)
    for part in ("edited", "control", "now"):
        for row, other in zip(found[part], fresh[part], strict=True):
            assert row == pytest.approx(other, abs=2e-3)
    # It is of this picture: beside another the same words are not as likely.
    others = curve(server[1], asked, None, lambda *_: None, (open_picture(files[2]),))
    assert others["edited"] != fresh["edited"]
    before = encoded.count(open_picture(files[1]).digest)
    page.locator("#every").click()
    page.wait_for_selector("#ribbon tbody tr:nth-child(10)")
    page.wait_for_timeout(500)
    assert encoded.count(open_picture(files[1]).digest) == before
    assert not page.locator(".hv-error").count()


def test_a_picture_of_one_s_own_takes_the_sample_s_place(server, browser, vision_folder, files):
    with visiting(browser, server[0]) as page:
        choose_model(page, str(vision_folder("llava")))
        page.locator("#pictures .caption-label").wait_for()
        put(page, "pictures", files[:1], 1)
        page.wait_for_selector("#pictures .caption-label:has-text('0.png')")
        page.wait_for_function("headviz.state.ask.pictures.length === 1")


def test_bad_pictures_are_one_sentence_and_the_good_ones_stay(page, files, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(jpeg_of(files[0], tmp_path)[:20_000])
    Image.new("1", (30_000, 30_000)).save(tmp_path / "huge.png")
    names = ("text.png", "cut.jpg", "huge.png")
    put(page, "pictures", [files[1], *(tmp_path / name for name in names)], 1)
    error = page.locator("#pictures-part .hv-error").first
    for sentence in ("text.png is no picture", "cut.jpg is broken", "huge.png has more than"):
        assert sentence in error.inner_text()
    with zipfile.ZipFile(tmp_path / "climbs.zip", "w") as archive:
        archive.write(files[1], "../../climbs.png")
    choose_files(page, tmp_path / "climbs.zip")
    page.wait_for_selector("#status .hv-error:has-text('climbs out of it')")


def jpeg_of(file, folder):
    Image.open(file).save(folder / "whole.jpg", quality=95)
    return (folder / "whole.jpg").read_bytes()


def test_pictures_name_a_concept(page, files, tmp_path):
    clip = make_clip(tmp_path / "clip")
    page.locator("#naming button").first.click()
    page.locator("#clip input").fill(str(tmp_path / "none"))
    page.locator("#clip input").press("Enter")
    put(page, "like", files[:1], 1)
    put(page, "unlike", files[1:2], 1)
    page.locator("#propose").click()
    page.wait_for_selector("#named-by .hv-error")
    page.locator("#clip input").fill(str(clip))
    page.locator("#clip input").press("Enter")
    page.locator("#propose").click()
    page.wait_for_selector("#proposed input:checked")
    assert "1 pictures it shall be unlike" in page.locator("#named-by").inner_text()
    before = page.locator("#words textarea").input_value()
    page.locator("#use-words").click()
    page.wait_for_function(f"document.querySelector('#words textarea').value != {before!r}")


def test_the_page_fits_a_phone(server, browser, vision_folder, files):
    with visiting(browser, server[0], width=380) as visitor:
        choose_model(visitor, str(vision_folder("llava")))
        sampling(visitor, tokens=3)
        put(visitor, "pictures", files[:2], 2)
        all_described(visitor, 2)
        assert visitor.evaluate("document.documentElement.scrollWidth") <= 380
