"""What a head does to a concept: estimated, measured, and the search for an edit."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from weakref import WeakKeyDictionary

import pytest
import torch
from tiny_models import WORDS
from tiny_vision import noise

from headviz.base.errors import Cancelled, OptionError, PromptError
from headviz.base.head import Head
from headviz.editing.effect import Reader
from headviz.editing.find import (
    Found,
    Search,
    Step,
    aimed,
    search_in_steps,
    stretched,
    trimmed,
)
from headviz.editing.generate import Sampling
from headviz.editing.passages import begins_word, given_passages, own_passages, passage
from headviz.heads import replay
from headviz.heads.edits import NO_EDIT, Edit, applied, factor_table
from headviz.heads.forward import batch_of
from headviz.heads.prompts import encode_prompt
from headviz.heads.replay import Replay
from headviz.inputs.concepts import in_sentence_ids, make_concept
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import PromptSet, picture_prompt_set
from headviz.session.causal import JUDGE, SEARCH, Causes, half_of

pytest_plugins = ["loaded", "seeing"]

COLORS = make_concept("colors", WORDS["colors"])
EDIT = Edit({Head(1, 2): -1.0, Head(2, 0): 3.0})
PROMPTS = tuple(
    f"the {animal} is {color} and the {other} is"
    for color in WORDS["colors"][:4]
    for animal, other in (("cat", "dog"), ("horse", "goat"), ("bird", "fish"), ("dog", "bird"))
)


def hooks_of(model) -> int:
    modules = list(model.model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@pytest.fixture(scope="module")
def reader(llama):
    """Passages that say colors: given answers, and texts that go on."""
    answers = [*WORDS["colors"][:4]] * 4
    return Reader.of(llama, given_passages(llama, PROMPTS, answers), COLORS.words)


# A pass taken up again.


@pytest.mark.parametrize("edit", [NO_EDIT, EDIT, Edit({Head(2, 3): 0.0})], ids=str)
def test_a_pass_taken_up_again_gives_what_a_whole_one_gives(model, texts, edit):
    batch = batch_of(model, [encode_prompt(model, text) for text in texts.texts[:3]], left=False)
    replay = Replay.of(model, batch)
    assert replay.given is not None
    table = factor_table(model, [edit] * 3).float()
    at = batch.prompt
    with torch.no_grad():
        again = replay.logits(table, at).log_softmax(1)
        with applied(model, table):
            whole = model.model(**batch.inputs(), use_cache=False).logits[at].float()
    torch.testing.assert_close(again, whole.log_softmax(1), rtol=0, atol=2e-4)


def test_where_layers_cannot_be_run_alone_the_whole_pass_is_read(llama, texts):
    batch = batch_of(llama, [encode_prompt(llama, texts.texts[0])], left=False)
    table = factor_table(llama, [EDIT])
    by_layers = Replay.of(llama, batch)
    whole = Replay(llama, batch, None)
    with torch.no_grad():
        torch.testing.assert_close(
            by_layers.logits(table, batch.prompt), whole.logits(table, batch.prompt)
        )


# What is measured.


def test_a_word_of_the_concept_is_found_at_the_token_that_it_begins_in(llama):
    ids = tuple(llama.tokenizer("the cat is red and blue", add_special_tokens=False)["input_ids"])
    marks = begins_word(llama, ids, ["red", "blue"])
    found = [
        llama.tokenizer.decode([i]).strip() for i, mark in zip(ids, marks, strict=True) if mark
    ]
    assert found == ["red", "blue"]


def test_without_an_edit_nothing_is_lost_and_nothing_moves(reader):
    effect = reader.measure(NO_EDIT).effect()
    assert (effect.need, effect.side) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))


def by_plain_passes(model, prompt, answer):
    """The answer's first token; without and with EDIT, log-probabilities where each is said."""
    (one,) = given_passages(model, [prompt], [answer])
    batch, rows = batch_of(model, [one.prompt], left=False), []
    for edit in (NO_EDIT, EDIT):
        with torch.no_grad(), applied(model, factor_table(model, [edit])):
            logits = model.model(**batch.inputs(), use_cache=False).logits[0].float()
        rows.append(logits.log_softmax(1)[one.first - 1 : len(one.prompt.ids) - 1])
    return one.prompt.ids[one.first], rows


def test_the_loss_is_the_fall_of_the_words_own_log_probability(llama, reader):
    """Against one text at a time, by plain forward passes."""
    lost, n = 0.0, 0
    for prompt, answer in zip(PROMPTS, [*WORDS["colors"][:4]] * 4, strict=True):
        token, (before, after) = by_plain_passes(llama, prompt, answer)
        lost, n = lost + (before - after)[0, token].item(), n + 1
    effect = reader.measure(EDIT).effect()
    assert effect.n_positions == n
    assert effect.need == pytest.approx(lost / n, abs=1e-4)
    assert effect.need_low <= effect.need <= effect.need_high


