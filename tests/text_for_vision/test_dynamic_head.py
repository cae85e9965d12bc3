import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from mmlearn.catalog import count_parameters
from mmlearn.experiments.text_for_vision.dynamic_head import judged, train_detector
from mmlearn.image2text.regions import LEAST_SIDE, DetectionData
from mmlearn.metrics.detection import average_precision
from mmlearn.nn.swin import SwinConfig
from mmlearn.text_for_vision.dynamic_head import (
    DeformableConv,
    DetectorConfig,
    DynamicBlock,
    DynamicDetector,
    DynamicHead,
    DynamicHeadConfig,
    DynamicReLU,
    channel_attention,
    detections,
    detector_loss,
    hard_sigmoid,
    name_boxes,
    read_moved,
    scale_attention,
    spatial_attention,
    truths,
)

SMALL = DynamicHeadConfig(16, 2, 4)


def pyramid(channels=16, b=2, side=8, levels=3):
    torch.manual_seed(1)
    return [torch.randn(b, channels, side // 2**i, side // 2**i) for i in range(levels)]


# ----------------------------------------------------------------------------------------------- the formulas

@pytest.mark.equation("eq:hard-sigmoid")
def test_the_papers_hard_sigmoid_is_a_ramp_between_minus_one_and_one():
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)
    torch.testing.assert_close(
        hard_sigmoid(z), torch.tensor([max(0.0, min(1.0, (x + 1) / 2)) for x in z.tolist()], dtype=z.dtype)
    )


@pytest.mark.equation("eq:scale-attention")
def test_scale_attention_multiplies_each_level_by_one_factor():
    x, W, bias = torch.randn(2, 3, 4, 5, 6).double(), torch.randn(3, 3).double(), torch.randn(3).double()
    want = torch.empty_like(x)
    for b in range(2):
        means = [sum(float(x[b, l, c, i, j]) for c in range(4) for i in range(5) for j in range(6)) / 120
                 for l in range(3)]
        for l in range(3):
            z = sum(float(W[l, k]) * means[k] for k in range(3)) + float(bias[l])
            want[b, l] = max(0.0, min(1.0, (z + 1) / 2)) * x[b, l]
    torch.testing.assert_close(scale_attention(x, lambda means: means.mean(-1) @ W.mT + bias), want)


def interpolated(grid, down, right):
    """A map (y, x) between its cells, 0 outside: the sum of the four cells around, each by its nearness."""
    total = 0.0
    for i in range(math.floor(down), math.floor(down) + 2):
        for j in range(math.floor(right), math.floor(right) + 2):
            if 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1]:
                total += (1 - abs(down - i)) * (1 - abs(right - j)) * float(grid[i, j])
    return total


@pytest.mark.equation("eq:moved-places")
@pytest.mark.parametrize("stride", [1, 2])
def test_moved_places_are_read_between_cells(stride):
    x = torch.randn(1, 2, 4, 6).double()
    v, u = 4 // stride, 6 // stride
    offsets, modulation = 1.5 * torch.randn(1, 18, v, u).double(), torch.rand(1, 9, v, u).double()
    got = read_moved(x, offsets, modulation, stride)
    for k in range(9):
        for i in range(v):
            for j in range(u):
                down = stride * i + k // 3 - 1 + float(offsets[0, 2 * k, i, j])
                right = stride * j + k % 3 - 1 + float(offsets[0, 2 * k + 1, i, j])
                for c in range(2):
                    want = interpolated(x[0, c], down, right) * float(modulation[0, k, i, j])
                    assert float(got[0, k, i, j, c]) == pytest.approx(want, abs=1e-9)


@pytest.mark.equation("eq:spatial-attention")
def test_spatial_attention_averages_moved_places_of_all_levels():
    x, w = torch.randn(1, 2, 3, 4, 5).double(), torch.randn(2, 9).double()
    offsets, modulation = torch.randn(1, 18, 4, 5).double(), torch.rand(1, 9, 4, 5).double()
    want = torch.zeros(1, 3, 4, 5).double()
    for c in range(3):
        for i in range(4):
            for j in range(5):
                for l in range(2):
                    for k in range(9):
                        down = i + k // 3 - 1 + float(offsets[0, 2 * k, i, j])
                        right = j + k % 3 - 1 + float(offsets[0, 2 * k + 1, i, j])
                        want[0, c, i, j] += (
                            float(w[l, k])
                            * interpolated(x[0, l, c], down, right)
                            * float(modulation[0, k, i, j])
                            / 2
                        )
    torch.testing.assert_close(spatial_attention(x, w[..., None, None] * torch.eye(3), offsets, modulation),
                               want)


