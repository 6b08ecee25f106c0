"""Rankings on trial: relations, free text, and the questions that share a row."""

import json
import math
import shutil
from dataclasses import replace
from itertools import product

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import WORDS

from headviz.base.errors import Cancelled
from headviz.base.head import Head
from headviz.editing.passages import given_passages, shuffled
from headviz.heads.edits import Edit, applied, factor_table
from headviz.heads.forward import batch_of
from headviz.heads.packed import packed
from headviz.heads.prompts import encode_prompt
from headviz.heads.replay import Replay
from headviz.inputs.concepts import in_sentence_ids
from headviz.session.causal import JUDGE, SEARCH, half_of
from headviz.session.open_model import open_model
from headviz.studies import freetext, trial
from headviz.studies.arms import in_order
from headviz.studies.claims import DOES_NOT, HOLDS, LEANS, Tried, reached, verdicts
from headviz.studies.command import trial_of
from headviz.studies.folder import StudyFolder
from headviz.studies.relations import (
    Relation,
    questions_of,
    read_relations,
    subjects_of,
)
from headviz.studies.samples import StudyError
from headviz.studies.trial import LEARNT, Ladder, Outcome, Trial
from headviz.studies.trials import run_trial

pytest_plugins = ["loaded"]

EDIT = Edit({Head(1, 2): -1.0, Head(2, 0): 3.0})
ENDINGS = ("what color is the dog", "what color is the horse", "what color has the house of a fish")
ARMS = ("pursuit", "logit-lens", "attribution", "lift", "ablation", "pruned", "learnt", "random")


# Questions that share a row.


def alone(model, prompts, edit):
    """The logits after each prompt, one pass a prompt."""
    rows = []
    for prompt in prompts:
        with torch.no_grad(), applied(model, factor_table(model, [edit])):
            inputs = batch_of(model, [prompt], left=False).inputs()
            rows.append(model.model(**inputs, use_cache=False).logits[0, -1].float())
    return torch.stack(rows)


@pytest.mark.parametrize("edit", [Edit(), EDIT], ids=["unedited", "edited"])
def test_a_question_in_a_shared_row_gives_what_it_gives_alone(model, edit):
    groups = [[encode_prompt(model, text) for text in part] for part in (ENDINGS[:2], ENDINGS[1:])]
    laid = packed(model, groups)
    replay = Replay.of(model, laid.batch)
    table = factor_table(model, [edit]).float().expand(len(laid.ends), -1, -1)
    with torch.no_grad():
        together = replay.logits(table, laid.ends)
    expected = alone(model, [prompt for group in groups for prompt in group], edit)
    torch.testing.assert_close(together.log_softmax(1), expected.log_softmax(1), rtol=0, atol=2e-3)


def test_what_questions_share_is_read_once(llama):
    prompts = [encode_prompt(llama, text) for text in ENDINGS]
    laid = packed(llama, [prompts])
    assert laid.batch.ids.shape[0] == 1
    assert laid.batch.ids.numel() < sum(len(prompt.ids) for prompt in prompts) - 5


def test_layers_that_do_not_go_by_a_mask_are_read_row_by_row(load):
    hybrid = load("lfm2")
    prompts = [encode_prompt(hybrid, text) for text in ENDINGS]
    laid = packed(hybrid, [prompts])
    assert len(laid.ends) == len(prompts)
    with torch.no_grad():
        together = hybrid.model(**laid.batch.inputs(), use_cache=False).logits[laid.ends].float()
    torch.testing.assert_close(together, alone(hybrid, prompts, Edit()), rtol=0, atol=1e-3)


# Relations.


