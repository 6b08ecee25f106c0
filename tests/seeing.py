"""Fixtures of the tests with pictures: tiny vision-language models in memory, a few pictures.

A test file takes them with `pytest_plugins = ["loaded", "seeing"]`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tiny_vision import VISION_CONFIGS, make_vision_model, noise

from headviz.inputs.images import Picture, open_picture
from headviz.inputs.prompt_sets import PromptSet, picture_prompt_set
from headviz.models.loaded import LoadedModel
from headviz.session.open_model import open_model

SIZES = ((53, 37), (16, 16), (20, 60))
"""Width and height: lying, square, standing; models with tiles see each in its own way."""


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory) -> Callable[[str], Path]:
    """`vision_folder("llava")` is the folder of a tiny random model that sees; made once."""
    root = tmp_path_factory.mktemp("tiny-vision")
    return cache(lambda family: make_vision_model(family, root / family))


@pytest.fixture(scope="session")
def load_seeing(vision_folder) -> Callable[[str], LoadedModel]:
    """`load_seeing("llava")` is that model in memory, loaded once. Leave its weights alone."""
    return cache(lambda family: open_model(str(vision_folder(family)), device="cpu"))


@pytest.fixture(scope="session", params=sorted(VISION_CONFIGS))
def seeing(request, load_seeing) -> LoadedModel:
    """The tiny model of every family that sees, in turn."""
    return load_seeing(request.param)


@pytest.fixture(scope="session")
def llava(load_seeing) -> LoadedModel:
    """The tiny model where one family is enough."""
    return load_seeing("llava")


@pytest.fixture(scope="session")
def pictures() -> tuple[Picture, ...]:
    """Three pictures of different shapes."""
    sizes = enumerate(SIZES)
    return tuple(open_picture(noise(w, h, n), f"{w}x{h}.png") for n, (w, h) in sizes)


@pytest.fixture(scope="session")
def image_folder(pictures) -> PromptSet:
    """The pictures, each with the same prompt."""
    return picture_prompt_set("album", pictures, "what color has the house")
