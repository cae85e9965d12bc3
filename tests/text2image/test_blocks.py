"""Blocks that StackGAN, AttnGAN and DM-GAN share."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import numbers
from torch import nn

from mmlearn.text2image.blocks import (
    Bottleneck,
    ConditioningAugmentation,
    ConvBlock,
    DownBlock,
    FirstStage,
    JointDiscriminator,
    ReLUResidualBlock,
    ResidualBlock,
    UpBlock,
    draw_condition,
    glu,
    halvings,
    init_normal,
    init_orthogonal,
    kl_to_standard_normal,
    mean_kl,
    pyramid,
    tile,
    weight_of,
)


@pytest.mark.equation("eq:glu")
def test_half_of_the_channels_open_and_close_the_other_half():
    x = numbers(2, 6, 3)
    want = torch.zeros(2, 3, 3, dtype=torch.float64)
    for i in range(2):
        for c in range(3):
            for s in range(3):
                want[i, c, s] = x[i, c, s] / (1 + math.exp(-x[i, c + 3, s]))
    torch.testing.assert_close(glu(x), want)
    torch.testing.assert_close(glu(x), F.glu(x, dim=1))
    with pytest.raises(ValueError, match="there are 5"):
        glu(x[:, :5])


@pytest.mark.equation("eq:ca-sample")
def test_a_condition_is_the_mean_and_as_many_deviations_as_were_drawn():
    mu, log_var, epsilon = numbers(2, 4), numbers(2, 4, seed=1), numbers(2, 4, seed=2)
    got = draw_condition(mu, log_var, epsilon)
    for i in range(2):
        for j in range(4):
            want = mu[i, j] + math.sqrt(math.exp(log_var[i, j])) * epsilon[i, j]
            assert got[i, j].item() == pytest.approx(want.item(), abs=1e-12)


@pytest.mark.equation("eq:ca-kl")
@pytest.mark.equation("eq:ca-kl-mean")
def test_the_kl_is_the_sum_over_dimensions_and_the_codes_take_its_mean():
    mu, log_var = numbers(3, 5), numbers(3, 5, seed=1)
    for i in range(3):
        want = sum(0.5 * (m * m + math.exp(v) - v - 1) for m, v in zip(mu[i].tolist(), log_var[i].tolist()))
        assert kl_to_standard_normal(mu, log_var)[i].item() == pytest.approx(want, abs=1e-12)
    q = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    elements = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mu, log_var), elements.sum(1))
    torch.testing.assert_close(mean_kl(mu, log_var), elements.mean())
    assert kl_to_standard_normal(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0
    assert (kl_to_standard_normal(mu, log_var) > 0).all()
    assert mean_kl(mu.half(), log_var.half()).dtype == torch.float32
    big = torch.full((1, 5), 300.0, dtype=torch.float16)                      # its square overflows 16 bits
    assert torch.isfinite(mean_kl(big, torch.zeros_like(big)))


def test_p4_the_codes_kl_is_as_many_times_smaller_than_the_textbooks_as_it_has_dimensions():
    mu, log_var = 0.5 * numbers(8, 128), 0.2 * numbers(8, 128, seed=1)
    textbook = kl_to_standard_normal(mu, log_var).mean()
    assert (textbook / mean_kl(mu, log_var)).item() == pytest.approx(128, rel=1e-9)
    assert textbook > 10 and mean_kl(mu, log_var) < 0.2                       # 19.0 and 0.148 in the notes
    assert (2.0 * mean_kl(mu, log_var) / textbook).item() == pytest.approx(2 / 128)  # weight of "KL: 2.0"


@pytest.mark.equation("eq:ca-parameters")
@pytest.mark.parametrize("activation", ["glu", "relu", "leaky_relu"])
def test_mean_and_variance_of_a_condition_come_from_one_linear_layer(activation):
    torch.manual_seed(0)
    layer = ConditioningAugmentation(7, 3, activation).double()
    text = numbers(4, 7)
    mu, log_var = layer.statistics(text)
    x = text @ layer.fc.weight.T + layer.fc.bias
    if activation == "glu":
        x = x[:, :6] * torch.sigmoid(x[:, 6:])
    else:
        x = torch.where(x > 0, x, (0.2 if activation == "leaky_relu" else 0.0) * x)
    torch.testing.assert_close(mu, x[:, :3])
    sigma = x[:, 3:].exp() if activation == "leaky_relu" else (x[:, 3:] / 2).exp()
    torch.testing.assert_close((0.5 * log_var).exp(), sigma)
    if activation == "relu":                  # StackGAN's PyTorch code: no deviation below 1, no mean below 0
        assert (sigma >= 1).all() and (mu >= 0).all()


def test_the_same_generator_draws_the_same_condition_and_another_draws_another():
    layer = ConditioningAugmentation(7, 3)
    text = torch.randn(4, 7)
    draws = [layer(text, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    condition, mu, log_var = layer(text, torch.Generator().manual_seed(0))
    epsilon = torch.empty(4, 3).normal_(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(condition, draw_condition(mu, log_var, epsilon))


def test_numbers_of_the_tensorflow_code_lie_within_two_deviations():
    layer = ConditioningAugmentation(1, 2000, "leaky_relu")
    like = torch.empty(2, 2000)
    assert layer.epsilon(like, torch.Generator().manual_seed(0)).abs().max() <= 2
    assert ConditioningAugmentation(1, 2000).epsilon(like, torch.Generator().manual_seed(0)).abs().max() > 2


@pytest.mark.equation("eq:glu-residual")
def test_a_residual_block_adds_two_normalised_convolutions_with_a_gate_between():
    torch.manual_seed(0)
    block = ResidualBlock(4).double().eval()
    x = numbers(2, 4, 5, 5)

    def norm(x, layer):
        return (x - layer.running_mean[:, None, None]) / (layer.running_var[:, None, None] + 1e-5).sqrt()
    wide = norm(F.conv2d(x, block.inner.conv.weight, padding=1), block.inner.norm)
    gated = wide[:, :4] * torch.sigmoid(wide[:, 4:])
    want = x + norm(F.conv2d(gated, block.conv.weight, padding=1), block.norm)
    torch.testing.assert_close(block(x), want)


@pytest.mark.equation("eq:relu-residual")
def test_the_residual_block_of_the_second_stage_ends_in_a_relu():
    torch.manual_seed(0)
    block = ReLUResidualBlock(4).double().eval()
    x = numbers(2, 4, 5, 5)
    scale = 1 / math.sqrt(1 + 1e-5)
    inner = (F.conv2d(x, block.inner.conv.weight, padding=1) * scale).relu()
    want = (x + F.conv2d(inner, block.conv.weight, padding=1) * scale).relu()
    torch.testing.assert_close(block(x), want)


def test_an_up_block_repeats_pixels_and_convolves_them():
    torch.manual_seed(0)
    up = UpBlock(3, 4).double().eval()
    x = numbers(1, 3, 2, 2)
    large = torch.stack([torch.stack([x[0, :, i // 2, j // 2] for j in range(4)], -1) for i in range(4)], -2)
    same = ConvBlock(3, 4).double().eval()
    same.load_state_dict(up.state_dict())
    torch.testing.assert_close(up(x), same(large[None]))
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in up.modules())


def test_a_bottleneck_keeps_shape_and_passes_its_input_on():
    block = Bottleneck(8, 2).eval()
    nn.init.zeros_(block.inner[6].weight)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize("norm, bias", [("batch", False), ("spectral", True), ("none", False)])
def test_a_down_block_halves_the_side_whatever_its_normalisation(norm, bias):
    block = DownBlock(3, 6, norm)
    assert block(torch.randn(2, 3, 8, 8)).shape == (2, 6, 4, 4)
    assert (block[0].bias is not None) == bias
    assert any(isinstance(m, nn.BatchNorm2d) for m in block) == (norm == "batch")
    with pytest.raises(ValueError, match="norm is 'layer'"):
        DownBlock(3, 6, "layer")


def test_spectral_normalisation_divides_by_the_largest_singular_value():
    torch.manual_seed(0)
    block = DownBlock(3, 6, "spectral")
    for _ in range(50):                                            # power iterations, while training
        block(torch.randn(2, 3, 8, 8))
    raw = weight_of(block[0]).detach().flatten(1)
    largest = torch.linalg.svdvals(raw)[0]
    torch.testing.assert_close(block[0].weight.flatten(1), raw / largest, atol=1e-4, rtol=1e-3)
    block.eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(block(x), block(x))


def test_weights_start_as_the_papers_say():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Linear(64, 64),
                          DownBlock(3, 8, "spectral"))
    init_normal(model)
    for weight in (model[0].weight, model[2].weight, weight_of(model[3][0])):
        assert abs(weight.mean().item()) < 0.005 and weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert model[1].weight.mean().item() == pytest.approx(1, abs=0.02) and model[1].weight.std() > 0.005
    assert all(not m.bias.any() for m in (model[0], model[1], model[2], model[3][0]))
    init_orthogonal(model)
    W = model[2].weight
    torch.testing.assert_close(W @ W.T, torch.eye(64), atol=1e-5, rtol=0)
    W = weight_of(model[3][0]).flatten(1)
    torch.testing.assert_close(W @ W.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_the_first_stage_grows_from_four_pixels(size):
    stage = FirstStage(5, 3, 4, size)
    assert stage.top == 4 * size // 4
    assert stage(torch.randn(2, 3), torch.randn(2, 5)).shape == (2, 4, size, size)


@pytest.mark.parametrize("size", [0, 4, 7, 12, 48, 65])
def test_sides_that_cannot_be_halved_down_to_four_are_refused(size):
    with pytest.raises(ValueError, match=f"pictures have {size} pixels a side"):
        halvings(size)


def test_a_text_is_the_same_at_every_place():
    tiled = tile(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 7, 3, 3))
    assert tiled.shape == (1, 2, 3, 3) and (tiled[0, 0] == 1).all() and (tiled[0, 1] == 2).all()


def test_real_pictures_are_reduced_to_the_sides_of_the_branches_by_means_of_squares():
    image = numbers(2, 3, 8, 8)
    small, large = pyramid(image, (4, 8))
    assert torch.equal(large, image)
    torch.testing.assert_close(small[1, 2, 3, 0], image[1, 2, 6:8, 0:2].mean())
    with pytest.raises(ValueError, match="8 pixels a side cannot be reduced to 3, 8"):
        pyramid(image, (3, 8))


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_a_discriminator_asks_two_questions_of_any_side(size, norm):
    critic = JointDiscriminator(size, 2, 5, norm)
    image, text = torch.randn(2, 3, size, size), torch.randn(2, 5)
    real, fits = critic(image, text)
    assert real.shape == fits.shape == (2,)
    critic.eval()
    real, fits = critic(image, text)
    other = critic(image, text.flip(0))
    torch.testing.assert_close(other[0], real)                     # the first question knows no text
    assert not torch.allclose(other[1], fits)


def test_gradients_reach_every_parameter_of_a_discriminator():
    critic = JointDiscriminator(16, 4, 5)
    real, fits = critic(torch.randn(3, 3, 16, 16), torch.randn(3, 5))
    (real.square().sum() + fits.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())


def test_a_discriminator_refuses_pictures_of_another_branch_and_a_head_that_it_lacks():
    critic = JointDiscriminator(16, 2, 5, unconditional=False)
    with pytest.raises(ValueError, match="have 32 pixels a side, this discriminator wants 16"):
        critic.features(torch.randn(1, 3, 32, 32))
    features = critic.features(torch.randn(2, 3, 16, 16))
    with pytest.raises(ValueError, match="no unconditional head"):
        critic.unconditional(features)
    assert critic(torch.randn(2, 3, 16, 16), torch.randn(2, 5))[0] is None
