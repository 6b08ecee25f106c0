"""Part of the panel `choose`: the texts, or the pictures, that heads are read on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from headviz.base.errors import PictureError, PromptError, UnknownName
from headviz.clip.word_vocabulary import CLIP_POOLINGS
from headviz.heads.pooling import POOLINGS
from headviz.inputs.image_folders import MAX_PICTURES, open_image_folder
from headviz.inputs.prompt_sets import (
    PromptSet,
    default_prompt_sets,
    find_prompt_set,
    make_prompt_set,
    picture_prompt_set,
    read_prompt_set,
)
from headviz.inputs.tables import ENDINGS, lines_of
from headviz.page.pictures import check_bytes, open_all
from headviz.page.shared import Updates
from headviz.page.view import ModelShown

TYPED, UPLOADED, UPLOADED_PICTURES = "my own texts", "my file", "my pictures"
WHERE_READ = {**POOLINGS, **CLIP_POOLINGS}
"""Where a head is read -> what that means."""
_TEXT_FILES = [".txt", *ENDINGS]
_PICTURE_FILES = ["image", ".zip"]


@dataclass(frozen=True)
class PromptSetPicker:
    """The components."""

    choice: gr.Dropdown
    typed: gr.Textbox
    asked: gr.Textbox
    """What is asked about every picture."""
    upload: gr.UploadButton
    uploaded: gr.State

    @property
    def inputs(self) -> list[Any]:
        """What `find_samples` reads."""
        return [self.choice, self.typed, self.asked, self.uploaded]

    @property
    def outputs(self) -> list[Any]:
        """What `fitted` writes."""
        return [self.choice, self.asked, self.upload]


def build(model: ModelShown) -> PromptSetPicker:
    """Lay the components out."""
    choices = sample_choices(model)
    choice = gr.Dropdown(
        choices,
        value=choices[0],
        label=_title(model),
        info="the heads are read on these",
        elem_id="texts",
    )
    typed = gr.Textbox(
        "",  # not None: a box that nobody typed in holds an empty text
        label="My own texts",
        info="one prompt a line",
        lines=5,
        visible=choices[0] == TYPED,
        elem_id="typed",
    )
    asked = gr.Textbox(
        "",
        label="Asked about each",
        placeholder=_usual(model),
        lines=2,
        max_lines=4,
        visible=model.has_vision and model.writes,
        elem_id="asked",
    )
    upload = gr.UploadButton(size="sm", elem_id="upload", **_upload(model))
    return PromptSetPicker(choice, typed, asked, upload, gr.State(None))


def fitted(picker: PromptSetPicker, model: ModelShown) -> Updates:
    """Updates of the components for another model."""
    choices = sample_choices(model)
    return {
        picker.choice: gr.update(choices=choices, value=choices[0], label=_title(model)),
        picker.asked: gr.update(
            visible=model.has_vision and model.writes, placeholder=_usual(model)
        ),
        picker.upload: gr.update(**_upload(model)),
    }


def is_usual(picker: PromptSetPicker, data: Mapping[Any, Any], model: ModelShown) -> bool:
    """Whether the fields name what a model's shipped results were read on."""
    return (data[picker.choice], data[picker.asked]) == (sample_choices(model)[0], "")


def _title(model: ModelShown) -> str:
    return "Pictures" if model.has_vision else "Texts"


def _usual(model: ModelShown) -> str:
    return f"if empty: {model.prompts[0]}" if model.prompts else "if empty: what is usual"


def _upload(model: ModelShown) -> dict[str, Any]:
    if model.has_vision:
        return {
            "label": "Upload pictures, or a .zip of them",
            "file_types": _PICTURE_FILES,
            "file_count": "multiple",
        }
    label = "Upload a .txt file or a table"
    return {"label": label, "file_types": _TEXT_FILES, "file_count": "single"}


def sample_choices(model: ModelShown) -> list[str]:
    """Prompt sets to offer for a model, the default first."""
    built_in = default_prompt_sets(model.name, model.has_vision)
    return [*built_in, *([UPLOADED_PICTURES] if model.has_vision else [TYPED, UPLOADED])]


def pooling_choices(model: ModelShown) -> list[tuple[str, str]]:
    """Where heads may be read, the default first."""
    if not model.writes:
        names = list(CLIP_POOLINGS)
    elif model.has_vision:
        names = ["image", *(name for name in POOLINGS if name != "image")]
    else:
        names = [name for name in POOLINGS if name != "image"]
    return [(WHERE_READ[name], name) for name in names]


def find_samples(picker: PromptSetPicker, data: Mapping[Any, Any], model: ModelShown) -> PromptSet:
    """The texts or pictures chosen on the page. Raises PromptError where there are none."""
    choice, asked, uploaded = data[picker.choice], data[picker.asked], data[picker.uploaded]
    if choice == TYPED:
        return make_prompt_set(TYPED, lines_of(data[picker.typed]))
    if choice in (UPLOADED, UPLOADED_PICTURES):
        if uploaded is None:
            files = "pictures, or a .zip of them" if model.has_vision else "a .txt file or a table"
            raise PromptError(f"No file was uploaded yet. Choose {files}.")
        return replace(uploaded, texts=(asked,) * len(uploaded)) if model.has_vision else uploaded
    if choice not in (known := sample_choices(model)):  # never a path: it would be the server's
        raise UnknownName("prompt set", choice, known)
    return find_prompt_set(choice, model.name, model.has_vision, asked)


@dataclass(frozen=True)
class Taken:
    """What was uploaded."""

    prompt_set: PromptSet
    choice: str
    """As the list of texts calls it."""
    told: str
    refused: tuple[str, ...] = ()
    """Sentences on what was left out."""


def take_files(paths: str | list[str], model: ModelShown) -> Taken:
    """Read uploaded files. Raises PromptError or PictureError where nothing can be read."""
    if not model.has_vision:
        prompt_set = read_prompt_set(Path(paths if isinstance(paths, str) else paths[0]))
        told = f"{len(prompt_set)} texts from {prompt_set.name}. Press Rank heads to read them."
        return Taken(prompt_set, UPLOADED, told)
    paths = [paths] if isinstance(paths, str) else paths
    zips = [path for path in paths if Path(path).suffix.lower() == ".zip"]
    if zips and len(paths) > 1:
        raise PictureError("Upload either one .zip or pictures, not both at once.")
    refused: list[str] = []
    if zips:
        found = open_image_folder(Path(zips[0]))
        prompt_set = picture_prompt_set(UPLOADED_PICTURES, found.pictures, "", found.labels)
    else:
        pictures, refused = open_all(paths, MAX_PICTURES)
        if not pictures:
            raise PictureError(" ".join(refused))
        prompt_set = picture_prompt_set(UPLOADED_PICTURES, pictures)
    check_bytes(prompt_set.pictures)
    told = f"{len(prompt_set)} pictures uploaded. Press Rank heads to read the heads on them."
    return Taken(prompt_set, UPLOADED_PICTURES, told, tuple(refused))