@pytest.fixture(scope="module")
def worded(tiny_model_folder, tmp_path_factory, llama):
    """The tiny model with all but whole words far down: what it says next is always a word."""
    folder = tmp_path_factory.mktemp("models") / "worded"
    shutil.copytree(tiny_model_folder("llama"), folder)
    tensors = load_file(folder / "model.safetensors")
    words = [in_sentence_ids(w, llama.tokenizer)[0] for of in WORDS.values() for w in of]
    for name, tensor in tensors.items():
        if "lm_head" in name:
            kept = torch.zeros(len(tensor), 1)
            kept[words] = 1
            tensors[name] = tensor * kept
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return open_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def data(worded, tmp_path_factory):
    """Three relations that the tiny model answers: its own next words are the answers."""
    folder = tmp_path_factory.mktemp("relations")
    subjects = [f"{a} {b}" for a, b in product(WORDS["colors"], WORDS["animals"])]
    for number, template in enumerate(("the {} is", "what {} has", "a {} was")):
        name = f"relation {number}"
        pairs = answered_by(worded, name, template, subjects)
        samples = [{"subject": s, "object": o} for s, o in pairs.items()]
        content = {"name": name, "prompt_templates": [template], "samples": samples}
        (folder / f"{number}.json").write_text(json.dumps(content))
    return folder


def answered_by(model, name, template, subjects):
    """Subject -> object: the worked examples' as given here, all others' as the model has them."""
    drawn = questions_of(Relation(name, template, tuple((s, f"x{s}") for s in subjects)))
    asked = {question.asked for question in drawn}
    examples = [s for s in subjects if template.format(s) not in asked]
    pairs = dict(zip(examples, WORDS["numbers"], strict=False))
    known = Relation(name, template, tuple((s, pairs.get(s, "red")) for s in subjects))
    for question in questions_of(known):
        prompt = encode_prompt(model, question.text)
        token = int(alone(model, [prompt], Edit())[0].argmax())
        word = model.tokenizer.decode([token]).strip()
        subject = next(s for s in subjects if template.format(s) == question.asked)
        if in_sentence_ids(word, model.tokenizer)[:1] == (token,):
            pairs[subject] = word
    return pairs


@pytest.fixture
def asked(worded, data, monkeypatch):
    monkeypatch.setattr(trial, "POOL", 5)
    monkeypatch.setattr(trial, "TOGETHER", 3)
    monkeypatch.setattr(trial, "STEPS", 12)
    return Trial("relations", worded.name, str(data), ("2",), (-1.0,), ARMS, limit=3, draws=2)


def test_a_run_that_was_killed_goes_on_and_ends_as_one_that_was_not(session, asked, tmp_path):
    whole, _ = run_trial(session, asked, tmp_path / "whole")
    calls = 0

    def stop(share, what):
        nonlocal calls
        calls += 1
        if calls == 25:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_trial(session, asked, tmp_path / "killed", stop)
    kept = set((tmp_path / "killed" / "cells").iterdir())
    assert kept
    times = {file: file.stat().st_mtime_ns for file in kept}
    again, files = run_trial(session, asked, tmp_path / "killed")
    assert again.outcomes == whole.outcomes
    assert {file: file.stat().st_mtime_ns for file in kept} == times, "nothing is made twice"
    report = (tmp_path / "killed" / "report.md").read_text()
    assert "## Verdicts" in report
    assert set(files) >= {"report.md", "summary.csv", "dots.svg"}


def test_a_run_that_is_gone_on_with_never_writes_a_lesser_report(session, asked, tmp_path):
    out = tmp_path / "out"
    run_trial(session, asked, out)
    whole = (out / "report.md").read_bytes()

    def look(share, what):
        assert (out / "report.md").read_bytes() == whole

    run_trial(session, asked, out, look)
    assert (out / "report.md").read_bytes() == whole


def test_texts_that_judge_never_enter_a_choice(session, asked, tmp_path):
    """Every edit is there before the texts that judge are first read."""
    subjects, _ = subjects_of(session, asked)

    def refuse():
        raise AssertionError("read while heads were chosen")

    for number, subject in enumerate(subjects):
        search, judge = subject.depends_on["search"], subject.depends_on["judge"]
        assert search and judge and not {*search} & {*judge}
        beside, others = (subject.depends_on[name] for name in ("beside", "others"))
        for kept, judging in zip(beside, others, strict=True):  # relation by relation
            assert kept and judging and not {*kept} & {*judging}
        blind = replace(subject, make_judge=refuse)
        ladder = Ladder(
            asked, subject.model, (blind,), StudyFolder.open(tmp_path / str(number), {})
        )
        edits = [edit for *_, edit in ladder.settings(blind)]
        assert len(edits) == 6 + 1 + 2 + 2


