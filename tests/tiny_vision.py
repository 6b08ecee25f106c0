"""Tiny vision-language models of real transformers classes with random weights, as folders.

Each has its own way of seeing: one square (LLaVA, PaliGemma, Gemma 3), tiles (LLaVA-NeXT,
LLaVA-OneVision, Idefics 3, SmolVLM, InternVL) or patches of the picture's own shape (Qwen-VL).
Adding a family: one function in VISION_CONFIGS that returns its config and its processor.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_models import CONTEXT, SPECIAL, _randomise, make_tokenizer

SIDE, PATCH = 16, 4
"""Pixels: a square of 4 × 4 patches."""
_TEXT = {
    "num_hidden_layers": 2,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4 * CONTEXT,
}
_EYES = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
_SQUARE = {"height": SIDE, "width": SIDE}
_CHAT = (
    "{{ bos_token }}{% for m in messages %}User:{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %} {{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} Answer:{% endif %}"
)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture in which every pixel has a color of its own."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _tokenizer(**tokens: str) -> tuple[Any, dict[str, int]]:
    """The tiny tokenizer with the family's own marks, and the ids that configs want."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer().backend_tokenizer, extra_special_tokens=tokens, **SPECIAL
    )
    names = ("bos", "eos", "pad")
    return tokenizer, {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in names}


def _llava() -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaProcessor,
    )

    tokenizer, ids = _tokenizer(image_token="<image>")
    config = LlavaConfig(
        text_config=LlamaConfig(vocab_size=len(tokenizer), **_TEXT, **ids),
        vision_config=CLIPVisionConfig(**_EYES),
        image_token_index=tokenizer.image_token_id,
        vision_feature_layer=-1,
        image_seq_length=16,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=_SQUARE),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    return config, processor


def _llava_next() -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlavaNextConfig,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
        MistralConfig,
    )

    tokenizer, ids = _tokenizer(image_token="<image>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaNextConfig(
        text_config=MistralConfig(vocab_size=len(tokenizer), **_TEXT, **ids),
        vision_config=CLIPVisionConfig(**_EYES),
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": SIDE}, crop_size=_SQUARE, image_grid_pinpoints=grid
        ),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return config, processor


def _llava_onevision() -> tuple[Any, Any]:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer, ids = _tokenizer(image_token="<image>", video_token="<video>")
    grid = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaOnevisionConfig(
        text_config=Qwen2Config(vocab_size=len(tokenizer), **_TEXT, **ids),
        vision_config=SiglipVisionConfig(**_EYES),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=grid,
    )
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=_SQUARE, image_grid_pinpoints=grid),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=_SQUARE),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    return config, processor


