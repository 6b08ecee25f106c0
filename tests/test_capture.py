"""Which tokens are read, and what a reading says of itself. That signals are right: test_laws."""

import copy
from dataclasses import replace

import pytest
from tiny_models import CONTEXT

from headviz.base.errors import OptionError, PromptError
from headviz.heads.capture import capture, encode_prompt
from headviz.inputs.prompt_sets import PromptSet

pytest_plugins = ["loaded"]

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }} [end]"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def chatty(llama):
    """The tiny Llama with a chat template."""
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return replace(llama, tokenizer=tokenizer)


def own_text(model, text):
    encoded = encode_prompt(model, text)
    pairs = zip(encoded.ids, encoded.own, strict=True)
    return model.tokenizer.decode([token for token, own in pairs if own]).strip()


def test_without_a_template_all_but_the_special_tokens_are_the_prompts_own(model):
    encoded = encode_prompt(model, "the cat is red")
    assert own_text(model, "the cat is red") == "the cat is red"
    assert encoded.own.count(False) == (encoded.ids[0] == model.tokenizer.bos_token_id)


@pytest.mark.parametrize(
    "text",
    ["the cat is red", "a", "assistant", "user", "[end]", "]", "  the cat \n", "two\nlines", "é ×"],
)
def test_inside_a_chat_template_only_the_persons_words_are_its_own(chatty, text):
    assert own_text(chatty, text) == text.strip()
    encoded = encode_prompt(chatty, text)
    before = chatty.tokenizer.decode(encoded.ids[: encoded.own.index(True)])
    assert before.rstrip() == "<bos>[user]"


def test_a_chat_template_is_written_once_with_one_beginning_of_text(chatty):
    encoded = encode_prompt(chatty, "the cat is red")
    assert chatty.tokenizer.decode(encoded.ids) == "<bos>[user] the cat is red [end][assistant]"
    assert encoded.ids.count(chatty.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "<eos>"])
def test_an_empty_prompt_is_refused(model, chatty, text):
    for one in (model, chatty):
        with pytest.raises(PromptError, match=r"The prompt is empty\. Write some text\."):
            encode_prompt(one, text)


def test_half_a_character_is_refused(llama):
    with pytest.raises(PromptError, match="is not valid Unicode text"):
        encode_prompt(llama, "the \ud83d cat")


def test_a_prompt_fills_the_context_and_not_a_token_more(model):
    special = len(model.tokenizer("")["input_ids"])
    fits = " red" * (CONTEXT - special)
    assert len(encode_prompt(model, fits).ids) == CONTEXT
    too_long = rf"has {CONTEXT + 1} tokens; .* reads at most {CONTEXT}\. Shorten it\."
    with pytest.raises(PromptError, match=too_long):
        encode_prompt(model, fits + " red")
    with pytest.raises(PromptError, match=rf"has {CONTEXT} tokens and 5 more are to be generated"):
        encode_prompt(model, fits, reserve=5)


def test_a_text_that_is_too_long_is_refused_before_any_is_read(llama, monkeypatch):
    monkeypatch.setattr(llama.model.get_input_embeddings(), "forward", None)
    with pytest.raises(PromptError, match="Shorten it"):
        capture(llama, PromptSet("long", ("one", " red" * CONTEXT)))


def test_an_unknown_pooling_lists_the_known_ones(llama, texts):
    with pytest.raises(OptionError, match=r"'sum'\. Known: prompt, last, generated"):
        capture(llama, texts, "sum")


def test_a_reading_says_where_it_came_from_and_how_many_positions_it_read(model, texts):
    for pooling in ("prompt", "last"):
        activations = capture(model, texts, pooling)
        own = [sum(encode_prompt(model, text).own) for text in texts.texts]
        assert activations.n_positions == (sum(own) if pooling == "prompt" else len(texts))
        assert activations.n_samples == len(texts)
        assert (activations.model, activations.revision) == (model.name, model.revision)
        assert (activations.prompt_set, activations.pooling) == (texts.digest, pooling)


def test_numbers_that_are_not_finite_are_refused_with_the_head(llama, texts):
    broken = replace(llama, model=copy.deepcopy(llama.model))
    broken.model.model.layers[1].self_attn.v_proj.weight.data[8:] = float("inf")
    with pytest.raises(PromptError, match=r"Head L1\.H\d gives numbers that are not finite"):
        capture(broken, texts)


def test_progress_rises_to_the_end(llama, texts):
    shares = []
    capture(llama, texts, progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
