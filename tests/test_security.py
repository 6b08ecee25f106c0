"""What others may send to a page, and what files of others may hold: docs/security.md's promises.

The page here is the real one, asked over HTTP as no browser would ask. Each test is a row of
docs/security.md; what its mark takes away breaks it (`scripts/promises`).
"""

import contextlib
import json
import pickle
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gradio as gr
import pytest
from fuzzing import picture, zipped
from gradio.state_holder import StateHolder
from paging import serving
from promises import BEGIN, DOC, END, REPO, promises, table
from tiny_models import make_model

from benchmarks.load import Visitor
from headviz.base.errors import Cancelled, HeadvizError
from headviz.base.head import Head
from headviz.base.store import Store
from headviz.editing.compare import Column
from headviz.editing.generate import Sampling
from headviz.editing.recipe import Recipe, Trial
from headviz.heads.chat import PLAIN
from headviz.heads.edits import Edit
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import make_concept
from headviz.inputs.image_folders import open_image_folder
from headviz.inputs.images import open_picture
from headviz.page import html, limits, prompt_sets
from headviz.page.answers import answers
from headviz.page.api import MAX_TEXTS, Api, checked
from headviz.page.arriving import arrive, open_file
from headviz.page.ask import MAX_PROMPT, Ask
from headviz.page.errors import for_program
from headviz.page.page import build_page
from headviz.page.pictures import check_bytes, entries_of
from headviz.page.view import ModelShown
from headviz.page.work import Work
from headviz.session.open_model import open_model
from headviz.session.session import Session

pytest_plugins = ["loaded"]

_HEAD = "POST /gradio_api/queue/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
HUGE = f"{_HEAD}Content-Length: {10**10}\r\n\r\n"
CHUNKED = f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def session(assets, tmp_path) -> Session:
    """As behind a page for others: one model is offered."""
    return Session(Store(tmp_path / "store"), allowed=["toy"], device="cpu")


@pytest.fixture
def api(session):
    return Api(session)


@pytest.fixture
def served(session):
    with serving(session) as (url, _):
        yield url.rstrip("/")


