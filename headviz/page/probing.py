"""Part of the panel `choose`: the texts, or the pictures, that heads are read on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from headviz.base.errors import PictureError, ProbeError
from headviz.clip.word_vocabulary import CLIP_POOLINGS
from headviz.heads.capture import POOLINGS
from headviz.inputs.image_folders import MAX_PICTURES, open_album
from headviz.inputs.prompt_sets import (
    ProbeSet,
    default_probes,
    find_probes,
    make_probes,
    picture_probes,
    read_probes,
)
from headviz.page.errors import warn
from headviz.page.pictures import open_all
from headviz.page.view import ModelShown

TYPED, UPLOADED, UPLOADED_PICTURES = "my own texts", "my file", "my pictures"
WHERE_READ = {**POOLINGS, **CLIP_POOLINGS}
"""Where a head is read -> what that means."""
_TEXT_FILES = [".txt", ".csv", ".jsonl"]
_PICTURE_FILES = ["image", ".zip"]


@dataclass(frozen=True)
class Probing:
    """The components."""

    choice: gr.Dropdown
    typed: gr.Textbox
    asked: gr.Textbox
    """What is asked about every picture."""
    upload: gr.UploadButton
    uploaded: gr.State

    @property
    def inputs(self) -> list[Any]:
        """In the order of `find_samples`."""
        return [self.choice, self.typed, self.asked, self.uploaded]

    @property
    def outputs(self) -> list[Any]:
        """In the order of `fitted`."""
        return [self.choice, self.asked, self.upload]


def build(model: ModelShown) -> Probing:
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
        visible=model.sees and model.writes,
        elem_id="asked",
    )
    upload = gr.UploadButton(size="sm", elem_id="upload", **_upload(model))
    return Probing(choice, typed, asked, upload, gr.State(None))


def fitted(model: ModelShown) -> tuple[Any, ...]:
    """Updates of the components for another model."""
    choices = sample_choices(model)
    return (
        gr.update(choices=choices, value=choices[0], label=_title(model)),
        gr.update(visible=model.sees and model.writes, placeholder=_usual(model)),
        gr.update(**_upload(model)),
    )


def _title(model: ModelShown) -> str:
    return "Pictures" if model.sees else "Texts"


def _usual(model: ModelShown) -> str:
    return f"if empty: {model.prompts[0]}" if model.prompts else "if empty: what is usual"


def _upload(model: ModelShown) -> dict[str, Any]:
    if model.sees:
        return {
            "label": "Upload pictures, or a .zip of them",
            "file_types": _PICTURE_FILES,
            "file_count": "multiple",
        }
    label = "Upload .txt, .csv or .jsonl"
    return {"label": label, "file_types": _TEXT_FILES, "file_count": "single"}


def sample_choices(model: ModelShown) -> list[str]:
    """Probe sets to offer for a model, the default first."""
    built_in = default_probes(model.name, model.sees)
    return [*built_in, *([UPLOADED_PICTURES] if model.sees else [TYPED, UPLOADED])]


def pooling_choices(model: ModelShown) -> list[tuple[str, str]]:
    """Where heads may be read, the default first."""
    if not model.writes:
        names = list(CLIP_POOLINGS)
    elif model.sees:
        names = ["image", *(name for name in POOLINGS if name != "image")]
    else:
        names = [name for name in POOLINGS if name != "image"]
    return [(WHERE_READ[name], name) for name in names]


def find_samples(
    choice: str, typed: str, asked: str, uploaded: ProbeSet | None, model: ModelShown
) -> ProbeSet:
    """The texts or pictures chosen on the page. Raises ProbeError where there are none."""
    if choice == TYPED:
        return make_probes(TYPED, typed.splitlines())
    if choice in (UPLOADED, UPLOADED_PICTURES):
        if uploaded is None:
            files = "pictures, or a .zip of them" if model.sees else "a .txt, .csv or .jsonl file"
            raise ProbeError(f"No file was uploaded yet. Choose {files}.")
        return replace(uploaded, texts=(asked,) * len(uploaded)) if model.sees else uploaded
    return find_probes(choice, model.name, model.sees, asked)


def take_files(paths: str | list[str], model: ModelShown) -> tuple[ProbeSet, Any, str]:
    """Read uploaded files: the probe set, the choice of it, and a line on what it is."""
    if not model.sees:
        probes = read_probes(Path(paths if isinstance(paths, str) else paths[0]))
        return probes, gr.update(value=UPLOADED), f"{len(probes)} texts from {probes.name}."
    paths = [paths] if isinstance(paths, str) else paths
    zips = [path for path in paths if Path(path).suffix.lower() == ".zip"]
    if zips and len(paths) > 1:
        raise PictureError("Upload either one .zip or pictures, not both at once.")
    if zips:
        album = open_album(Path(zips[0]))
        probes = picture_probes(UPLOADED_PICTURES, album.pictures, "", album.labels)
    else:
        pictures, refused = open_all(paths, MAX_PICTURES)
        if not pictures:
            raise PictureError(" ".join(refused))
        warn(refused)
        probes = picture_probes(UPLOADED_PICTURES, pictures)
    told = f"{len(probes)} pictures uploaded. Press *Rank heads* to read the heads on them."
    return probes, gr.update(value=UPLOADED_PICTURES), told
