"""A prompt, with pictures or without -> the tokens a model reads, and what stands at each position.

The model's own chat template is used where it has one. Which positions are a picture's is read off
the processor's output; which are the prompt's own words is found by putting another text in their
place. Also the prompts that the paper uses, by family.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from headviz.base.errors import OptionError, PictureError, PromptError, check_unicode
from headviz.heads.chat import (
    MARK,
    PLAIN,
    Chat,
    Span,
    alike,
    has_template,
    inside_template,
    opens_thinking,
    spans_of,
)
from headviz.inputs.images import Picture, open_picture
from headviz.models.loaded import LoadedModel
from headviz.models.vision import Vision

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


def question_of(model: LoadedModel, text: str, pictures: Sequence[Picture]) -> str:
    """What is asked: beside a picture an empty prompt is the model's usual one."""
    return text or default_prompt(model) if pictures else text


def encode_prompt(
    model: LoadedModel,
    text: str,
    reserve: int = 0,
    pictures: Sequence[Picture] = (),
    chat: Chat = PLAIN,
) -> EncodedPrompt:
    """The prompt as the model reads it: inside its chat template where it has one, as `chat` says.

    Raises PromptError where prompt and `reserve` further tokens exceed the model's context, and
    OptionError where a picture is given to a language model or none to a vision-language model.
    PromptError as well where the template refuses the prompt or a system prompt has no place.
    """
    check_unicode([text], PromptError)
    vision = model.vision
    if vision is None:
        if pictures:
            raise OptionError(
                f"{model.name} is a language model and reads no pictures. Leave the picture out, "
                "or choose a vision-language model."
            )
        encoded = _encode_text(model, text, chat)
    else:
        if not pictures:
            raise OptionError(
                f"{model.name} is a vision-language model and needs a picture with the prompt."
            )
        encoded = _encode_seen(vision, text, tuple(pictures), chat)
    if not text.strip() or not any(encoded.own):
        raise PromptError("The prompt is empty. Write some text.")
    image = encoded.image or (False,) * len(encoded.ids)
    check_have_weights(model, [i for i, seen in zip(encoded.ids, image, strict=True) if not seen])
    if len(encoded.ids) + reserve > model.context:
        room = f" and {reserve} more are to be generated" if reserve else ""
        shorter = "Shorten it, or give fewer or smaller pictures." if pictures else "Shorten it."
        raise PromptError(
            f"The prompt {text[:30]!r}… has {len(encoded.ids)} tokens{room}; {model.name} reads at "
            f"most {model.context}. {shorter}"
        )
    return encoded


def check_have_weights(model: LoadedModel, ids: Iterable[int]) -> None:
    """Raise PromptError for a token that the tokenizer has and the model's weights have not."""
    n_tokens = model.n_tokens
    for lacking in (i for i in ids if i >= n_tokens):
        raise PromptError(
            f"{model.tokenizer.decode([lacking])!r} was added to the tokenizer of {model.name} and "
            "has no weights. Leave it out of the prompt."
        )


def rendered(
    model: LoadedModel, text: str, n_pictures: int = 0, chat: Chat = PLAIN
) -> tuple[str, bool]:
    """The prompt as the model's tokenizer or processor gets it, inside a chat template if any.

    Also whether the tokenizer is to set its special tokens itself.
    """
    if model.vision is not None:
        whole = _with_pictures(model.vision, text.strip(), n_pictures, chat)
        bos = model.tokenizer.bos_token
        return whole, not (bos and whole.startswith(bos))
    if not has_template(model.tokenizer, chat):
        return text, True
    return inside_template(model.tokenizer, text.strip(), chat), False


@dataclass(frozen=True)
class Sent:
    """What a model is really sent."""

    text: str
    """As the tokenizer or processor gets it: what special tokens it adds itself is not there."""
    spans: tuple[Span, ...]
    """The whole of it in order: template, system prompt, the prompt's own words."""
    is_thinking: bool
    """Whether the answer begins inside a thought."""


def sent(model: LoadedModel, text: str, n_pictures: int = 0, chat: Chat = PLAIN) -> Sent:
    """What the model is sent for this prompt, and what is what in it. Raises PromptError."""
    whole, _ = rendered(model, text, n_pictures, chat)
    marked, _ = rendered(model, MARK, n_pictures, chat)
    start = max(marked.find(MARK), 0)
    stop = len(whole) - (len(marked) - start - len(MARK))
    return Sent(whole, spans_of(whole, (start, stop), chat.system or ""), opens_thinking(whole))


