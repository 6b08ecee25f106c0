"""What leaves the page and comes back: files, figures, recipes, links, code. A real browser."""

import csv
import io
import json
from pathlib import Path

import pytest
from paging import drag, finished, generate, mark_texts, serving, texts, visiting
from PIL import Image
from safetensors.torch import load

from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept
from headviz.inputs.prompt_sets import find_prompt_set
from headviz.session.session import Session
from headviz.session.shipped import load_shipped

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page on a free port of this process: its URL and its session."""
    store = Store(tmp_path_factory.mktemp("cache"))
    with serving(Session(store=store, allowed=["tiny-lm"])) as served:
        yield served


@pytest.fixture
def page(server, browser):
    """A visitor's page; at its end the console must have been silent and no other host asked."""
    with visiting(browser, server[0]) as visitor:
        visitor.wait_for_selector(".hv-cell")
        visitor.wait_for_selector("#spectrum .main-svg")
        yield visitor


def saved(page, row, kind):
    """Press a button of a row: the file's name and content."""
    with page.expect_download() as waiting:
        page.locator(f"#export-{row} button[data-kind={kind}]").click()
    download = waiting.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def rows_of(content):
    return [*csv.DictReader(io.StringIO(content.decode(), newline=""))]


def load_recipe(page, path):
    """Choose a file for the button."""
    with page.expect_file_chooser() as waiting:
        page.locator("#load-recipe").click()
    waiting.value.set_files(path)


def sliders(page):
    """Head -> factor, as they stand on the page."""
    found = page.eval_on_selector_all(
        ".hv-sliders .hv-alpha",
        """all => all.filter(one => one.offsetParent).map(one => [
            one.innerText.split('\\n')[0].trim(),
            one.querySelector('input[type=number]').value])""",
    )
    return {name: float(value) for name, value in found}


def wait_for_sliders(page, expected):
    for _ in range(200):
        if sliders(page) == expected:
            return
        page.wait_for_timeout(100)
    assert sliders(page) == expected


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


def test_the_texts_are_saved_after_they_were_generated(page):
    page.locator("#export-edit button[data-kind=csv]").click()
    page.locator(".toast-body.error").filter(has_text="Nothing was generated yet").wait_for()
    page.locator("#tokens input").fill("3")
    generate(page)
    _, content = saved(page, "edit", "csv")
    rows = rows_of(content)
    assert [row["column"] for row in rows] == ["original", "edited", "control"]
    assert [row["text"] for row in rows] == texts(page)
    result = json.loads(saved(page, "edit", "json")[1])
    assert [result[row["column"]] for row in rows] == texts(page)


def test_an_edit_goes_out_as_a_recipe_and_comes_back(page, tmp_path):
    drag(page, "#alpha-0", 0.9)
    first = sliders(page)
    name, content = saved(page, "edit", "recipe")
    assert name == "headviz-tiny-lm-colors-recipe.json"
    recipe = Recipe.from_json(content)
    assert {str(h): f for h, f in recipe.edit.factors.items()} == first
    assert recipe.concept == find_concept("colors")
    assert recipe.scores.keys() == recipe.edit.factors.keys()
    (tmp_path / name).write_bytes(content)
    page.locator("#reset").click()
    wait_for_sliders(page, dict.fromkeys(first, 1.0))
    load_recipe(page, tmp_path / name)
    wait_for_sliders(page, first)


def test_a_recipe_brings_its_concept_its_factors_and_its_place(page, tmp_path):
    edit = Edit({Head(1, 5): 0.25, Head(4, 60): -2.0}, "generated")
    path = Recipe("tiny-lm", "", edit, find_concept("numbers")).save(tmp_path / "r.json")
    load_recipe(page, path)
    wait_for_sliders(page, {"L1.H5": 0.25, "L4.H60": -2.0})
    page.wait_for_selector("#words textarea")
    page.wait_for_function("document.querySelector('#concept input').value == 'numbers'")
    assert "three" in page.locator("#words textarea").input_value()
    assert page.locator("#where input:checked").get_attribute("value") == "generated"
    page.locator("#tokens input").fill("2")
    generate(page)
    assert "L1.H5=0.25" in page.locator("#text-edited").inner_text()
    recipe = Recipe.from_json(saved(page, "edit", "recipe")[1])
    assert recipe.edit == edit


def test_a_link_opens_the_page_with_the_edit(page, server, browser):
    drag(page, "#alpha-0", 0.9)
    expected = sliders(page)
    page.locator("#export-edit button[data-kind=link]").click()
    page.wait_for_function("document.querySelector('.hv-export input').value.includes('recipe=')")
    link = page.locator(".hv-export input").input_value()
    assert link.startswith(server[0])
    with visiting(browser, link) as other:
        wait_for_sliders(other, expected)


def test_a_link_with_own_words_shows_them_and_counts_them(server, browser):
    from headviz.inputs.concepts import make_concept

    own = make_concept("my words", ["red", "blue", "umpteen"])
    recipe = Recipe("tiny-lm", "0123", Edit({Head(0, 51): -1.0}), own)
    with visiting(browser, f"{server[0]}?recipe={recipe.to_link()}") as visitor:
        wait_for_sliders(visitor, {"L0.H51": -1.0})
        visitor.locator(".toast-body").filter(has_text="revision 0123").first.wait_for()
        assert visitor.locator("#words textarea").input_value() == "red, blue, umpteen"
        visitor.locator("#tokens input").fill("2")
        visitor.locator("#prompt textarea").fill("Question: What color is a tomato? Answer:")
        generate(visitor)
        assert "concept word" in visitor.locator("#text-original").inner_text()


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
        visitor.locator(".toast-body.error").filter(has_text=sentence).first.wait_for()
        visitor.wait_for_selector(".hv-cell.opened")


def test_code_follows_what_is_shown(page):
    for box in ("heads", "head", "edit"):
        page.locator(f"#code-{box} button").first.click()
    page.locator("#code-heads .cm-content", has_text="headviz.rank(\"tiny-lm\", 'colors')")
    page.wait_for_function(
        "document.querySelector('#code-heads .cm-content').innerText.includes('headviz.rank')"
    )
    page.locator('.hv-cell[data-layer="1"][data-head="5"]').click()
    page.wait_for_function(
        "document.querySelector('#code-head .cm-content').innerText.includes('L1.H5')"
    )
    page.locator("#tokens input").fill("2")
    mark_texts(page)
    page.locator("#generate").click()
    finished(page)
    page.wait_for_function(
        "document.querySelector('#code-edit .cm-content').innerText.includes('headviz.compare')"
    )
