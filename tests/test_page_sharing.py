"""What leaves the page and comes back: files, figures, recipes, links, code. A real browser."""

import csv
import io
import json
from pathlib import Path

import pytest
from paging import ask, change, choosing, sampling, serving, settled, slide, texts, visiting
from PIL import Image
from safetensors.torch import load

from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept, make_concept
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.session.session import Session
from headviz.session.shipped import load_shipped

pytest_plugins = ["paging"]

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


def saved(page, row, kind):
    """Press a button of a row: the file's name and content."""
    with page.expect_download() as waiting:
        page.locator(f"#export-{row} button[data-kind={kind}]").click()
    download = waiting.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def rows_of(content):
    return [*csv.DictReader(io.StringIO(content.decode(), newline=""))]


def link_of(page):
    page.locator("#export-edit button[data-kind=link]").click()
    page.wait_for_function("document.querySelector('#link').value.includes('recipe=')")
    return page.locator("#link").input_value()


def test_the_ranking_and_the_spectrum_are_saved_as_they_are(page):
    ranking = load_shipped("tiny-lm").ranking("colors")
    name, content = saved(page, "heads", "csv")
    assert name == "headviz-tiny-lm-colors-heads.csv"
    assert [row["head"] for row in rows_of(content)] == [str(h.head) for h in ranking.heads]
    assert json.loads(saved(page, "heads", "json")[1]) == ranking.as_dict()
    assert load(saved(page, "heads", "safetensors")[1])["scores"].equal(ranking.scores)
    spectrum = load_shipped("tiny-lm").spectrum(ranking.top(1)[0])
    name, content = saved(page, "head", "csv")
    assert name == f"headviz-tiny-lm-{ranking.top(1)[0]}-spectrum.csv"
    assert [row["token"] for row in rows_of(content)] == [atom.token for atom in spectrum.atoms]
    assert json.loads(saved(page, "head", "json")[1])["head"] == str(spectrum.head)


def test_the_signals_are_saved(page, server):
    session = server[1]
    name, content = saved(page, "heads", "activations")
    assert name == "headviz-tiny-lm-activations.safetensors"
    read = session.activations("tiny-lm", find_prompt_set(None, "tiny-lm"))
    assert load(content)["z"].equal(read.z)


@pytest.mark.parametrize("row", ["heads", "head"])
def test_figures_are_saved_as_picture_drawing_and_page(page, browser, row, tmp_path):
    _, content = saved(page, row, "png")
    picture = Image.open(io.BytesIO(content))
    assert picture.width == 1800
    assert len(picture.convert("RGB").getcolors(2**20)) > 50
    _, content = saved(page, row, "svg")
    assert content.startswith(b"<svg")
    assert b"tiny-lm" in content
    name, content = saved(page, row, "html")
    (tmp_path / name).write_bytes(content)
    context = browser.new_context(offline=True)
    alone = context.new_page()
    asked = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto((tmp_path / name).as_uri())
    alone.wait_for_selector("#figure .main-svg")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def test_the_texts_are_saved(page):
    page.locator("#up").click()
    seen = settled(page)
    _, content = saved(page, "edit", "csv")
    rows = rows_of(content)
    assert [row["column"] for row in rows] == ["original", "edited", "control"]
    assert [row["text"].strip() for row in rows] == seen
    result = json.loads(saved(page, "edit", "json")[1])
    assert [result[row["column"]].strip() for row in rows] == seen


def test_a_recipe_holds_all_of_it_and_comes_back(page, tmp_path):
    sampling(page, tokens=7, temperature=0.5, seed=3, control_seed=2)
    change(page, "#prompt", "Question: What color is a tomato? Answer:")
    page.locator(".hv-chip").first.click()
    slide(page, "#alpha-one", 2.5)
    page.locator("#where").select_option("generated")
    seen, asked = settled(page), ask(page)
    name, content = saved(page, "edit", "recipe")
    assert name == "headviz-tiny-lm-colors-recipe.json"
    recipe = Recipe.from_json(content)
    assert {str(h): f for h, f in recipe.edit.factors.items()} == asked["heads"]
    assert recipe.concept == find_concept("colors")
    assert recipe.scores.keys() == recipe.edit.factors.keys()
    assert recipe.trial.prompt == asked["prompt"]
    assert (recipe.trial.sampling.seed, recipe.trial.control_seed) == (3, 2)
    assert [c.text.strip() for c in recipe.trial.texts] == seen
    (tmp_path / name).write_bytes(content)
    page.locator("#reset").click()
    settled(page)
    with page.expect_file_chooser() as waiting:
        page.locator("#load-recipe").click()
    waiting.value.set_files(tmp_path / name)
    page.wait_for_selector("#banner:has-text('on the answer that was seen there')")
    assert settled(page) == seen
    assert ask(page) == asked


def test_a_link_opens_on_its_answer_before_the_model_is_here(page, server, browser, tmp_path):
    page.locator("#up").click()
    seen, asked = settled(page), ask(page)
    token = link_of(page).partition("?")[2]
    elsewhere = Session(store=Store(tmp_path / "cache"), allowed=["tiny-lm"])
    with serving(elsewhere) as (url, _), visiting(browser, f"{url}?{token}") as other:
        other.wait_for_selector("#banner:has-text('A link opened this page')")
        assert settled(other) == seen
        assert ask(other) == asked
        assert not list(elsewhere._model_cache._models.values()), "a model was loaded"


