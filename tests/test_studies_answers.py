"""Answers of many rows: one that has ended leaves the batch, and the others do not notice."""

import pytest

from headviz.base.head import Head
from headviz.editing.generate import Sampling, generate
from headviz.heads.edits import NO_EDIT, Edit
from headviz.studies.batch_generate import complete
from headviz.studies.samples import cut_at

pytest_plugins = ["loaded", "seeing"]

PROMPTS = ["what color has the house", "the cat saw two fish and the", "a horse", "one two three"]
N_TOKENS = 12


def both_ways(model, pictures=()):
    """(what plain generation says up to a stop, what `complete` says, rows that left the batch)."""
    strong = Edit.of([Head(layer, 1) for layer in model.head_layers], -4.0)
    prompts = PROMPTS * 2
    edits = [edit for edit in (NO_EDIT, strong) for _ in PROMPTS]
    shown = [pictures] * len(prompts) if pictures else ()
    *_, whole = generate(model, prompts, edits, Sampling(N_TOKENS), pictures=shown)
    # What the longest answer says second: some rows say it early, others never.
    longest = max(whole.texts, key=lambda text: len(set(text.split())))
    stops = (longest.split()[1],)
    rows = []
    watching = model.model.register_forward_pre_hook(
        lambda _, given, named: rows.append(len(named["input_ids"])), with_kwargs=True
    )
    try:
        said = complete(
            model,
            prompts,
            edits,
            N_TOKENS,
            lambda text: stops[0] in text.lstrip(),
            pictures=shown,
            leave_at=1.0,  # even one row leaves
        )
    finally:
        watching.remove()
    cut = cut_at(stops)
    return [cut(text) for text in whole.texts], [cut(text) for text in said], rows[0] - rows[-1]


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_rows_that_have_ended_leave_and_the_others_say_the_same(load, family):
    plain, said, left = both_ways(load(family))
    assert said == plain
    assert left, "no row left: nothing was tried"


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_so_do_rows_with_pictures(load_seeing, pictures, family):
    plain, said, left = both_ways(load_seeing(family), tuple(pictures[:1]))
    assert said == plain
    assert left


def test_a_cache_that_cannot_be_parted_keeps_all_rows(load):
    plain, said, left = both_ways(load("qwen3_next"))
    assert said == plain
    assert not left
