"""Public data sets, read from small files written in exactly the formats they are published in."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

from headviz.base.errors import HeadvizError
from headviz.studies.formats import Question, read_prompts, read_questions
from headviz.studies.image_folders import read_captioned, read_labelled
from headviz.studies.samples import StudyError

TRIVIA = {
    "Data": [
        {
            "Answer": {
                "Aliases": ["Sunset Blvd", "West Sunset Boulevard"],
                "MatchedWikiEntityName": "",
                "NormalizedAliases": ["sunset blvd", "west sunset boulevard"],
                "NormalizedMatchedWikiEntityName": "",
                "NormalizedValue": "sunset boulevard",
                "Type": "WikipediaEntity",
                "Value": "Sunset Boulevard",
            },
            "EntityPages": [],
            "Question": "Which Lloyd Webber musical premiered in the US on 10th December 1993?",
            "QuestionId": "tc_33",
            "QuestionSource": "http://www.triviacountry.com/",
            "SearchResults": [],
        }
    ],
    "Domain": "Web",
    "Split": "dev",
    "VerifiedEval": False,
    "Version": 1.0,
}
HUB_ROW = {
    "question": "Who was the man behind The Chipmunks?",
    "question_id": "tc_2",
    "question_source": "http://www.triviacountry.com/",
    "answer": {
        "aliases": ["David Seville"],
        "normalized_aliases": ["david seville"],
        "matched_wiki_entity_name": "",
        "normalized_matched_wiki_entity_name": "",
        "normalized_value": "david seville",
        "type": "WikipediaEntity",
        "value": "Ross Bagdasarian",
    },
}
CHIPMUNKS = Question(HUB_ROW["question"], ("Ross Bagdasarian", "David Seville"))


def test_trivia_qa_as_its_own_json(tmp_path):
    file = tmp_path / "web-dev.json"
    file.write_text(json.dumps(TRIVIA, indent=4))
    (found,) = read_questions(file)
    assert found.question.startswith("Which Lloyd Webber musical")
    assert found.answers == ("Sunset Boulevard", "Sunset Blvd", "West Sunset Boulevard")


def test_trivia_qa_as_json_lines_of_the_hub(tmp_path):
    file = tmp_path / "validation.jsonl"
    file.write_text(json.dumps(HUB_ROW) + "\n")
    assert read_questions(file) == (CHIPMUNKS,)


def test_trivia_qa_as_parquet_of_the_hub(tmp_path):
    import pyarrow
    from pyarrow import parquet

    file = tmp_path / "validation-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([HUB_ROW]), file)
    assert read_questions(file) == (CHIPMUNKS,)
    assert read_questions(tmp_path) == (CHIPMUNKS,)


@pytest.mark.parametrize("packed", [False, True])
def test_natural_questions_as_tab_separated_lines(tmp_path, packed):
    # As the open-domain retrieval files have it: quoted lists, no header.
    text = (
        "who got the first nobel prize in physics\t['Wilhelm Conrad Röntgen']\n"
        "when is the next deadpool movie being released\t['May 18 , 2018', 'May 2018']\n"
        'who\'s "it"\t"[""Ann\'s brother"", \'he said ""no""\']"\n'
    )
    file = tmp_path / ("nq-test.qa.tsv.gz" if packed else "nq-test.qa.csv")
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    first, second, third = read_questions(file)
    assert first.question == "who got the first nobel prize in physics"
    assert first.answers == ("Wilhelm Conrad Röntgen",)
    assert second.answers == ("May 18 , 2018", "May 2018")
    assert third.answers == ("Ann's brother", 'he said "no"')


def test_natural_questions_as_json_lines(tmp_path):
    file = tmp_path / "NQ-open.dev.jsonl"
    file.write_text('{"question": "when was the last time", "answer": ["2010", "July 2010"]}\n')
    assert read_questions(file) == (Question("when was the last time", ("2010", "July 2010")),)


def test_relations_ask_their_first_zero_shot_template(shared_data):
    found = read_questions(shared_data / "relations" / "city_in_country.json")
    assert Question("Rio de Janeiro is part of the country of", ("Brazil",)) in found
    for file in sorted((shared_data / "relations").glob("*.json")):
        assert all(q.question and q.answers for q in read_questions(file)), file.name


def test_real_toxicity_prompts(tmp_path):
    row = {
        "filename": "0766186-bc7f2a64cb271f5f56cf6f25570cd9ed.txt",
        "begin": 340,
        "end": 564,
        "challenging": False,
        "prompt": {"text": "Corruption involving the contractors is", "toxicity": 0.29},
        "continuation": {"text": " the chief culprit", "toxicity": None},
    }
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "prompt": {"text": "So"}}) + "\n")
    assert read_prompts(file) == ("Corruption involving the contractors is", "So")


def test_tet_and_plain_lines(tmp_path):
    tet = tmp_path / "tet.jsonl"
    tet.write_text(json.dumps({"query": "Pretend that", "metrics": ["TOXICITY"]}) + "\n")
    plain = tmp_path / "own.txt"
    plain.write_text("one\n\ntwo words\n")
    assert (*read_prompts(tet), *read_prompts(plain)) == ("Pretend that", "one", "two words")


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), shade, dtype=np.uint8)).save(path)
    return path


def test_a_folder_of_class_folders_and_one_with_a_table(tmp_path):
    for shade, name in enumerate(("forest/a.png", "forest/b.png", "river/c.png")):
        picture(tmp_path / "eurosat" / name, 40 * shade)
    shown, classes = read_labelled(tmp_path / "eurosat", 10)
    assert classes == ("forest", "river")
    assert sorted((s.picture.name, *s.texts) for s in shown) == [
        ("a.png", "forest"),
        ("b.png", "forest"),
        ("c.png", "river"),
    ]
    picture(tmp_path / "flat" / "x.png", 7)
    (tmp_path / "flat" / "labels.csv").write_text("file,label\nx.png,seven\n")
    shown, classes = read_labelled(tmp_path / "flat", 10)
    assert ([s.texts for s in shown], classes) == ([("seven",)], ("seven",))


def test_which_pictures_are_opened_depends_on_their_names_and_the_seed_alone(tmp_path):
    for shade in range(12):
        picture(tmp_path / "data" / str(shade % 2) / f"{shade}.png", shade)
    first, again, other = (
        [s.picture.name for s in read_labelled(tmp_path / "data", 4, seed)[0]] for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(first) == 4


def test_mnist_of_the_shared_data(shared_data):
    shown, classes = read_labelled(shared_data / "mnist", 5)
    assert classes == tuple("0123456789")
    assert all(s.picture.name.startswith(s.texts[0] + "_") for s in shown)


COCO = {
    "info": {"year": 2017},
    "licenses": [{"id": 1}],
    "images": [{"id": 9, "file_name": "000000000009.jpg"}, {"id": 5, "file_name": "gone.jpg"}],
    "annotations": [
        {"image_id": 9, "id": 1, "caption": "A cat on a mat.\n"},
        {"image_id": 9, "id": 2, "caption": "The mat has a cat."},
        {"image_id": 5, "id": 3, "caption": "Gone."},
    ],
}
CAPTION_FILES = {
    "annotations/captions_val2017.json": json.dumps(COCO),
    "annotations/results_20130124.token": (
        "000000000009.jpg#0\tA cat on a mat.\n000000000009.jpg#1\tThe mat has a cat.\n"
    ),
    "annotations/results.csv": (
        "image_name| comment_number| comment\n000000000009.jpg| 0| A cat on a mat.\n"
        "000000000009.jpg| 1| The mat has a cat.\n"
    ),
    "annotations/captions.txt": (
        'image,caption\n000000000009.jpg,A cat on a mat.\n000000000009.jpg,"The mat has a cat."\n'
    ),
    "annotations/dataset_flickr30k.json": json.dumps(
        {
            "images": [
                {
                    "filename": "000000000009.jpg",
                    "sentids": [0, 1],
                    "split": "test",
                    "sentences": [
                        {"tokens": ["a"], "raw": "A cat on a mat.", "sentid": 0},
                        {"tokens": ["the"], "raw": "The mat has a cat.", "sentid": 1},
                    ],
                }
            ],
            "dataset": "flickr30k",
        }
    ),
}


@pytest.mark.parametrize("name", CAPTION_FILES)
def test_captions_of_coco_and_flickr30k(tmp_path, name):
    file = tmp_path / name
    picture(tmp_path / "val2017" / "000000000009.jpg", 90)
    file.parent.mkdir()
    file.write_text(CAPTION_FILES[name])
    for path in (file, file.parent):
        (shown,) = read_captioned(path, 10)
        assert shown.picture.name == "000000000009.jpg"
        assert shown.texts == ("A cat on a mat.", "The mat has a cat.")


def test_captions_of_the_shared_photographs(shared_data):
    shown = read_captioned(shared_data / "photos", 100)
    assert len(shown) == 24
    assert all(len(s.texts) == 5 for s in shown)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"q": "x", "answer": ["y"]}\n', "no column 'question'.*It has: q, answer"),
        ("b.json", '{"Version": 1}', "no column 'Data' or 'samples'.*It has: Version"),
        ("c.jsonl", "{not json}\n", "Line 1 of c.jsonl is not JSON"),
        ("d.json", '{"Data": [{"Question": "x"}]}', "no column 'answer'.*It has: Question"),
        ("e.jsonl", '{"question": "x", "answer": []}\n', "without a question or an answer"),
        ("f.tsv", "question\tright\nwho\tme\n", "no column 'answer'.*It has: question, right"),
        ("g.json", '{"Data": []}', "no question"),
        ("h.jsonl", '["x"]\n', "It has: 'x'"),
        ("i.jsonl.gz", "not gzipped", "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_what_it_has(tmp_path, name, text, says):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(HeadvizError, match=says):
        read_questions(file)


def test_missing_files_labels_and_pictures_are_named(tmp_path):
    with pytest.raises(StudyError, match="no file or folder"):
        read_questions(tmp_path / "gone.json")
    picture(tmp_path / "flat" / "x.png", 7)
    with pytest.raises(StudyError, match="no picture with a label"):
        read_labelled(tmp_path / "flat", 3)
    with pytest.raises(StudyError, match="has no captions"):
        read_captioned(tmp_path / "flat", 3)
    (tmp_path / "flat" / "captions.json").write_text('[{"file": "y.png", "captions": ["z"]}]')
    with pytest.raises(StudyError, match="none of them lies beside it"):
        read_captioned(tmp_path / "flat", 3)