def _qwen(version: str) -> tuple[Any, Any]:
    import transformers

    tokenizer, ids = _tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>",
        vision_eos_token="<|vision_end|>",
    )
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    text = {k: v for k, v in _TEXT.items() if k != "head_dim"} | {"hidden_size": 32}
    eyes = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2}
    if version == "2":
        eyes |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    else:
        eyes |= {"hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24}
        eyes |= {"window_size": 16, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    config = getattr(transformers, f"Qwen{version}VLConfig")(
        text_config={"vocab_size": len(tokenizer), **text, **ids, "rope_parameters": rope},
        vision_config=eyes,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
        tie_word_embeddings=False,
    )
    pixels = {"patch_size": PATCH, "merge_size": 2}
    size = {"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    processor = getattr(transformers, f"Qwen{version}VLProcessor")(
        transformers.Qwen2VLImageProcessor(**pixels, size=size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**pixels, size=size),
        chat_template=_CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return config, processor


def _gemma3() -> tuple[Any, Any]:
    from transformers import (
        Gemma3Config,
        Gemma3ImageProcessor,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    tokenizer, ids = _tokenizer(
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>"
    )
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        **_TEXT,
        **ids,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=SiglipVisionConfig(**_EYES),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=_SQUARE),
        tokenizer,
        image_seq_length=4,
        chat_template=_CHAT.replace("IMAGE", "<start_of_image>"),
    )
    return config, processor


def _paligemma(version: int) -> tuple[Any, Any]:
    from transformers import (
        Gemma2Config,
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    tokenizer, ids = _tokenizer(image_token="<image>")
    text = {"vocab_size": len(tokenizer), **_TEXT, **ids}
    config = PaliGemmaConfig(
        text_config=GemmaConfig(**text)
        if version == 1
        else Gemma2Config(**text, query_pre_attn_scalar=8, sliding_window=64),
        vision_config=SiglipVisionConfig(**_EYES),
        image_token_index=tokenizer.image_token_id,
        projection_dim=24,
    )
    pixels = SiglipImageProcessor(size=_SQUARE)
    pixels.image_seq_length = 16
    return config, PaliGemmaProcessor(pixels, tokenizer)


def _idefics3() -> tuple[Any, Any]:
    from transformers import (
        Idefics3Config,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    tokenizer, ids = _tokenizer(
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        end_of_utterance_token="<end_of_utterance>",
    )
    config = _shuffling(Idefics3Config, tokenizer, ids)
    processor = Idefics3Processor(
        Idefics3ImageProcessor(
            size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
        ),
        tokenizer,
        image_seq_len=4,
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    return config, processor


def _shuffling(kind: Any, tokenizer: Any, ids: dict[str, Any]) -> Any:
    """A config of Idefics 3's kind: four patches become one position."""
    from transformers import LlamaConfig

    return kind(
        text_config=LlamaConfig(vocab_size=len(tokenizer), **_TEXT, **ids),
        vision_config=dict(_EYES),
        scale_factor=2,
        image_token_id=tokenizer.image_token_id,
        pad_token_id=ids["pad_token_id"],
    )


def _smolvlm() -> tuple[Any, Any]:
    from transformers import (
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tokenizer, ids = _tokenizer(
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    config = _shuffling(SmolVLMConfig, tokenizer, ids)
    edges = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**edges),
        tokenizer,
        SmolVLMVideoProcessor(**edges),
        image_seq_len=4,
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    return config, processor


def _internvl() -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLProcessor,
        InternVLVideoProcessor,
        InternVLVisionConfig,
        Qwen2Config,
    )

    tokenizer, ids = _tokenizer(
        context_image_token="<IMG_CONTEXT>",
        start_image_token="<img>",
        end_image_token="</img>",
        video_token="<video>",
    )
    eyes = {k: v for k, v in _EYES.items() if k not in ("image_size", "patch_size")}
    config = InternVLConfig(
        text_config=Qwen2Config(vocab_size=len(tokenizer), **_TEXT, **ids),
        vision_config=InternVLVisionConfig(
            **eyes, image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH]
        ),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=_SQUARE, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=_SQUARE),
        image_seq_length=4,
        chat_template=_CHAT.replace("IMAGE", "<IMG_CONTEXT>"),
    )
    return config, processor


def _qwen3_vl() -> tuple[Any, Any]:
    import transformers

    tokenizer, ids = _tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
        vision_bos_token="<|vision_start|>",
        vision_eos_token="<|vision_end|>",
    )
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = transformers.Qwen3VLConfig(
        text_config={"vocab_size": len(tokenizer), **_TEXT, **ids, "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "hidden_size": 16,
            "intermediate_size": 24,
            "out_hidden_size": 24,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    pixels = {"patch_size": PATCH, "merge_size": 2}
    size = {"shortest_edge": 8 * 8, "longest_edge": 32 * 32}
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(**pixels, size=size),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(**pixels, size=size),
        chat_template=_CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return config, processor


def _mistral3() -> tuple[Any, Any]:
    from transformers import (
        Mistral3Config,
        MistralConfig,
        PixtralImageProcessor,
        PixtralProcessor,
        PixtralVisionConfig,
    )

    marks = {"image_token": "[IMG]", "break_token": "[IMG_BREAK]", "end_token": "[IMG_END]"}
    tokenizer, ids = _tokenizer(**marks)
    config = Mistral3Config(
        text_config=MistralConfig(vocab_size=len(tokenizer), **_TEXT, **ids),
        vision_config=PixtralVisionConfig(**{**_EYES, "image_size": 2 * SIDE}, head_dim=8),
        image_token_index=tokenizer.image_token_id,
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 2 * SIDE}, patch_size=PATCH),
        tokenizer,
        patch_size=PATCH,
        spatial_merge_size=2,
        chat_template=_CHAT.replace("IMAGE", "[IMG]"),
    )
    return config, processor


VISION_CONFIGS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": lambda: _qwen("2"),
    "qwen2_5_vl": lambda: _qwen("2_5_"),
    "gemma3": _gemma3,
    "paligemma": lambda: _paligemma(1),
    "paligemma2": lambda: _paligemma(2),
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "internvl": _internvl,
    "qwen3_vl": _qwen3_vl,
    "mistral3": _mistral3,
}


def make_vision_model(family: str, folder: Path) -> Path:
    """Write model (float32 safetensors) and processor of `family`; the same every time."""
    from transformers import AutoModelForImageTextToText

    config, processor = VISION_CONFIGS[family]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # as in `tiny_models.make_model`
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    _randomise(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
