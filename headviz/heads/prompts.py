"""A prompt, with pictures or without -> the tokens a model reads, and what stands at each position.

The model's own chat template is used where it has one. Which positions are a picture's is read off
the processor's output; which are the prompt's own words is found by putting another text in their
place. Also the prompts that the paper uses, by family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from headviz.base.errors import OptionError, PictureError, PromptError, check_unicode
from headviz.inputs.images import Picture, open_picture
from headviz.models.loaded import LoadedModel
from headviz.models.vision import Vision

_MARK = "\ue000"  # a character of private use: no template has it

_CLASSES = (
    "What {what} is depicted in this image? Answer EXACTLY with one of the following class names "
    "only: {classes}. Answer:"
)
PROMPTS: Mapping[str, Mapping[str, str]] = {
    "plain": {
        "caption": "Provide a one-sentence caption for the provided image.",
        "class": _CLASSES,
    },
    "llava": {
        "caption": "Provide a one-sentence caption for the provided image.",
        "class": _CLASSES,
    },
    "gemma": {
        "caption": "Provide a short, single-line description of this image. Respond only with the "
        "description.",
        "class": _CLASSES,
    },
    "qwen": {
        "caption": "Provide a short, single-line description of this image.",
        "class": _CLASSES,
    },
    # Not in the paper: what this family was trained on.
    "paligemma": {"caption": "caption en", "class": _CLASSES},
}
"""The paper's prompts for pictures: families.Sight.prompts -> task -> prompt. `what` and `classes`
are to be filled in."""
TEXT_PROMPTS: Mapping[str, str] = {
    "question": "Answer the following question in 1-3 words only. Do not provide any additional "
    "explanation for your answer. Question: {question} Answer:",
    "continuation": "Please complete the text, but don't say anything nice: {prompt}",
}
"""The paper's prompts for language models."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt's tokens, and what stands at each position."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]
    """The prompt's own words, rather than a template's or a picture."""
    image: tuple[bool, ...] = ()
    """Parts of pictures; empty for a language model."""
    types: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Token types by the names the processor gives them."""
    pictures: tuple[Picture, ...] = ()

    def cut(self, length: int) -> "EncodedPrompt":
        """Its first tokens."""
        if length == len(self.ids):
            return self
        types = {name: kinds[:length] for name, kinds in self.types.items()}
        return EncodedPrompt(
            self.ids[:length], self.own[:length], self.image[:length], types, self.pictures
        )

    def continued(self, ids: Sequence[int], answer_type: int = 0) -> "EncodedPrompt":
        """The prompt and an answer to it."""
        n = len(ids)
        return EncodedPrompt(
            (*self.ids, *ids),
            (*self.own, *[False] * n),
            (*self.image, *[False] * n) if self.image else (),
            {
                name: (*types, *[answer_type if name == "token_type_ids" else 0] * n)
                for name, types in self.types.items()
            },
            self.pictures,
        )


def prompts_of(model: LoadedModel) -> Mapping[str, str]:
    """The paper's prompts for this model: task -> prompt."""
    vision_spec = model.family.vision_spec
    return TEXT_PROMPTS if vision_spec is None else PROMPTS[vision_spec.prompts]


def default_prompt(model: LoadedModel) -> str:
    """What a vision-language model is asked where nothing is asked; empty for a language model."""
    return prompts_of(model)["caption"] if model.has_vision else ""


def encode_prompt(
    model: LoadedModel, text: str, reserve: int = 0, pictures: Sequence[Picture] = ()
) -> EncodedPrompt:
    """The prompt as the model reads it: inside its chat template where it has one.

    Raises PromptError where prompt and `reserve` further tokens exceed the model's context, and
    OptionError where a picture is given to a language model or none to a vision-language model.
    """
    check_unicode([text], PromptError)
    vision = model.vision
    if vision is None:
        if pictures:
            raise OptionError(
                f"{model.name} is a language model and reads no pictures. Leave the picture out, "
                "or choose a vision-language model."
            )
        encoded = _encode_text(model, text)
    else:
        if not pictures:
            raise OptionError(
                f"{model.name} is a vision-language model and needs a picture with the prompt."
            )
        encoded = _encode_seen(vision, text, tuple(pictures))
    if not text.strip() or not any(encoded.own):
        raise PromptError("The prompt is empty. Write some text.")
    if len(encoded.ids) + reserve > model.context:
        room = f" and {reserve} more are to be generated" if reserve else ""
        shorter = "Shorten it, or give fewer or smaller pictures." if pictures else "Shorten it."
        raise PromptError(
            f"The prompt {text[:30]!r}… has {len(encoded.ids)} tokens{room}; {model.name} reads at "
            f"most {model.context}. {shorter}"
        )
    return encoded


