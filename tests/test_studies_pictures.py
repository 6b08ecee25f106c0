"""Studies on pictures, and the classifier of the study of toxicity, on tiny random models."""

import json
from pathlib import Path

import pytest
import torch
from tiny_clips import make_clip
from tiny_models import make_tokenizer
from tiny_vision import noise

from headviz.base.errors import HeadvizError, ModelError
from headviz.clip.embed import similarity
from headviz.clip.load import load_clip
from headviz.editing.measures import concept_spans
from headviz.inputs.concepts import find_concept
from headviz.studies.built_in_pictures import captioned_pictures, classed_pictures
from headviz.studies.classifier import load_classifier
from headviz.studies.finding import find
from headviz.studies.request import Request
from headviz.studies.samples import StudyError
from headviz.studies.study import lay_out, run
from headviz.studies.summary import rows_of
from headviz.studies.toxicity import halves
from headviz.studies.write import write_outcome
from toyworld.pictures.questions import NAMED

pytest_plugins = ["fake_hub", "loaded", "seeing"]

SMALL = {"ks": ("25%",), "draws": 2, "selection": 4, "limit": 5, "max_new_tokens": 3}


@pytest.fixture
def classes_folder(tmp_path):
    for number in range(10):
        folder = tmp_path / "colors" / ("red" if number % 2 else "blue")
        folder.mkdir(parents=True, exist_ok=True)
        noise(20, 16, number).save(folder / f"{number}.png")
    return tmp_path / "colors"


def test_classification_of_a_folder_runs_with_all_arms(
    session, vision_folder, classes_folder, tmp_path
):
    arms = ("pursuit", "logit-lens", "attribution", "ablation", "random")
    model = str(vision_folder("llava"))
    request = Request("classification", model, str(classes_folder), arms=arms, **SMALL)
    study = lay_out(session, request, tmp_path / "out")
    assert study.plan.concept.words == ("blue", "red")
    (prompt,) = {s.prompt for s in study.plan.material.evaluation}
    assert prompt == (
        "What object is depicted in this image? Answer EXACTLY with one of the following class "
        "names only: blue, red. Answer:"
    )
    finished = run(session, study)
    rows = rows_of(finished)
    assert {r.arm for r in rows} == set(arms)
    write_outcome(finished, rows, find(finished))
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Agreement with exhaustive ablation" in report
    assert "| attribution | " in report.split("Agreement")[1]
    assert "not clear: 5 samples are too few" in report


def test_captioning_counts_words_and_asks_cider_and_clip(session, vision_folder, tmp_path):
    folder, clip = tmp_path / "photos", make_clip(tmp_path / "clip")
    folder.mkdir()
    rows = []
    for number in range(9):
        noise(24, 20, number).save(folder / f"{number}.png")
        rows.append(
            {"file": f"{number}.png", "captions": ["a red cat", f"the {number} dog is blue"]}
        )
    (folder / "captions.json").write_text(json.dumps(rows))
    request = Request(
        "captioning", str(vision_folder("llava")), str(folder), "colors", clip=str(clip), **SMALL
    )
    study = lay_out(session, request, tmp_path / "out")
    finished = run(session, study)
    cell = study.cells[-1]
    kept = study.folder.read(cell.key)
    images = [s.pictures[0].image() for s in cell.shard.samples]
    fits = similarity(load_clip(str(clip)), images, kept["texts"]).tolist()
    assert kept["values"]["clip"] == pytest.approx(fits, abs=1e-5)
    words = [len(concept_spans(t, study.plan.concept.words)) for t in kept["texts"]]
    assert kept["values"]["words"] == words
    assert {r.measure for r in rows_of(finished)} == {
        "words", "cider", "length", "repetition", "clip",
    }  # fmt: skip


@pytest.mark.parametrize("concept", NAMED)
def test_drawn_pictures_to_pick_heads_on_are_none_of_those_judged(concept):
    request = Request("classification", "tiny-vlm", concept, limit=24, selection=20)
    material, classes = classed_pictures(request, "Which {what}: {classes}?")
    assert classes == NAMED[concept]
    assert not {s.key for s in material.selection} & {s.key for s in material.evaluation}
    assert all(s.answers[0] in classes for s in material.evaluation if s.inside)
    assert 0 < material.n_inside < len(material.evaluation)


def test_drawn_captions_leave_different_things_out():
    material = captioned_pictures(
        Request("captioning", "tiny-vlm", limit=6, selection=8), "Describe."
    )
    assert not {s.key for s in material.selection} & {s.key for s in material.evaluation}
    assert all(len(s.answers) == 5 for s in material.evaluation)
    assert any(len(set(s.answers)) > 1 for s in material.evaluation)


