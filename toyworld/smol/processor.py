"""The processor of smol-vlm: SmolLM2's own tokenizer, a picture of 48 x 48 pixels as 37 tokens.

A prompt is SmolLM2's chat form without its system message, the picture before the question:
`<|im_start|>user` + picture + `Describe the picture.<|im_end|>` + `<|im_start|>assistant`.
The vocabulary is not touched: a mark that SmolLM2 has for empty cells of notebooks stands at the
picture's positions, whose embeddings the connector's replace.
"""

from pathlib import Path

from transformers import AutoTokenizer, LlavaProcessor, PreTrainedTokenizerFast

from toyworld.pictures.processor import N_PATCHES, PATCH, image_processor

IMAGE_TOKEN = "<empty_output>"
N_IMAGE = 1 + N_PATCHES
"""Tokens of a picture: the tower's class token, then its patches row by row."""
OPENING = "<|im_start|>user\n"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<empty_output>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def read_tokenizer(language_model: Path) -> PreTrainedTokenizerFast:
    """SmolLM2's tokenizer out of its folder."""
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(
        language_model, local_files_only=True
    )
    return tokenizer


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Tokenizer and image processor as one, as AutoProcessor loads them."""
    tokenizer.chat_template = CHAT_TEMPLATE
    return LlavaProcessor(
        image_processor=image_processor(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,  # CLIP's class token
    )