@pytest.mark.equation("eq:channel-attention")
def test_channel_attention_is_the_larger_of_two_lines():
    x, theta = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 4, 3).double()
    want = torch.empty_like(x)
    for b in range(2):
        for c in range(3):
            a1, a2, b1, b2 = theta[b, :, c].tolist()
            want[b, c] = torch.tensor([[max(a1 * v + b1,
                                            a2 * v + b2) for v in row] for row in x[b, c].tolist()],
                                            dtype=x.dtype)
    torch.testing.assert_close(channel_attention(x, theta), want)


# ------------------------------------------------------------------------------------------------ the modules

@pytest.mark.parity
@pytest.mark.parametrize("stride", [1, 2])
def test_the_deformable_convolution_is_torchvisions(stride):
    torch.manual_seed(0)
    layer = DeformableConv(16, stride, 4).double()
    x = torch.randn(2, 16, 8, 8).double().requires_grad_()
    n = 8 // stride
    offsets = (2 * torch.randn(2, 18, n, n)).double().requires_grad_()
    modulation = torch.rand(2, 9, n, n).double().requires_grad_()
    inputs = (x, offsets, modulation, layer.weight, layer.bias)
    ours = layer(x, offsets, modulation)
    theirs = layer.norm(deform_conv2d(x, offsets, layer.weight, layer.bias, stride, 1, mask=modulation))
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours.sin().sum(), inputs),
                    torch.autograd.grad(theirs.sin().sum(), inputs)):
        torch.testing.assert_close(a, b)


def test_a_dynamic_relu_starts_around_relu_and_depends_on_the_picture():
    torch.manual_seed(0)
    relu = DynamicReLU(16, 4)
    for p in relu.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(relu(x), x.relu())
    relu = DynamicReLU(16, 4)
    theta = relu.theta(torch.cat([x, 3 * x + 1])).detach()
    assert not torch.allclose(theta[:2], theta[2:])
    assert float((theta[:, :2] - torch.tensor([1.0, 0.0])[:, None]).abs().max()) <= 1  # slopes within 1
    assert float(theta[:, 2:].abs().max()) <= 0.5


def test_a_block_mixes_each_level_with_its_neighbours_as_the_published_code_does():
    """Written out level by level with torchvision's operator, offsets and modulation averaged for the coarser
    source."""
    torch.manual_seed(0)
    block, levels = DynamicBlock(SMALL), pyramid()
    torch.nn.init.normal_(block.where.weight, std=0.2)
    want = []
    for i, x in enumerate(levels):
        found = block.where(x)
        offsets, modulation = found[:, :18], found[:, 18:].sigmoid()
        sources = []
        for layer, j, stride in ((block.finer, i - 1, 2), (block.same, i, 1), (block.coarser, i + 1, 1)):
            if not 0 <= j < len(levels):
                continue
            o, m = offsets, modulation
            if j > i:
                o, m = F.avg_pool2d(o, 2), F.avg_pool2d(m, 2)
            y = layer.norm(deform_conv2d(levels[j], o, layer.weight, layer.bias, stride, 1, mask=m))
            if j > i:
                y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
            sources.append(F.relu6(F.relu(block.weigh(y.mean((2, 3), keepdim=True))) + 3) / 6 * y)
        want.append(block.relu(sum(sources) / len(sources)))
    for ours, other in zip(block(levels), want):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)


def naive_places(block, x):
    """Offsets and modulation of each cell by loops: a 3 x 3 convolution with zeros around, 27 numbers a cell,
    of which 2k and 2k + 1 move place k down and right, and 18 + k, squashed, says what it counts."""
    weight, bias = block.where.weight, block.where.bias
    _, c, high, wide = x.shape
    found = {}
    for i in range(high):
        for j in range(wide):
            raw = [float(bias[n]) + sum(
                float(weight[n, a, dy + 1, dx + 1]) * float(x[0, a, i + dy, j + dx])
                for a in range(c) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
                if 0 <= i + dy < high and 0 <= j + dx < wide) for n in range(27)]
            found[i, j] = [(raw[2 * k], raw[2 * k + 1], 1 / (1 + math.exp(-raw[18 + k]))) for k in range(9)]
    return found