def test_a_link_with_own_words_shows_them_and_counts_them(server, browser):
    own = make_concept("my words", ["red", "blue", "umpteen"])
    recipe = Recipe("tiny-lm", "0123", Edit({Head(0, 51): -1.0}), own)
    with visiting(browser, f"{server[0]}?recipe={recipe.to_link()}") as visitor:
        visitor.wait_for_selector("#banner:has-text('revision 0123')")
        assert ask(visitor)["heads"] == {"L0.H51": -1}
        choosing(visitor)
        assert visitor.locator("#words textarea").input_value() == "red, blue, umpteen"
        assert visitor.locator("#concept input").input_value() == "my own words"
        change(visitor, "#prompt", "Question: What color is a tomato? Answer:")
        settled(visitor)
        assert "of “my words”" in visitor.locator(".hv-column.original").inner_text()


def test_a_head_has_an_address(server, browser):
    address = f"{server[0]}?model=tiny-lm&concept=numbers&head=L1.H5"
    with visiting(browser, address) as visitor:
        visitor.wait_for_selector("#head-title:has-text('L1.H5')")
        assert "Numbers" in visitor.locator("#headline").inner_text()
        assert ask(visitor)["concept"]["name"] == "numbers"
        assert "Numbers in tiny-lm" in visitor.locator("#status").text_content()


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("abcd", "The link's recipe cannot be read"),
        (Recipe("elsewhere/model", "", Edit()).to_link(), "is not offered here"),
        (Recipe("tiny-lm", "", Edit({Head(0, 99): 0.0})).to_link(), "There is no head L0.H99"),
        (Recipe("tiny-lm", "", Edit({Head(0, 9): 99.0})).to_link(), "beyond the page's sliders"),
    ],
)
def test_a_wrong_link_is_one_sentence_and_the_page_goes_on(server, browser, token, sentence):
    with visiting(browser, f"{server[0]}?recipe={token}") as visitor:
        visitor.wait_for_selector(f'#banner .bad:has-text("{sentence}")')
        visitor.wait_for_selector(".hv-map .opened")
        assert len(texts(visitor)) == 3


def test_code_follows_what_is_shown(page):
    page.locator("#code > button").first.click()
    shown = "[...document.querySelectorAll('#code .cm-content')].map(c => c.innerText).join('')"
    page.wait_for_function(f"{shown}.includes('headviz.compare')")
    page.locator("#code").get_by_role("tab", name="Open head").click()
    page.locator('.hv-map .hv-cell[data-layer="1"][data-head="5"]').click()
    page.wait_for_function(f"{shown}.includes('L1.H5')")
    page.locator("#code").get_by_role("tab", name="Ranking").click()
    page.wait_for_function(f"{shown}.includes('headviz.rank')")


@pytest.mark.parametrize("changed", [False, True])
def test_a_teacher_makes_a_lesson_of_any_state_and_its_answer_is_hidden_until_guessed(
    page, server, browser, changed
):
    if changed:
        page.locator("#up").click()
    said = settled(page)
    page.locator("#teach summary").click()
    page.locator("#teach-link").click()
    assert "needs a question" in page.locator("#teach-told").inner_text()
    page.locator("#teach-right").fill("<b>red</b>")
    page.locator("#teach-wrong").fill("blue\n\ngreen")
    page.locator("#teach-explain").fill("That is why.")
    page.locator("#teach-link").click()
    page.wait_for_function("document.querySelector('#link').value.includes('lesson=')")
    link = page.locator("#link").input_value()
    with visiting(browser, server[0] + link[link.index("?") :]) as visitor:
        visitor.wait_for_selector("#banner .hv-question")
        edited = visitor.locator(".hv-column.edited .hv-text")
        assert not edited.is_visible()
        assert not visitor.locator(".hv-column.control .hv-facts").is_visible()
        told = visitor.locator("#clearest").text_content()  # what turning does
        assert bool(told) != changed
        assert not visitor.locator("#clearest").is_visible()
        assert visitor.locator(".hv-column.original .hv-text").is_visible()
        options = visitor.locator("#banner [data-option]")
        assert options.all_inner_texts() == ["<b>red</b>", "blue", "green"]
        assert settled(visitor) == said
        options.nth(1).click()
        assert "No." in visitor.locator("#banner .hv-verdict").inner_text()
        assert edited.is_visible()
        assert visitor.get_by_text("That is why.").is_visible()


@pytest.mark.parametrize("token", ["abc", "e30", "a" * 5000, "eyJxdWVzdGlvbiI6MX0"])
def test_a_wrong_question_is_one_sentence(server, browser, token):
    recipe = Recipe("tiny-lm", "", Edit({Head(0, 51): -1.0}))
    with visiting(browser, f"{server[0]}?recipe={recipe.to_link()}&lesson={token}") as visitor:
        visitor.wait_for_selector('#banner .bad:has-text("question cannot be read")')
        assert visitor.locator(".hv-column.edited .hv-text").is_visible()
