"""A visitor's hands and eyes: what the tests of the page do in a real browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

WAIT = 60_000  # ms; a busy machine of two cores


@contextmanager
def serving(session) -> Iterator:
    """The page over this session on a free port of this process: its URL and the session."""
    from headviz.page.page import build_page, launch_options

    blocks = build_page(session)
    options = {"prevent_thread_lock": True, "quiet": True, "max_file_size": "200mb"}
    _, url, _ = blocks.launch(server_name="127.0.0.1", **options, **launch_options())
    yield url, session
    blocks.close()


@contextmanager
def visiting(browser, url: str, width: int = 1280) -> Iterator:
    """A visitor's page; at its end the console must have been silent and no other host asked."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    visitor = context.new_page()
    trouble: list[str] = []
    visitor.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    visitor.on("pageerror", lambda error: trouble.append(str(error)))
    outside = re.compile(r"^https?://(?!127\.0\.0\.1)")
    visitor.on("request", lambda r: trouble.append(r.url) if outside.match(r.url) else None)
    visitor.set_default_timeout(WAIT)
    visitor.goto(url)
    yield visitor
    context.close()
    assert trouble == []


def texts(page):
    """What the three columns say after the prompt."""
    return page.eval_on_selector_all(
        ".hv-column",
        """columns => columns.map(c => {
            const text = c.querySelector('.hv-text'); if (!text) return '';
            return text.textContent.slice(c.querySelector('.hv-prompt').textContent.length); })""",
    )


NEW_TEXTS = """() => {
    const columns = [...document.querySelectorAll('.hv-column')];
    return columns.length == 3 && !document.querySelector('.hv-caret') &&
        columns.every(column => !column.dataset.old && column.querySelector('.hv-facts'));
}"""


def mark_texts(page):
    """Let `finished` tell the texts that stand there from those of the next run."""
    page.evaluate("document.querySelectorAll('.hv-column').forEach(c => (c.dataset.old = '1'))")


def finished(page):
    """Wait until a run after `mark_texts` has ended."""
    page.wait_for_function(NEW_TEXTS)


def generate(page):
    """Press Generate and wait for the end."""
    mark_texts(page)
    page.locator("#generate").click()
    finished(page)


def reset(page):
    """Put all factors to 1."""
    page.locator("#reset").click()
    for slider in ("#alpha", "#alpha-0", "#alpha-2"):
        number = f"document.querySelector('{slider} input[type=number]').value"
        page.wait_for_function(f"{number} == '1'")


def pick(page, what, name):
    """Choose an entry of a dropdown."""
    page.locator(f"#{what} input").click()
    page.get_by_role("option", name=name, exact=True).click()


def drag(page, slider, share):
    """Drag a slider's knob to this share of its way and let go."""
    knob = page.locator(f"{slider} input[type=range]")
    knob.scroll_into_view_if_needed()
    box = knob.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + share * box["width"], middle, steps=4)
    page.mouse.up()
