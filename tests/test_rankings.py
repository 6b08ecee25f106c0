"""The one table of rankings: those that read what heads write, and those that ask what is lost."""

import pytest
import torch
from tiny_models import WORDS

from headviz.base.errors import OptionError
from headviz.cli.commands import rank as rank_command
from headviz.editing.effect import Reader
from headviz.editing.passages import given_passages
from headviz.inputs.concepts import make_concept
from headviz.inputs.prompt_sets import PromptSet
from headviz.pursuit.criteria import CRITERIA
from headviz.session.causal import JUDGE, SEARCH, Causes, half_of
from headviz.session.rankings import RANKINGS, find_way, rank

pytest_plugins = ["loaded"]

COLORS = make_concept("colors", WORDS["colors"])
PROMPTS = tuple(
    f"the {animal} is {color} and the {other} is"
    for color in WORDS["colors"][:4]
    for animal, other in (("cat", "dog"), ("horse", "goat"), ("bird", "fish"), ("dog", "bird"))
)
TEXTS = PromptSet("mine", PROMPTS)
ASKING = [name for name, way in RANKINGS.items() if way.ask is not None]


def test_the_table_has_every_criterion_of_the_pursuit_and_says_what_none_can_show():
    assert set(CRITERIA) < set(RANKINGS)
    assert ASKING == ["attribution", "lift", "learnt"]
    for way in RANKINGS.values():
        assert way.title and way.source and way.blind
    with pytest.raises(OptionError, match=r"Unknown criterion 'magic'. Known: somp, .*learnt"):
        find_way("magic")


def test_the_slopes_of_texts_read_together_are_those_of_each_alone(llama):
    passages = given_passages(llama, PROMPTS[:5], WORDS["colors"][:5])
    slopes, counts = Reader.of(llama, passages, COLORS.words).slopes()
    alone = [Reader.of(llama, [one], COLORS.words).slopes()[0][0] for one in passages]
    assert counts.tolist() == [1.0] * 5
    torch.testing.assert_close(  # a batch orders its texts by length
        slopes.flatten(1).sum(1).sort().values,
        torch.stack(alone).flatten(1).sum(1).sort().values,
        atol=2e-4,
        rtol=0,
    )


def test_attribution_is_the_estimate_on_the_half_that_may_be_searched(session, llama):
    ranking = rank(session, llama.name, COLORS, TEXTS, "attribution")
    reader = Causes(session).reader(llama.name, COLORS, TEXTS, SEARCH)
    torch.testing.assert_close(ranking.scores, reader.estimate(), atol=1e-5, rtol=0)
    assert not ranking.chance.any()
    for head in ranking.heads:
        assert head.low <= head.over + 1e-6 and head.over <= head.high + 1e-6


def test_lift_is_attribution_less_that_on_shuffled_words(session, llama):
    lift = rank(session, llama.name, COLORS, TEXTS, "lift")
    plain = rank(session, llama.name, COLORS, TEXTS, "attribution")
    torch.testing.assert_close(lift.scores, plain.scores, atol=1e-5, rtol=0)
    assert lift.chance.abs().max() > 0
    assert [h.over for h in lift.heads] == sorted((h.over for h in lift.heads), reverse=True)


def test_learnt_scores_are_how_far_a_search_turns_its_heads(session, llama):
    ranking = rank(session, llama.name, COLORS, TEXTS, "learnt")
    turned = [head for head in ranking.heads if head.score > 0]
    assert 1 <= len(turned) <= 8
    assert ranking.spread is None


@pytest.mark.parametrize("criterion", ASKING)
def test_a_ranking_that_was_kept_is_not_made_again(session, llama, criterion, monkeypatch):
    first = rank(session, llama.name, COLORS, TEXTS, criterion)
    session._rankings.clear()
    monkeypatch.setattr(Causes, "reader", None)  # nothing may be read
    again = rank(session, llama.name, COLORS, TEXTS, criterion)
    assert torch.equal(first.scores, again.scores) and torch.equal(first.chance, again.chance)
    assert [h.low for h in first.heads] == [h.low for h in again.heads]


@pytest.mark.parametrize("criterion", ASKING)
def test_texts_that_judge_do_not_move_a_ranking(session, llama, criterion):
    own = [text for text in PROMPTS if half_of(text) == SEARCH]
    others = [f"{text} {word}" for text in PROMPTS for word in WORDS["colors"][:3]]
    judging = iter(text for text in others if half_of(text) == JUDGE)
    mixed = tuple(text if text in own else next(judging) for text in PROMPTS)
    first = rank(session, llama.name, COLORS, TEXTS, criterion)
    second = rank(session, llama.name, COLORS, PromptSet("other", mixed), criterion)
    torch.testing.assert_close(first.scores, second.scores, atol=1e-5, rtol=0)


def test_the_command_line_ranks_by_attribution(session, llama, tmp_path):
    from headviz.__main__ import build_parser

    file = tmp_path / "texts.txt"
    file.write_text("\n".join(PROMPTS))
    command = ["rank", "--model", llama.name, "--words", ",".join(WORDS["colors"])]
    command += ["--criterion", "learnt", "--probes", str(file)]
    result, text = rank_command(session, build_parser().parse_args(command))
    assert result["criterion"] == "learnt" and len(result["heads"]) == 10
    assert "Source: soft gates a head" in text