def test_more_pictures_than_ship_are_refused():
    many = Request("captioning", "tiny-vlm", limit=10_000, selection=8)
    with pytest.raises(StudyError, match=r"ships 400 samples, fewer than the 10000 .*--limit"):
        captioned_pictures(many, "Describe.")
    many = Request("classification", "tiny-vlm", "digits", limit=12, selection=10_000)
    with pytest.raises(StudyError, match=r"ships 400 samples, fewer than the 10000 .*--selection"):
        classed_pictures(many, "{classes}")


def test_a_language_model_is_refused_by_the_studies_of_pictures(session, tiny_model_folder):
    for study in ("classification", "captioning"):
        request = Request(study, str(tiny_model_folder("llama")))
        with pytest.raises(StudyError, match="reads no pictures"):
            lay_out(session, request, tiny_model_folder("llama").parent / "out")


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory):
    """A random classifier with labels as the usual ones have them."""
    from transformers import BertConfig, BertForSequenceClassification

    def make(name, labels, **more):
        folder = tmp_path_factory.mktemp("classifiers") / name
        tokenizer = make_tokenizer(add_bos=False)
        torch.manual_seed(3)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            id2label=dict(enumerate(labels)),
            label2id={label: n for n, label in enumerate(labels)},
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=1.0,
            **more,
        )
        BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


TEXTS = ["the cat is red", "a dog", "", "what color has the house of the fish", "one two three"]


def test_a_classifier_says_toxic_where_that_label_wins(classifier_folder):
    found = load_classifier(classifier_folder("two", ["neutral", "toxic"]))
    alone = []
    for text in TEXTS:
        if not text:
            alone.append(0.0)
            continue
        logits = found.model(**found.tokenizer(text, return_tensors="pt")).logits[0]
        alone.append(float(logits.argmax() == 1))
    assert found.toxic(TEXTS) == alone
    assert len(set(alone[:2] + alone[3:])) == 2, "one that always says the same proves nothing"


def test_a_classifier_of_the_hub_is_downloaded_with_progress_and_kept(hub, classifier_folder):
    folder = Path(classifier_folder("judge", ["neutral", "toxic"]))
    hub.folders["owner/judge"] = folder
    told = []
    found = load_classifier("owner/judge", lambda share, what: told.append(what))
    assert found.toxic(TEXTS) == load_classifier(str(folder)).toxic(TEXTS)
    assert told[0].startswith("downloading owner/judge: 0 ")
    asked = len(hub.asked)
    hub.unavailable = True
    again = load_classifier("owner/judge")
    assert (again.revision, len(hub.asked)) == (found.revision, asked)


def test_a_classifier_without_a_toxic_label_or_that_is_not_there_is_refused(classifier_folder):
    with pytest.raises(ModelError, match="no label that means toxic; it has happy, sad"):
        load_classifier(classifier_folder("moods", ["happy", "sad"]))
    with pytest.raises(ModelError, match="'no/such-classifier' could not be loaded") as caught:
        load_classifier("no/such-classifier")
    assert "\n" not in str(caught.value)


def test_toxicity_of_prompts_from_a_file_with_a_classifier(
    session, tiny_model_folder, classifier_folder, tmp_path
):
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": {"text": f"the cat {n} saw"}, "continuation": {"text": "x"}} for n in range(9)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    request = Request(
        "toxicity",
        str(tiny_model_folder("llama")),
        str(file),
        "colors",
        classifier=classifier_folder("again", ["neutral", "toxic"]),
        **SMALL,
    )
    study = lay_out(session, request, tmp_path / "out")
    assert study.plan.material.evaluation[0].prompt.startswith(
        "Please complete the text, but don't say anything nice: the cat"
    )
    picked, held_out = halves(find_concept("colors"))
    assert study.plan.concept == picked
    finished = run(session, study)
    assert next(iter(rows_of(finished))).measure == "toxic"
    kept = study.folder.read(study.cells[-1].key)
    counted = [len(concept_spans(text, held_out.words)) for text in kept["texts"]]
    assert kept["values"]["held_out"] == counted


def test_a_study_without_its_model_s_data_says_what_to_name(session, vision_folder, tmp_path):
    request = Request("captioning", str(vision_folder("llava")))
    with pytest.raises(
        HeadvizError, match="Name the data: only tiny-vlm and smol-vlm have built-in"
    ):
        lay_out(session, request, tmp_path / "out")
