"""EfficientNet, compared with the implementations of torchvision, timm and transformers."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmlearn.catalog import count_parameters
from mmlearn.nn.efficientnet import (
    EfficientNet,
    EfficientNetClassifier,
    EfficientNetConfig,
    Stage,
    StridedConv,
    scaled_blocks,
    scaled_channels,
)

SIZES = {  # width, depth; parameters of trunk and of the whole network; channels of the trunk
    "b0": (1.0, 1.0, 3_595_388, 5_288_548, 320), "b1": (1.0, 1.1, 6_101_024, 7_794_184, 320),
    "b2": (1.1, 1.2, 7_202_562, 9_109_994, 352), "b3": (1.2, 1.4, 10_103_336, 12_233_232, 384),
    "b4": (1.4, 1.8, 16_742_216, 19_341_616, 448), "b5": (1.6, 2.2, 27_288_112, 30_389_784, 512),
    "b6": (1.8, 2.6, 39_403_992, 43_040_704, 576), "b7": (2.0, 3.1, 62_143_440, 66_347_960, 640),
    "l2": (4.3, 5.3, 467_219_796, 480_309_308, 1376),
}
SMALL = EfficientNetConfig(stages=(Stage(1, 3, 1, 16, 1), Stage(6, 3, 2, 24, 2), Stage(6, 5, 2, 40, 1)),
                           drop_path=0.0)


def lively(model):
    """Statistics with which evaluation mode keeps a signal (it grows over a deep trunk: compare in
    float64)."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.3, 0.8)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


# ------------------------------------------------------------------------------------------------------ sizes

@pytest.mark.parametrize("name", SIZES)
def test_every_scale_has_the_published_number_of_parameters(name):
    width, depth, trunk, whole, out = SIZES[name]
    config = getattr(EfficientNetConfig, name)()
    with torch.device("meta"):
        model = EfficientNetClassifier(config)
        pooled = model.trunk(torch.empty(1, 3, 64, 64))
    assert (config.width, config.depth, config.out) == (width, depth, out) and pooled.shape == (1, out)
    assert (count_parameters(model.trunk), count_parameters(model)) == (trunk, whole)


@pytest.mark.parity
@pytest.mark.parametrize("number", range(8))
def test_the_counts_are_those_that_torchvision_states(number):
    import torchvision

    stated = torchvision.models.get_model_weights(f"efficientnet_b{number}").IMAGENET1K_V1.meta["num_params"]
    assert SIZES[f"b{number}"][3] == stated


@pytest.mark.equation("eq:efficientnet-width")
def test_channels_are_rounded_to_multiples_but_never_down_by_a_tenth():
    for channels in (8, 16, 24, 32, 40, 80, 112, 192, 320):
        for width in (0.25, 1.0, 1.1, 1.2, 1.4, 1.8, 2.0, 4.3):
            wanted = channels * width
            nearest = min((8 * k for k in range(1, 400)), key=lambda n: (abs(n - wanted), -n))
            want = nearest if nearest >= 0.9 * wanted else nearest + 8
            assert scaled_channels(channels, width) == want
    assert scaled_channels(10, 1.15, 8) == 16  # 11.5 -> 8 would lose a third


def test_blocks_are_rounded_up():
    assert [scaled_blocks(n, 3.1) for n in (1, 2, 3, 4)] == [4, 7, 10, 13]
    with torch.device("meta"):
        assert len(EfficientNet(EfficientNetConfig.l2()).blocks) == 88


# ---------------------------------------------------------------------------------------------------- padding

