"""A visitor's hands and eyes: what the tests of the page do in a real browser.

A test file whose visitors are on the page over tiny-lm takes the fixtures `server` and `page` with
`pytest_plugins = ["paging"]`.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headviz.base.store import Store
from headviz.session.session import Session

WAIT = 60_000  # ms; a busy machine of two cores
DRAWN = "#curve-told:not(:empty)"
"""The sentence of a curve above the knob."""


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
def slowly(session, seconds: float = 0.3) -> Iterator[list[int]]:
    """tiny-lm takes so long for a pass that a visitor's hand is in time; yields one for each."""
    layer, passes = session.model("tiny-lm").layers[0], []
    handle = layer.register_forward_hook(lambda *_: (passes.append(1), time.sleep(seconds))[1])
    try:
        yield passes
    finally:
        handle.remove()


@contextmanager
def visiting(browser, url: str, width: int = 1280, height: int = 800, **options) -> Iterator:
    """A visitor's page; at its end the console must have been silent and no other host asked."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    visitor = context.new_page()
    trouble: list[str] = []
    visitor.on("console", lambda m: trouble.append(m.text) if m.type == "error" else None)
    visitor.on("pageerror", lambda error: trouble.append(str(error)))
    outside = re.compile(r"^https?://(?!127\.0\.0\.1)")
    visitor.on("request", lambda r: trouble.append(r.url) if outside.match(r.url) else None)
    visitor.set_default_timeout(WAIT)
    visitor.goto(url)
    visitor.wait_for_selector("#knobs .hv-ask")
    yield visitor
    context.close()
    assert not trouble, trouble


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator:
    """The page over tiny-lm on a free port of this process: its URL and its session."""
    store = Store(tmp_path_factory.mktemp("cache"))
    with serving(Session(store=store, allowed=["tiny-lm"])) as served:
        yield served


@pytest.fixture
def page(server, browser) -> Iterator:
    """A visitor of that page, the map drawn."""
    with visiting(browser, server[0]) as visitor:
        visitor.wait_for_selector(".hv-map .hv-cell")
        yield visitor


def texts(page) -> list[str]:
    """What the three answers say."""
    return page.eval_on_selector_all(".hv-text", "all => all.map(one => one.textContent.trim())")


SETTLED = """() => {
    const { state, key } = window.headviz;
    return state.done && !state.running && state.shown === key(state.ask);
}"""


def settled(page) -> list[str]:
    """Wait until the answers on the page are those to what is asked; what they say."""
    page.wait_for_function(SETTLED)
    return texts(page)


def drawn(page) -> dict:
    """Wait for the curve of what is asked; what it is drawn from."""
    page.wait_for_function(
        """() => { const found = window.headviz.curveShown;
            return found && headviz.key(found.ask) === headviz.key(headviz.state.ask); }"""
    )
    return page.evaluate("headviz.curveShown")


def ask(page) -> dict:
    """What is asked."""
    return page.evaluate("window.headviz.state.ask")


def change(page, selector: str, value: object) -> None:
    """Put a value into a field as a person's typing does."""
    page.locator(selector).fill(str(value))


def sampling(page, **values: object) -> None:
    """Set numbers of the sampling: tokens, temperature, seed, control_seed."""
    if not page.locator("#tokens").is_visible():
        page.locator("#sampling summary").click()
    for name, value in values.items():
        change(page, f"#{name.replace('_', '-')}", value)


def slide(page, selector: str, value: float) -> None:
    """Move a slider's knob to a value, as a drag does."""
    page.locator(selector).fill(str(value))


def choosing(page) -> None:
    """Open the choices."""
    if not page.locator("#choose").is_visible():
        page.locator("#change").click()
    page.locator("#choose").wait_for()


def pick(page, what: str, name: str) -> None:
    """Choose an entry of a dropdown among the choices."""
    choosing(page)
    page.locator(f"#{what} input").click()
    page.get_by_role("option", name=name, exact=True).click()


def choose_model(page, name: str) -> None:
    """Write a model's name among the choices."""
    choosing(page)
    page.locator("#model input").fill(name)
    page.locator("#model input").press("Enter")
