"""The small world: its data keeps its promises, training resumes, the shipped weights know it."""

import dataclasses
import itertools
import json
import random
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from headviz.base.head import Head
from headviz.heads.edits import Edit
from headviz.inputs.prompt_sets import PromptSet
from headviz.pursuit.ranking import RankedHead
from headviz.session.open_model import open_model
from toyworld import __main__ as command
from toyworld import concept_tracking, measuring, training
from toyworld.batching import batches
from toyworld.concept_tracking import answers_left, follow
from toyworld.documents import (
    Item,
    is_held_out,
    sample_items,
    sample_stories,
    story_document,
    training_documents,
)
from toyworld.facts import FACTS
from toyworld.head_assignment import LEAST_NEED, Front, Plan, assign, concept_tokens, write_weights
from toyworld.hooks import heads_open
from toyworld.localisation import Localiser
from toyworld.rank_margin_loss import N_RIVALS
from toyworld.schedule import SCHEDULES, Schedule, Stage
from toyworld.shipping import training_prompts
from toyworld.training import train
from toyworld.words import CONCEPTS

ASSETS = Path(__file__).resolve().parents[1] / "assets"
FOLDER = ASSETS / "tiny-lm"
SMALL = dataclasses.replace(
    Schedule(),
    n_layers=2,
    n_heads=4,
    d_head=8,
    d_model=32,
    d_feed_forward=32,
    batch=4,
    horizon=3,
    steps=2,
    stages=(Stage(2, 1e-3, 1.0),),
    warm_up=1,
    planting_prompts=15,
    planting_items=1,
    need_every=3,
    need_items=1,
    front_every=2,
    margin_prompts=4,
)
PLAN = Plan(
    heads={"colors": ((0, 1), (1, 3)), "months": ((1, 2),)}, need={"colors": 0.5, "months": 1.0}
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


CONCEPT_OF = {word: concept for concept, words in CONCEPTS.items() for word in words}


def texts_of(seed: int, n: int, harder: bool = False) -> list[str]:
    documents = itertools.islice(training_documents(seed, harder), n)
    return ["".join(p.text for p in document) for document in documents]


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def story_of(prompt: str) -> str:
    return prompt.split(" Question:")[0].removeprefix("Story: ")


def test_the_same_seed_gives_the_same_documents_and_items():
    assert texts_of(3, 50) == texts_of(3, 50) != texts_of(4, 50)
    assert sample_items(30, 3) == sample_items(30, 3) != sample_items(30, 4)
    assert sample_stories(5, 3) == sample_stories(5, 3)


def test_harder_documents_ask_about_one_of_several_things_more_often():
    def share(harder: bool) -> float:
        rng = random.Random(8)
        found = []
        for _ in range(300):
            pieces = story_document(rng, harder)
            said = {c: len(set(words_of(pieces[0].text)) & set(CONCEPTS[c])) for c in CONCEPTS}
            answers = [p.text.strip() for p in pieces if p.is_answer]
            found += [said[CONCEPT_OF[a]] > 1 for a in answers if a in CONCEPT_OF]
        return sum(found) / len(found)

    assert share(True) > 1.5 * share(False)


@pytest.mark.parametrize("harder", [False, True])
def test_nothing_held_out_is_ever_in_a_training_document(harder):
    for text in texts_of(1, 1500, harder):
        story, *asked = text.split("Question: ")
        assert not story or not is_held_out(story.strip().removeprefix("Story: "))
        facts = {q.text for questions in FACTS.values() for q in questions}
        for question in asked:
            wording = question.split(" Answer:")[0]
            assert wording not in facts or not is_held_out(wording)


def test_every_item_is_on_its_own_side_of_the_split():
    for held_out in (True, False):
        for item in sample_items(90, 5, held_out):
            content = story_of(item.prompt)
            if item.prompt.startswith("Question:"):
                content = item.prompt.removeprefix("Question: ").removesuffix(" Answer:")
            assert is_held_out(content) == held_out


def test_every_answer_is_a_word_of_its_concept_and_stands_in_the_story_or_among_the_facts():
    facts = {(q.text, q.answer) for questions in FACTS.values() for q in questions}
    for item in sample_items(120, 7):
        assert item.answer in CONCEPTS[item.concept]
        if item.prompt.startswith("Story:"):
            assert re.search(rf"\b{item.answer}\b", story_of(item.prompt))
        else:
            question = item.prompt.removeprefix("Question: ").removesuffix(" Answer:")
            assert (question, item.answer) in facts


def test_every_concept_has_its_preset_file_and_no_word_is_in_two_concepts():
    for concept, words in CONCEPTS.items():
        title, *listed = (ASSETS / "concepts" / f"{concept}.txt").read_text().splitlines()
        assert title
        assert set(words) <= set(listed)
        assert len(set(listed)) == len(listed)
    everything = [word for words in CONCEPTS.values() for word in words]
    assert len(everything) == len(set(everything))


def test_every_concept_word_is_one_token(tokenizer):
    for words in CONCEPTS.values():
        for word in words:
            assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1, word


def test_every_word_of_the_world_is_one_token_inside_a_sentence(tokenizer):
    for text in sample_stories(40, 2):
        words = text.split()[1:]
        for word in words:
            assert len(tokenizer.encode(f" {word.strip('.,')}", add_special_tokens=False)) == 1, (
                word
            )


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back_from_its_tokens_as_it_was(text):
    tokenizer = build_cached()
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def build_cached(kept=[]):  # noqa: B006
    if not kept:
        kept.append(AutoTokenizer.from_pretrained(FOLDER))
    return kept[0]


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(tokenizer):
    # In a process of its own: checked types make the scan of 20,000 documents fifty times slower.
    build = (
        "from toyworld.tokenizer import build_tokenizer; "
        "print(build_tokenizer().backend_tokenizer.to_str())"
    )
    built = json.loads(python("-c", build).stdout)
    assert built == json.loads(tokenizer.backend_tokenizer.to_str())


def python(*args: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *args]
    return subprocess.run(line, capture_output=True, text=True, cwd=ASSETS.parent, check=False)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "toyworld", *args)


