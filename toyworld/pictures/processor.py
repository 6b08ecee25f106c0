"""The processor of the drawn world: a token a word, a picture as 36 patches, and the prompt's form.

A prompt is `<image> Describe the picture. Answer:`, with the question instead of the summons where
one is asked; the chat template makes it.
"""

import itertools
import random
from collections.abc import Iterator
from functools import cache

from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

from toyworld.pictures.captions import SUMMONS, caption
from toyworld.pictures.content import pictures
from toyworld.pictures.drawing import SIDE
from toyworld.pictures.questions import questions
from toyworld.pictures.words import CONCEPTS
from toyworld.tokenizer import assemble_tokenizer, frequent_pieces

IMAGE_TOKEN = "<image>"
PATCH = 8  # pixels
N_PATCHES = (SIDE // PATCH) ** 2
ANSWER = " Answer:"
SCAN_PICTURES = 3_000
MEAN = STD = (0.5, 0.5, 0.5)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ ' ' + part['text'] }}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' Answer:' }}{% endif %}"
)


def world_texts() -> Iterator[str]:
    """Prompts and answers of many pictures."""
    rng = random.Random(0)
    for picture in itertools.islice(pictures(seed=0), SCAN_PICTURES):
        yield f" {rng.choice(SUMMONS)}{ANSWER} {caption(picture, rng)}"
        yield from (f" {q.text}{ANSWER} {q.answer}." for q in questions(picture, rng))


@cache
def world_pieces() -> tuple[str, ...]:
    """All words of the drawn world."""
    words = (word for words in CONCEPTS.values() for word in words)
    return tuple(frequent_pieces(world_texts(), words))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The finished tokenizer; the same on every call."""
    return assemble_tokenizer(world_pieces(), image_token=IMAGE_TOKEN)


def image_processor() -> CLIPImageProcessor:
    """What makes a tower's input of a picture."""
    side = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=side, image_mean=[*MEAN], image_std=[*STD]
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Tokenizer and image processor as one, as AutoProcessor loads them."""
    tokenizer.chat_template = CHAT_TEMPLATE
    return LlavaProcessor(
        image_processor=image_processor(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,  # CLIP's class token, which "default" leaves out again
    )
