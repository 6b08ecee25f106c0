"""README says what the program does: its snippet, its help text, its file tree."""

import ast
import contextlib
import io
import re

import pytest

from headviz.__main__ import build_parser as headviz_parser
from headviz.base.assets import built_in_models


def fenced(readme: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)


@pytest.fixture(scope="module")
def readme(repo) -> str:
    return (repo / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif("tiny-lm" not in built_in_models(), reason="tiny-lm is not trained yet")
def test_the_snippet_prints_what_readme_says(readme):
    (snippet,) = fenced(readme, "python")
    printed = fenced(readme, "text")[0]
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 7
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(snippet, {})
    assert output.getvalue() == printed


def test_the_help_is_the_program_s_own(readme, monkeypatch):
    monkeypatch.setenv("COLUMNS", "88")
    quoted = fenced(readme, "text")[1]
    assert quoted == f"$ python -m headviz --help\n{headviz_parser().format_help()}"


def test_the_command_lines_of_readme_are_understood(readme, capsys):
    from benchmarks.__main__ import build_parser as benchmarks_parser
    from toyworld.__main__ import parser as toyworld_parser

    parsers = {
        "headviz": headviz_parser(),
        "toyworld": toyworld_parser(),
        "benchmarks": benchmarks_parser(),
    }
    lines = re.findall(r"^    python -m (\w+) (.+)$", readme, re.MULTILINE)
    assert {program for program, _ in lines} == set(parsers)
    for program, line in lines:
        # `models | concepts [--json]` and `pursuit|studies [--quick]` are two commands each.
        commands = re.findall(r"(?:^|\| )([a-z-]+(?:\|[a-z-]+)*)", line)
        for command in "|".join(commands).split("|"):
            with pytest.raises(SystemExit) as ended:
                parsers[program].parse_args([command, "--help"])
            shown = capsys.readouterr()
            assert ended.value.code == 0, shown.err
            assert set(re.findall(r"--[a-z-]+", line)) <= set(re.findall(r"--[a-z-]+", shown.out))


def test_the_tree_has_a_line_for_every_room_and_names_no_other(readme, repo):
    tree = readme.split("## Files")[1].split("## Citation")[0]
    rooms = {f.parent.name for f in (repo / "headviz").glob("*/__init__.py")}
    assert set(re.findall(r"^      (\w+)/  +\w", tree, re.MULTILINE)) == rooms
    for name in re.findall(r"^    ([\w.]+/?)  +\w", tree, re.MULTILINE):
        assert (repo / name).exists() or name == "cache/"


def test_the_files_that_are_linked_or_named_are_there(repo):
    for name in ("README.md", "docs/api.md", "docs/formats.md", "docs/architecture.md"):
        text = (repo / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((repo / name).parent / link).exists(), f"{name}: {link}"
    steps = (repo / "docs" / "architecture.md").read_text(encoding="utf-8")
    for file in re.findall(r"`([\w/]+\.py)`", steps):
        places = [repo / "headviz" / file, repo / file, repo / "headviz/pursuit/engine" / file]
        assert any(place.exists() for place in places), file


def test_every_room_says_what_it_must_not_know(repo):
    for file in (repo / "headviz").glob("**/__init__.py"):
        if file.parent.name != "headviz":
            said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            assert "must not" in said or "must know no" in said, file


def test_readme_starts_with_what_a_space_needs(readme):
    front = readme.split("---")[1]
    for key in ("sdk: gradio", "app_file: app.py", "license: mit", "sdk_version:"):
        assert key in front
