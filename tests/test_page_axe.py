"""What assistive technology meets: axe finds nothing, light and dark, narrow and wide."""

import pytest
from paging import choosing, settled, visiting

from headviz.base.assets import built_in_models

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


def violations(page):
    """What axe finds on what is seen, when nothing moves any more."""
    page.wait_for_function(
        "!document.getAnimations().some((one) => one.playState === 'running' "
        "&& one.effect.getComputedTiming().endTime !== Infinity)"
    )
    found = axe.Axe().run(page).response["violations"]
    return [
        (one["id"], one["impact"], [node["target"] for node in one["nodes"]][:4]) for one in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(server, browser, scheme, width):
    with visiting(browser, server[0], width, color_scheme=scheme) as page:
        page.wait_for_selector(".hv-map .hv-cell")
        page.locator(".hv-chip").first.click()
        page.locator("#fewer").click()
        settled(page)
        page.locator("#chat summary").click()
        page.wait_for_selector(".hv-sent")
        choosing(page)
        assert violations(page) == []
        page.get_by_role("tab", name="Lessons").click()
        page.locator(".hv-lesson summary").nth(3).click()
        page.locator(".hv-lesson[open] [data-right=true]").click()
        assert violations(page) == []
        page.get_by_role("tab", name="Studies").click()
        page.locator("#study-run").wait_for()
        assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nor_where_two_edits_stand_side_by_side_and_the_curve_is_drawn(
    server, browser, scheme, width
):
    with visiting(browser, server[0], width, color_scheme=scheme) as page:
        page.wait_for_selector(".hv-map .hv-cell")
        page.locator("#up").click()
        settled(page)
        page.locator("#edits").click()
        page.locator("#history [data-beside]").first.click()
        page.wait_for_selector("#curve-told:not(:empty)")
        assert page.locator(".hv-column.beside").count() == 1
        assert violations(page) == []
