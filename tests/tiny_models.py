"""Makes tiny models of real transformers classes with random weights, as folders on the disk.

They prove the laws of heads in every family without a download; what they say means nothing.
Adding a family: one row in CONFIGS.
"""

from functools import cache
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


_NARROW = {key: value for key, value in _SHAPE.items() if key != "head_dim"}
"""Families whose heads fill the model: 4 of width 6."""
_EVEN = {**_NARROW, "hidden_size": 32}
"""Where half a head is turned by its position: 4 of width 8."""
_WINDOW = {"sliding_window": 8}
_GEMMA = {**_SHAPE, **_WINDOW, "query_pre_attn_scalar": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    **_NARROW,
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,  # what a head writes from; its keys are 10 wide
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
"""Multi-head latent attention: keys and values are spun out of one narrow vector."""
_GPT = {"n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
_FOUR = {"num_hidden_layers": 4}
"""Hybrids: layers 1 and 3 have attention heads, layers 0 and 2 another mixer."""
_APART = {"tie_word_embeddings": False}

CONFIGS: dict[str, tuple[str, dict]] = {
    "llama": ("LlamaConfig", {**_SHAPE, **_APART}),
    "mistral": ("MistralConfig", {**_SHAPE, **_APART, **_WINDOW}),
    "mixtral": ("MixtralConfig", {**_SHAPE, **_WINDOW, **_LOCAL_EXPERTS}),
    "qwen2": ("Qwen2Config", {**_SHAPE, **_APART}),
    "qwen3": ("Qwen3Config", {**_SHAPE, "tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_SHAPE, **_EXPERTS}),
    "gemma": ("GemmaConfig", _SHAPE),
    "gemma2": ("Gemma2Config", _GEMMA),
    "gemma3_text": (
        "Gemma3TextConfig",
        {**_GEMMA, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "phi3": ("Phi3Config", {**_NARROW, **_WINDOW}),
    # Attention and the rest of the layer side by side; biases everywhere, the unembedding's too.
    "phi": ("PhiConfig", _EVEN),
    # Conv1D projections, learned positions, tied embeddings.
    "gpt2": ("GPT2Config", {**_GPT, "n_embd": 24}),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "num_layers": 3,
            "hidden_size": 24,
            "num_heads": 4,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": 8,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "gptj": ("GPTJConfig", {**_GPT, "n_embd": 32, "rotary_dim": 4}),
    "gpt_neox": ("GPTNeoXConfig", {**_EVEN, "use_parallel_residual": True}),
    "gpt_neox_in_turn": ("GPTNeoXConfig", {**_EVEN, "use_parallel_residual": False}),
    "opt": ("OPTConfig", {**_NARROW, "ffn_dim": 40, "word_embed_proj_dim": 24}),
    "bloom": ("BloomConfig", {"n_layer": 3, "hidden_size": 24, "n_head": 4}),
    "falcon": ("FalconConfig", _EVEN),  # one key for all heads, side by side, rotary
    "falcon_40b": (
        "FalconConfig",
        {**_EVEN, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "falcon_rw": (  # in turn, with biases and a slope instead of positions
        "FalconConfig",
        {**_EVEN, "parallel_attn": False, "multi_query": False, "bias": True, "alibi": True},
    ),
    "mpt": (
        "MptConfig",
        {"d_model": 24, "n_heads": 4, "n_layers": 3, "max_seq_len": CONTEXT, "expansion_ratio": 2},
    ),
    "olmo2": ("Olmo2Config", _NARROW),
    "smollm3": ("SmolLM3Config", _NARROW),
    "granite": (
        "GraniteConfig",
        {
            **_NARROW,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.3,
            "embedding_multiplier": 2.0,
            "logits_scaling": 0.5,
        },
    ),
    "cohere": ("CohereConfig", {**_NARROW, "logit_scale": 0.5}),
    "stablelm": ("StableLmConfig", {**_EVEN, "use_qkv_bias": True}),
    "gpt_oss": ("GptOssConfig", {**_SHAPE, **_WINDOW, **_LOCAL_EXPERTS}),
    "deepseek_v2": ("DeepseekV2Config", _LATENT),
    "deepseek_v3": ("DeepseekV3Config", {**_LATENT, "n_group": 2, "topk_group": 1}),
    "glm4": ("Glm4Config", _SHAPE),
    "qwen3_next": (
        "Qwen3NextConfig",
        {
            **_SHAPE,
            **_FOUR,
            **_EXPERTS,
            "shared_expert_intermediate_size": 16,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"] * 2,
        },
    ),
    "lfm2": (
        "Lfm2Config",
        {
            **_NARROW,
            **_FOUR,
            "block_auto_adjust_ff_dim": False,
            "layer_types": ["conv", "full_attention"] * 2,
        },
    ),
    "jamba": (
        "JambaConfig",
        {
            **_NARROW,
            **_FOUR,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 4,
            "mamba_d_state": 4,
            "mamba_d_conv": 2,
            "use_mamba_kernels": False,
        },
    ),
}
"""Family (or a kind of it) -> the config's class, and its sizes."""
FEW = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Where not every family is needed."""
UNKNOWN: dict[str, tuple[str, dict]] = {
    "starcoder2": ("Starcoder2Config", _NARROW),
    "nemotron": ("NemotronConfig", _SHAPE),  # a LayerNorm that keeps its gain less 1
    "persimmon": ("PersimmonConfig", _EVEN),
    "olmo": ("OlmoConfig", _NARROW),  # norms without weights
    "exaone4": ("Exaone4Config", {**_SHAPE, **_WINDOW}),  # a norm after attention
    "granitemoe": (
        "GraniteMoeConfig",
        {**_NARROW, **_LOCAL_EXPERTS, "residual_multiplier": 0.5},
    ),
    "cohere2": ("Cohere2Config", {**_NARROW, **_WINDOW}),
    "ctrl": ("CTRLConfig", {"n_embd": 24, "n_layer": 3, "n_head": 4, "dff": 40}),
    # Heads are taken from each other in pairs: no slice is one head.
    "diffllama": ("DiffLlamaConfig", _NARROW),
    # The stream passes a norm after every attention: what a head writes does not arrive.
    "bert": ("BertConfig", {**_NARROW, "is_decoder": True}),
    # Padding on the left is not told from words.
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        {**_NARROW, "lru_width": 24, "attention_window_size": 8},
    ),
    "mamba": ("MambaConfig", {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 4}),
}
"""Classes without a row in headviz, for the discovery of structures."""
_NO_BOS = ("gpt2", "bloom", "gpt_neox")


@cache
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
    import transformers
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer(add_bos=family not in _NO_BOS)
    name, sizes = {**CONFIGS, **UNKNOWN}[family]
    config = getattr(transformers, name)(
        **sizes,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # some classes draw what `_randomise` only adds to
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    _randomise(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _randomise(model) -> None:
    """Weights with which every part matters: the usual 0.02 leaves all logits nearly equal."""
    generator = torch.Generator().manual_seed(0)
    # Gemma makes its embeddings larger; the stream would hold little else.
    enlarged = getattr(model.get_input_embeddings(), "scalar_embed_scale", 1.0)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1:  # around what the class starts with: gains, biases, rates of decay
            weight.add_(0.2 * noise)
        elif "embed" in name or "wte" in name or "wpe" in name:
            weight.copy_(0.5 / enlarged * noise)
        else:
            weight.copy_(noise * 2 / weight.shape[-1] ** 0.5)
    model.tie_weights()