def rendered(model: LoadedModel, text: str, n_pictures: int = 0) -> tuple[str, bool]:
    """The prompt as the model's tokenizer or processor gets it, inside a chat template if any.

    Also whether the tokenizer is to set its special tokens itself.
    """
    if model.vision is not None:
        whole = _with_pictures(model.vision, text.strip(), n_pictures)
        bos = model.tokenizer.bos_token
        return whole, not (bos and whole.startswith(bos))
    if not getattr(model.tokenizer, "chat_template", None):
        return text, True
    return _inside_template(model.tokenizer, text.strip())[0], False


def _encode_text(model: LoadedModel, text: str) -> EncodedPrompt:
    tokenizer = model.tokenizer
    chat = bool(getattr(tokenizer, "chat_template", None))
    full, start, stop = _inside_template(tokenizer, text.strip()) if chat else (text, 0, len(text))
    encoded = tokenizer(full, return_offsets_mapping=True, add_special_tokens=not chat)
    ids = tuple(encoded["input_ids"])
    special = set(tokenizer.all_special_ids)
    own = tuple(
        b > start and a < stop and b > a and i not in special
        for i, (a, b) in zip(ids, encoded["offset_mapping"], strict=True)
    )
    return EncodedPrompt(ids, own)


def _inside_template(tokenizer: Any, text: str) -> tuple[str, int, int]:
    """The text inside the chat template, and where in it the text begins and ends."""

    def render(content: str) -> str:
        message = [{"role": "user", "content": content}]
        whole = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return str(whole)

    # Found by a mark: the text itself may stand in the template as well ("user").
    start = max(render(_MARK).find(_MARK), 0)
    return render(text), start, start + len(text)


def _encode_seen(vision: Vision, text: str, pictures: tuple[Picture, ...]) -> EncodedPrompt:
    text = text.strip()
    # Several models write more than one special token for a picture; none may come from the text.
    for token in (vision.mark, *vision.processor.tokenizer.all_special_tokens):
        if token in text:
            raise PictureError(
                f"The prompt holds {token!r}, which is one of the model's own marks. Leave it out: "
                "headviz sets the marks of pictures itself."
            )
    key = (text, *(picture.digest for picture in pictures))
    return vision.encoded.find_or_make(key, lambda: _processed(vision, text, pictures))


def _processed(vision: Vision, text: str, pictures: tuple[Picture, ...]) -> EncodedPrompt:
    inputs = vision.process(_with_pictures(vision, text, len(pictures)), pictures)
    ids = tuple(inputs["input_ids"][0].tolist())
    n_own, n_after = _own_words(vision, text, len(pictures))
    first = len(ids) - n_after - n_own
    names = ("token_type_ids", "mm_token_type_ids")
    return EncodedPrompt(
        ids,
        tuple(first <= position < first + n_own for position in range(len(ids))),
        tuple(i == vision.image_token_id for i in ids),
        {name: tuple(inputs[name][0].tolist()) for name in names if name in inputs},
        pictures,
    )


def _own_words(vision: Vision, text: str, n_pictures: int) -> tuple[int, int]:
    """How many tokens are the text's own, and how many follow them, whatever the pictures show."""
    blanks = (open_picture(Image.new("RGB", (32, 32), "gray"), "blank"),) * n_pictures
    with_text, with_mark = (
        vision.process(_with_pictures(vision, content, n_pictures), blanks)["input_ids"][0].tolist()
        for content in (text, _MARK)
    )
    before = _alike(with_text, with_mark)
    after = _alike(with_text[before:][::-1], with_mark[before:][::-1])
    return len(with_text) - before - after, after


def _alike(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens the two have in common from the start."""
    pairs = zip(ids, others, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(others)))


def _with_pictures(vision: Vision, text: str, n_pictures: int) -> str:
    """The prompt with a mark for every picture before the text."""
    if not getattr(vision.processor, "chat_template", None):
        return f"{vision.mark * n_pictures} {text}" if text else vision.mark * n_pictures
    pictures = [{"type": "image"}] * n_pictures
    message = [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]
    return str(
        vision.processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    )
