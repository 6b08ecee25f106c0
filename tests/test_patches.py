"""Where a head's signal is strongest: the map agrees with what is captured, in every family."""

import pytest
import torch

from headviz.base.errors import OptionError
from headviz.base.head import Head
from headviz.heads.capture import capture
from headviz.heads.patch_map import head_map, image_signals
from headviz.inputs.images import open_picture
from headviz.inputs.prompt_sets import picture_prompt_set

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
