"""The page for hands, eyes and ears of every kind: keys alone, large letters, calm, read aloud."""

import re
import time

import pytest
from paging import change, settled, visiting

from headviz.base.assets import built_in_models
from headviz.page import head
from headviz.session.shipped import load_shipped

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


FOCUSED = """() => {
    const one = document.activeElement;
    const style = getComputedStyle(one);
    return [one.id || one.className || one.tagName,
            style.outlineStyle !== 'none' || style.boxShadow !== 'none'];
}"""


def test_by_keys_alone_one_asks_turns_and_opens_and_always_sees_where_one_is(page):
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, is_marked = page.evaluate(FOCUSED)
        seen.append(name)
        assert is_marked, f"no mark where the focus is: {seen}"
        if name == "alpha":
            page.keyboard.press("Home")
            page.wait_for_function("Object.values(headviz.state.ask.heads)[0] === -3")
        if "hv-cell" in name:
            break
    order = ["change", "prompt", "examples-menu", "alpha", "down", "up", "reset"]
    assert [name for name in seen if name in order] == order
    assert "hv-cell" in seen[-1], "the map cannot be reached"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.hv-map .opened:focus')")
    page.keyboard.press("Tab")
    assert "hv-cell" not in page.evaluate(FOCUSED)[0], "the map takes more than one Tab"
    settled(page)


def test_a_list_of_heads_that_is_drawn_anew_keeps_the_focus(page):
    focused = "[document.activeElement.dataset.remove, document.activeElement.dataset.one].join('')"
    for button in ("[data-remove='L0.H56']", "[data-one='L0.H56']"):
        page.locator(button).focus()
        page.evaluate("headviz.tell()")  # as answers do that come in the meantime
        assert page.evaluate(focused) == "L0.H56"
    page.locator("[data-remove='L0.H56']").press("Enter")
    assert page.evaluate("Boolean(document.activeElement.closest('.hv-heads'))")
    settled(page)


def test_the_map_is_read_aloud_as_a_grid_of_heads_with_their_scores(page):
    read = page.locator(".hv-map").aria_snapshot().replace("'", "")  # YAML's own
    assert re.match(r'- grid "Heads: 5 layers by 64 heads\. Arrow keys', read)
    cells = re.findall(r'gridcell "([^"]*)"', read)
    assert len(re.findall(r"- row\b", read)) == 5 and len(cells) == 320
    assert 'rowheader "Layer 0"' in read
    top = str(load_shipped("tiny-lm").ranking("colors").top(1)[0])
    told = next(cell for cell in cells if cell.startswith(f"{top}:"))
    assert re.search(rf"{top}: \d+% of its variance, chance \d+%, turned to -1, open", told)


def test_the_answers_are_read_aloud_as_three_named_texts(page):
    read = page.locator("#answers").aria_snapshot()
    assert 'region "Answers"' in read
    for title in ("Original", "Edited", "Random control"):
        assert f'heading "{title}"' in read
    assert "deletion" in read and "insertion" in read, "what changed is not told as such"


@pytest.mark.parametrize(("width", "height"), [(640, 400), (320, 568), (1920, 1080)])
def test_nothing_is_cut_off_at_200_percent_on_the_smallest_phone_and_on_a_large_screen(
    server, browser, width, height
):
    scale = {"device_scale_factor": 2} if width < 1000 else {}
    with visiting(browser, server[0], width, height, **scale) as page:
        page.wait_for_selector(".hv-map .hv-cell")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for part in ("#prompt", "#answers", "#alpha", "#down", ".hv-map", "#head-title"):
            box = page.locator(part).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width + 1, part
            assert box["width"] > 40, part


def test_who_wants_no_motion_gets_none(server, browser):
    moving = "document.getAnimations().filter((one) => one.playState === 'running').length"
    for wish, expected in (("reduce", False), ("no-preference", True)):
        with visiting(browser, server[0], reduced_motion=wish) as page:
            page.locator("#sampling summary").click()
            change(page, "#tokens", 300)
            change(page, "#prompt", "Story: On a sunny morning")
            page.wait_for_selector(".hv-caret", state="attached")
            if expected:
                page.wait_for_function(f"{moving} > 0")
            else:
                assert page.evaluate(moving) == 0
            change(page, "#tokens", 4)


def test_the_strongest_samples_are_tinted_where_the_head_writes(page, server):
    page.locator('.hv-map .hv-cell[data-layer="0"][data-head="51"]').click()
    page.wait_for_selector("#head-title:has-text('L0.H51')")
    page.wait_for_selector("#samples .hv-tint")
    sample = load_shipped("tiny-lm").ranking("colors").top(1)
    assert sample
    first = page.locator("#samples li").first
    text = first.inner_text()
    strongest = first.locator(".hv-tint").evaluate_all(
        "all => all.find((one) => one.style.getPropertyValue('--t') === '1.00').textContent"
    )
    assert strongest.strip() and strongest.strip() in text
    assert page.locator("#samples .hv-tint.about").count(), "the concept's words are not marked"