@pytest.fixture
def elsewhere():
    """A server of this machine that nobody may be made to ask; what it was asked."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/a.png", asked
    server.shutdown()
    server.server_close()


def fetched(url: str, data: bytes | None = None, kind: str = "application/json"):
    """Status, headers and body."""
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def uploaded(url: str, name: str, content: bytes) -> str:
    """The path on the server of a file that a visitor uploads."""
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
    kind = f"multipart/form-data; boundary={edge}"
    status, _, answer = fetched(f"{url}/gradio_api/upload", body, kind)
    assert status == 200, answer
    return json.loads(answer)[0]


def sent(url: str, wanted: str, *data: object) -> str:
    """What the page answers where the listener of `wanted` (a component's elem_id) gets these data.

    As a program that knows the page's inside would send it, past the browser's own code.
    """
    config = json.loads(fetched(f"{url}/config")[2])
    ids = {c["id"]: c["props"].get("elem_id") for c in config["components"]}
    number = next(
        d["id"]
        for d in config["dependencies"]
        if wanted in [ids[target[0]] for target in d["targets"] if target[0] in ids]
    )
    hash_ = uuid.uuid4().hex
    body = {"data": list(data), "fn_index": number, "session_hash": hash_, "event_data": None}
    status, _, answer = fetched(f"{url}/gradio_api/queue/join", json.dumps(body).encode())
    if status != 200:
        return answer.decode()
    text = ""
    with urllib.request.urlopen(
        f"{url}/gradio_api/queue/data?session_hash={hash_}", timeout=60
    ) as lines:
        for line in lines:
            text += line.decode()
            if "process_completed" in text or "close_stream" in text:
                break
    return text


def refused(call, *args: object, **more: object) -> str:
    """The sentence with which it is refused."""
    with pytest.raises((HeadvizError, gr.Error)) as told:
        call(*args, **more)
    return str(told.value)


# Only what is offered.


@pytest.mark.promise(
    "Only offered models are opened, whatever a call, a link or a recipe names",
    "a page for others",
    without={
        "headviz/session/session.py": (
            "if self.allowed is not None and name not in self.allowed:",
            "if False:",
        )
    },
)
def test_only_offered_models_are_opened(api, session, tmp_path, tiny_model_folder):
    other = str(tiny_model_folder("gpt2"))
    for name in (other, "../toy", "https://a.example/toy", "owner/name", f"{tmp_path}/assets/toy"):
        assert "is not offered here" in refused(api.rank, name, "colors")
        assert "is not offered here" in refused(api.generate, name, "red")
        assert "is not offered here" in refused(session.model, name)
    recipe = Recipe(other, "", Edit({Head(0, 0): 0.0}))
    assert "is not offered here" in refused(api.generate, edit=recipe.as_dict(), prompt="red")
    recipe.save(tmp_path / "recipe.json")
    ask = open_file(session, str(tmp_path / "recipe.json")).opening.ask
    assert "is not offered here" in refused(session.model, ask.model)


@pytest.mark.promise(
    "A link with a foreign recipe opens no model, and says so",
    "a page for others",
    without={"headviz/page/arriving.py": ("check_offered(session, recipe)\n", "pass\n")},
)
def test_a_link_with_a_foreign_model_is_refused(session):
    recipe = Recipe("/etc", "", Edit({Head(0, 0): 0.0}))
    assert "is not offered here" in refused(arrive, session, {"recipe": recipe.to_link()})


@pytest.mark.promise(
    "What a link or a recipe says is shown as text",
    "everyone",
    without={
        "headviz/page/html.py": (
            '" bad" if bad else "", text,',
            '" bad" if bad else "", Markup(text),',
        )
    },
)
def test_what_a_link_says_is_shown_as_text(session):
    texts = tuple(Column(name, EVIL, EVIL) for name in ("original", "edited", "control"))
    trial = Trial(EVIL, Sampling(3), texts=texts)
    concept = make_concept(EVIL, [EVIL])
    recipe = Recipe("toy", EVIL, Edit({Head(0, 1): -1.0}), concept, trial=trial)
    found = arrive(session, {"recipe": recipe.to_link()})
    shown = answers(found.opening.ask, trial.comparison(), "done")
    assert "<img" not in f"{found.banner}{shown}"
    assert "&lt;img" in f"{found.banner}{shown}"


# No path but those of uploads.


@pytest.mark.promise(
    "A set of texts is named, never a path of the server",
    "a page for others",
    without={
        "headviz/page/prompt_sets.py": (
            "if choice not in (known := sample_choices(model)):",
            "if False:",
        ),
        "headviz/page/api.py": ("if prompt_set and prompt_set not in known:", "if False:"),
    },
)
def test_a_set_of_texts_is_no_path(api, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("red\nblue\n")
    assert "Unknown prompt set" in refused(api.rank, "toy", "colors", prompt_set=str(secret))

    with gr.Blocks():
        picker = prompt_sets.build(ModelShown("toy"))
    chosen = dict(zip(picker.inputs, [str(secret), "", "", None], strict=True))
    assert "Unknown prompt set" in refused(
        prompt_sets.find_samples, picker, chosen, ModelShown("toy")
    )


@pytest.mark.promise(
    "No file of the server is handed out but what was uploaded or made for the visitor",
    "a page for others",
    without={
        "headviz/page/page.py": (
            '"footer_links": ["api", "gradio"],',
            '"footer_links": ["api", "gradio"], "allowed_paths": ["/"],',
        )
    },
)
def test_no_file_of_the_server_is_handed_out(served):
    own = Path(__file__).resolve()
    for path in (own, "/etc/passwd", REPO / "README.md", "../../../../etc/passwd"):
        assert fetched(f"{served}/gradio_api/file={path}")[0] in (403, 404), path


@pytest.mark.promise(
    "A picture's file is one that was uploaded: a path or an address in its place is refused",
    "a page for others",
    without={
        "headviz/page/page.py": (
            "import gradio as gr\n",
            "import gradio as gr\nimport gradio.processing_utils as guarded\n"
            "guarded._check_allowed = lambda *_: None\n",
        )
    },
)
def test_a_picture_is_no_path_and_no_address(served, elsewhere):
    address, asked = elsewhere
    own = uploaded(served, "a.png", picture())
    for path in (own, str(REPO / "docs" / "page.png"), address):
        file = {"path": path, "url": address, "meta": {"_type": "gradio.FileData"}}
        answer = sent(served, "pictures", [{"image": file, "caption": None}], None)
        assert ('"success":true' in answer.replace(" ", "")) == (path == own), answer
    assert asked == []


@pytest.mark.promise(
    "A call's pictures come with it: an address or a path is no picture",
    "a page for others",
    without={
        "headviz/page/api.py": (
            "contents.append(base64.b64decode(content, validate=True))",
            'contents.append(__import__("urllib.request").request.urlopen(text).read())',
        )
    },
)
def test_a_call_s_picture_is_no_address(api, elsewhere):
    address, asked = elsewhere
    for image in (address, "/etc/passwd", "file:///etc/passwd"):
        assert "is not base64" in refused(api.rank, "toy", "colors", images=[image])
    assert asked == []


# What a file may hold.


@pytest.mark.promise(
    "What a visitor uploads is never a page of this site in another's browser",
    "a page for others",
    without={
        "headviz/page/page.py": (
            "import gradio as gr\n",
            "import gradio as gr\nfrom gradio.route_utils import XSS_SAFE_MIMETYPES as safe\n"
            "safe |= {'text/html', 'image/svg+xml'}\n",
        )
    },
)
def test_an_uploaded_page_is_not_shown_as_one(served):
    for name in ("evil.html", "evil.svg"):
        path = uploaded(served, name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>")
        status, headers, _ = fetched(f"{served}/gradio_api/file={path}")
        assert status == 200
        assert "attachment" in headers.get("Content-Disposition", ""), name


@pytest.mark.promise(
    "A picture that is something else as well is shown as its pixels alone",
    "everyone",
    without={
        "headviz/page/pictures.py": (
            "image = picture.image()\n",
            'return type("Raw", (), {"save": lambda self, file, *_: file.write(picture.data)})()\n',
        )
    },
)
def test_of_a_polyglot_only_the_pixels_are_shown():
    evil = b"<script>alert(1)</script>" + zipped({"a.sh": b"rm"})
    found = open_picture(picture() + evil, "a.png")
    ((copy, _),) = entries_of([found])
    shown = Path(copy).read_bytes()
    assert evil not in shown and b"<script>" not in shown


@pytest.mark.promise(
    "Zips are read in memory within bounds: no bomb, no name that climbs out, no nested zip",
    "everyone",
    without={"headviz/inputs/image_folders.py": ("_RATIO = 200", "_RATIO = 10**9")},
)
def test_a_zip_of_zips_and_a_bomb_are_refused(tmp_path):
    bomb = zipped({"a.png": bytes(64 * 2**20)})
    (tmp_path / "bomb.zip").write_bytes(bomb)
    (tmp_path / "nested.zip").write_bytes(zipped({"inner.zip": bomb}))
    assert "from almost nothing" in refused(open_image_folder, tmp_path / "bomb.zip")
    assert "There is no picture in" in refused(open_image_folder, tmp_path / "nested.zip")


@pytest.mark.promise(
    "A picture's size is read before its pixels are",
    "everyone",
    without={"headviz/inputs/images.py": ("MAX_PIXELS = 64 * 10**6", "MAX_PIXELS = 10**12")},
)
def test_a_picture_that_unpacks_to_gigabytes_is_refused():
    from test_images import bomb

    assert "at most 64 million" in refused(open_picture, bomb(9_000, 9_000), "a.png")


@pytest.mark.promise(
    "Deep or endless JSON ends in one sentence",
    "everyone",
    without={
        "headviz/editing/recipe.py": ("except (ValueError, RecursionError):", "except ValueError:")
    },
)
def test_deep_json_is_one_sentence(tmp_path, served):
    deep = "[" * 200_000
    assert "is not JSON" in refused(Recipe.from_json, deep)
    status, _, _ = fetched(f"{served}/gradio_api/queue/join", deep.encode())
    assert status >= 400
    assert fetched(f"{served}/config")[0] == 200, "the page goes on"


@pytest.mark.promise(
    "Weights are safetensors: nothing pickled is opened",
    "everyone",
    without={
        "headviz/models/weight_files.py": ("if not files:", "if False:"),
        "headviz/models/read_weights.py": (
            '"use_safetensors": True}',
            '"use_safetensors": False, "weights_only": False}',
        ),
    },
)
def test_pickled_weights_are_never_opened(tiny_model_folder, tmp_path):
    folder, ran = make_model("llama", tmp_path / "evil"), tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (ran,))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"w": Evil()}))
    assert "safetensors" in refused(open_model, str(folder), "cpu")
    assert not ran.exists()


@pytest.mark.promise(
    "Code that comes with a model is never run",
    "everyone",
    without={
        "headviz/models/load.py": ('"trust_remote_code": False', '"trust_remote_code": True'),
        "headviz/models/read_weights.py": ("trust_remote_code=False", "trust_remote_code=True"),
    },
)
def test_code_that_comes_with_a_model_is_never_run(tmp_path):
    folder, ran = make_model("llama", tmp_path / "evil"), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
    (folder / "evil.py").write_text(f"{code}from transformers import LlamaConfig as Config\n")
    refused(open_model, str(folder), "cpu")
    assert not ran.exists()


@pytest.mark.promise(
    "A chat template is rendered in jinja's sandbox",
    "everyone",
    without={
        "headviz/heads/chat.py": (
            "import re\n",
            "import re\nimport jinja2\nimport transformers.utils.chat_template_utils as rendering\n"
            "rendering.ImmutableSandboxedEnvironment = jinja2.Environment\n",
        )
    },
)
def test_a_template_reaches_nothing(load, tmp_path):
    ran = tmp_path / "ran"
    for inside in (
        "''.__class__.__mro__[1].__subclasses__()",
        f"messages.__init__.__globals__['__builtins__']['open']('{ran}', 'w')",
        f"cycler.__init__.__globals__.os.system('touch {ran}')",
        f"raise_exception.__globals__['__builtins__']['open']('{ran}', 'w')",
    ):
        model = load("llama")
        before = model.tokenizer.chat_template
        model.tokenizer.chat_template = "{{ " + inside + " }}{{ messages[0]['content'] }}"
        try:
            told = refused(encode_prompt, model, "red", chat=PLAIN)
        finally:
            model.tokenizer.chat_template = before
        assert "template" in told
    assert not ran.exists()


# What comes out.


@pytest.mark.promise(
    "Tokens and file names are shown as text, whatever they hold",
    "everyone",
    without={
        "headviz/page/html.py": (
            """Markup('<p class="hv-error" role="alert">{}</p>').format(text)""",
            """Markup('<p class="hv-error" role="alert">' + text + '</p>')""",
        )
    },
)
def test_tokens_and_file_names_are_shown_as_text(session):
    made = [
        html.error(EVIL),
        html.note(EVIL),
        html.warning(EVIL),
        html.banner(EVIL, [EVIL]),
        html.table({EVIL: EVIL}, [[EVIL]], EVIL),
        html.error(refused(open_picture, b"", EVIL)),
    ]
    for one in made:
        assert "<img" not in one and "&lt;img" in one


# How much of the server one visitor may take.


@pytest.mark.promise(
    "A prompt or texts that are far too long are refused before anything is made of them",
    "a page for others",
    without={
        "headviz/page/ask.py": ("if len(prompt) > MAX_PROMPT:", "if False:"),
        "headviz/page/api.py": ("if (n := sum(map(len, texts))) > most:", "if (n := 0):"),
    },
)
def test_long_prompts_are_refused(api):
    long = "a " * MAX_PROMPT
    assert f"{MAX_PROMPT} at most" in refused(api.generate, "toy", long)
    data = {**Ask("toy", "", Edit()).as_dict(), "prompt": long}
    assert f"{MAX_PROMPT} at most" in refused(Ask.from_dict, data)
    assert f"{MAX_TEXTS} at most" in refused(api.rank, "toy", "colors", texts=["a" * 10**6] * 3)


@pytest.mark.promise(
    "A thousand sliders are refused",
    "a page for others",
    without={"headviz/page/ask.py": ("if len(factors) > MOST_HEADS:", "if False:")},
)
def test_a_thousand_sliders_are_refused(api):
    heads = {f"L{n}.H0": -1.0 for n in range(1000)}
    data = {**Ask("toy", "red", Edit()).as_dict(), "heads": heads}
    assert "are too many for the page" in refused(Ask.from_dict, data)
    edit = ",".join(f"{head}=-1" for head in heads)
    assert "There is no head" in refused(api.generate, "toy", "red", edit)


@pytest.mark.promise(
    "A program's arguments are read as the endpoint has them, any other JSON is one sentence",
    "a page for others",
    without={"headviz/page/api.py": ("readers[name].validate_python(value)", "value")},
)
def test_any_other_json_is_one_sentence(api):
    call = for_program(checked(api.rank))
    assert "top is" in refused(call, "toy", "colors", top=[[1]])
    assert "words is" in refused(call, "toy", words={"red": 1})


@pytest.mark.promise(
    "A request that brings no file has a bounded size",
    "a page for others",
    without={
        "headviz/page/page.py": ('"app_kwargs": {"middleware": [Middleware(RequestLimit)]},', "")
    },
)
def test_a_huge_request_is_refused(served):
    port = int(served.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 60) as told:
        told.sendall(HUGE.encode())
        assert told.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", port), 60) as untold:
        untold.sendall(CHUNKED.encode())
        piece = b"%x\r\n%b\r\n" % (2**20, b" " * 2**20)
        with contextlib.suppress(ConnectionError):
            for _ in range(limits.MAX_REQUEST // 2**20 + 8):
                untold.sendall(piece)
            untold.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in untold.recv(100)
    assert fetched(f"{served}/config")[0] == 200, "the page goes on"


@pytest.mark.promise(
    "A visitor's pictures are bounded together",
    "a page for others",
    without={"headviz/page/pictures.py": ("if total > MAX_PICTURES:", "if False:")},
)
def test_a_visitor_s_pictures_are_bounded_together(monkeypatch):
    monkeypatch.setattr("headviz.page.pictures.MAX_PICTURES", 1000)
    found = [open_picture(picture(side=side), f"{side}.png") for side in (30, 31, 32)]
    assert "MB together" in refused(check_bytes, found)
    check_bytes([])


@pytest.mark.promise(
    "Every step ends within minutes on a page for others, and an API call as well",
    "a page for others",
    without={
        "headviz/page/limits.py": ("if time.monotonic() > end:", "if False:"),
    },
)
def test_a_step_ends_in_time(session):
    visitor = gr.Request(session_hash="x")

    def endless(report):
        for _ in range(200):
            report(0.0, "reading")
            time.sleep(0.01)

    with pytest.raises(Cancelled, match="longer than"):
        list(Work(0.1).watched(visitor, "kind", endless, "stopped"))
    with pytest.raises(Cancelled, match="longer than"):
        list(Work(0.0).until_next(visitor, "answers", lambda: True, iter("abc")))
    assert "longer than" in refused(Api(session, 0.0).rank, "toy", "colors")
    assert "longer than" in refused(Api(session, 0.0).generate, "toy", "red", max_new_tokens=3)


@pytest.mark.promise(
    "What closed tabs showed does not stay in memory",
    "a page for others",
    without={"headviz/page/page.py": ("page.unload(Closed(page, work.forget).add)", "pass")},
)
def test_of_closed_tabs_the_page_is_not_kept_for_ever(session, monkeypatch):
    pages, forgotten = [], []

    def closed(page, forget):
        pages.append(page)
        return limits.Closed(page, lambda tab: (forget(tab), forgotten.append(tab)), most=1)

    monkeypatch.setattr("headviz.page.page.Closed", closed)
    with serving(session) as (url, _):
        tabs = [Visitor(url) for _ in range(4)]
        names = [tab.session_hash for tab in tabs]
        kept = pages[0].state_holder.session_data
        assert [*kept] == names
        for tab in tabs[:3]:
            tab.close()
        end = time.monotonic() + 30
        while len(forgotten) < 2:  # all but the last one that was closed
            assert time.monotonic() < end, "they are still kept"
            time.sleep(0.01)
        assert {*forgotten} < {*names[:3]} and len(kept) == 2 and names[3] in kept
        tabs[3].close()


def test_a_tab_that_comes_back_finds_its_page(session):
    page, forgotten = build_page(session), []
    page.state_holder = StateHolder()
    page.state_holder.set_blocks(page)
    closed = limits.Closed(page, forgotten.append, most=1)
    for name in ("lost its network", "second", "third"):
        page.state_holder[name]
        closed.add(gr.Request(session_hash=name))
        page.state_holder["lost its network"]
    assert forgotten == ["second"]
    assert [*page.state_holder.session_data] == ["third", "lost its network"]


# The table.


def test_the_table_is_that_of_the_marks():
    assert DOC.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip() == table()


def test_what_each_mark_takes_away_is_there():
    for promise in promises():
        for file, (old, _) in promise.without.items():
            assert old in (REPO / file).read_text(encoding="utf-8"), (promise.test, file)