def test_the_same_trial_finds_the_same_edits(session, asked, tmp_path):
    subject = subjects_of(session, asked)[0][0]
    first, second = (
        list(Ladder(asked, subject.model, (), StudyFolder.open(tmp_path / n, {})).settings(subject))
        for n in "ab"
    )
    assert first == second


def test_pruned_heads_are_those_that_take_most_together(session, asked, tmp_path):
    """Each is the best of those left beside the ones before it, measured."""
    subject = subjects_of(session, asked)[0][0]
    kept = Ladder(asked, subject.model, (), StudyFolder.open(tmp_path / "f", {})).kept(subject)
    over = trial.pursuit(subject, kept)
    pool = [h for h in in_order(over)[: trial.POOL] if over[h.layer, h.index] > 0]
    scores = trial.pruned(subject, kept)
    chosen = [h for h in in_order(scores) if scores[h.layer, h.index] > -torch.inf]

    def worth(*heads):
        effect = subject.search.measure(Edit.of(heads, trial.PRUNED_FACTOR)).effect()
        gain = trial.ENOUGH * math.tanh(effect.need / trial.ENOUGH)
        return gain - trial.PRICE * effect.side

    assert len(pool) > trial.TOGETHER
    left = sorted(pool, key=worth, reverse=True)[: trial.TOGETHER]
    whole = []
    while left:
        whole.append(max(left, key=lambda head: worth(*whole, head)))
        left.remove(whole[-1])
    best = max(range(1, len(whole) + 1), key=lambda n: worth(*whole[:n]))
    assert chosen == whole[:best]


def test_no_more_heads_are_turned_than_a_ranking_has(session, asked, tmp_path, monkeypatch):
    """Where `pruned` keeps one head, none is added to make two."""
    subject = subjects_of(session, asked)[0][0]
    monkeypatch.setattr(trial, "TOGETHER", 1)
    ladder = Ladder(asked, subject.model, (), StudyFolder.open(tmp_path / "f", {}))
    edits = [edit for arm, *_, edit in ladder.settings(subject) if arm == "pruned"]
    assert edits and all(len(edit.factors) == 1 for edit in edits)


def test_a_share_of_answers_is_of_those_that_were_right(session, asked):
    subject = subjects_of(session, asked)[0][0]
    found = trial.judged(subject.judge, Edit())
    assert found == {"own": 1.0, "others": 1.0, "need": 0.0, "side": 0.0}


def test_every_head_has_a_role(session, asked, tmp_path):
    subject = subjects_of(session, asked)[0][0]
    ladder = Ladder(asked, subject.model, (subject,), StudyFolder.open(tmp_path / "f", {}))
    heads = trial.roles(subject, ladder.kept(subject))
    assert len(heads) == subject.model.total_heads
    for head in heads:
        is_needed = head.low > 0 and head.need >= trial.SURE
        assert (head.role in ("primary", "secondary")) == is_needed
        assert head.role != "primary" or head.writes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no relation"),
        ('{"name": "a", "prompt_templates": ["is"], "samples": []}', "is no relation"),
        ('{"name": "a", "prompt_templates": ["{} is"], "samples": []}', "has 0 pairs; 5 are"),
    ],
)
def test_a_file_that_holds_no_relation_is_told(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StudyError, match=message):
        read_relations(str(tmp_path))


def test_no_data_is_told(tmp_path):
    with pytest.raises(StudyError, match="Name a folder of JSON files with --data"):
        read_relations("")
    with pytest.raises(StudyError, match=r"holds no \.json file"):
        read_relations(str(tmp_path))


# Free text.


def test_shuffled_texts_have_the_same_words(llama):
    (one,) = given_passages(llama, ["the cat is red and"], ["the dog has seven fish"])
    other = shuffled(llama, one)
    for of in (lambda p: p.text, lambda p: llama.tokenizer.decode(list(p.continuation))):
        assert sorted(of(other).split()) == sorted(of(one).split())
    assert other.prompt.ids != one.prompt.ids


