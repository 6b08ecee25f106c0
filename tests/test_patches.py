"""Where a head's signal is strongest: the map agrees with what is captured, in every family."""

import copy
from dataclasses import replace

import pytest
import torch

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.heads.capture import capture
from headviz.heads.patch_map import head_map, image_signals
from headviz.heads.prompts import encode_prompt
from headviz.heads.token_map import head_signals, token_map
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import make_prompt_set, picture_prompt_set

pytest_plugins = ["loaded", "seeing"]

HEAD = Head(1, 2)


def test_the_mean_over_the_picture_is_the_captured_signal(seeing, pictures):
    captured = capture(seeing, picture_prompt_set("one", pictures[:1]), "image")
    signals = image_signals(seeing, pictures[0], HEAD)
    assert len(signals) == captured.n_positions
    torch.testing.assert_close(signals.mean(0), captured.z[HEAD.layer, HEAD.index, 0])


def test_a_map_has_a_number_for_every_patch(seeing, pictures):
    for picture in pictures:
        found = head_map(seeing, picture, HEAD)
        rows, columns = found.strength.shape
        assert rows * columns > 1
        assert (found.strength > 0).all()
        left, top, right, bottom = found.box
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def test_a_map_in_patches_of_the_pictures_own_shape_lies_as_the_picture_does(load_seeing, pictures):
    lying, _, standing = (head_map(load_seeing("qwen2_vl"), p, HEAD).strength for p in pictures)
    assert lying.shape[1] > lying.shape[0]
    assert standing.shape[0] > standing.shape[1]


def test_a_cropping_model_is_drawn_over_the_middle_square(llava, pictures):
    side = 37 / 53 / 2
    expected = (0.5 - side, 0, 0.5 + side, 1)
    assert head_map(llava, pictures[0], HEAD).box == pytest.approx(expected)


def test_the_mean_is_taken_away_before_the_length_is_measured(llava, pictures):
    signals = image_signals(llava, pictures[0], HEAD)
    found = head_map(llava, pictures[0], HEAD, mean=signals[5])
    assert found.strength.flatten()[5] == 0
    write = (signals - signals[5]) @ llava.head_weights(HEAD.layer)[HEAD.index]
    torch.testing.assert_close(found.strength.flatten(), write.norm(dim=1))


def test_the_same_picture_in_another_file_has_the_same_map(llava, pictures):
    again = open_picture(pictures[0].image(), "again.png")
    maps = [head_map(llava, p, HEAD).strength for p in (pictures[0], again)]
    torch.testing.assert_close(*maps)


def test_a_head_that_is_not_there_is_refused(llava, pictures):
    with pytest.raises(OptionError, match="L9"):
        head_map(llava, pictures[0], Head(9, 0))


@pytest.mark.parametrize("template", [None, "{% for m in messages %}[{{ m.content }}]{% endfor %}"])
def test_a_map_of_a_text_has_a_length_for_each_of_its_own_tokens(llama, template):
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.chat_template = template
    model, head = replace(llama, tokenizer=tokenizer), Head(1, 2)
    text = "the red bird sings"
    activations = capture(model, make_prompt_set("one", [text]), "prompt")
    read = activations.z[head.layer, head.index, 0]
    found = token_map(model, text, head)
    assert "".join(found.pieces).strip() == text
    assert len(found.pieces) == len(found.strength)
    # The signals whose lengths these are have the captured one for their mean.
    encoded = encode_prompt(model, text)
    own = head_signals(model, encoded, head)[torch.tensor(encoded.own)]
    assert torch.allclose(own.mean(0), read, atol=1e-5)
    lengths = (own @ model.head_weights(1)[2]).norm(dim=1)
    assert torch.allclose(found.strength, lengths, atol=1e-5)
    centred = token_map(model, text, head, read)
    assert not torch.allclose(centred.strength, found.strength)