def test_the_estimate_is_the_measurement_to_first_order(llama, reader):
    """A head turned down by a little costs that share of the estimate."""
    estimate, little = reader.estimate(), 0.01
    for head in (Head(0, 1), Head(1, 2), Head(2, 3)):
        measured = reader.measure(Edit({head: 1 - little})).effect().need / little
        assert measured == pytest.approx(estimate[head.layer, head.index].item(), abs=2e-2)
    assert float(estimate.abs().max()) > 0.05, "else the comparison says nothing"


def test_texts_that_never_say_the_concept_end_in_a_sentence(llama):
    passages = given_passages(llama, PROMPTS[:2], ["cat", "dog"])
    with pytest.raises(PromptError, match=r"None of the 2 texts says a word .* Choose texts that"):
        Reader.of(llama, passages, ["seven"])


def test_what_the_model_says_itself_follows_its_prompt(llama):
    said = own_passages(llama, PROMPTS[:5], Sampling(6, 0.8, 3), at_once=2)
    assert [one.text for one in said] == list(PROMPTS[:5])
    for one in said:
        assert one.prompt.ids[: one.first] == encode_prompt(llama, one.text).ids
        assert passage(llama, one.text, one.continuation).prompt == one.prompt


# The search.

SEARCHES = Search(heads=3, steps=20, side_effects=0.5)


def test_a_search_finds_more_than_its_first_step_with_at_most_the_heads_asked_for(reader):
    *_, last = search_in_steps(reader, SEARCHES)
    assert 1 <= len(last.edit.factors) <= 3
    effect = reader.measure(last.edit).effect()
    assert effect.need > 0.1
    fewer = trimmed(reader, last.edit, SEARCHES)
    assert set(fewer.factors) <= set(last.edit.factors)
    assert reader.measure(fewer).effect().need >= 0.9 * effect.need


@pytest.mark.parametrize("share", [0.5, 3.0], ids=["too far", "not far enough"])
def test_factors_go_as_far_as_the_side_effect_allows(llama, share):
    answers = [f"{color} and the dog is" for color in WORDS["colors"][:4]] * 4
    reader = Reader.of(llama, given_passages(llama, PROMPTS, answers), COLORS.words)
    *_, last = search_in_steps(reader, SEARCHES)
    before = reader.measure(last.edit).effect()
    search = replace(SEARCHES, side_effects=share * before.side)
    edit = stretched(reader, last.edit, search)
    after = reader.measure(edit).effect()
    assert set(edit.factors) <= set(last.edit.factors)
    assert after.side <= search.side_effects
    other_way = replace(search, towards="stronger")
    assert stretched(reader, last.edit, other_way) == NO_EDIT, "nothing is gained"
    if share < 1:
        assert after.side < before.side
    else:
        assert after.need > before.need


def test_the_same_search_gives_the_same_edit(reader):
    first, second = (list(search_in_steps(reader, SEARCHES))[-1].edit for _ in range(2))
    assert first == second


def test_stronger_makes_the_words_likelier(reader):
    search = Search("stronger", 3, 0.5, 20)
    steps = list(search_in_steps(reader, search))
    assert steps[-1].gain > steps[0].gain


def test_more_of_a_concept_is_asked_of_all_its_words_where_one_might_come(llama, reader):
    """Against one text at a time, by plain forward passes."""
    asked = aimed(reader, Search("stronger"))
    ids = [in_sentence_ids(word, llama.tokenizer)[0] for word in COLORS.words]
    rises, moved = [], []
    for prompt, answer in zip(PROMPTS, [*WORDS["colors"][:4]] * 4, strict=True):
        _, (before, after) = by_plain_passes(llama, prompt, answer)
        together = [rows[:, ids].logsumexp(1) for rows in (before, after)]
        might = (together[0].exp() > 0.01) & (together[0].exp() < 0.99)
        rises.append((together[1] - together[0])[might])
        moved.append((before.exp() * (before - after)).sum(1)[~might])
    effect, rise, apart = asked.measure(EDIT).effect(), torch.cat(rises), torch.cat(moved)
    assert effect.n_positions == len(rise) > 0
    assert -effect.need == pytest.approx(rise.mean().item(), abs=1e-4)
    assert effect.side == pytest.approx(float(apart.sum()) / max(1, len(apart)), abs=1e-4)


