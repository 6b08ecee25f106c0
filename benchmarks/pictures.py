"""Times pictures: a slider's release to changed words on the page, and memory of 200 pictures read.

    python benchmarks/pictures.py [--model tiny-vlm] [--pictures 200] [--json]

The page's part needs a browser and is left out where none is found.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from headviz.heads.capture import capture
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.models.load import load_model
from toyworld.pictures.content import pictures
from toyworld.pictures.drawing import draw

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "tests"))
SIDE = 960  # pixels of the pictures read for memory, as photographs from a web page
REPEATS = 5
COLUMN = 1  # the edited one
WATCH = """column => {
    const said = () => {
        const text = document.querySelectorAll('.hv-column')[column]
            ?.querySelector('.hv-text')?.cloneNode(true);
        text?.querySelectorAll('.hv-caret').forEach(caret => caret.remove());
        return (text?.textContent ?? '').trim();
    };
    window.said = [];
    window.released = null;
    addEventListener('pointerup', () => { window.released = performance.now(); }, true);
    new MutationObserver(() => window.said.push([performance.now(), said()])).observe(
        document.body, {childList: true, subtree: true, characterData: true});
}"""


def memory(model: str, n: int) -> dict[str, float]:
    """Peak memory of a process that loads the model, and of one that then reads `n` pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for number, picture in enumerate(islice(pictures(5), n)):
            draw(picture, SIDE).save(Path(folder) / f"{number:03}.png")
        loaded = _peak(model, folder, 0)
        read = _peak(model, folder, n)
    return {
        "model loaded, MiB": loaded,
        f"{n} pictures read, peak MiB": read,
        "read / loaded": read / loaded,
    }


def _peak(model: str, folder: str, n: int) -> float:
    """MiB at the peak of a fresh process that reads the first `n` pictures of the folder."""
    command = [sys.executable, __file__, "--model", model, "--read", folder, "--pictures", str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def read(model: str, folder: str, n: int) -> None:
    """Load, read `n` pictures as the product does, and print the peak of this process in MiB."""
    loaded = load_model(model)
    if n:
        capture(loaded, find_prompt_set(folder, model))
    # Not resource.getrusage: its peak is inherited from the process that started this one.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak, "Linux alone tells a process its peak"
    print(int(peak[1]) / 1024)


def sliders(model: str) -> dict[str, float]:
    """Milliseconds from the release of the slider of all heads to the first and last new word."""
    from find_browser import find_browser

    path = find_browser()
    if not path:
        return {}
    from paging import drag, finished, generate, mark_texts, serving, visiting
    from playwright.sync_api import sync_playwright

    from headviz.session.session import Session

    first, last = [], []
    with serving(Session()) as (url, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with visiting(browser, url) as page:
            page.locator("#model input").fill(model)
            page.locator("#model input").press("Enter")
            page.locator("#pictures .caption-label").wait_for()
            generate(page)
            page.evaluate(WATCH, COLUMN)
            for number in range(2 * REPEATS):
                mark_texts(page)
                page.evaluate("window.said = []")
                drag(page, "#alpha", 0.0 if number % 2 else 0.36)
                finished(page)
                times = _changes(page.evaluate("[window.released, window.said]"))
                if times:
                    first.append(times[0])
                    last.append(times[1])
        browser.close()
    if not first:
        return {"changed captions": 0.0}
    return {
        "changed captions": float(len(first)),
        "first changed word, ms": statistics.median(first),
        "last changed word, ms": statistics.median(last),
    }


def _changes(watched: tuple[float, list[tuple[float, str]]]) -> tuple[float, float] | None:
    """When the text first was no beginning of the old one, and when it last changed."""
    released, said = watched
    before = [text for when, text in said if when <= released]
    after = [(when, text) for when, text in said if when > released]
    old = before[-1] if before else ""
    new = [when for when, text in after if not old.startswith(text)]
    grown = [
        when for (when, text), (_, past) in zip(after[1:], after, strict=False) if text != past
    ]
    return (new[0] - released, grown[-1] - released) if new and grown else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-vlm")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.read:
        read(options.model, options.read, options.pictures)
        return
    results = {
        "slider": sliders(options.model),
        "memory": memory(options.model, options.pictures),
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for group, figures in results.items():
        for name, value in figures.items():
            print(f"{group:<8} {name:<32} {value:8.1f}")


if __name__ == "__main__":
    main()
