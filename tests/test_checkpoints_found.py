"""Checkpoints as they are in the world: each is opened, or told for what it is in one sentence."""

import json
import shutil

import pytest
import torch
import transformers
from tiny_clips import make_clip
from tiny_models import CONFIGS, make_model

from headviz.base.errors import ModelError, PromptError
from headviz.clip.load import load_clip
from headviz.editing.generate import Sampling, generate
from headviz.editing.passages import given_passages
from headviz.heads.edits import NO_EDIT
from headviz.heads.prompts import encode_prompt
from headviz.inputs.concepts import find_concept, tokenize_concept
from headviz.models.families import UNPROVEN, family_of
from headviz.models.memory_plan import weights_bytes, weights_in_memory
from headviz.session.open_model import check_laws, open_model

pytest_plugins = ["fake_hub", "loaded"]

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
ADAPTER = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "owner/base"})


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder("llama"), tmp_path / "model")


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def pointer(folder):
    (folder / "model.safetensors").write_bytes(POINTER)


def pointer_for_the_tokenizer(folder):
    (folder / "tokenizer.json").write_bytes(POINTER)


def page_for_the_weights(folder):
    (folder / "model.safetensors").write_bytes(PAGE)


def adapter_alone(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(ADAPTER)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def adapter_beside(folder):
    (folder / "adapter_config.json").write_text(ADAPTER)


def consolidated_alone(folder):
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")


def a_part_gone(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def gptq(folder):
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def awq(folder):
    change_config(folder, quantization_config={"quant_method": "awq", "bits": 4})


def fp8(folder):
    change_config(
        folder, quantization_config={"quant_method": "fp8", "activation_scheme": "dynamic"}
    )


OTHERS = {
    pointer: "model.safetensors is a Git LFS pointer .* `git lfs pull`",
    pointer_for_the_tokenizer: "tokenizer.json is a Git LFS pointer",
    page_for_the_weights: "model.safetensors is a web page",
    adapter_alone: r"an adapter \(LoRA\) of 'owner/base' and no model.* merge_and_unload",
    adapter_beside: r"an adapter \(LoRA\) beside full weights",
    consolidated_alone: "has consolidated.safetensors in place of model.safetensors",
    a_part_gone: "lacks model-00002-of-00002.safetensors",
    gptq: "packed as GPTQ of 4 bits.* --dtype int4 .* GGUF",
    awq: "packed as AWQ of 4 bits",
    fp8: "packed as FP8,",
}


@pytest.mark.parametrize("other", OTHERS, ids=lambda f: f.__name__)
def test_what_only_looks_like_a_model_is_told_for_what_it_is(folder, other):
    other(folder)
    with pytest.raises(ModelError, match=OTHERS[other]) as raised:
        open_model(str(folder))
    assert "\n" not in str(raised.value)


def test_a_pointer_in_place_of_a_gguf_is_told_for_what_it_is(tmp_path):
    (tmp_path / "model.gguf").write_bytes(POINTER)
    with pytest.raises(ModelError, match=r"model\.gguf is a Git LFS pointer"):
        open_model(str(tmp_path / "model.gguf"))


def test_a_pointer_in_place_of_clip_s_weights_is_told_for_what_it_is(tmp_path):
    folder = make_clip(tmp_path / "clip")
    next(folder.glob("*.safetensors")).write_bytes(POINTER)
    with pytest.raises(ModelError, match="is a Git LFS pointer"):
        load_clip(str(folder))


@pytest.mark.parametrize("other", [adapter_alone, adapter_beside, gptq], ids=lambda f: f.__name__)
def test_the_hub_s_are_told_before_a_weight_is_fetched(hub, folder, other):
    other(folder)
    hub.folders["owner/other"] = folder
    with pytest.raises(ModelError, match=OTHERS[other].replace(" of 'owner/base'", "")):
        open_model("owner/other")
    assert not any("safetensors" in asked for asked in map(str, hub.asked))


def test_weights_that_lie_there_twice_are_counted_once(folder):
    before = weights_bytes(folder), weights_in_memory(folder, torch.float32)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert (weights_bytes(folder), weights_in_memory(folder, torch.float32)) == before
    assert open_model(str(folder), device="cpu").n_heads == 4


@pytest.fixture
def enlarged(folder):
    """A tokenizer with padding and a word of its own, and weights that were not enlarged."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    return open_model(str(folder), device="cpu")


def test_added_padding_is_masked_and_works(enlarged, llama):
    prompts = ["the cat is red and the dog", "one"]
    ends = []
    for model in (enlarged, llama):
        *_, end = generate(model, prompts, [NO_EDIT] * 2, Sampling(4))
        ends.append(end.ids)
    assert ends[0] == ends[1]


def test_an_added_word_without_weights_is_dropped_with_the_reason(enlarged):
    concept = find_concept("mine", ["red", "zebra"])
    red, zebra = tokenize_concept(concept, enlarged.tokenizer, "single", enlarged.n_tokens).words
    assert (red.kept, zebra.kept) == (True, False)
    assert zebra.why == "added to the vocabulary, without weights"


@pytest.mark.parametrize("word", ["zebra", "[PAD]"])
def test_a_prompt_with_an_added_word_without_weights_is_refused(enlarged, word):
    with pytest.raises(PromptError, match=r"was added to the tokenizer of .* no weights") as raised:
        encode_prompt(enlarged, f"the {word} is red")
    assert repr(word) in str(raised.value)


def test_an_answer_with_an_added_word_without_weights_is_refused(enlarged):
    with pytest.raises(PromptError, match="'zebra' was added"):
        given_passages(enlarged, ["the cat is"], ["zebra"])


UNSUITED = [
    ("opt", {"do_layer_norm_before": False}),
    ("opt", {"_remove_final_layer_norm": True}),
    ("opt", {"word_embed_proj_dim": 16}),
    ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ("bloom", {"slow_but_exact": True, "pretraining_tp": 2}),
    ("gemma3_text", {"use_bidirectional_attention": True}),
]


@pytest.mark.parametrize(("family", "options"), UNSUITED, ids=str)
def test_an_option_under_which_the_laws_do_not_hold_is_refused(family, options):
    name, sizes = CONFIGS[family]
    with pytest.raises(ModelError, match=f"{family}' with .* are not supported: "):
        family_of(getattr(transformers, name)(**{**sizes, **options}))
    assert family_of(getattr(transformers, name)(**sizes)) is not None
    assert family in UNPROVEN


PROVEN = {
    "opt_plain_norms": ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    "falcon_11b": (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "falcon_in_turn": (
        "falcon",
        {"apply_residual_connection_post_layernorm": True, "parallel_attn": False},
    ),
    "falcon_sloped": ("falcon", {"alibi": True}),
    "phi_norms": ("phi", {"qk_layernorm": True, "tie_word_embeddings": True}),
    "glm4_biases": ("glm4", {"attention_bias": True}),
    "gptj_tied": ("gptj", {"tie_word_embeddings": True}),
    "smollm3_unturned": ("smollm3", {"no_rope_layers": [1, 0, 1]}),
    "stablelm_side_by_side": ("stablelm", {"use_parallel_residual": True, "qk_layernorm": True}),
    "cohere_norms": ("cohere", {"use_qk_norm": True, "attention_bias": True}),
    "llama_biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "gpt2_crossed": ("gpt2", {"add_cross_attention": True, "reorder_and_upcast_attn": True}),
    "mpt_biases": ("mpt", {"no_bias": False, "attn_config": {"clip_qkv": 1.0}}),
    "gpt_neox_unbiased": ("gpt_neox", {"attention_bias": False}),
    "jamba_dense": ("jamba", {"num_experts": 1}),
    "deepseek_v2_wide": ("deepseek_v2", {"q_lora_rank": None}),
    "olmo2_biases": ("olmo2", {"attention_bias": True}),
    "granite_biases": ("granite", {"attention_bias": True}),
}
"""Options that change a structure, under which every law holds."""


@pytest.mark.parametrize("kind", PROVEN)
def test_every_law_holds_under_an_option_that_changes_the_structure(kind, tmp_path, monkeypatch):
    family, options = PROVEN[kind]
    name, sizes = CONFIGS[family]
    monkeypatch.setitem(CONFIGS, family, (name, {**sizes, **options}))
    model = open_model(str(make_model(family, tmp_path / kind)), device="cpu")
    assert not check_laws(model).failed