@pytest.mark.parametrize("late", ["draw", "maps_of"])
def test_of_heads_opened_in_quick_succession_the_last_is_shown_and_looked_at(
    page, monkeypatch, late
):
    """Each is asked for while the one before it is still drawn, or looked at."""
    work, begun = getattr(head, late), []

    def slowly(*args):
        begun.append(args)
        time.sleep(0.5)
        return work(*args)

    monkeypatch.setattr(head, late, slowly)
    settled(page)
    for layer, number in ((1, 5), (2, 7), (0, 51)):
        page.locator(f'.hv-map .hv-cell[data-layer="{layer}"][data-head="{number}"]').click()
        if late == "maps_of":
            page.wait_for_selector(f"#head-title[data-head='L{layer}.H{number}']")
        while not begun:
            page.wait_for_timeout(20)
    page.wait_for_selector("#head-title[data-head='L0.H51']")
    page.wait_for_selector("#samples .hv-tint")


def test_a_head_has_a_name_in_words_and_a_link(page, server, browser):
    page.locator('.hv-map .hv-cell[data-layer="2"][data-head="55"]').click()
    page.wait_for_selector("#head-title:has-text('“November, August, September”')")
    address = page.locator("#head-title a").get_attribute("href")
    assert address == "?model=tiny-lm&concept=colors&head=L2.H55"
    with visiting(browser, server[0] + address) as other:
        other.wait_for_selector("#head-title:has-text('L2.H55')")
    page.locator("#search-word").fill("august")
    page.locator("#search button").click()
    page.wait_for_selector("#found li:has-text('L2.H55'):has-text('“November, August, September”')")


def test_one_predicts_which_head_is_needed_before_it_is_shown(page):
    assert not page.locator("#predict button").count(), "asked before anything was measured"
    page.evaluate(
        """() => { headviz.effects.known.measured = {
            'L0.H51': [1.2, 0.9, 1.5, 0.1, 0.05, 0.2, 40],
            'L0.H56': [0.001, -0.01, 0.01, 0, 0, 0.01, 40],
            'L0.H5': [0.002, -0.01, 0.012, 0, 0, 0.01, 40] }; }"""
    )
    page.locator('#map-switch [data-map="writes"]').click()
    page.locator("#predict button").click()
    options = page.locator("#predict [data-option]")
    assert options.all_inner_texts() == ["L0.H5", "L0.H51", "L0.H56"]
    assert not page.locator("#causes").is_visible(), "the answer stands beside the question"
    options.nth(0).click()
    assert "No." in page.locator("#predict .hv-verdict").inner_text()
    told = page.locator("#predict .hv-after li").all_inner_texts()
    assert len(told) == 3 and "1.2 nats lost" in told[1]
    assert page.locator("#causes").is_visible()


@pytest.mark.parametrize("far", [0.12, 7.4, 400])  # nats: how far a rival moves everything else
@pytest.mark.parametrize(  # nats lost
    "gains", [(1, 1.02, 0.98), (0, 0.02, -0.02), (1, 4.5, 12), (0.1, -9, -0.2)]
)
def test_nothing_written_in_the_chart_of_a_search_lies_over_anything_else(page, gains, far):
    written, crossed = page.evaluate(
        """([gains, far]) => {
        const element = document.body.appendChild(document.createElement('div'));
        element.innerHTML = '<div class="hv-find"></div>';
        const row = (name, need, side) => ({ name, need: [need, need, need],
          side: [side, side, side], edit: { 'L0.H1': 0 } });
        const sides = [.1, .11, far];
        const rows = ['found', 'pursuit', 'attribution']
          .map((name, n) => row(name, gains[n], sides[n]));
        const found = { rows, places: 9, random: [[.5, far]], random_gain: .5,
          random_side: far };
        const search = { towards: 'weaker', heads: 1, side_effects: .1 };
        const value = { stamp: 'one', running: false, share: 1, edit: {}, curve: [[1, .1]], key: '',
          code: '', search, found };
        headviz.find({ element, trigger: () => {}, props: { value }, watch: () => {} });
        const boxes = [...element.querySelectorAll('.hv-curve text')]
          .map((one) => [one.textContent, one.getBoundingClientRect()]);
        // a line's box is higher than its letters by some 3 px
        const over = (a, b) => a.left < b.right && b.left < a.right
          && a.top < b.bottom - 3 && b.top < a.bottom - 3;
        const crossed = boxes.flatMap(([one, a], n) => boxes.slice(n + 1)
          .filter(([, b]) => over(a, b)).map(([other]) => `${one} | ${other}`));
        element.remove();
        return [boxes.map(([one]) => one), crossed]; }""",
        [gains, far],
    )
    assert {"found", "ranking", "gradient", ".10 allowed"} < set(written)
    assert not crossed
