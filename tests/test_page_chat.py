"""How a prompt is put to a chat model, on the page: the template, a system prompt, thinking."""

import shutil

import pytest
from paging import ask, change, choosing, serving, settled, visiting
from test_chat import PLAIN, THINKS

from headviz.base.store import Store
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.chat import Chat
from headviz.heads.edits import Edit
from headviz.heads.prompts import sent
from headviz.models.places import chat_template_here
from headviz.page.answers import answers, parted
from headviz.page.ask import Ask
from headviz.page.view import shown_before
from headviz.session.session import Session


@pytest.fixture(scope="module")
def talker(tiny_model_folder, tmp_path_factory):
    """The folder of a tiny model whose template can be told to think first, or not to."""
    folder = tmp_path_factory.mktemp("talker") / "llama"
    shutil.copytree(tiny_model_folder("llama"), folder)
    (folder / "chat_template.jinja").write_text(THINKS, encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def server(talker, tmp_path_factory):
    session = Session(store=Store(tmp_path_factory.mktemp("cache")), allowed=[talker])
    with serving(session) as served:
        yield served


def summary(page):
    return page.locator("#chat summary").inner_text()


def test_the_badge_is_known_before_any_weight_is_read(server, browser, talker):
    assert shown_before(talker).template and shown_before(talker).thinks
    with visiting(browser, server[0]) as page:
        assert "inside the model’s chat template, without thinking first" in summary(page)
        assert not list(server[1]._model_cache._models.values())


def test_what_is_sent_is_shown_as_the_model_gets_it(server, browser, talker):
    with visiting(browser, server[0]) as page:
        change(page, "#prompt", "what color is the user")
        settled(page)
        page.locator("#chat summary").click()
        page.wait_for_selector(".hv-sent")
        model = server[1].model(talker)
        shown = lambda: page.locator(".hv-sent").text_content()  # noqa: E731
        assert shown() == sent(model, "what color is the user").text
        assert page.locator(".hv-sent .hv-sent-own").text_content() == "what color is the user"
        page.locator("#chat-system").select_option("own")
        change(page, "#chat-own", "see red")
        page.wait_for_selector(".hv-sent .hv-sent-system:has-text('see red')")
        page.locator("#chat-thinking").check()
        page.wait_for_function("!document.querySelector('.hv-sent').textContent.includes('think')")
        assert ask(page)["chat"] == {"template": True, "system": "see red", "thinking": True}
        page.locator("#chat-template").uncheck()
        page.wait_for_selector(".hv-sent:not(:has(.hv-sent-template))")
        assert shown() == "what color is the user"
        assert ask(page)["chat"] == {"template": False, "system": None, "thinking": True}
        assert "without the chat template" in summary(page)
        assert not page.locator("#chat-own").is_visible()


def test_an_answer_belongs_to_how_it_was_asked_and_the_link_and_the_code_carry_it(
    server, browser, talker
):
    with visiting(browser, server[0]) as page:
        change(page, "#prompt", "what color is the user")
        settled(page)
        page.locator("#chat summary").click()
        page.locator("#chat-system").select_option("own")
        change(page, "#chat-own", "see red")
        said = settled(page)
        fresh = server[1].compare(
            talker,
            CompareRequest(
                "what color is the user",
                Edit(),
                sampling=Sampling(),
                chat=Chat(system="see red"),
            ),
        )
        assert said[0] == last_of(fresh).columns[0].text.strip()
        page.locator("#export-edit button[data-kind=link]").click()
        page.wait_for_function("document.querySelector('#link').value")
        link = page.locator("#link").input_value()
        page.locator("#code > button").first.click()
        code = "[...document.querySelectorAll('#code .cm-content')].map(c => c.innerText).join('')"
        page.wait_for_function(f"{code}.includes(\"chat=headviz.Chat(system='see red')\")")
    with visiting(browser, server[0] + link[link.index("?") :]) as page:
        page.wait_for_selector("#banner:has-text('A link opened this page')")
        assert ask(page)["chat"]["system"] == "see red"
        page.locator("#chat summary").click()
        assert page.locator("#chat-own").input_value() == "see red"
        assert settled(page) == said


def test_a_system_prompt_without_a_place_is_refused_where_it_is_asked(
    browser, tmp_path, tiny_model_folder
):
    folder = tmp_path / "llama"
    shutil.copytree(tiny_model_folder("llama"), folder)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusing + PLAIN, encoding="utf-8")
    session = Session(store=Store(tmp_path / "cache"), allowed=[str(folder)])
    with serving(session) as (url, _), visiting(browser, url) as page:
        change(page, "#prompt", "what color")
        page.locator("#chat summary").click()
        page.locator("#chat-system").select_option("own")
        change(page, "#chat-own", "see red")
        page.wait_for_selector("#said .hv-error:has-text('does not take this')")
        page.locator("#chat-system").select_option("usual")
        settled(page)
        assert not page.locator(".hv-error").count()


def test_heads_can_be_read_without_the_template(server, browser):
    with visiting(browser, server[0]) as page:
        choosing(page)
        page.locator("#choose button:has-text('Options')").click()
        assert page.get_by_label("texts inside the chat template").is_checked()


def test_the_template_is_found_where_it_may_stand(tmp_path):
    for name, content, expected in (
        ("chat_template.jinja", "a", "a"),
        ("chat_template.json", '{"chat_template": "b"}', "b"),
        ("tokenizer_config.json", '{"chat_template": "c"}', "c"),
        (
            "tokenizer_config.json",
            '{"chat_template": [{"name": "tool_use", "template": "x"}, '
            '{"name": "default", "template": "d"}]}',
            "d",
        ),
        ("tokenizer_config.json", "{}", ""),
        ("tokenizer_config.json", "no JSON", ""),
    ):
        folder = tmp_path / str(hash(content))
        folder.mkdir()
        (folder / name).write_text(content, encoding="utf-8")
        assert chat_template_here(str(folder)) == expected
    assert chat_template_here("no/such-model") is None


def test_what_a_model_thinks_is_told_apart_and_kept(server, talker):
    """In the answers, in what they are compared by, and in a recipe."""
    asked = CompareRequest("what color", Edit(), words=("red",))
    comparison = last_of(server[1].compare(talker, asked))
    from dataclasses import replace

    from headviz.heads.chat import thinking_in

    def say(column, text):
        return replace(column, text=text, thinking=thinking_in(text))

    texts = ("<think>one two</think> it is red", "<think>three</think> it is red", "it is <b>")
    columns = tuple(map(say, comparison.columns, texts))
    comparison = replace(comparison, columns=columns)
    assert parted(columns[0]) == ("it is red", "<think>one two</think>")
    drawn = answers(Ask(talker, "what color", Edit()), comparison, "done")
    assert "&lt;think&gt;one two&lt;/think&gt;</span>" in drawn
    assert drawn.count("the same as the original") == 1
    trial = Trial.of(comparison, Sampling(), 0, Chat(thinking=True))
    recipe = Recipe(talker, "", Edit(), trial=trial)
    back = Recipe.from_link(recipe.to_link()).trial
    assert back.chat == Chat(thinking=True)
    assert [c.thinking for c in back.texts] == [c.thinking for c in columns]