def texts_of(reader) -> set[tuple[int, ...]]:
    """The tokens of each text that it reads."""
    batches = [part.replay.batch for part in reader.parts]
    return {
        tuple(ids[mask.bool()].tolist())
        for batch in batches
        for ids, mask in zip(batch.ids, batch.attention, strict=True)
    }


def test_a_concept_is_searched_on_texts_that_do_not_judge(llama, session, tmp_path, monkeypatch):
    """Of the model's own texts, by their openings."""
    monkeypatch.setattr(freetext, "CONCEPTS", ("colors", "numbers"))
    monkeypatch.setattr(freetext, "STORIES", 2)
    monkeypatch.setattr(freetext, "ROUNDS", 2)
    monkeypatch.setattr(freetext, "STRONGER_STEPS", 10)
    openings = [f"the {a} {b} is {c}" for a, b, c in product(*[WORDS["colors"]] * 3)][:60]
    file = tmp_path / "openings.txt"
    file.write_text("\n".join(openings))
    asked = Trial("freetext", llama.name, str(file), ("2",), (-1.0,), ("pursuit", LEARNT), 2, 1)
    subjects, notes = freetext.subjects_of(session, asked)
    assert {s.name for s in subjects} | {note.split(":")[0] for note in notes} == {
        "colors",
        "numbers",
    }
    for subject in subjects:  # factors are learnt on more, and on none of those that judge
        searched, learnt, judging = (
            texts_of(one) for one in (subject.search, subject.learning, subject.judge)
        )
        assert searched <= learnt and not learnt & judging
    assert any(len(texts_of(s.learning)) > len(texts_of(s.search)) for s in subjects)
    tried, _ = run_trial(session, asked, tmp_path / "out")
    assert tried.outcomes and {one.subject for one in tried.outcomes} == {s.name for s in subjects}
    assert {one.arm for one in tried.stronger} >= {LEARNT, "pursuit", "lift", "random 1"}
    assert {half_of(text) for text in openings} == {SEARCH, JUDGE}


# Verdicts.


def tried(gap):
    """Six relations: `gap` is what the pursuit takes away more than random heads."""
    outcomes = []
    for number, more in enumerate(gap):
        for arm, own in (("pursuit", 0.5 - more), ("random", 0.5)):
            for k in (1, 2):
                outcomes.append(
                    Outcome(f"r{number}", arm, k, -1.0, 0, "L0.H0=-1", own, 0.95, 1.0, 0.1)
                )
    asked = Trial("relations", "m", ks=("1", "2"), alphas=(-1.0,))
    return Tried(asked, "m", "r", 100, (1, 2), tuple(outcomes), {}, (), {}, (), len(gap))


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        ((0.2, 0.3, 0.25, 0.2, 0.3, 0.2), HOLDS),
        ((0.2, 0.3), LEANS),
        ((0.5, -0.2, 0.4, -0.3, 0.1, -0.2), LEANS),
        ((-0.2, -0.3, -0.2, -0.1, -0.2, -0.3), DOES_NOT),
    ],
)
def test_a_claim_holds_where_all_of_the_interval_is_above_nothing(gap, verdict):
    (claim,) = [v for v in verdicts(tried(gap)) if "than with random heads" in v.claim]
    assert claim.verdict == verdict


def test_what_falls_with_the_others_counts_for_nothing():
    found = tried((0.2,))
    one = found.outcomes[0]
    assert found.taken(one) == pytest.approx(0.95 - 0.3)
    assert found.taken(replace(one, others=0.3)) == 0.0


def test_what_was_aimed_at_counts_few_heads_only():
    found = tried((0.35, 0.1))
    assert reached(found, "pursuit", (0.2, 0.9)) == ["r0"]
    assert reached(replace(found, n_heads=10), "pursuit", (0.2, 0.9)) == []


# The command line.


def test_options_of_other_studies_are_refused():
    from headviz.__main__ import build_parser
    from headviz.base.errors import OptionError

    parsed = build_parser().parse_args(["study", "relations", "--concept", "colors"])
    with pytest.raises(OptionError, match="--concept says nothing to the study of relations"):
        trial_of(parsed)
