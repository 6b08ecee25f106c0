"""The shape of the code: what may import what, how long things may be, what files may not hold."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError
from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "headviz"

ORDER = [
    "errors",
    "shapes",
    "progress",
    "memory",
    "weights",
    "heads",
    "recent",
    "images",
    "albums",
    "families",
    "norms",
    "devices",
    "vision",
    "loaded",
    "layout",
    "prompts",
    "forward",
    "seam",
    "edits",
    "watching",
    "trial",
    "laws",
    "survival",
    "checking",
    "discovery",
    "fetching",
    "hub",
    "download",
    "plan",
    "reading",
    "shelf",
    "models",
    "probes",
    "capture",
    "patches",
    "store",
    "concepts",
    "clip_files",
    "clip",
    "clip_tower",
    "similarity",
    "dictionary",
    "workers",
    "products",
    "statistics",
    "prepared",
    "precision",
    "picks",
    "stored",
    "bounded",
    "pursuit",
    "span",
    "bootstrap",
    "criteria",
    "ranking",
    "naming",
    "spectrum",
    "spectra",
    "generation",
    "measures",
    "comparison",
    "recipe_schema",
    "recipe",
    "clip_heads",
    "zero_shot",
    "towers",
    "tower_laws",
    "tables",
    "saving",
    "snippets",
    "plain_snippet",
    "checkpoint_card",
    "checkpoint",
    "results",
    "session",
    "shipped",
    "naming_command",
    "edit_command",
    "bench",
    "commands",
    "console",
    "__init__",
    "toyworld",
    "experiments",
    "__main__",
    "ui",
]
"""A module (or folder) of headviz imports only what stands before it. New ones go in here."""

CORE_REQUIREMENTS = ["torch", "transformers", "numpy", "safetensors", "pillow"]
PAGE_ONLY = {"gradio", "plotly", "pandas"}
LONGEST_FILE = 250
LONGEST_FUNCTION = 60

MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:(?:work|root)\b|(?:home|Users|opt)/\w)")
REGISTRY = re.compile(
    r"pypi[.]org|pythonhosted[.]org|download[.]pytorch[.]org|anaconda[.]org|npmjs[.]org"
    r"|index[-_]url|find[-_]links",
    re.IGNORECASE,
)

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(REPO)))


def noun(parts: tuple[str, ...]) -> str:
    """The entry of ORDER that a module under headviz belongs to: ("ui", "page") -> "ui"."""
    return parts[0].removesuffix(".py") if parts else "__init__"


def place(name: str) -> int:
    assert name in ORDER, (
        f"headviz has a new module {name!r}: add it to ORDER in tests/test_boundaries.py, "
        "after everything that it imports."
    )
    return ORDER.index(name)


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import in a file, those inside functions too."""
    package = file.relative_to(REPO).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def imported_nouns(file: Path) -> Iterator[tuple[int, str]]:
    """(line, entry of ORDER) of every import of headviz in a file."""
    for line, name in imported(file):
        top, *rest = name.split(".")
        if top == "headviz":
            inside = rest and ((PACKAGE / rest[0]).is_dir() or (PACKAGE / f"{rest[0]}.py").exists())
            # `from headviz import rank` takes what __init__ offers.
            yield line, noun(tuple(rest) if inside or len(rest) > 1 else ())


@each_file
def test_imports_point_one_way(file):
    own = noun(file.relative_to(PACKAGE).parts)
    wrong = [
        f"line {line}: {own} imports {name}, which comes later in ORDER"
        for line, name in imported_nouns(file)
        if name != own and place(name) > place(own)
    ]
    assert place(own) >= 0
    assert not wrong, "\n".join(wrong)


@each_file
def test_the_core_knows_no_page(file):
    if noun(file.relative_to(PACKAGE).parts) == "ui":
        return
    wrong = [
        f"line {line}: {name}"
        for line, name in imported(file)
        if name.split(".")[0] in PAGE_ONLY or f"{name}.".startswith("headviz.ui.")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_with_its_own_requirements_alone():
    modules = [
        ".".join(file.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
        for file in FILES
        if noun(file.relative_to(PACKAGE).parts) != "ui"
    ]
    hidden = sorted(names_outside(closure(CORE_REQUIREMENTS)))
    assert {*hidden} >= PAGE_ONLY, "this environment cannot prove it: the page is not installed"
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT, json.dumps(hidden), json.dumps(modules)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


IMPORT_WITHOUT = """
import importlib, json, sys, traceback
from importlib.machinery import PathFinder

hidden, modules = map(json.loads, sys.argv[1:])

class Without(PathFinder):
    # Answers as if what is hidden were not installed; raising would break `find_spec` of others.
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] in hidden:
            return None
        return super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
failed = 0
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError:
        failed += 1
        print(f"{module} does not import:", *traceback.format_exc().splitlines()[-3:], sep="\\n")
sys.exit(failed > 0)
"""


@cache
def offered() -> dict[str, list[str]]:
    """Top-level name that can be imported -> distributions that offer it."""
    return dict(metadata.packages_distributions())


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: list[str]) -> set[str]:
    """The distributions `names` with all they need, extras left out."""
    found: set[str] = set()
    todo = [canonical(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # another platform's
        found.add(name)
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(canonical(need.name))
    return found


def names_outside(allowed: set[str]) -> Iterator[str]:
    """Installed top-level names that no allowed distribution offers."""
    for name, distributions in offered().items():
        if name != "headviz" and allowed.isdisjoint(map(canonical, distributions)):
            yield name


@each_file
def test_no_file_holds_two_nouns(file):
    n_lines = len(file.read_text(encoding="utf-8").splitlines())
    assert n_lines <= LONGEST_FILE, f"{n_lines} lines; {LONGEST_FILE} at most: split it in two."


@each_file
def test_no_function_holds_another(file):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"line {node.lineno}: {node.name} has {n_lines} lines, {LONGEST_FUNCTION} at most"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
        and (n_lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def committed() -> list[Path]:
    """Files that git holds or would take; the test skips outside a git checkout."""
    # A checkout that belongs to somebody else (a container's volume) is read as well.
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    command = [*git, "--cached", "--others", "--exclude-standard"]
    if not (REPO / ".git").exists():
        pytest.skip("this copy is no git checkout")
    done = subprocess.run(command, cwd=REPO, capture_output=True, check=True)
    files = (REPO / name for name in done.stdout.decode().split("\0") if name)
    return [file for file in files if file.is_file() and not file.is_symlink()]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [(MACHINE_PATH, "a path of one machine"), (REGISTRY, "a package registry's address")],
    ids=["machine paths", "registries"],
)
def test_no_committed_file_names_a_machine(pattern, what):
    wrong = []
    for file in committed():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights, pictures
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                wrong.append(f"{file.relative_to(REPO)}:{number} holds {what}: {match[0]}")
    assert not wrong, "\n".join(wrong)


def test_shapes_and_types_are_checked_in_the_test_run():
    from headviz.base.head import parse_factor

    with pytest.raises(TypeCheckError):
        parse_factor(3)