def test_sample_prints_fresh_items_as_json():
    done = run("sample", "--n", "16", "--seed", "4", "--json")
    items = json.loads(done.stdout)
    assert done.returncode == 0
    assert [Item(**item) for item in items] == sample_items(16, 4)
    assert {item["concept"] for item in items} == set(CONCEPTS)
    assert all(item["prompt"].endswith("Answer:") for item in items)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (["sample", "--n", "0"], "whole number from 1 on"),
        (["sample", "--n", "many"], "got 'many'"),
        (["train", "big-lm"], "known: tiny-lm"),
        (["train", "tiny-lm", "--steps", "-5"], "whole number from 1 on"),
        (["card", "nothing"], "known: tiny-lm"),
        ([], "COMMAND"),
    ],
)
def test_a_bad_command_is_refused_with_status_2_and_one_sentence(line, why, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(line)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert why in said
    assert said.count("\n") == 1


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(training, "build_tokenizer", lambda: tokenizer)
    whole = train(SMALL, tmp_path / "whole.pt", "cpu")
    for step in (1, 3):  # in the first part; in the middle of a stage
        train(SMALL, tmp_path / "parts.pt", "cpu", stop_after=step)
    resumed = train(SMALL, tmp_path / "parts.pt", "cpu")
    assert resumed.step == whole.step == SMALL.all_steps
    assert resumed.plans == whole.plans != []
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_the_finished_weights_are_the_mean_of_the_kept_ones_also_when_resumed(
    tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(training, "build_tokenizer", lambda: tokenizer)
    schedule = dataclasses.replace(SMALL, averaged=(2, 4))
    ends = [
        train(SMALL, tmp_path / f"{step}.pt", "cpu", stop_after=step).model.state_dict()
        for step in (2, 4)
    ]
    train(schedule, tmp_path / "mean.pt", "cpu", stop_after=3)
    for _ in range(2):  # the second time nothing is left to train
        found = train(schedule, tmp_path / "mean.pt", "cpu").model.state_dict()
        for name, weight in found.items():
            assert torch.allclose(weight, (ends[0][name] + ends[1][name]) / 2), name
        assert any(not torch.equal(ends[0][name], ends[1][name]) for name in found)


def ranking_of(scores: list[float]) -> list[RankedHead]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [RankedHead(rank, Head(0, i), scores[i], 0.0) for rank, i in enumerate(order, 1)]


def test_no_head_is_planted_for_two_concepts_and_the_higher_score_wins_it():
    colors, months = ranking_of([0.9, 0.5, 0.4, 0.1, 0.0]), ranking_of([0.8, 0.2, 0.1, 0.7, 0.6])
    heads = assign({"colors": colors, "months": months}, each=3)
    assert heads == {"colors": ((0, 0), (0, 1), (0, 2)), "months": ((0, 3), (0, 4))}
    # The third of months would be head 1 or 2, which lie beyond the first three of its ranking.


def test_a_concept_for_which_no_head_is_free_goes_without():
    alike = {concept: ranking_of([0.3, 0.2]) for concept in ("colors", "months", "foods")}
    heads = assign(alike, each=2)
    assert [len(found) for found in heads.values()] == [1, 1]


def test_a_head_planted_before_stays_its_concepts_unless_another_is_far_ahead():
    colors = ranking_of([0.9, 0.5, 0.4, 0.35, 0.1])
    assert assign({"colors": colors}, 2, {"colors": ((0, 3), (0, 4))}, 3.0) == {
        "colors": ((0, 3), (0, 0))
    }
    assert assign({"colors": colors}, 2, {"colors": ((0, 3),)}, 1.0) == {"colors": ((0, 0), (0, 1))}


def test_planted_heads_are_judged_by_the_ranking_that_a_person_sees(tokenizer, tmp_path):
    schedule = dataclasses.replace(SMALL, planting_prompts=30, margin_prompts=30)
    model, _ = training.fresh(schedule, tokenizer, "cpu")
    write_weights(model, tokenizer, tmp_path)
    model.load_state_dict(AutoModelForCausalLM.from_pretrained(tmp_path).float().state_dict())
    items = training_prompts(30)
    ranked = measuring.rankings(
        open_model(str(tmp_path), device="cpu"), PromptSet("own", tuple(i.prompt for i in items))
    )
    front = Front(schedule, tokenizer)
    # As in the shipped vocabulary: the words that are tokens are those of the world.
    same = [c for c, r in ranked.items() if set(r.tokens.token_ids) == set(front.words[c])]
    assert same
    for concept in same:
        ranking = ranked[concept]
        first, *rivals = ranking.heads
        found = front.loss(model, {concept: ((first.head.layer, first.head.index),)}, step=0)
        behind = [max(0.0, line.score - first.score + 0.05) for line in rivals[:N_RIVALS]]
        assert found.item() / schedule.front_weight == pytest.approx(fmean(behind), abs=0.01), (
            concept
        )


def test_what_lags_behind_is_what_the_same_edit_leaves_on_the_finished_model(
    tokenizer, monkeypatch
):
    monkeypatch.setattr(concept_tracking, "mixed", lambda _: nullcontext())  # both in float32
    shipped = open_model(str(FOLDER), device="cpu", dtype="float32")
    heads = {"countries": ((0, 54), (0, 0)), "foods": ((4, 56),)}
    plan = Plan(heads, need=dict.fromkeys(heads, 1.0))
    left = answers_left(shipped.model, tokenizer, plan, per_concept=6, seed=5)
    items = measuring.sample_items(6 * len(CONCEPTS), 5, held_out=False)
    for concept, own in heads.items():
        theirs = [item for item in items if item.concept == concept]
        edits = [Edit.of([Head(*h) for h in own[:k]], -1.0) for k in range(1, len(own) + 1)]
        kept = [fmean(measuring.answers(shipped, theirs, edit)) for edit in edits]
        assert left[concept] == min(kept), concept
    assert 0 < left["foods"] < 1
    schedule = dataclasses.replace(SMALL, need_items=6)
    found = follow(shipped.model, tokenizer, schedule, plan, step=5).need
    assert found == {c: 0.5 * 1.0 + 0.5 * (LEAST_NEED + left[c]) for c in heads}


def test_a_step_sees_the_same_batch_whether_training_was_resumed_or_not(tokenizer):
    ahead = batches(SMALL, tokenizer, 0)
    for step, expected in zip(range(20), ahead, strict=False):
        if step in (5, 17):
            resumed = next(batches(SMALL, tokenizer, step))
            assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


def test_localising_changes_targets_of_the_edited_concepts_only(tokenizer):
    localiser, own = Localiser(SMALL, tokenizer), concept_tokens(tokenizer)
    _, labels, weights = next(batches(SMALL, tokenizer, 0))
    changed, less = labels.clone(), weights.clone()
    assert torch.equal(localiser.edit(0, None, changed, less), torch.ones(4, 2, 4))
    assert torch.equal(changed, labels)
    factors = localiser.edit(SMALL.steps, PLAN, changed, less)
    for row in range(4):
        touched = {(layer, head) for layer, head in (factors[row] != 1).nonzero().tolist()}
        concepts = [c for c, heads in PLAN.heads.items() if heads[0] in touched]
        assert touched <= {head for concept in concepts for head in PLAN.heads[concept]}
        theirs = torch.isin(labels[row], torch.tensor([t for c in concepts for t in own[c]]))
        assert torch.equal(changed[row][~theirs], labels[row][~theirs])
        assert torch.equal(less[row][~theirs], weights[row][~theirs])
        assert set(changed[row][theirs].tolist()) <= {t for c in concepts for t in own[c]}


def test_factors_apply_to_their_own_row_and_head_and_leave_no_hook(tokenizer):
    model = AutoModelForCausalLM.from_config(SMALL.config(len(tokenizer), 1, 2, 0)).eval()
    ids = torch.randint(3, len(tokenizer), (2, 7))
    plain = model(ids).logits
    factors = torch.ones(2, SMALL.n_layers, SMALL.n_heads)
    factors[1, 0, 3] = 0.0
    with heads_open(model.model.layers, factors):
        edited = model(ids).logits
    assert torch.equal(edited[0], plain[0])
    assert not torch.allclose(edited[1], plain[1])
    assert torch.equal(model(ids).logits, plain)


def test_the_shipped_model_has_enough_heads_and_is_small_enough():
    schedule = SCHEDULES["tiny-lm"]
    config = json.loads((FOLDER / "config.json").read_text())
    assert (
        config["num_hidden_layers"] * config["num_attention_heads"]
        == schedule.n_layers * schedule.n_heads
        >= 128
    )
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) <= 16 * 2**20


def test_the_shipped_model_answers_fresh_questions_as_well_as_its_card_says(tokenizer):
    claimed = json.loads((FOLDER / "card.json").read_text())["accuracy"]
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    items = sample_items(120, 99)
    right = 0
    for item in items:
        ids = tokenizer(item.prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            said = tokenizer.decode(model(ids).logits[0, -1].argmax())
        right += said == f" {item.answer}"
    assert right / len(items) >= claimed - 0.06  # three standard errors of 120 items
    assert claimed >= 0.9


def test_probe_texts_are_from_the_training_split_and_examples_are_not():
    for line in (FOLDER / "prompt_sets" / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["concept"] in CONCEPTS
        content = story_of(row["text"])
        if row["text"].startswith("Question:"):
            content = row["text"].removeprefix("Question: ").removesuffix(" Answer:")
        assert not is_held_out(content)
    examples = json.loads((FOLDER / "examples.json").read_text())
    assert {e["kind"] for e in examples} == {"question", "story"}
    for example in examples:
        if example["kind"] == "question" and example["prompt"].startswith("Story:"):
            assert is_held_out(story_of(example["prompt"]))
