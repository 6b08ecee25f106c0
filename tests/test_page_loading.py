"""Loading on the page: a model of the hub is fetched with progress, and stopped half-way."""

import pytest
from paging import pick, serving, visiting

from headviz.models import built_in_models
from headviz.session import Session
from headviz.store import Store

pytest_plugins = ["loaded", "fake_hub"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


def test_a_download_is_shown_stopped_and_leaves_the_page_as_it_was(hub, heavy, browser, tmp_path):
    session = Session(Store(tmp_path / "cache"), device="cpu")
    with serving(session) as (url, _), visiting(browser, url) as page:
        page.wait_for_selector(".hv-cell")
        assert not page.locator("#stop-loading").is_visible()
        page.locator("#model input").fill("tiny/heavy")
        page.locator("#model input").press("Enter")
        page.wait_for_selector("text=/downloading tiny.heavy: (8|10) MB of 26 MB/")
        page.locator("#stop-loading").click()
        page.wait_for_selector("text=/The loading was stopped/")
        page.wait_for_selector("#stop-loading", state="hidden")
        assert "built in" in page.locator("#summary").inner_text()
        hub.stall.clear()
        hub.go_on.set()
        pick(page, "model", "tiny-lm")
        page.wait_for_selector("#summary:has-text('320 heads')")
        page.locator("#model input").fill("tiny/heavy")
        page.locator("#model input").press("Enter")  # the rest is fetched
        page.wait_for_selector("#summary:has-text('12 heads')")
        page.wait_for_selector("#stop-loading", state="hidden")
