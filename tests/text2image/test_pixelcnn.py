"""Gated PixelCNN: each code from the codes before it, and no other."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from networks import count
from torch import nn

from mmlearn.text2image.pixelcnn import (
    CausalConv2d,
    MaskedConv2d,
    PixelCNN,
    PixelCNNConfig,
    code_log_likelihood,
    draw,
    gate,
    pixelcnn_loss,
    raster_mask,
    receptive_field,
)

pytestmark = pytest.mark.usefixtures("seeded")


TINY = PixelCNNConfig(5, 6, 3, 3, 7)
KINDS = {
    "plain": (TINY, {}),
    "wide kernel": (replace(TINY, kernel=5), {}),
    "classes": (replace(TINY, classes=3), {"labels": torch.tensor([2, 0])}),
    "context": (replace(TINY, context=4), {"context": torch.randn(2, 4, 4, 6)}),
    "smaller map": (replace(TINY, classes=3, context_codes=7),
                    {"labels": torch.tensor([1, 2]), "context": torch.randint(7, (2, 2, 3))}),
}


def build(kind):
    config, conditions = KINDS[kind]
    return PixelCNN(config).double(), {
        name: value.double() if value.is_floating_point() else value for name, value in conditions.items()}


# -------------------------------------------------------------------------------------------------- equations

@pytest.mark.equation("eq:pixelcnn-mask")
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_mask_lets_through_what_comes_before_in_rows(kernel):
    middle = kernel // 2
    for own in (False, True):
        mask = raster_mask(kernel, own)
        for i, j in itertools.product(range(kernel), range(kernel)):
            before = i < middle or (i == middle and j < middle)
            assert bool(mask[i, j]) == (before or (own and i == j == middle))


@pytest.mark.equation("eq:pixelcnn-gate")
def test_the_gate_is_a_tanh_times_a_logistic():
    f, g = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64)
    want = [math.tanh(a) / (1 + math.exp(-b)) for a, b in zip(f.flatten().tolist(), g.flatten().tolist())]
    torch.testing.assert_close(gate(f, g).flatten(), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:pixelcnn-likelihood")
def test_the_probabilities_of_all_maps_sum_to_one():
    model = PixelCNN(PixelCNNConfig(3, 4, 2, 3, 5)).double()
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 2)
    logits = model(every)
    got = code_log_likelihood(logits, every)
    assert float(got.exp().sum()) == pytest.approx(1)
    for m in (0, 17, 80):
        want = sum(float(logits[m, every[m, i, j], i, j]) - math.log(sum(logits[m, :, i, j].exp().tolist()))
                   for i in range(2) for j in range(2))
        assert float(got[m]) == pytest.approx(want)
    assert float(pixelcnn_loss(logits, every)) == pytest.approx(-float(got.mean()) / 4)
    assert float(pixelcnn_loss(torch.zeros(2, 512, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))
                 ) == pytest.approx(math.log(512))


def test_a_causal_convolution_is_a_masked_one_whose_zeros_are_left_out():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    masked = nn.Conv2d(3, 4, 5, padding=2).double()
    above, beside = (CausalConv2d(3, 4, *window).double() for window in ((2, 2, 2), (0, 2, 0)))
    with torch.no_grad():
        masked.bias.copy_(above.bias)
        masked.weight.zero_()[:, :, :3] = above.weight
    torch.testing.assert_close(above(x), masked(x))
    with torch.no_grad():
        masked.bias.copy_(beside.bias)
        masked.weight.zero_()[:, :, 2:3, :3] = beside.weight
    torch.testing.assert_close(beside(x), masked(x))


# -------------------------------------------------------------------------------------------------- causality

@pytest.mark.parametrize("kind", KINDS)
def test_a_code_changes_the_logits_of_the_places_after_it_and_no_other(kind):
    model, conditions = build(kind)
    codes = torch.randint(5, (2, 4, 6))
    before = model(codes, **conditions)
    for y, x in ((0, 0), (1, 5), (2, 3), (3, 5)):
        changed = codes.clone()
        changed[:, y, x] = (changed[:, y, x] + 1) % 5
        moved = (model(changed, **conditions) - before).abs().amax(dim=(0, 1)).flatten() > 0
        assert not moved[: y * 6 + x + 1].any()
        if x < 5:
            assert moved[y * 6 + x + 1]


class Core(nn.Module):
    """The two stacks of a PixelCNN, from an input map of its width."""

    def __init__(self, model):
        super().__init__()
        self.layers = model.layers

    def forward(self, x):
        v, h = nn.functional.pad(x, (0, 0, 1, -1)), nn.functional.pad(x, (1, -1))
        for layer in self.layers:
            v, h = layer(v, h)
        return h


def test_masked_convolutions_leave_a_blind_spot_that_two_stacks_do_not():
    x, place = torch.randn(1, 6, 9, 9), (6, 3)
    masked = nn.Sequential(*(MaskedConv2d(6, 6, 3, own=i > 0) for i in range(8)))
    before = torch.zeros(9, 9, dtype=torch.bool)
    before.view(-1)[: 6 * 9 + 3] = True
    seen = receptive_field(masked, x, place)
    assert not (seen & ~before).any() and (before & ~seen).sum() > 3
    assert not seen[5, 5] and not seen[5, 8]               # above to the right, and never seen
    stacks = receptive_field(Core(PixelCNN(replace(TINY, layers=8))), x, place)
    assert torch.equal(stacks, before)


def test_the_field_that_a_place_sees_grows_with_every_layer():
    x = torch.randn(1, 6, 9, 9)
    cores = [Core(PixelCNN(replace(TINY, layers=n))) for n in (1, 2, 4, 8)]
    sizes = [int(receptive_field(core, x, (8, 4)).sum()) for core in cores]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 8 * 9 + 4


# --------------------------------------------------------------------------------------------------- sampling

@pytest.mark.parametrize("kind", KINDS)
def test_sampling_with_what_is_kept_is_sampling_with_a_pass_for_every_place(kind):
    model, conditions = build(kind)
    got = model.sample(2, (4, 6), generator=torch.Generator().manual_seed(1), temperature=0.8, top_k=3,
                       **conditions)
    generator, want = torch.Generator().manual_seed(1), torch.zeros(2, 4, 6, dtype=torch.long)
    with torch.no_grad():
        for y, x in itertools.product(range(4), range(6)):
            logits = model(want, **conditions)[:, :, y, x] / 0.8
            want[:, y, x] = draw(logits, 3, generator)
    assert torch.equal(got, want) and got.unique().numel() > 2


def test_maps_are_drawn_as_often_as_the_model_says():
    model = PixelCNN(PixelCNNConfig(2, 4, 2, 3, 5))
    with torch.no_grad():
        model.output[-1].weight.mul_(4)
    every = torch.tensor(list(itertools.product(range(2), repeat=4))).view(-1, 2, 2)
    expected = code_log_likelihood(model(every), every).exp().detach() * 4000
    drawn = model.sample(4000, (2, 2), generator=torch.Generator().manual_seed(0)).flatten(1)
    index = (drawn * torch.tensor([8, 4, 2, 1])).sum(dim=1)
    chi_square = float(((torch.bincount(index, minlength=16) - expected) ** 2 / expected).sum())
    assert chi_square < 38                                  # 15 degrees of freedom: exceeded once in 1000


def test_samples_are_a_function_of_the_seed_and_top_1_needs_none():
    model = PixelCNN(TINY)
    first, second = (model.sample(3, (3, 3), generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    most = model.sample(1, (3, 3), top_k=1)
    assert torch.equal(most, model.sample(1, (3, 3), top_k=1))
    assert most[0, 2, 2] == model(most)[0, :, 2, 2].argmax()


# ----------------------------------------------------------------------------------------- the usual promises

@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    model, conditions = build(kind)
    codes = torch.randint(5, (2, 4, 6))
    pixelcnn_loss(model(codes, **conditions), codes).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_what_it_is_alone_and_conditions_matter(kind):
    model, conditions = build(kind)
    codes = torch.randint(5, (2, 4, 6))
    together = model(codes, **conditions)
    for i in range(2):
        alone = model(codes[i : i + 1], **{name: value[i : i + 1] for name, value in conditions.items()})
        torch.testing.assert_close(alone[0], together[i])
    for name, value in conditions.items():
        other = model(codes, **conditions | {name: value.flip(0)})
        assert not torch.allclose(other, together)


def test_a_condition_is_added_before_the_gates_as_the_formula_says():
    model, conditions = build("classes")
    layer, x = model.layers[0], torch.randn(2, 6, 4, 6, dtype=torch.float64)
    add = model.classes[0](conditions["labels"])[:, :, None, None]
    v, h = layer(x, x, add)
    to_v, to_h = add.chunk(2, dim=1)
    seen, beside = layer.vertical(x), layer.horizontal(x) + layer.across(layer.vertical(x))
    f, g = (seen + to_v).chunk(2, dim=1)
    torch.testing.assert_close(v, torch.tanh(f) / (1 + torch.exp(-g)))
    f, g = (beside + to_h).chunk(2, dim=1)
    torch.testing.assert_close(h, x + layer.residual(torch.tanh(f) / (1 + torch.exp(-g))))


def test_sizes_of_the_named_configurations():
    def by_hand(k, c, layers, kernel, hidden, classes=0, context=0):
        half = kernel // 2
        layer = (2 * c * c * (half + 1) * kernel + 2 * c) + (2 * c * c * (half + 1) + 2 * c)
        layer += 4 * c * c + 2 * c + c * c + c + 4 * c * classes + (4 * c * c if context else 0)
        return k * c + layers * layer + c * hidden + hidden + hidden * k + k + context * c

    with torch.device("meta"):
        found = {name: count(PixelCNN(getattr(PixelCNNConfig, name)()))
                 for name in ("vqvae", "bottom", "mini")}
    assert found == {"vqvae": by_hand(512, 256, 15, 5, 512, 1000),
                     "bottom": by_hand(512, 256, 15, 5, 512, 1000, 512), "mini": by_hand(64, 48, 4, 3, 64)}
    assert found == {"vqvae": 56_216_832, "bottom": 60_280_064, "mini": 205_248}


def test_a_handful_of_maps_is_learnt_by_heart_and_drawn_by_class():
    maps, labels = torch.randint(5, (3, 4, 4)), torch.arange(3)
    model = PixelCNN(replace(TINY, width=16, hidden=24, classes=3))
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        adam.zero_grad(set_to_none=True)
        loss = pixelcnn_loss(model(maps, labels), maps)
        loss.backward()
        adam.step()
    assert float(loss) < 0.05
    drawn = model.sample(3, (4, 4), labels, generator=torch.Generator().manual_seed(0))
    assert (drawn == maps).float().mean() > 0.9


def test_impossible_inputs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="kernel is 4; use an odd number"):
        replace(TINY, kernel=4)
    with pytest.raises(ValueError, match="layers is 0; use at least 1"):
        replace(TINY, layers=0)
    with pytest.raises(ValueError, match="context and context_codes are both given"):
        replace(TINY, context=4, context_codes=7)
    codes = torch.zeros(2, 4, 6, dtype=torch.long)
    with pytest.raises(ValueError, match="labels are given to a model without classes"):
        PixelCNN(TINY)(codes, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="a context is given to a model without one"):
        PixelCNN(TINY)(codes, context=torch.randn(2, 4, 4, 6))
    with pytest.raises(ValueError, match="the context has 3 x 3 codes, the map 4 x 6"):
        PixelCNN(replace(TINY, context_codes=7))(codes, context=torch.zeros(2, 3, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="temperature is 0; use a number above 0"):
        PixelCNN(TINY).sample(1, (2, 2), temperature=0)
    with pytest.raises(ValueError, match="top_k is 6; keep from 1 to 5 values"):
        PixelCNN(TINY).sample(1, (2, 2), top_k=6)