def test_offsets_and_modulation_move_the_nine_places_as_loops_say():
    """One level alone: which of the 27 numbers moves which place in which direction, and what is read
    there, before the normalisation."""
    torch.manual_seed(0)
    block = DynamicBlock(DynamicHeadConfig(4, 1, 2)).double()
    x = torch.randn(1, 4, 5, 6).double()
    places = naive_places(block, x)
    offsets, modulation = (z.detach() for z in block.places(x))
    assert float(offsets.abs().max()) > 0.5                             # far enough to tell two cells apart
    read = torch.zeros(1, 4, 5, 6).double()
    for (i, j), nine in places.items():
        for k, (down, right, share) in enumerate(nine):
            assert float(offsets[0, 2 * k, i, j]) == pytest.approx(down, abs=1e-9)
            assert float(offsets[0, 2 * k + 1, i, j]) == pytest.approx(right, abs=1e-9)
            assert float(modulation[0, k, i, j]) == pytest.approx(share, abs=1e-9)
            for a in range(4):
                value = share * interpolated(x[0, a], i + k // 3 - 1 + down, j + k % 3 - 1 + right)
                read[0, :, i, j] += block.same.weight[:, a, k // 3, k % 3].detach() * value
    centred = (read.view(2, -1) - read.view(2, -1).mean(1, keepdim=True)).view_as(read)
    spread = (read.view(2, -1).var(1, correction=0) + 1e-5).sqrt().repeat_interleave(2).view(1, 4, 1, 1)
    torch.testing.assert_close(block.same(x, offsets, modulation).detach(), centred / spread)


def test_the_head_starts_as_the_released_code_does():
    """Evenly between plus and minus 1 / sqrt(fan in) for what is read and for the offsets, which are not 0;
    sources weighted by one half."""
    torch.manual_seed(0)
    block = DynamicBlock(DynamicHeadConfig.mini())
    reach = 1 / math.sqrt(64 * 9)
    for weight in (block.same.weight, block.finer.weight, block.coarser.weight, block.where.weight):
        assert float(weight.abs().max()) <= reach
        assert float(weight.std()) == pytest.approx(reach / math.sqrt(3), rel=0.02)
    assert 0 < float(block.where.bias.abs().max()) <= reach
    assert all(not layer.bias.any() for layer in (block.same, block.finer, block.coarser))
    assert float(block.weigh.weight.std()) == pytest.approx(0.01, rel=0.3) and not block.weigh.bias.any()
    levels = pyramid(64)
    factor = F.hardsigmoid(block.importance(torch.stack([x.mean((2, 3)) for x in levels], 1)))
    torch.testing.assert_close(factor, torch.full_like(factor, 0.5), atol=0.02, rtol=0)


def test_the_paper_head_keeps_every_shape_and_has_its_size():
    with torch.device("meta"):
        head = DynamicHead(DynamicHeadConfig.paper())
        levels = [torch.empty(1, 256, n, n) for n in (100, 50, 25, 13, 7)]
        assert [x.shape for x in head(levels)] == [x.shape for x in levels]
    c = 256
    convolutions = 3 * (9 * c * c + c + 2 * c)
    assert count_parameters(head) == 6 * (convolutions + 9 * c * 27 + 27 + c + 1 + (c * 64 + 64)
                                          + (64 * 4 * c + 4 * c))


def test_gradients_reach_every_parameter_of_the_head():
    torch.manual_seed(0)
    head = DynamicHead(SMALL)
    sum(x.square().sum() for x in head(pyramid())).backward()
    assert all(p.grad is not None for p in head.parameters())
    # behind a ReLU
    assert all(bool(p.grad.abs().sum() > 0) for n, p in head.named_parameters() if "weigh." not in n)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="each half as large"):
        DynamicHead(SMALL)([torch.randn(1, 16, 8, 8), torch.randn(1, 16, 3, 3)])
    with pytest.raises(ValueError, match="channels 20 are not a multiple"):
        DynamicHeadConfig(20)
    with pytest.raises(ValueError, match="2 anchors for the 3 stages"):
        DynamicDetector(DetectorConfig(anchors=(1, 2)))


# ----------------------------------------------------------------------------------------------- the detector

TINY = DetectorConfig(SwinConfig(64, 16, (1, 1, 1), (1, 2, 4), 4, True, 0.0), DynamicHeadConfig(32, 1),
                      agnostic=True)


@pytest.fixture(scope="module")
def data():
    return DetectionData(4)


def test_a_detector_of_things_knows_one_class_and_one_of_categories_all(data):
    for config, classes in ((TINY, 2), (DetectorConfig.mini(), 35)):
        assert DynamicDetector(config).head.classification_head.num_classes == classes
    assert {a["category_id"] for a in truths(DynamicDetector(TINY), data)} == {1}


def test_losses_are_summed_and_recorded(data):
    torch.manual_seed(0)
    loss, parts = detector_loss(DynamicDetector(TINY).train(), data.batch([0, 1]))
    assert set(parts) == {"classification", "regression", "ctrness"}
    torch.testing.assert_close(loss.detach(), torch.stack(list(parts.values())).sum())


def test_every_level_of_the_pyramid_can_say_how_large_a_thing_is(data):
    """Distances are told in units of an anchor: one without width would leave a level nothing to say."""
    model = DynamicDetector(TINY)
    for side, anchors in zip(TINY.anchors, model.anchor_generator.cell_anchors):
        assert anchors.tolist() == [[-side / 2, -side / 2, side / 2, side / 2]]


@pytest.mark.parametrize(
    ("scale", "bias"), [(0.0, 4.0), (0.0, -4.0), (1.0, 0.0), (30.0, 0.0), (1e4, 0.0), (1e30, 0.0)]
)
def test_no_weights_make_a_box_without_width_or_outside_the_picture(data, scale, bias):
    """The distances to the four sides come from a ReLU: with a bias of -4 all of them are 0."""
    torch.manual_seed(0)
    model = DynamicDetector(TINY).eval()
    regression = model.head.regression_head.bbox_reg
    regression.weight.detach().normal_(std=scale)
    regression.bias.detach().fill_(bias)
    model.score_thresh = 0.0
    boxes = torch.cat([d["boxes"] for d in model(list(data.images.float() / 255))])
    assert len(boxes) > 0 or bias < 0 or scale > 1
    assert bool((boxes >= 0).all()) and bool((boxes <= 64).all())
    assert bool((boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all())


@pytest.mark.slow
def test_a_handful_of_scenes_is_found_again(data):
    model, history = train_detector(data, steps=120, batch=4, lr=4e-3, config=TINY, progress=False)
    assert history.loss[-1] < 0.6 * history.loss[0]
    assert judged(model, data)["AP50"] > 0.6
    found = detections(model, data)
    assert {r["category_id"] for r in found} == {1} and all(r["bbox"][2] > 0 for r in found)
    perfect = [{**a, "score": 1.0} for a in truths(model, data)]
    assert average_precision(truths(model, data), perfect).stats["AP"] == pytest.approx(1.0)


class Colours(torch.nn.Module):
    """An encoder that embeds a picture as its mean colour."""

    def encode_image(self, images, normalise=False):
        from mmlearn.data.images import MEAN, STD
        mean, std = (torch.tensor(x)[None] for x in (MEAN, STD))
        return F.normalize(images.mean((2, 3)) * std + mean, dim=1)


def test_a_box_is_named_by_what_is_in_it_and_not_by_the_rest_of_the_picture():
    image = torch.zeros(3, 32, 32)
    image[0, 4:12, 4:12], image[2, 18:30, 20:28] = 1.0, 1.0             # a red square, a blue one
    boxes = torch.tensor([[4.0, 4, 12, 12], [20, 18, 28, 30]])
    cosines = name_boxes(Colours(), image, boxes, torch.eye(3), size=16, margin=0)
    assert cosines.argmax(1).tolist() == [0, 2]
    torch.testing.assert_close(cosines[0], torch.tensor([1.0, 0, 0]), atol=1e-3, rtol=0)