def _encode_text(model: LoadedModel, text: str, chat: Chat) -> EncodedPrompt:
    tokenizer = model.tokenizer
    full, adds_special = rendered(model, text, 0, chat)
    if not tokenizer.is_fast:
        return _encode_without_offsets(model, text, chat)
    own_span = next((s for s in sent(model, text, 0, chat).spans if s.kind == "own"), None)
    start, stop = (own_span.start, own_span.stop) if own_span else (0, 0)
    encoded = tokenizer(full, return_offsets_mapping=True, add_special_tokens=adds_special)
    ids = tuple(encoded["input_ids"])
    special = set(tokenizer.all_special_ids)
    own = tuple(
        b > start and a < stop and b > a and i not in special
        for i, (a, b) in zip(ids, encoded["offset_mapping"], strict=True)
    )
    return EncodedPrompt(ids, own)


def _encode_without_offsets(model: LoadedModel, text: str, chat: Chat) -> EncodedPrompt:
    """Own words are what changes with them: such a tokenizer does not tell where a token stood."""
    with_text, with_mark = (
        model.tokenizer(whole, add_special_tokens=adds_special)["input_ids"]
        for whole, adds_special in (rendered(model, t, 0, chat) for t in (text, MARK))
    )
    before = alike(with_text, with_mark)
    after = alike(with_text[before:][::-1], with_mark[before:][::-1])
    special = set(model.tokenizer.all_special_ids)
    own = (before <= at < len(with_text) - after for at in range(len(with_text)))
    return EncodedPrompt(
        tuple(with_text),
        tuple(o and i not in special for o, i in zip(own, with_text, strict=True)),
    )


def _encode_seen(
    vision: Vision, text: str, pictures: tuple[Picture, ...], chat: Chat
) -> EncodedPrompt:
    text = text.strip()
    # Several models write more than one special token for a picture; none may come from the text.
    for token in (vision.mark, *vision.processor.tokenizer.all_special_tokens):
        if token in text:
            raise PictureError(
                f"The prompt holds {token!r}, which is one of the model's own marks. Leave it out: "
                "headviz sets the marks of pictures itself."
            )
    key = (text, chat, *(picture.digest for picture in pictures))
    return vision.encoded.find_or_make(key, lambda: _processed(vision, text, pictures, chat))


def _processed(
    vision: Vision, text: str, pictures: tuple[Picture, ...], chat: Chat
) -> EncodedPrompt:
    inputs = vision.process(_with_pictures(vision, text, len(pictures), chat), pictures)
    ids = tuple(inputs["input_ids"][0].tolist())
    n_own, n_after = _own_words(vision, text, len(pictures), chat)
    first = len(ids) - n_after - n_own
    names = ("token_type_ids", "mm_token_type_ids")
    return EncodedPrompt(
        ids,
        tuple(first <= position < first + n_own for position in range(len(ids))),
        tuple(i == vision.image_token_id for i in ids),
        {name: tuple(inputs[name][0].tolist()) for name in names if name in inputs},
        pictures,
    )


def _own_words(vision: Vision, text: str, n_pictures: int, chat: Chat) -> tuple[int, int]:
    """How many tokens are the text's own, and how many follow them, whatever the pictures show."""
    blanks = (open_picture(Image.new("RGB", (32, 32), "gray"), "blank"),) * n_pictures
    with_text, with_mark = (
        vision.process(_with_pictures(vision, content, n_pictures, chat), blanks)["input_ids"][
            0
        ].tolist()
        for content in (text, MARK)
    )
    before = alike(with_text, with_mark)
    after = alike(with_text[before:][::-1], with_mark[before:][::-1])
    return len(with_text) - before - after, after


def _with_pictures(vision: Vision, text: str, n_pictures: int, chat: Chat = PLAIN) -> str:
    """The prompt with a mark for every picture before the text."""
    if not has_template(vision.processor, chat):
        return f"{vision.mark * n_pictures} {text}" if text else vision.mark * n_pictures
    pictures = [{"type": "image"}] * n_pictures
    return inside_template(vision.processor, [*pictures, {"type": "text", "text": text}], chat)
