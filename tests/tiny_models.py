"""Makes tiny models of real transformers classes with random weights, as folders on the disk.

They prove the laws of the seam in every family without a download; what they say means nothing.
Adding a family: one function in CONFIGS.
"""

from collections.abc import Callable
from pathlib import Path

import torch

WORDS = {
    "colors": ["red", "blue", "green", "yellow", "black", "white", "brown", "orange"],
    "numbers": ["one", "two", "three", "four", "five", "six", "seven", "eight"],
    "animals": ["cat", "dog", "horse", "goat", "bird", "fish"],
    "other": ["the", "a", "is", "was", "and", "saw", "has", "in", "of", "what", "color", "house"],
}
"""Each is one token after a space; any other text falls back to pieces and bytes."""

SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
CONTEXT = 128
_SHAPE = {
    "num_hidden_layers": 3,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,  # 4 heads of width 8 are not hidden_size wide: nobody may assume they are
    "max_position_embeddings": CONTEXT,
}


def _llama(common):
    from transformers import LlamaConfig

    return LlamaConfig(**_SHAPE, **common, tie_word_embeddings=False)


def _mistral(common):
    from transformers import MistralConfig

    return MistralConfig(**_SHAPE, **common, sliding_window=8, tie_word_embeddings=False)


def _qwen2(common):
    from transformers import Qwen2Config

    return Qwen2Config(**_SHAPE, **common, tie_word_embeddings=False)


def _qwen3(common):
    from transformers import Qwen3Config

    return Qwen3Config(**_SHAPE, **common, tie_word_embeddings=True)


def _gpt2(common):
    from transformers import GPT2Config

    # Conv1D projections, learned positions, tied embeddings; its heads fill n_embd: 4 of width 6.
    return GPT2Config(n_layer=3, n_embd=24, n_head=4, n_positions=CONTEXT, **common)


CONFIGS: dict[str, Callable] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
}


def make_tokenizer(add_bos: bool = True):
    """A byte-level BPE in which every one of WORDS, with the space before it, is one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,  # never reached: merging ends when every word is whole
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Twice: pairs seen once are not merged.
    bpe.train_from_iterator([f" {w}" for words in WORDS.values() for w in words] * 2, trainer)
    if add_bos:
        bos = SPECIAL["bos_token"]
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=CONTEXT, **SPECIAL)


def make_model(family: str, folder: Path) -> Path:
    """Write model (float32 safetensors) and tokenizer of `family`; the same every time."""
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer(add_bos=family != "gpt2")
    config = CONFIGS[family](
        {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    _randomise(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _randomise(model) -> None:
    """Weights with which every part matters: the usual 0.02 leaves all logits nearly equal."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1:  # biases around 0, gains of norms around 1
            weight.copy_(0.2 * noise + (0.0 if name.endswith("bias") else 1.0))
        elif "embed" in name or "wte" in name or "wpe" in name:
            weight.copy_(0.5 * noise)
        else:
            weight.copy_(noise * 2 / weight.shape[-1] ** 0.5)
    model.tie_weights()
