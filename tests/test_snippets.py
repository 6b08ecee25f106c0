"""The programs that the page shows run as they stand and give the page's own numbers."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from tiny_vision import make_vision_model, noise

from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.compare import CompareRequest, Stretch, last_of
from headviz.editing.generate import Sampling
from headviz.heads.edits import WHERE, Edit
from headviz.inputs.concepts import find_concept, make_concept
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import find_prompt_set, make_prompt_set
from headviz.page.ask import Ask
from headviz.page.head import code_of as code_of_head
from headviz.page.heat_map import code_of as code_of_ranking
from headviz.page.save import codes_of
from headviz.page.shared import Result
from headviz.page.view import ModelShown, find_ranking, find_spectrum, first_view, view_of
from headviz.pursuit.options import Options
from headviz.session.plain_snippet import plain_snippet
from headviz.session.session import Session
from headviz.session.snippets import ranking_snippet

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

TINY = ModelShown("tiny-lm")
QUESTION = "Question: What is the usual color of a tomato? Answer:"
EDIT = Edit({Head(0, 51): -1.0, Head(0, 56): -1.0, Head(1, 3): 0.25})
RUNNER = """
import contextlib, io, json, sys
programs, told = json.load(sys.stdin), []
for program in programs:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(program, "snippet", "exec"), {"__name__": "__main__"})
    told.append(output.getvalue())
print(json.dumps([told, "headviz" in sys.modules]))
"""


def run(programs, folder, repo, with_headviz):
    """What each program prints, in a fresh process that can or cannot import headviz."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if with_headviz:
        env |= {"PYTHONPATH": str(repo), "HEADVIZ_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(programs),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told, imported = json.loads(done.stdout)
    assert imported == with_headviz
    return told


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return Session(Store(tmp_path_factory.mktemp("cache")), device="cpu")


def told(session, edit, sampling=None, concept=None, model="tiny-lm", pictures=(), earlier=()):
    """What the page keeps of one answer."""
    sampling = sampling or Sampling(6)
    asked = Ask(model, QUESTION, edit, concept, sampling, sampling.seed, earlier=tuple(earlier))
    request = CompareRequest(
        prompt=QUESTION,
        edit=edit,
        words=asked.words,
        control_seed=sampling.seed,
        sampling=sampling,
        pictures=tuple(pictures),
        earlier=asked.earlier,
    )
    streams = session.compare(model, request)
    return Result(asked, (last_of(streams),))


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text)]


def test_programs_with_headviz_give_what_the_page_shows(session, repo, tmp_path):
    shipped = first_view("tiny-lm", "colors")
    prompt_set = make_prompt_set(
        "my own texts", ["The ball is red.", "Blue is “nice”.", "It's 7\\8."]
    )
    own = make_concept("my words", ["red", "blue", "green", "it's"])
    options = Options(steps=3, pooling="last", centre=False)
    computed = view_of(session.rank("tiny-lm", own, prompt_set, "logit-lens", options), prompt_set)
    views = [shipped, computed]
    programs = [code_of_ranking(view, TINY) for view in views]
    programs += [code_of_head(view, Head(0, 51), TINY) for view in views]
    noisy = Sampling(6, 0.8, seed=3)
    texts = [
        told(session, EDIT, concept=find_concept("colors")),
        told(session, replace(EDIT, where="generated"), noisy, own),
        told(session, EDIT, earlier=[Stretch(2, Edit({Head(0, 51): 1.0}))]),
    ]
    programs += [codes_of(session, one)[0] for one in texts]
    printed = run(programs, tmp_path, repo, with_headviz=True)
    for view, output in zip(views, printed[:2], strict=True):
        heads = find_ranking(session, view).heads[:10]
        lines = output.splitlines()
        assert [line.split()[1] for line in lines] == [str(h.head) for h in heads]
        for line, h in zip(lines, heads, strict=True):
            assert numbers(line)[-2:] == pytest.approx([h.score, h.chance], abs=1.1e-3)
    for view, output in zip(views, printed[2:4], strict=True):
        atoms = find_spectrum(session, view, Head(0, 51)).atoms
        assert len(output.splitlines()) == len(atoms) > 1
        for line, atom in zip(output.splitlines(), atoms, strict=True):
            assert line.startswith(repr(atom.token))
            assert numbers(line)[-2:] == pytest.approx([atom.weight, atom.explained], abs=1.1e-3)
    assert "another answer" in codes_of(session, texts[2])[1]
    for one, output in zip(texts, printed[4:], strict=True):
        for column in one.results[0].columns:
            assert f"[{column.name}] perplexity {column.perplexity:.2f}: {column.text}" in output


@pytest.fixture
def llava(tmp_path):
    return str(make_vision_model("llava", tmp_path / "llava"))


def test_plain_transformers_say_what_the_edited_column_says(session, repo, tmp_path, llava):
    """In every place, with noise, and on a picture: a process without headviz."""
    (tmp_path / "assets").symlink_to(repo / "assets")
    noise(24, 20).save(tmp_path / "noise.png")
    pictures = (open_picture(tmp_path / "noise.png"),)
    cases = [
        told(session, EDIT),
        told(session, replace(EDIT, where="prompt")),
        told(session, replace(EDIT, where="generated")),
        told(session, EDIT, Sampling(6, 0.9, seed=5)),
    ]
    seen = Edit({Head(0, 1): 6.0, Head(1, 2): -4.0})
    for where in WHERE:
        edit = replace(seen, where=where)
        cases.append(told(session, edit, Sampling(5), model=llava, pictures=pictures))
    printed = run([codes_of(session, one)[1] for one in cases], tmp_path, repo, False)
    edited = [one.results[0].columns[1].text for one in cases]
    assert [text.strip() for text in printed] == [text.strip() for text in edited]
    assert len({*edited[:4]}) > 1 and len({*edited[4:]}) > 1
    assert edited[0] != cases[0].results[0].columns[0].text


def test_the_hook_has_ten_lines_and_no_headviz(session):
    model = session.model("tiny-lm")
    program = plain_snippet(model, QUESTION, EDIT, Sampling())
    hook = program[program.index("def hook(") : program.index("answer =")]
    assert len([line for line in hook.splitlines() if line.strip()]) <= 10
    assert "import headviz" not in program


def test_texts_that_are_too_many_are_named_by_their_file():
    prompt_set = make_prompt_set("mine", ["a long text about nothing at all"] * 1000)
    usual = Options()
    code = ranking_snippet("tiny-lm", find_concept("colors"), prompt_set, "somp", usual, usual)
    assert "prompt_set='mine.txt'" in code
    assert len(code) < 1000


def test_a_built_in_set_that_is_not_the_usual_one_is_named():
    prompt_set = find_prompt_set("stories", "tiny-lm")
    usual = Options()
    code = ranking_snippet("tiny-lm", find_concept("colors"), prompt_set, "somp", usual, usual)
    compile(code, "code", "exec")
    assert "prompt_set='stories'" in code
    default = find_prompt_set(None, "tiny-lm")
    code = ranking_snippet("tiny-lm", find_concept("colors"), default, "somp", usual, usual)
    assert "prompt_set" not in code