@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [7, 8, 14, 15])
def test_padding_follows_each_implementation(kernel, side):
    torch.manual_seed(0)
    x = torch.randn(1, 2, side, side, dtype=torch.float64)
    starts = {"symmetric": -(kernel // 2), "transformers": -(kernel // 2 - 1),
              "tensorflow": -(kernel // 2) if side % 2 else -(kernel // 2 - 1)}
    for rule, start in starts.items():
        conv = StridedConv(2, 2, kernel, 2, rule).double().requires_grad_(False)
        got = conv(x)
        count = got.shape[-1]
        if rule == "tensorflow":
            assert count == math.ceil(side / 2)
        for c in range(2):
            for i in range(count):
                for j in range(count):
                    total = 0.0
                    for a in range(kernel):
                        for b in range(kernel):
                            y, z = start + 2 * i + a, start + 2 * j + b
                            if 0 <= y < side and 0 <= z < side:
                                total += float(conv.weight[c, 0, a, b] * x[0, c, y, z])
                    assert float(got[0, c, i, j]) == pytest.approx(total, abs=1e-12)


# ----------------------------------------------------------------------------------------------------- parity

def torchvision_names(model):
    """Ours -> torchvision's, for every tensor of the whole network."""
    found = {}
    place = 0
    starts = {}
    for s, stage in enumerate(model.trunk.config.stages, 1):
        for b in range(scaled_blocks(stage.blocks, model.trunk.config.depth)):
            starts[place] = (s, b, stage.expand != 1)
            place += 1
    for name in model.state_dict():
        theirs = name.replace("trunk.stem.", "features.0.").replace(
            "head.", f"features.{len(model.trunk.config.stages) + 1}."
        )
        theirs = theirs.replace("classifier.", "classifier.1.")
        if block := re.match(r"trunk\.blocks\.(\d+)\.(\w+)\.", name):
            s, b, wide = starts[int(block[1])]
            step = ("expand", "depthwise", "squeeze", "narrow").index(block[2]) - (not wide)
            theirs = f"features.{s}.{b}.block.{step}.{name[block.end():]}"
        found[name] = theirs
    return found


@pytest.mark.parity
@pytest.mark.parametrize("size", [64, 75])
def test_the_whole_network_computes_what_torchvisions_does(size):
    from torchvision.models import efficientnet_b0

    torch.manual_seed(0)
    ours = lively(EfficientNetClassifier(replace(EfficientNetConfig.b0(), padding="symmetric", eps=1e-5)))
    theirs = efficientnet_b0(weights=None).eval()
    own = ours.state_dict()
    theirs.load_state_dict({their: own[name] for name, their in torchvision_names(ours).items()})
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        got, want = ours.double()(images), theirs.double()(images)
    assert want.std() > 1
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


def timm_names(config):
    """timm's -> ours, for every tensor of the trunk."""
    parts = {"conv_pw": "expand.0", "bn1": "expand.1", "conv_dw": "depthwise.0", "bn2": "depthwise.1",
             "se.conv_reduce": "squeeze.fc1", "se.conv_expand": "squeeze.fc2", "conv_pwl": "narrow.0",
             "bn3": "narrow.1"}
    narrow = {"conv_dw": "depthwise.0", "bn1": "depthwise.1", "conv_pw": "narrow.0", "bn2": "narrow.1",
              "se.conv_reduce": "squeeze.fc1", "se.conv_expand": "squeeze.fc2"}
    found, place = {"conv_stem": "stem.0", "bn1": "stem.1"}, 0
    for s, stage in enumerate(config.stages):
        for b in range(scaled_blocks(stage.blocks, config.depth)):
            for theirs, ours in (narrow if stage.expand == 1 else parts).items():
                found[f"blocks.{s}.{b}.{theirs}"] = f"blocks.{place}.{ours}"
            place += 1
    return found


@pytest.mark.parity
@pytest.mark.parametrize("size", [64, 75])
def test_the_trunk_pads_as_tensorflow_does_in_timm(size):
    import timm

    torch.manual_seed(0)
    ours = lively(EfficientNet(EfficientNetConfig.b0()))
    theirs = timm.create_model("tf_efficientnet_b0", pretrained=False).eval()
    own, names = ours.state_dict(), timm_names(ours.config)
    state = {}
    for name, value in theirs.state_dict().items():
        head, _, tail = name.rpartition(".")
        state[name] = (
            value
            if name.startswith(("conv_head", "bn2.", "classifier"))
            else own.pop(f"{names[head]}.{tail}")
        )
    assert not own  # every tensor of ours was used
    theirs.load_state_dict(state)
    images, before = torch.randn(2, 3, size, size, dtype=torch.float64), {}
    theirs.conv_head.register_forward_pre_hook(lambda module, inputs: before.update(grid=inputs[0]))
    with torch.no_grad():
        theirs.double()(images)
        grid = ours.double().grid(images)
    assert grid.std() > 1
    torch.testing.assert_close(grid, before["grid"], atol=1e-6, rtol=1e-6)


@pytest.mark.parity
def test_the_paddings_are_told_apart_by_the_result():
    torch.manual_seed(0)
    model = lively(EfficientNet(SMALL))
    images = torch.randn(1, 3, 32, 32)
    shifted = EfficientNet(replace(SMALL, padding="symmetric"))
    shifted.load_state_dict(model.state_dict())
    assert (model(images) - shifted.eval()(images)).abs().max() > 1e-3


# -------------------------------------------------------------------------------------------------- behaviour

def test_gradients_reach_every_parameter_and_a_row_stands_alone():
    model = lively(EfficientNet(SMALL))
    images = torch.randn(3, 3, 33, 40)
    out = model(images)
    torch.testing.assert_close(model(images[1:2])[0], out[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.grid(images).mean(dim=(2, 3)), out)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_drop_path_grows_with_depth_and_acts_in_training_only():
    model = EfficientNet(replace(SMALL, drop_path=0.8))
    assert [block.drop_path.p for block in model.blocks] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    images = torch.randn(8, 3, 32, 32)
    frozen = [model.train()(images).detach() for _ in range(4)]
    assert any(not torch.equal(frozen[0], other) for other in frozen[1:])
    model.eval()
    assert torch.equal(model(images), model(images))


def test_the_signal_survives_the_first_pass_of_a_deep_network():
    torch.manual_seed(0)
    model = EfficientNet(replace(EfficientNetConfig.b0(), depth=2.0, drop_path=0.0)).train()
    out = model(torch.randn(4, 3, 64, 64))
    assert out.isfinite().all() and (out[0] - out[1]).abs().max() > 1e-2


def test_running_statistics_follow_slowly_as_in_tensorflow():
    model = EfficientNet(SMALL)
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_an_image_smaller_than_a_cell_is_refused():
    with pytest.raises(ValueError, match="images of 16 x 64 pixels are smaller than one cell of 32"):
        EfficientNet(EfficientNetConfig.b0())(torch.zeros(1, 3, 16, 64))