def test_an_edit_that_makes_room_for_more_is_kept(llama, reader):
    """Even where the words that stand there already fall."""
    search = Search("stronger", 1, side_effects=10.0)
    asked = aimed(reader, search)
    heads = [Head(layer, index) for layer in llama.head_layers for index in range(llama.n_heads)]
    tried = [Edit({head: factor}) for head in heads for factor in (-3.0, 0.0, 3.0)]
    kept = [
        edit
        for edit in tried
        if reader.measure(edit).effect().need > 0 > asked.measure(edit).effect().need
    ]
    assert kept, "else this says nothing"
    for edit in kept[:3]:
        assert stretched(reader, edit, search).factors.keys() == edit.factors.keys()
        assert trimmed(reader, edit, search) == edit


def test_a_stopped_search_leaves_no_hook_and_its_best_edit(llama, reader):
    before = hooks_of(llama)
    steps = search_in_steps(reader, SEARCHES)
    for step in islice(steps, 5):
        assert len(step.edit.factors) <= 3
    steps.close()
    assert hooks_of(llama) == before
    assert all(not p.requires_grad for p in llama.model.parameters())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"towards": "sideways"}, "Unknown direction 'sideways'. Known: weaker, stronger"),
        ({"heads": 0}, "heads is 0; choose 1 to 256"),
        ({"side_effects": 0.0}, "side_effects is 0.0; choose above 0"),
        ({"steps": 3}, "steps is 3; choose 10 to 1000"),
        ({"thrift": 0.0}, "thrift is 0.0; choose above 0"),
        ({"cheaper": 1.1}, "cheaper is 1.1; choose 0.5 to 1"),
    ],
)
def test_a_search_for_nothing_is_refused(changed, message):
    with pytest.raises(OptionError, match=message):
        Search(**changed)


# In a session.


@pytest.fixture
def causes(session):
    return Causes(session)


TEXTS = PromptSet("mine", PROMPTS)


def searched(causes, llama, prompt_set):
    *steps, found = causes.find(
        llama.name, COLORS, Search(heads=2, steps=10, side_effects=0.5), prompt_set
    )
    assert isinstance(found, Found)
    return steps, found


def test_a_text_is_searched_on_or_judged_on_never_both(causes, llama):
    halves = [
        {part.replay.batch.ids.tolist().__repr__() for part in reader.parts}
        for reader in (causes.reader(llama.name, COLORS, TEXTS, half) for half in (SEARCH, JUDGE))
    ]
    assert halves[0] and halves[1] and not halves[0] & halves[1]
    assert {half_of(text) for text in PROMPTS} == {SEARCH, JUDGE}


def test_texts_that_judge_do_not_move_the_search(causes, llama):
    """Other texts in the judging half: another verdict, the same edit."""
    own = [text for text in PROMPTS if half_of(text) == SEARCH]
    others = [f"{text} {word}" for text in PROMPTS for word in WORDS["colors"][:3]]
    judging = [text for text in others if half_of(text) == JUDGE][: len(PROMPTS) - len(own)]
    judged = iter(judging)
    # In the same places, so that the model says the same to the others.
    mixed = tuple(t if half_of(t) == SEARCH else next(judged) for t in PROMPTS)
    _, first = searched(causes, llama, TEXTS)
    _, second = searched(causes, llama, PromptSet("other", mixed))
    assert first.found.edit == second.found.edit
    assert first.found.effect != second.found.effect


def test_a_search_ends_beside_its_rivals_and_random_heads(causes, llama):
    steps, found = searched(causes, llama, TEXTS)
    assert len(steps) == 10 == len(found.curve)
    assert len(found.random) == 30
    assert "attribution" in found.rivals
    assert found.as_dict()["edits"]["found"]["edit"] == str(found.found.edit)


def test_a_stop_is_noticed_within_a_forward_pass_and_leaves_no_hook(causes, llama):
    for half in (SEARCH, JUDGE):
        causes.reader(llama.name, COLORS, TEXTS, half)
    before = hooks_of(llama)

    def stop_at(share: float) -> Callable[[float, str], None]:
        def report(done: float, what: str) -> None:
            if done >= share:
                raise Cancelled("stopped")

        return report

    found = []
    with pytest.raises(Cancelled):
        for head in causes.effects(
            llama.name, COLORS, TEXTS, [Head(0, 1), Head(1, 1)], progress=stop_at(0.5)
        ):
            found.append(head)
    assert [head for head, _ in found] == [Head(0, 1)], "what was measured before is kept"
    with pytest.raises(Cancelled):
        list(causes.find(llama.name, COLORS, Search(heads=2, steps=10), TEXTS, stop_at(0.4)))
    assert hooks_of(llama) == before
    assert causes.session.lock.acquire(blocking=False)
    causes.session.lock.release()


def test_a_readers_texts_go_with_its_model(causes, llama):
    causes.reader(llama.name, COLORS, TEXTS, JUDGE)
    assert causes._readers
    causes.session._model_cache._make_room()
    assert not causes._readers


