"""What docs/security.md promises: the tests that hold it, and how each was seen to fail.

A test says `@pytest.mark.promise(what, whom, without={file: (old, new)})`: the promise, for whom it
is made, and a change to headviz's code that breaks it. `scripts/promises` makes each change in a
copy, sees the test fail there, and writes the table; a test holds the table against the marks.
`without="…"` in words is for a guard that lies outside headviz.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
DOC = REPO / "docs" / "security.md"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
BEGIN, END = "<!-- scripts/promises writes from here -->", "<!-- to here -->"


@dataclass(frozen=True)
class Promise:
    """One row."""

    what: str
    whom: str
    without: dict[str, tuple[str, str]]
    file: str
    test: str

    @property
    def row(self) -> str:
        seen = " and ".join(
            f"`{old.strip()}` → `{' '.join(new.split())}`" if new.strip() else f"no `{old}`"
            for old, new in self.without.values()
        )
        seen = seen.replace("|", "\\|")
        return f"| {self.what} | {self.whom} | {self.test} ({self.file}) | {seen} |"


def promises() -> list[Promise]:
    """All marks in the tests, in the order of files and lines; no test is imported."""
    found = []
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
                    what, whom = (ast.literal_eval(value) for value in mark.args)
                    (named,) = mark.keywords
                    without = ast.literal_eval(named.value)
                    found.append(Promise(what, whom, without, file.name, node.name))
    return found


def table() -> str:
    """The table of docs/security.md."""
    header = "| promised | for | held by | seen to fail with |\n|---|---|---|---|"
    return "\n".join((header, *(promise.row for promise in promises())))


def seen_to_fail(promise: Promise) -> bool:
    """Whether the test fails in a copy of headviz without its guard."""
    with tempfile.TemporaryDirectory(prefix="headviz-without-") as copy:
        for name in ("headviz", "toyworld", "benchmarks", "tests", "pyproject.toml", "README.md"):
            source = REPO / name
            if source.is_dir():
                shutil.copytree(source, Path(copy) / name)
            else:
                shutil.copy(source, copy)
        (Path(copy) / "assets").symlink_to(REPO / "assets")
        for file, (old, new) in promise.without.items():
            path = Path(copy) / file
            text = path.read_text(encoding="utf-8")
            assert old in text, f"{file} has no {old!r}"
            path.write_text(text.replace(old, new), encoding="utf-8")
        done = subprocess.run(
            [*PYTEST, f"tests/{promise.file}", "-k", promise.test],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": copy},
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode == 1 and "failed" in done.stdout


def main() -> int:
    """Break each guard, see its test fail, write the table; 1 where a test does not notice."""
    only, unnoticed = sys.argv[1:], 0
    for promise in promises():
        if not only or promise.test in only:
            noticed = seen_to_fail(promise)
            unnoticed += not noticed
            print(f"{'fails' if noticed else 'STILL PASSES'}: {promise.test}", flush=True)
    before, rest = DOC.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOC.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
