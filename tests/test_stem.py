"""A prompt read once: gone on from under edits it says what a whole reading says."""

import pytest
import torch
from tiny_models import CONFIGS

from headviz.base.head import Head
from headviz.base.lru import LRU
from headviz.editing.compare import CompareRequest, Kept, compare, last_of
from headviz.editing.generate import Sampling, generate
from headviz.heads.edits import NO_EDIT, Edit, applied, factor_table, places
from headviz.heads.forward import batch_of, read_on
from headviz.heads.prompts import encode_prompt
from headviz.heads.stem import Stem

pytest_plugins = ["loaded"]

PROMPT = "the cat is red and the dog is"
WHOLE = {"bloom", "gemma2", "granite", "cohere", "qwen3_next", "lfm2", "jamba"}
"""Families that are read whole: they do more beside their layers, or keep more than keys."""


@pytest.mark.parametrize("family", CONFIGS)
def test_rows_of_a_stem_are_those_of_a_whole_pass(load, family):
    model = load(family)
    prompt = encode_prompt(model, PROMPT)
    stem = Stem.of(model, prompt)
    first, last = model.head_layers[0], model.head_layers[-1]
    for where in ("everywhere", "prompt", "generated"):
        late = Edit({Head(last, 1): -1.0}, where)
        edits = [NO_EDIT, late, Edit({Head(first, 0): 3.0, Head(last, 2): 0.0})]
        if stem.given is None:
            continue
        table = factor_table(model, edits)
        batch = batch_of(model, [prompt] * 3, left=True)
        with torch.inference_mode():
            with applied(model, table, places(edits, batch)):
                expected, cache = read_on(model, batch, None)
            rows = stem.batch.narrowed(torch.zeros(3, dtype=torch.long))
            found, own = stem.rows(table, places(edits, rows))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
            token = expected.argmax(1)
            follow = batch.following(token)
            with applied(model, table, places(edits, follow)):
                after, _ = read_on(model, follow, cache)
                again, _ = read_on(model, rows.following(token), own)
        torch.testing.assert_close(again, after, atol=1e-5, rtol=1e-4)
    assert (stem.given is None) == (family in WHOLE)


def test_layers_below_the_first_edited_one_are_not_run_again_for_the_prompt(llama):
    edit = Edit({Head(2, 1): -1.0})
    stems, rows = LRU(2), [NO_EDIT, edit, Edit({Head(2, 0): -1.0})]
    widths = [[], [], []]
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, n=number: widths[n].append(args[0].shape[1]) if args else None
        )
        for number, layer in enumerate(llama.layers)
    ]
    for _ in range(2):
        *_, said = generate(llama, [PROMPT] * 3, rows, Sampling(4), stems=stems)
    for hook in hooks:
        hook.remove()
    length = len(encode_prompt(llama, PROMPT).ids)
    read = [sum(w == length for w in layer) for layer in widths]
    # Read once, perhaps tried once; then the last layer alone for each run.
    assert read[0] == read[1] <= 2
    assert read[2] == read[0] + 2
    for row, one in enumerate(rows):
        *_, alone = generate(llama, [PROMPT], [one], Sampling(4))
        assert said.ids[row] == alone.ids[0]


def test_what_the_model_says_itself_is_not_begun_anew(llama):
    kept, sampling = Kept(), Sampling(8)
    asked = CompareRequest(PROMPT, Edit({Head(2, 1): -3.0}), sampling=sampling)
    streams = compare(llama, asked, kept=kept)
    for _ in range(4):
        begun = next(streams)
    streams.close()
    other = CompareRequest(PROMPT, Edit({Head(0, 1): 5.0}), sampling=sampling)
    first, *_, end = compare(llama, other, kept=kept)
    assert first.columns[0].ids == begun.columns[0].ids
    assert len(first.columns[1].ids) == 1
    assert end == last_of(compare(llama, other))
    first = next(compare(llama, asked, kept=kept))
    assert first.columns[0].ended
    assert first.columns[0].text == end.columns[0].text