def test_what_was_measured_is_not_measured_again(causes, llama, session):
    heads = [Head(0, 1), Head(2, 2)]
    fresh = list(causes.effects(llama.name, COLORS, TEXTS, heads))
    estimate = causes.estimate(llama.name, COLORS, TEXTS)
    again = Causes(session)
    again.reader = None  # nothing may be read again
    assert list(again.effects(llama.name, COLORS, TEXTS, heads)) == fresh
    assert torch.equal(again.estimate(llama.name, COLORS, TEXTS), estimate)


def test_a_search_that_finds_nothing_says_what_to_allow(causes, llama, monkeypatch):
    monkeypatch.setattr(
        "headviz.session.causal.search_in_steps", lambda *_: [Step(1.0, NO_EDIT, 0.0, 0.0)]
    )
    few = Search(heads=2, steps=10)
    with pytest.raises(OptionError, match=r"no head that does this with 0\.1 nats of side effect"):
        list(causes.find(llama.name, COLORS, few, TEXTS))


# With pictures: the same on captions.


@pytest.fixture(scope="module")
def album() -> PromptSet:
    """Twelve pictures, asked about in the same words: only they tell the halves apart."""
    pictures = [open_picture(noise(24, 20 + n, n), f"{n}.png") for n in range(12)]
    return picture_prompt_set("album", pictures, PROMPTS[0])


def test_captions_are_searched_on_or_judged_on_never_both(session, llava, album):
    causes = Causes(session)
    said = [one for one in causes.passages(llava.name, album) if one.continuation]
    halves = {
        half: {p.pictures for p in said if half_of(p.text, p.pictures) == half}
        for half in (SEARCH, JUDGE)
    }
    assert halves[SEARCH] and halves[JUDGE] and not halves[SEARCH] & halves[JUDGE]


def test_on_captions_the_estimate_is_the_measurement_and_a_search_ends(session, llava, album):
    causes, little = Causes(session), 0.01
    said = {i for p in causes.passages(llava.name, album) for i in p.continuation}
    words = sorted({llava.tokenizer.decode([i]).strip() for i in said})
    whole = [w for w in words if w.isalpha() and len(in_sentence_ids(w, llava.tokenizer)) == 1]
    concept = make_concept("said", whole[:6])
    estimate = causes.estimate(llava.name, concept, album)
    head = Head(1, 1)
    ((_, effect),) = causes.effects(llava.name, concept, album, [head], 1 - little)
    assert effect.need / little == pytest.approx(estimate[1, 1].item(), abs=2e-2)
    search = Search(heads=2, side_effects=0.5, steps=20)
    *_, found = causes.find(llava.name, concept, search, album)
    assert isinstance(found, Found) and 1 <= len(found.found.edit.factors) <= 2


def test_a_model_that_writes_nothing_can_lose_nothing(causes, monkeypatch):
    tower = SimpleNamespace(writes=False, has_vision=True)
    monkeypatch.setattr(causes.session, "model", lambda name: tower)
    with pytest.raises(OptionError, match="is a CLIP model and writes no text, so that there is"):
        causes.prompt_set("tiny-clip")


def test_words_that_ship_are_not_said_anew(causes, llama, monkeypatch):
    said = [[[n % 7 + 3, 5] for n, _ in enumerate(PROMPTS)], [[9]] * len(PROMPTS)]
    asked = []

    def shipped(name, about):
        asked.append((name, about["prompt_set"], about["revision"]))
        return said

    monkeypatch.setattr("headviz.session.causal.load_said", shipped)
    monkeypatch.setattr("headviz.session.causal.own_passages", None)
    passages = causes.passages(llama.name, TEXTS)
    assert asked == [(llama.name, TEXTS.digest, llama.revision)]
    assert [one.text for one in passages] == [*PROMPTS, *PROMPTS]
    assert [list(one.continuation) for one in passages] == [*said[0], *said[1]]


def test_a_random_set_is_measured_on_a_batch_of_the_texts(reader):
    small = replace(reader, parts=reader.parts * 2)
    batches = small.batches()
    assert [len(batch.parts) for batch in batches] == [1] * len(small.parts)
    whole = reader.measure(EDIT)
    sums = [batch.measure(EDIT).lost.sum() for batch in reader.batches()]
    assert float(sum(sums)) == pytest.approx(float(whole.lost.sum()), abs=1e-4)


def test_a_family_that_cannot_be_taken_up_again_is_tried_once(llama, texts, monkeypatch):
    batch = batch_of(llama, [encode_prompt(llama, texts.texts[0])], left=False)
    monkeypatch.setattr(replay, "_taken_up", WeakKeyDictionary())
    monkeypatch.setattr(replay, "_ALIKE", -1.0)
    assert Replay.of(llama, batch).given is None
    monkeypatch.setattr(Replay, "_gives", None)
    assert Replay.of(llama, batch).given is None
