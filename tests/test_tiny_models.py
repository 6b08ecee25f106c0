"""The tiny models are what the laws need them to be."""

import pytest
import torch
from tiny_models import WORDS
from transformers import AutoModelForCausalLM, AutoTokenizer

from headviz.models.families import family_of


@pytest.fixture
def tiny(tiny_model_folder, family):
    folder = tiny_model_folder(family)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def test_every_word_is_one_token_and_other_text_survives(tiny):
    _, tokenizer = tiny
    for word in (word for words in WORDS.values() for word in words):
        ids = tokenizer(f" {word}", add_special_tokens=False).input_ids
        assert len(ids) == 1, (word, tokenizer.convert_ids_to_tokens(ids))
    text = "Umpteen naïve zebras, 7 × α."
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert len(ids) > len(text.split())
    assert tokenizer.decode(ids) == text


def test_answers_depend_on_the_prompt_and_no_token_has_it_all(tiny):
    model, tokenizer = tiny
    with torch.no_grad():
        red, two = (
            model(**tokenizer(text, return_tensors="pt")).logits[0, -1]
            for text in (" the cat is red", " what color has the house")
        )
    for logits in (red, two):
        assert logits.isfinite().all()
        assert logits.std() > 0.5
        assert logits.softmax(0).max() < 0.9
    assert torch.corrcoef(torch.stack([red, two]))[0, 1] < 0.9


def test_every_head_matters(tiny):
    model, tokenizer = tiny
    prompt = tokenizer(" the cat is red and the dog is", return_tensors="pt")
    family, n_heads = family_of(model.config), model.config.num_attention_heads
    with torch.no_grad():
        before = model(**prompt).logits[0, -1]
        for layer in model.get_submodule(family.layers):
            projection = layer.get_submodule(family.projection)
            is_linear = isinstance(projection, torch.nn.Linear)
            weight = projection.weight if is_linear else projection.weight.T
            for head in weight.view(weight.shape[0], n_heads, -1).unbind(1):
                kept = head.clone()
                head.zero_()
                assert (model(**prompt).logits[0, -1] - before).abs().max() > 0.05
                head.copy_(kept)


def test_heads_of_the_grouped_query_families_are_not_as_wide_together_as_the_model(tiny):
    model, _ = tiny
    if model.config.model_type == "gpt2":
        pytest.skip("GPT-2's heads fill the model's width")
    projection = model.get_submodule("model.layers.0.self_attn.o_proj")
    assert projection.in_features == 32 != model.config.hidden_size == 24
