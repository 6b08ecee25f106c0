"""A program asks a running page through gradio_client: the library's own results, as plain data."""

import base64
import io
import json
import re

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from paging import serving
from tiny_vision import make_vision_model, noise

from headviz.base.assets import built_in_models
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.compare import CompareRequest, last_of
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe
from headviz.heads.edits import Edit
from headviz.inputs.concepts import find_concept, known_concepts, make_concept
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import find_prompt_set, make_prompt_set, picture_prompt_set
from headviz.session.session import Session

if "tiny-lm" not in built_in_models():
    pytest.skip("tiny-lm is not trained yet", allow_module_level=True)

QUESTION = "Question: What is the usual color of a tomato? Answer:"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page's URL, its session, and the name of a tiny model that sees."""
    seeing = str(make_vision_model("llava", tmp_path_factory.mktemp("models") / "llava"))
    session = Session(
        Store(tmp_path_factory.mktemp("cache")), allowed=["tiny-lm", seeing], keep_models=2
    )
    with serving(session) as (url, _):
        yield url, session, seeing


@pytest.fixture(scope="module")
def client(served):
    """A program's connection."""
    return Client(served[0], verbose=False)


def plain(data):
    """As it looks after a way through JSON."""
    return json.loads(json.dumps(data))


def test_the_endpoints_have_stable_names_and_arguments(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {*named} == {"/concepts", "/rank", "/spectrum", "/generate"}
    arguments = {p["parameter_name"] for p in named["/generate"]["parameters"]}
    assert arguments == {
        *("model", "prompt", "edit", "where", "concept", "words", "images"),
        *("max_new_tokens", "temperature", "seed", "template", "system", "thinking"),
    }
    assert all(p["parameter_has_default"] for p in named["/rank"]["parameters"])


def test_the_program_of_the_documentation_runs(served, repo):
    text = (repo / "docs" / "api.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(
        program.replace("http://127.0.0.1:7860/", served[0]).replace(
            "http://127.0.0.1:7860", served[0]
        ),
        names,
    )
    session = served[1]
    ranking = session.rank("tiny-lm", find_concept("colors"), find_prompt_set(None, "tiny-lm"))
    assert names["ranking"] == plain(ranking.as_dict(3))
    spectrum = session.spectrum("tiny-lm", ranking.top(1)[0], find_prompt_set(None, "tiny-lm"), 5)
    assert names["spectrum"] == plain(spectrum.as_dict())
    edit = Edit.of(ranking.top(3), -1)
    words = find_concept("colors").words
    streams = session.compare(
        "tiny-lm", CompareRequest(QUESTION, edit, words, sampling=Sampling(4))
    )
    expected = plain(last_of(streams).as_dict())
    assert {k: v for k, v in names["result"].items() if k in expected} == expected


def test_own_words_and_texts_come_with_the_call(client, served):
    texts = ["The ball is red.", "My coat was blue."]
    result = client.predict(words=["red", "blue"], texts=texts, top=2, api_name="/rank")
    own = make_concept("my words", ["red", "blue"])
    ranking = served[1].rank("tiny-lm", own, make_prompt_set("texts", texts))
    assert result == plain(ranking.as_dict(2))
    assert [c["name"] for c in client.predict(api_name="/concepts")] == [*known_concepts()]


def test_a_recipe_is_an_edit(client):
    edit = Edit({Head(0, 51): -1.0}, "generated")
    recipe = Recipe("tiny-lm", "", edit, find_concept("colors"))
    given = {"prompt": QUESTION, "max_new_tokens": 3, "api_name": "/generate"}
    by_recipe = client.predict(edit=recipe.as_dict(), **given)
    by_hand = client.predict(
        edit=str(edit), where="generated", concept="colors", model="tiny-lm", **given
    )
    assert by_recipe == by_hand
    assert by_recipe["where"] == "generated"


def test_pictures_come_as_base64(client, served):
    _, session, seeing = served
    files = []
    for side in (20, 28):
        buffer = io.BytesIO()
        noise(24, side).save(buffer, "PNG")
        files.append(buffer.getvalue())
    picture, other = map(open_picture, files)
    sent, also = (base64.b64encode(file).decode() for file in files)
    asked = {"model": seeing, "words": ["red"], "images": [sent, also], "top": 1}
    result = client.predict(**asked, api_name="/rank")
    ranking = session.rank(
        seeing, make_concept("my words", ["red"]), picture_prompt_set("images", [picture, other])
    )
    assert result["heads"] == plain(ranking.as_dict(1))["heads"]
    told = client.predict(
        model=seeing,
        prompt="what is this",
        edit="L0.H1=3",
        where="image",
        images=[f"data:image/png;base64,{sent}"],
        max_new_tokens=2,
        api_name="/generate",
    )
    edit = Edit({Head(0, 1): 3.0}, "image")
    streams = session.compare(
        seeing,
        CompareRequest("what is this", edit, sampling=Sampling(2), pictures=(picture,)),
    )
    assert told["edited"] == last_of(streams).columns[1].text


@pytest.mark.parametrize(
    ("endpoint", "arguments", "sentence"),
    [
        ("/rank", {"concept": "colour"}, "Did you mean 'colors'"),
        ("/rank", {"model": "gpt-17", "concept": "colors"}, "is not offered here"),
        ("/rank", {"concept": "colors", "prompt_set": "README.md"}, "Unknown prompt set"),
        ("/rank", {"concept": "colors", "images": ["%"]}, "is not base64"),
        ("/rank", {"concept": "colors", "criterion": "x"}, "Unknown criterion"),
        ("/spectrum", {"head": "L99.H0"}, "There is no head L99.H0"),
        ("/generate", {"prompt": "", "edit": "L0.H1=1"}, "The prompt is empty"),
        ("/generate", {"prompt": "a", "edit": "L0.H1"}, "is no edit"),
        ("/generate", {"prompt": "a", "edit": {"a": 1}}, "no recipe of headviz"),
        ("/generate", {"prompt": "a", "max_new_tokens": 10**9}, "max_new_tokens is"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(client, endpoint, arguments, sentence):
    with pytest.raises(AppError) as refused:
        client.predict(**arguments, api_name=endpoint)
    assert sentence in str(refused.value)
    assert "Traceback" not in str(refused.value)
