"""The figures of CLIP's towers, of zero-shot transfer and of an interval show what was computed."""

import math
import re

import pytest
import torch
from figure_parts import check_texts, drawing, frames, texts

from mmlearn.data.images import standardise
from mmlearn.data.scenes import portrait, render
from mmlearn.figures.text_for_vision import overlap, towers
from mmlearn.figures.text_for_vision.zero_shot import zero_shot_classifier
from mmlearn.nn.attention import record_attention
from mmlearn.nn.modes import seeded
from mmlearn.nn.modified_resnet import ResNetConfig
from mmlearn.text_for_vision.clip import CLIP, CLIPConfig
from mmlearn.text_for_vision.training import load_mini


@pytest.fixture(scope="module")
def model():
    with seeded(0):
        return CLIP(CLIPConfig.mini()).eval()


# ---------------------------------------------------------------------------------------------- zero-shot

def test_the_bars_are_the_miniatures_probabilities():
    model, tokeniser, _ = load_mini("resnet")
    pixels = torch.from_numpy(render(portrait("dog"), size=64).image.copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        u = model.encode_image(standardise(pixels.float() / 255))[0]
        products = []
        for name in ("cat", "dog", "house"):
            v = [model.encode_text(tokeniser.batch([text.format(name)]))[0]
                 for text in ("A picture of a {}.", "There is a {}.")]
            mean = sum(x / x.norm() for x in v) / 2
            products.append(model.logit_scale.exp() * (u / u.norm()) @ (mean / mean.norm()))
    want = torch.stack(products).softmax(0)
    drawn = zero_shot_classifier(classes=("cat", "dog", "house"))
    check_texts(drawn)
    said = texts(drawn)
    assert said[-5:] == [f"{want[0]:.2f}", "dog", f"{want[1]:.2f}", "house", f"{want[2]:.2f}"]
    assert "A picture of a house." in said and f"dog {want[1]:.2f}" in drawn.alt


def test_the_diagram_of_zero_shot_transfer_fits_a_phone():
    drawn = zero_shot_classifier()
    check_texts(drawn)
    assert drawn.width <= 500 and drawn.smallest >= 12 and len(drawn.alt) > 300


# ------------------------------------------------------------------------------------------------- towers

@pytest.mark.parametrize("name", ["vit_b32", "vit_b16", "vit_l14_336"])
def test_the_diagram_of_a_vit_has_the_shapes_of_its_configuration(name):
    config = getattr(CLIPConfig, name)()
    drawn = towers.clip_vit(config)
    check_texts(drawn)
    assert drawn.width <= 500 and drawn.smallest >= 12
    with torch.device("meta"):
        image = CLIP(config).image
        states = image.tokens(torch.empty(1, 3, config.size, config.size))
    said = texts(drawn)
    assert f"{states.shape[1]} × {states.shape[2]}" in said and f"u, {config.embed}" in said
    assert f"{config.text.context} × {config.text.width}" in said
    assert said.count(f"{config.text.layers} layers") == 1 + (config.image.layers == config.text.layers)


def test_the_diagram_of_a_vit_refuses_a_resnet():
    with pytest.raises(ValueError, match="ResNetConfig; give a configuration with a ViTConfig"):
        towers.clip_vit(CLIPConfig.rn50())


@pytest.mark.parametrize("name", ["rn50", "rn50x64"])
def test_the_diagram_of_a_resnet_has_the_shapes_of_its_grids(name):
    config = getattr(CLIPConfig, name)()
    drawn = towers.clip_resnet(config.image, config.embed)
    check_texts(drawn)
    assert drawn.width <= 500 and drawn.smallest >= 12
    said = texts(drawn)
    with torch.device("meta"):
        image, x = CLIP(config).image, torch.empty(1, 3, config.size, config.size)
        for convolution in image.stem:
            x = convolution(x)
        x = torch.nn.functional.avg_pool2d(x, 2)
        for stage in [lambda x: x, *image.stages]:
            x = stage(x)
            assert " × ".join(map(str, x.shape[1:])) in said
    assert f"{1 + x.shape[2] * x.shape[3]} × {x.shape[1]}" in said and f"ũ, {config.embed}" in said


def test_a_resnet_of_one_block_a_stage_is_told_in_the_singular():
    drawn = towers.clip_resnet(ResNetConfig(64, (1, 1, 1, 1), 16, 8), 64)
    check_texts(drawn)
    assert "stage 1: 1 block" in texts(drawn)


# --------------------------------------------------------------------------------------------- class token

def test_the_class_token_reads_what_its_row_of_the_weights_says(model):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    found = towers.class_token_weights(model, images)
    assert list(found) == ["layer 1", "layer 2", "layer 3", "layer 4", "all layers"]
    with torch.no_grad(), record_attention(model.image) as weights:
        model.image.tokens(standardise(images.float() / 255))
    rollout = torch.eye(65)
    for i, A in enumerate(weights.values(), start=1):
        mean = sum(A[1, head] for head in range(A.shape[1])) / A.shape[1]
        torch.testing.assert_close(found[f"layer {i}"][1], mean[0, 1:])
        rollout = (torch.eye(65) + mean) / 2 @ rollout
    torch.testing.assert_close(found["all layers"][1], rollout[0, 1:])


def test_a_patch_is_the_brighter_the_more_of_it_is_read(model):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    found = towers.class_token_weights(model, images)
    shown = frames(towers.class_token_gazes(model, images))
    assert len(shown) == 5
    for weights, frame in zip(found.values(), shown):
        veils = [float(x) for x in re.findall(r'opacity="([\d.]+)"', frame)]
        want = 0.85 * (1 - weights / weights.max(dim=1, keepdim=True).values)
        if veils:                                               # the one seen first is a picture
            assert veils == pytest.approx(want.flatten().tolist(), abs=0.006)
        top = (weights / weights.sum(1, keepdim=True)).topk(8, dim=1).values.sum(1).mean()
        assert f"{float(top):.0%} of the weight" in frame


def test_a_resnet_has_no_class_token():
    with seeded(0):
        resnet = CLIP(CLIPConfig.mini_resnet())
    with pytest.raises(ValueError, match="has a ResNet, which has no class token"):
        towers.class_token_weights(resnet, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


# ------------------------------------------------------------------------------------------------ interval

def test_the_tails_are_sums_of_the_bars():
    for p in (0.3, 0.5, 0.98):
        bars = overlap.chances(10, p)
        assert sum(bars) == pytest.approx(1)
        assert bars[3] == pytest.approx(120 * p**3 * (1 - p) ** 7)
        more, fewer = overlap.tails(9, 10, p)
        assert (more, fewer) == pytest.approx((sum(bars[9:]), sum(bars[:10])))
    assert overlap.tails(10, 10, 0.5) == pytest.approx((0.5**10, 1))


def test_exactly_the_values_outside_of_the_interval_are_ruled_out():
    block = overlap.clopper_pearson_slider(9, 10)
    low, high = 0.4189, 0.99975                                 # see test_overlap
    for i, frame in enumerate(frames(block), start=1):
        assert ("not ruled out" in frame) == (low < i / 50 < high), i / 50
        if "<svg" in frame:
            check_texts(drawing(frame))
    again = frames(overlap.clopper_pearson_slider(9, 10, start=0.02))[24]
    assert f"9 or more {11 / 2**10:.4f}" in again and math.isclose(11 / 2**10, 0.0107, abs_tol=1e-4)
