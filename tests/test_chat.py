"""What a model is really sent: template, system prompt and own words; what it thinks, apart."""

import copy
from dataclasses import replace

import pytest
from tiny_models import WORDS

from headviz.base.errors import PromptError
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling
from headviz.heads.capture import capture
from headviz.heads.chat import Chat, thinking_in
from headviz.heads.edits import NO_EDIT
from headviz.heads.prompts import encode_prompt, sent
from headviz.inputs.concepts import make_concept
from headviz.pursuit.options import Options

pytest_plugins = ["loaded"]

PLAIN = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}[system] be a bird [end]{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} [end]{% endfor %}[assistant]"
)
THINKS = PLAIN + (
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}"
)
BEGINS = PLAIN + "<think>"
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + PLAIN
)
FORGETS = "[user] {{ messages[-1]['content'] }} [assistant]"
BROKEN = "{{ messages[0]['content'] + 1 }}"
TEXT = "what color is the user"


@pytest.fixture
def talking(llama):
    """`talking(template)` is the tiny Llama with that chat template."""

    def talk(template):
        tokenizer = copy.deepcopy(llama.tokenizer)
        tokenizer.chat_template = template
        return replace(llama, tokenizer=tokenizer)

    return talk


def pieces(model, chat):
    told = sent(model, TEXT, 0, chat)
    assert "".join(told.text[span.start : span.stop] for span in told.spans) == told.text
    return [(span.kind, told.text[span.start : span.stop]) for span in told.spans]


def own_words(model, chat):
    encoded = encode_prompt(model, TEXT, chat=chat)
    pairs = zip(encoded.ids, encoded.own, strict=True)
    return model.tokenizer.decode([token for token, own in pairs if own]).strip()


def test_what_is_sent_is_told_apart_into_template_system_prompt_and_own_words(talking):
    model = talking(PLAIN)
    assert pieces(model, Chat()) == [
        ("template", "<bos>[system] be a bird [end][user] "),
        ("own", TEXT),
        ("template", " [end][assistant]"),
    ]
    assert pieces(model, Chat(system="see red")) == [
        ("template", "<bos>[system] "),
        ("system", "see red"),
        ("template", " [end][user] "),
        ("own", TEXT),
        ("template", " [end][assistant]"),
    ]
    assert pieces(model, Chat(template=False)) == [("own", TEXT)]


@pytest.mark.parametrize(
    "chat", [Chat(), Chat(system="see red"), Chat(system="user"), Chat(system=""), Chat(False)]
)
def test_the_own_words_are_the_persons_however_they_are_sent(talking, chat):
    assert own_words(talking(PLAIN), chat) == TEXT


def test_a_model_that_can_think_first_does_so_only_when_asked(talking):
    quiet, aloud = Chat(), Chat(thinking=True)
    assert sent(talking(THINKS), TEXT, 0, quiet).text.endswith("<think>\n\n</think>")
    assert "<think>" not in sent(talking(THINKS), TEXT, 0, aloud).text
    closed = sent(talking(BEGINS), TEXT, 0, quiet)
    assert closed.text.endswith("<think>\n\n</think>\n\n") and not closed.is_thinking
    opened = sent(talking(BEGINS), TEXT, 0, aloud)
    assert opened.text.endswith("<think>") and opened.is_thinking
    assert own_words(talking(BEGINS), aloud) == TEXT


def test_what_is_thought_is_told_apart_from_the_answer():
    def thought(text, is_open=False):
        return [text[span.start : span.stop] for span in thinking_in(text, is_open)]

    assert thought("red") == []
    assert thought("<think>is it red?</think> blue") == ["<think>is it red?</think>"]
    assert thought("<think>is it") == ["<think>is it"]
    assert thought("is it red?</think> blue", True) == ["is it red?</think>"]
    assert thought("is it", True) == ["is it"]
    assert thought("", True) == []
    assert thought("a</think> b <think>c</think> d", True) == ["a</think>", "<think>c</think>"]


def test_columns_tell_what_is_thinking(talking):
    asked = CompareRequest(TEXT, NO_EDIT, sampling=Sampling(4), chat=Chat(thinking=True))
    told = last_of(iter_of(talking(BEGINS), asked))
    for column in told.columns:
        assert [(s.start, s.stop) for s in column.thinking] == [(0, len(column.text))]
    quiet = last_of(iter_of(talking(BEGINS), replace(asked, chat=Chat())))
    assert all(column.thinking == () for column in quiet.columns)
    assert "thinking" not in quiet.as_dict()["measures"]["original"]


def iter_of(model, asked):
    from headviz.editing.compare import compare

    return compare(model, replace(asked, control=False))


@pytest.mark.parametrize(
    ("template", "chat", "said"),
    [
        (REFUSES, Chat(system="see"), r"does not take this \(System role not supported\)\. Leave"),
        (FORGETS, Chat(system="see"), r"leaves the system prompt out\. Write it into the prompt"),
        (BROKEN, Chat(), r"does not take this \(.*\)\. Turn it off"),
        (None, Chat(system="see"), r"no chat template, and so no place for a system prompt"),
    ],
)
def test_what_a_template_does_not_take_is_refused_in_a_sentence(talking, template, chat, said):
    with pytest.raises(PromptError, match=said) as caught:
        encode_prompt(talking(template), TEXT, chat=chat)
    assert "\n" not in str(caught.value)


def test_a_system_prompt_without_the_template_is_refused():
    for make in (Chat, lambda template, system: Options(template=template, system=system)):
        with pytest.raises(PromptError, match="which is turned off"):
            make(template=False, system="see")


def test_a_template_that_takes_no_system_prompt_works_without(talking):
    assert own_words(talking(REFUSES), Chat()) == TEXT


class WithoutOffsets:
    """A tokenizer that does not tell where in the text a token stood, as those in Python do."""

    is_fast = False

    def __init__(self, fast):
        self._fast = fast

    def __getattr__(self, name):
        return getattr(self._fast, name)

    def __call__(self, text, **more):
        assert "return_offsets_mapping" not in more
        return self._fast(text, **more)


@pytest.mark.parametrize("template", [None, PLAIN, BEGINS])
def test_own_words_are_found_without_offsets_as_with_them(talking, template):
    fast = talking(template)
    slow = replace(fast, tokenizer=WithoutOffsets(fast.tokenizer))
    for text in (TEXT, "a", "user", "the cat is red"):
        assert encode_prompt(slow, text) == encode_prompt(fast, text)


def test_heads_are_read_as_the_texts_are_sent(talking, texts):
    model = talking(PLAIN)
    read = [capture(model, texts, chat=chat) for chat in (Chat(), Chat(system="see"), Chat(False))]
    assert not read[0].z.allclose(read[1].z, atol=1e-4)
    assert not read[0].z.allclose(read[2].z, atol=1e-4)
    assert [activations.chat for activations in read] == [Chat(), Chat(system="see"), Chat(False)]


def test_a_session_keeps_readings_of_different_system_prompts_apart(
    session, talking, texts, monkeypatch
):
    model = replace(talking(PLAIN), name="talking")
    monkeypatch.setattr("headviz.session.session.open_model", lambda name, *_: model)
    concept = make_concept("colors", WORDS["colors"])
    plain = session.rank("talking", concept, texts)
    told = session.rank("talking", concept, texts, options=Options(system="see"))
    assert told.options.as_dict()["system"] == "see"
    assert not told.scores.allclose(plain.scores)
    assert session.rank("talking", concept, texts) is plain
