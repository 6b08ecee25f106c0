"""The shape of the code: what may import what, who sets hooks, what files may not hold."""

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError
from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "headviz"

ROOMS = [
    "base",
    "inputs",
    "models",
    "heads",
    "pursuit",
    "editing",
    "clip",
    "session",
    "cli",
    "studies",
    "page",
]
"""Rooms of headviz, in the way of the data: one imports only itself and what stands before it."""
ABOVE = ["__init__", "__main__"]
"""What is handed on to Python and to the command line: they may import every room but the page."""
DOOR = ("headviz.__main__", "headviz.page.launch")
"""The command that opens the page; gradio comes in with the page itself, once it is opened."""
HOOK_OWNERS = {"headviz/heads", "headviz/clip"}
"""Who sets torch hooks: heads, and clip, whose towers have a norm and a projection of their own."""

PAGE_ONLY = {"gradio", "plotly", "pandas"}
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:(?:work|root)\b|(?:home|Users|opt)/\w)")
REGISTRY = re.compile(
    r"pypi[.]org|pythonhosted[.]org|download[.]pytorch[.]org|anaconda[.]org|npmjs[.]org"
    r"|index[-_]url|find[-_]links",
    re.IGNORECASE,
)

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(REPO)))


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


def room_of(name: str) -> str:
    """The room of a dotted name under headviz; what lies in none is `__init__` or `__main__`."""
    parts = name.split(".")[1:]
    if parts and (PACKAGE / parts[0]).is_dir():
        return parts[0]
    return "__main__" if parts[:1] == ["__main__"] else "__init__"


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


def test_the_rooms_are_those_that_are_listed():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(ROOMS)
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ABOVE)


@each_file
def test_imports_point_one_way(file):
    order = [*ROOMS[:-1], *ABOVE, "page"]
    own = room_of(module_of(file))
    wrong = [
        f"line {line}: {own} imports {name}, whose room comes later"
        for line, name in imported(file)
        if name.split(".")[0] == "headviz" and order.index(room_of(name)) > order.index(own)
        if (module_of(file), name) != DOOR
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_imported_by_what_it_imports():
    """No cycle between files, inside a room either."""
    modules = {module_of(file): file for file in FILES}
    needs = {}
    for module, file in modules.items():
        named = {name for _, name in imported(file)}
        owners = {name if name in modules else name.rpartition(".")[0] for name in named}
        needs[module] = {name for name in owners if name in modules and name != module}
    graphlib.TopologicalSorter(needs).prepare()  # CycleError names the cycle


@each_file
def test_headviz_needs_nothing_that_lies_beside_it(file):
    beside = {"toyworld", "benchmarks", "tests", "app"}
    wrong = [f"line {n}: {name}" for n, name in imported(file) if name.split(".")[0] in beside]
    assert not wrong, "\n".join(wrong)


@each_file
def test_the_core_knows_no_page(file):
    if room_of(module_of(file)) == "page":
        return
    wrong = [
        f"line {line}: {name}" for line, name in imported(file) if name.split(".")[0] in PAGE_ONLY
    ]
    assert not wrong, "\n".join(wrong)


@each_file
def test_only_their_owners_set_hooks(file):
    setters = [
        f"line {node.lineno}: {node.func.attr}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and re.fullmatch(r"register_\w*hook", node.func.attr)
    ]
    owned = any(file.is_relative_to(REPO / owner) for owner in HOOK_OWNERS)
    assert owned or not setters, "\n".join(setters)


def demanded(part: str = "") -> list[str]:
    """The packages of requirements.txt, or of the one part of it under the comment `# part: …`."""
    parts = (REPO / "requirements.txt").read_text(encoding="utf-8").split("\n\n")
    lines = [line for text in parts if text.startswith(f"# {part}") for line in text.splitlines()]
    return [Requirement(line.split("#")[0]).name for line in lines if not line.startswith("#")]


def of_extras() -> list[str]:
    """The packages of pyproject.toml's extras, headviz itself left out."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    return [name for name in (Requirement(line).name for line in extras) if name != "headviz"]


def test_every_package_that_is_imported_is_demanded_itself():
    """Not only by another package, which may leave it out some day."""
    declared = {canonical(name) for name in [*demanded(), *of_extras()]}
    known = {*sys.stdlib_module_names, "headviz"}
    wrong = {
        f"{module_of(file)} line {line}: {name}"
        for file in FILES
        for line, name in imported(file)
        if (top := name.split(".")[0]) not in known
        and declared.isdisjoint(map(canonical, offered().get(top, [])))
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_the_core_imports_with_its_own_requirements_alone():
    modules = [module_of(file) for file in FILES if room_of(module_of(file)) != "page"]
    hidden = sorted(names_outside(closure(demanded("core"))))
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
