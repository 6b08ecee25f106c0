"""Times the main job: page start, ranking from nothing and from caches, one column and three.

    python benchmarks/first_slice.py [--model tiny-lm] [--json]

Each figure stands beside a named baseline of the same run. The page's own time (until the ranked
table can be clicked) needs a browser and is measured where one is found.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import torch

from headviz.base.store import Store
from headviz.editing.control import control_of
from headviz.editing.generate import Sampling, generate
from headviz.heads.edits import NO_EDIT, Edit
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.session.session import Session

REPO = Path(__file__).resolve().parent.parent
PORT = 7899
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_ranking(model: str) -> dict[str, float]:
    """Ranking from nothing, from activations on disk, and a second concept in memory."""
    concept, other = find_concept("colors"), find_concept("animals")
    prompt_set = find_prompt_set(None, model)
    with tempfile.TemporaryDirectory() as folder:
        first = Session(Store(Path(folder)))
        first.model(model)
        nothing = seconds(lambda: first.rank(model, concept, prompt_set))
        second = Session(Store(Path(folder)))
        second.model(model)
        disk = seconds(lambda: second.rank(model, concept, prompt_set))
        memory = seconds(lambda: second.rank(model, other, prompt_set))
    return {
        "from nothing, s": nothing,
        "activations on disk, s": disk,
        "activations in memory, another concept, s": memory,
        "from nothing / on disk": nothing / disk,
    }


def time_columns(model: str, n_tokens: int = 100) -> dict[str, float]:
    """Tokens a second of one column alone and of each of three, greedy."""
    session = Session()
    loaded = session.model(model)
    top = session.rank(model, find_concept("colors"), find_prompt_set(None, model)).top(2)
    edit = Edit.of(top, -1)
    edits = [NO_EDIT, edit, control_of(loaded, edit)]
    prompt = "Story: On a sunny morning"

    def rate(rows: list[Edit]) -> float:
        steps = 0

        def run() -> None:
            nonlocal steps
            steps = sum(1 for _ in generate(loaded, [prompt] * len(rows), rows, Sampling(n_tokens)))

        taken = statistics.median(seconds(run) for _ in range(REPEATS))
        return steps / taken

    one, three = rate([NO_EDIT]), rate(edits)
    return {
        "one column, tokens/s": one,
        "three columns, tokens/s each": three,
        "three, all columns / one": 3 * three / one,
    }


def time_page() -> dict[str, float]:
    """From `python app.py` to an answering server, and to a page whose cells can be clicked."""
    sys.path.insert(0, str(REPO / "tests"))
    from find_browser import find_browser

    command = [sys.executable, "app.py", "--port", str(PORT)]
    start = time.perf_counter()
    server = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{PORT}"
        while not _answers(address):
            time.sleep(0.05)
        times = {"server answers, s": time.perf_counter() - start}
        path = find_browser()
        if path:
            from playwright.sync_api import sync_playwright

            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                page = browser.new_page()
                opened = time.perf_counter()
                page.goto(address)
                page.wait_for_selector(".hv-cell")
                times["page usable after goto, s"] = time.perf_counter() - opened
                browser.close()
            times["python app.py to usable page, s"] = (
                times["server answers, s"] + times["page usable after goto, s"]
            )
        return times
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        return urlopen(address, timeout=1).status == 200
    except (URLError, TimeoutError, ConnectionError):
        return False


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-lm")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {
        "threads": {"torch": float(torch.get_num_threads())},
        "page": time_page(),
        "ranking": time_ranking(options.model),
        "generation": time_columns(options.model),
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for group, figures in results.items():
        for name, value in figures.items():
            print(f"{group:<11} {name:<44} {value:8.2f}")


if __name__ == "__main__":
    main()
