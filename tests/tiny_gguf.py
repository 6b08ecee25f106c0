"""Writes tiny Llamas as GGUF files with gguf-py's writer, as llama.cpp's converter would.

A test file takes the fixtures with `pytest_plugins = ["tiny_gguf"]`.
"""

import json
from functools import cache
from pathlib import Path

import gguf
import pytest
import torch
from tiny_models import make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

N_LAYERS, N_HEADS, N_KV, D_HEAD = 3, 4, 2, 8
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@cache
def source(tied: bool = False) -> LlamaForCausalLM:
    """The model that is written; the same every time. Rows are of 32 numbers, as blocks need."""
    config = LlamaConfig(
        vocab_size=len(make_tokenizer()),
        hidden_size=N_HEADS * D_HEAD,
        intermediate_size=64,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KV,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(0.2 * torch.randn(weight.shape) + (1.0 if weight.ndim == 1 else 0.0))
    return model


def write_gguf(
    path: Path,
    kind: str = "F32",
    *,
    tied: bool = False,
    architecture: str = "llama",
    extra_tokens: int = 0,
    broken: float | None = None,
    n_parts: int = 1,
) -> Path:
    """The source as a GGUF file, its matrices quantised as `kind`; the first file of several.

    `extra_tokens` are in the vocabulary and have no embedding; `broken` stands in one weight.
    """
    per_part = -(-len(source(tied).state_dict()) // n_parts) if n_parts > 1 else 0
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=per_part)
    writer.add_context_length(128)
    writer.add_block_count(N_LAYERS)
    writer.add_embedding_length(N_HEADS * D_HEAD)
    writer.add_feed_forward_length(64)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(D_HEAD)
    writer.add_rope_freq_base(10000.0)
    _add_tokenizer(writer, extra_tokens)
    for name, weight in source(tied).state_dict().items():
        if tied and name.startswith("lm_head"):
            continue
        _add(writer, name, weight, kind, broken)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if n_parts == 1 else path.with_name(f"{path.stem}-00001-of-{n_parts:05}.gguf")


def _add(writer, name: str, weight: torch.Tensor, kind: str, broken: float | None) -> None:
    stem = name.removesuffix(".weight")
    number = stem.split(".")[2] if stem.startswith("model.layers.") else ""
    own = stem.removeprefix(f"model.layers.{number}.") if number else stem
    values = weight.detach().clone()
    if own in ("self_attn.q_proj", "self_attn.k_proj"):
        # llama.cpp turns pairs of neighbours where transformers turns halves.
        n = N_HEADS if "q_proj" in own else N_KV
        values = values.reshape(n, 2, D_HEAD // 2, -1).swapaxes(1, 2).reshape(values.shape)
    if broken is not None and own == "mlp.up_proj":
        values[0, 0] = broken
    array = values.numpy()
    to = f"{f'blk.{number}.' if number else ''}{_NAMES[own]}.weight"
    if array.ndim == 1 or kind == "F32":
        writer.add_tensor(to, array)
        return
    quantisation = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(to, gguf.quantize(array, quantisation), raw_dtype=quantisation)


def _add_tokenizer(writer, extra_tokens: int) -> None:
    tokenizer = make_tokenizer()
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get) + [f"more{n}" for n in range(extra_tokens)]
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(CHAT)


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory) -> Path:
    """The source in 8 bits. Copy it before changing it."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf", "Q8_0")
