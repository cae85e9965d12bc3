import math
from dataclasses import replace

import pytest
import torch
from networks import count
from torch import nn

from mmlearn.text2image.adversarial import discriminator_loss, non_saturating_loss
from mmlearn.text2image.dcgan import (
    DCGAN,
    DCGANConfig,
    DCGANDiscriminator,
    DCGANGenerator,
    draw_noise,
)

MINI = replace(DCGANConfig.mini(), generator_width=8, discriminator_width=8)


def build(config=MINI, seed=0):
    torch.manual_seed(seed)
    return DCGAN(config)


@pytest.mark.parametrize("config, generator, discriminator", [
    (DCGANConfig.paper(), 12_658_432, 11_036_160), (DCGANConfig.code(), 3_576_704, 2_765_568)])
def test_both_nets_have_the_counted_parameters(config, generator, discriminator):
    with torch.device("meta"):
        model = DCGAN(config)
        assert count(model.generator) == generator and count(model.discriminator) == discriminator
        images = model(torch.empty(2, config.noise))
        assert images.shape == (2, 3, 64, 64) and model.discriminator(images).shape == (2,)


def plain_generator(z, n, size):
    """The generator written out with the layers of the paper's figure 1, one after the other."""
    ups = int(math.log2(size // 4))
    channels = [n * 2**i for i in reversed(range(ups))]
    layers = [nn.ConvTranspose2d(z, channels[0], 4, 1, 0, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()]
    for a, b in zip(channels, channels[1:]):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(n, 3, 4, 2, 1, bias=False), nn.Tanh())


def plain_discriminator(n, size):
    downs = int(math.log2(size // 4))
    layers = [nn.Conv2d(3, n, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for i in range(downs - 1):
        layers += [nn.Conv2d(n * 2**i, n * 2**(i + 1), 4, 2, 1, bias=False), nn.BatchNorm2d(n * 2**(i + 1)),
                   nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(n * 2**(downs - 1), 1, 4, bias=False))


def copy(theirs, ours):
    """Weights in the order of the layers, every one of both sides used."""
    mine, yours = list(ours.state_dict().items()), list(theirs.state_dict().values())
    assert [t.shape for _, t in mine] == [t.shape for t in yours]
    ours.load_state_dict(dict(zip([name for name, _ in mine], yours)))


@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_nets_are_the_layers_of_the_paper_in_their_order(size):
    config = replace(MINI, size=size)
    for theirs, ours, x in (
            (plain_generator(64, 8, size), DCGANGenerator(config), torch.randn(3, 64)),
            (plain_discriminator(8, size), DCGANDiscriminator(config), torch.randn(3, 3, size, size))):
        copy(theirs, ours)
        want = theirs(x[:, :, None, None]) if x.ndim == 2 else theirs(x).flatten()
        torch.testing.assert_close(ours(x), want)


def test_weights_start_narrow_and_scales_near_one():
    model = build(replace(DCGANConfig.code(), noise=50))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.bias is None
            if module.weight.numel() > 10_000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert abs(module.weight.mean().item()) < 1e-3
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02) and not module.bias.any()
            assert 0.01 < module.weight.std().item() < 0.03


def test_neither_the_picture_nor_the_first_map_of_the_discriminator_is_normalised():
    model = build()
    assert [type(m).__name__ for m in model.generator.image] == ["ConvTranspose2d", "Tanh"]
    assert [type(m).__name__ for m in model.discriminator.down[0]] == ["Conv2d", "LeakyReLU"]
    pictures = model(model.draw(4))
    assert pictures.abs().max() <= 1


def test_gradients_reach_every_parameter_of_either_side():
    model = build()
    fake = model(model.draw(4))
    non_saturating_loss(model.discriminator(fake)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.generator.parameters())
    model.zero_grad()
    D = model.discriminator
    discriminator_loss(D(torch.rand_like(fake)), D(fake.detach())).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.discriminator.parameters())
    assert all(p.grad is None for p in model.generator.parameters())


def test_a_picture_of_a_batch_is_what_it_is_alone_in_evaluation_only():
    model = build()
    z = model.draw(4)
    model(z)                                                            # running statistics away from 0 and 1
    assert not torch.allclose(model(z)[:2], model(z[:2]), atol=1e-4)
    model.eval()
    torch.testing.assert_close(model(z)[:1], model(z[:1]))


def test_real_and_generated_pictures_in_one_batch_are_judged_otherwise_than_apart():
    model = build()
    real, fake = torch.rand(4, 3, 32, 32), model(model.draw(4)).detach()
    together = model.discriminator(torch.cat([real, fake]))
    apart = torch.cat([model.discriminator(real), model.discriminator(fake)])
    assert (together - apart).abs().max() > 1e-3


def test_four_pictures_are_told_from_noise():
    model = build()
    real = torch.linspace(-1, 1, 4).reshape(4, 1, 1, 1).expand(4, 3, 32, 32) * torch.linspace(-1, 1, 32)
    optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    for _ in range(15):
        loss = discriminator_loss(model.discriminator(real),
                                  model.discriminator(model(model.draw(4)).detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2                                              # from log 4 = 1.39


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_under_autocast_are_finite(dtype):
    model = build()
    with torch.autocast("cpu", dtype=dtype):
        loss = non_saturating_loss(model.discriminator(model(model.draw(3))))
    loss.backward()
    assert loss.dtype == torch.float32 and all(p.grad.isfinite().all() for p in model.parameters())


def test_noise_is_uniform_or_normal_and_the_same_for_the_same_seed():
    uniform = draw_noise(4000, 3, "uniform", torch.Generator().manual_seed(0))
    assert uniform.abs().max() <= 1 and uniform.std().item() == pytest.approx(1 / math.sqrt(3), abs=0.01)
    normal = draw_noise(4000, 3, generator=torch.Generator().manual_seed(0))
    assert normal.std().item() == pytest.approx(1, abs=0.02)
    draws = [build().draw(2, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("make, message", [
    (lambda: DCGANConfig(size=48), "48 pixels a side"), (lambda: DCGANConfig(size=4), "4 pixels a side"),
    (lambda: DCGANConfig(noise_kind="pink"), "noise_kind is 'pink'; use one of normal, uniform"),
    (lambda: draw_noise(1, 2, "pink"), "noise is 'pink'"),
    (lambda: DCGANConfig(generator_width=0), "generator_width of DCGANConfig is 0, expected from 1"),
    (lambda: build()(torch.randn(2, 63)), "noise has 63 numbers a picture, the generator wants 64"),
    (lambda: build().discriminator(torch.rand(1, 3, 32, 64)), "32 x 64 pixels, .* wants 32 x 32"),
])
def test_sizes_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
