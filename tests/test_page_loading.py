"""Loading on the page: a model of the hub is fetched with progress, and stopped half-way."""

import pytest
from paging import choose_model, choosing, serving, visiting
from PIL import Image
from tiny_clips import make_clip

from headviz.base.assets import built_in_models
from headviz.base.store import Store
from headviz.session.session import Session

pytest_plugins = ["loaded", "seeing", "fake_hub"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


def test_a_download_is_shown_stopped_and_leaves_the_page_as_it_was(hub, heavy, browser, tmp_path):
    session = Session(Store(tmp_path / "cache"), device="cpu")
    with serving(session) as (url, _), visiting(browser, url) as page:
        choosing(page)
        choose_model(page, "tiny/heavy")
        page.wait_for_selector("text=/downloading tiny.heavy: (8|10) MB of 26 MB/")
        page.locator("#stop-rank").click()
        page.wait_for_selector("text=/The loading was stopped/")
        hub.stall.clear()
        hub.go_on.set()
        page.wait_for_function("document.querySelector('#model input').value != 'tiny/heavy'")
        choose_model(page, "tiny/heavy")  # the rest is fetched
        page.wait_for_selector("#summary:has-text('12 heads')")


def test_a_model_chosen_while_another_loads_takes_its_place(hub, heavy, browser, tmp_path):
    hub.folders["tiny/other"] = heavy
    session = Session(Store(tmp_path / "cache"), device="cpu")
    with serving(session) as (url, _), visiting(browser, url) as page:
        choosing(page)
        for name in ("heavy", "other"):
            choose_model(page, f"tiny/{name}")
            page.wait_for_selector(f"text=/downloading tiny.{name}: (8|10) MB of 26 MB/")
        page.wait_for_timeout(500)
        assert page.get_by_text("The loading was stopped").count() == 0, "nobody stopped it"
        hub.stall.clear()
        hub.go_on.set()
        page.wait_for_selector("#summary:has-text('12 heads')")


def test_a_clip_model_that_names_a_concept_is_fetched_with_progress(
    hub, browser, tmp_path, vision_folder
):
    hub.folders["tiny/clip"] = make_clip(tmp_path / "clip", width=512, head_width=64)
    hub.stall.set()
    Image.new("RGB", (24, 24), "red").save(tmp_path / "red.png")
    session = Session(Store(tmp_path / "cache"), device="cpu")
    with serving(session) as (url, _), visiting(browser, url) as page:
        choosing(page)
        choose_model(page, str(vision_folder("llava")))
        page.locator("#naming button").first.click()
        page.locator("#like input[type=file]").first.set_input_files(tmp_path / "red.png")
        page.locator("#like .caption-label").wait_for()
        page.locator("#clip input").fill("hf-hub:tiny/clip")
        page.locator("#clip input").press("Enter")
        page.locator("#propose").click()
        page.wait_for_selector("text=/downloading tiny.clip: .* MB of .* MB/")
        page.locator("#stop-naming").click()
        page.wait_for_selector("text=/Finding words was stopped/")
        hub.stall.clear()
        hub.go_on.set()
        page.locator("#propose").click()  # the rest is fetched
        page.wait_for_selector("#proposed input:checked")
