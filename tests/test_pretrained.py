"""A model that others trained, all the way on the command line: checked, ranked, edited, baked.

Llama of 260,000 parameters with grouped queries, in ../shared/data; skips without it.
"""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch

from headviz.__main__ import main
from headviz.base.store import Store
from headviz.editing.recipe import Recipe
from headviz.heads.edits import applied, factor_table
from headviz.heads.prompts import encode_prompt
from headviz.session.open_model import open_model
from headviz.session.session import Session

PROMPT = "Once upon a time"
STORIES = "Once upon a time there was a dog.\nThe big cat was happy.\nLily saw a bird.\n"
WORDS = "day,big,happy,friend,umpteen"
PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text = sys.argv[1:]
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(text, return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits[0]
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
answer = tokenizer.decode(answer[inputs["input_ids"].shape[1]:], skip_special_tokens=True)
print(json.dumps([logits.tolist(), answer, "headviz" in sys.modules]))
"""


@pytest.fixture
def answer(tmp_path, monkeypatch, capsys):
    """What a command prints with --json; its cache is the test's own."""
    monkeypatch.setattr("headviz.__main__.Session", partial(Session, Store(tmp_path / "cache")))

    def run(*arguments):
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def plain(folder, cwd):
    """Logits and answer of a fresh process that knows transformers alone."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), PROMPT],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logits, text, imported = json.loads(done.stdout)
    assert not imported
    return torch.tensor(logits), text


def test_from_check_to_a_baked_folder_that_plain_transformers_load(shared_data, tmp_path, answer):
    name = str(shared_data / "stories260K")
    checked = answer("check", name)
    assert checked["passed"] and {f["verdict"] for f in checked["findings"]} == {"pass"}

    (tmp_path / "stories.txt").write_text(STORIES)
    asked = ("--model", name, "--probes", tmp_path / "stories.txt")
    files = ("--recipe", tmp_path / "r.json", "--factor", "-1", "--top", "16")
    # Three short stories leave no head of this model surely above chance on every processor.
    ranked = answer("rank", *asked, "--words", WORDS, "--order", "raw", *files)
    assert (ranked["n_heads"], ranked["n_samples"]) == (40, 3)
    assert "umpteen" in ranked["dropped"]
    assert all(0 <= head["score"] <= 1 for head in ranked["heads"])

    best = ranked["heads"][0]["head"]
    spectrum = answer("spectrum", *asked, "--head", best, "--steps", "5")
    explained = [atom["explained"] for atom in spectrum["atoms"]]
    assert spectrum["head"] == best and len(explained) == 5
    assert explained == sorted(explained) and 0 < explained[-1] <= 1

    told = answer(
        *("generate", "--edit", tmp_path / "r.json"),
        *("--prompt", PROMPT, "--max-new-tokens", "12"),
    )
    assert "there was a" in told["original"]
    assert told["edited"] != told["original"]

    baked = answer("bake", "--edit", tmp_path / "r.json", "--out", tmp_path / "baked")
    assert baked["bytes"] > 500_000
    logits, text = plain(tmp_path / "baked", tmp_path)
    assert text.strip() == told["edited"].strip()

    model, edit = open_model(name, device="cpu"), Recipe.load(tmp_path / "r.json").edit
    assert len(edit.factors) == 16
    ids = torch.tensor([encode_prompt(model, PROMPT).ids])
    with torch.inference_mode(), applied(model, factor_table(model, [edit])):
        hooked = model.model(input_ids=ids).logits[0]
    torch.testing.assert_close(logits, hooked, atol=2e-5, rtol=2e-5)
