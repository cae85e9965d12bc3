"""The first stage of latent diffusion: sizes, each equation by loops, the game, and the usual promises."""

import math
from dataclasses import replace

import pytest
import torch
from networks import count, far
from torch.distributions import Normal, kl_divergence

from mmlearn.text2image.autoencoder import AutoencoderConfig
from mmlearn.text2image.kl_autoencoder import (
    KLAutoencoder,
    KLAutoencoderConfig,
    KLAutoencoderGame,
    KLLossConfig,
    best_log_variance,
    kl_autoencoder_game,
    kl_autoencoder_loss,
    latent_scale,
    summed_nll,
)
from mmlearn.text2image.vqgan import PatchConfig
from mmlearn.train import fit

TINY = KLAutoencoderConfig(AutoencoderConfig(8, (1, 2), 1, (), 6, True, groups=4), 4, 0.5)
PATCH = PatchConfig(4, 2)


def pictures(b=3, seed=1):
    return torch.rand(b, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def build(**loss):
    torch.manual_seed(0)
    return KLAutoencoderGame(TINY, PATCH, KLLossConfig(start=0, **loss))


def test_the_autoencoder_of_stable_diffusion_has_its_parameters_and_its_latents():
    config = KLAutoencoderConfig.stable_diffusion()
    assert config.scale == 0.18215 and config.autoencoder.factor == 8
    with torch.device("meta"):
        model = KLAutoencoder(config)
        assert count(model) == 83_653_863
        latents = model.posterior(torch.empty(1, 3, 512, 512)).mu
        assert latents.shape == (1, 4, 64, 64) and model.decode(latents).shape == (1, 3, 512, 512)
    for name, factor, channels in (("f4", 4, 3), ("f16", 16, 16), ("f32", 32, 64)):
        config = getattr(KLAutoencoderConfig, name)()
        assert (config.autoencoder.factor, config.embed) == (factor, channels)


@pytest.mark.equation("eq:kl-autoencoder-nll")
def test_the_loss_of_pixels_is_a_laplace_density_summed_over_them():
    x, x_hat = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64)
    d, s = torch.rand(2, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    want = 0.0
    for i in range(2):
        for p, q in zip(x[i].flatten().tolist(), x_hat[i].flatten().tolist()):
            want += ((abs(p - q) + 0.7 * float(d[i])) / math.exp(0.3) + 0.3) / 2
    assert float(summed_nll(x, x_hat, d, s, 0.7)) == pytest.approx(want)
    n = x[0].numel()
    density = torch.distributions.Laplace(x_hat, s.exp()).log_prob(x).sum() / 2
    assert float(summed_nll(x, x_hat, 0.0, s)) == pytest.approx(float(-density) - n * math.log(2))


@pytest.mark.equation("eq:kl-autoencoder-variance")
def test_the_best_variance_is_the_mean_error():
    x, x_hat = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    d = torch.rand(4, dtype=torch.float64)
    error = ((x - x_hat).abs().flatten(1).mean(1) + 0.7 * d).mean()
    s = best_log_variance(error).requires_grad_()
    summed_nll(x, x_hat, d, s, 0.7).backward()
    assert abs(float(s.grad)) < 1e-9
    for other in (-0.1, 0.1):
        assert summed_nll(x, x_hat, d, s + other, 0.7) > summed_nll(x, x_hat, d, s, 0.7)


@pytest.mark.equation("eq:kl-autoencoder-loss")
def test_the_divergence_counts_one_millionth():
    assert float(kl_autoencoder_loss(torch.tensor(2.0), torch.tensor(3e6))) == pytest.approx(5)


@pytest.mark.equation("eq:kl-autoencoder-scale")
def test_scaled_latents_have_a_standard_deviation_of_one():
    z = 4 + 3 * torch.randn(2, 4, 3, 3, dtype=torch.float64)
    values = z.flatten().tolist()
    mean = sum(values) / len(values)
    sigma = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    assert float(latent_scale(z)) == pytest.approx(1 / sigma)
    assert float((latent_scale(z) * z).std(correction=0)) == pytest.approx(1)


def test_the_divergence_is_that_of_normal_distributions_summed_over_a_picture():
    posterior = KLAutoencoder(TINY).posterior(pictures())
    normal = Normal(posterior.mu, (posterior.log_var / 2).exp())
    want = kl_divergence(normal, Normal(0.0, 1.0)).flatten(1).sum(dim=1)
    torch.testing.assert_close(posterior.kl(), want, atol=1e-4, rtol=1e-5)


def test_latents_are_drawn_around_their_mean_and_scaled():
    model = KLAutoencoder(TINY).eval()
    x = pictures(1)
    mu, log_var = model.posterior(x)
    torch.testing.assert_close(model.encode(x, mode=True), 0.5 * mu)
    drawn = torch.cat([model.encode(x, generator=torch.Generator().manual_seed(i)) for i in range(400)]) / 0.5
    assert float(((drawn.mean(0) - mu) / (log_var / 2).exp()).abs().mean()) < 0.06
    assert float((drawn.std(0) / (log_var / 2).exp() - 1).abs().mean()) < 0.05
    same = [model.encode(x, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*same)
    torch.testing.assert_close(model.decode(model.encode(x, mode=True)), model.draw(mu), atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter_of_all_players():
    game = build(learn_variance=True)
    torch.nn.init.constant_(game.discriminator[-1].bias, 1.2)   # within both margins its gradient is 0
    players = []
    for player, loss, _ in kl_autoencoder_game(far)(game, pictures()):
        part = getattr(game, player)
        loss.backward(inputs=list(part.parameters()))
        assert all(p.grad.abs().sum() > 0 for p in part.parameters())
        players.append(player)
    assert players == ["autoencoder", "discriminator", "variance"]


def test_the_loss_of_the_autoencoder_is_that_of_the_formula():
    game = build()
    x = pictures()
    torch.manual_seed(5)
    x_hat, posterior = game.autoencoder(x)
    last = game.autoencoder.decoder.leave.weight
    nll = summed_nll(x, x_hat, far(x_hat, x), torch.zeros(()))
    played = -game.discriminator(x_hat).mean()
    by_nll, by_game = (torch.autograd.grad(v, last, retain_graph=True)[0] for v in (nll, played))
    lam = min(float(by_nll.norm() / (by_game.norm() + 1e-4)), 1e4)
    want = float(nll) + lam * 0.5 * float(played) + 1e-6 * float(posterior.kl().mean())
    torch.manual_seed(5)
    _, loss, _ = next(kl_autoencoder_game(far)(game, x))
    assert float(loss) == pytest.approx(want, rel=1e-5)


def test_p15_in_the_authors_code_the_variance_stays_as_it_is_and_it_learns_on_request():
    assert not KLLossConfig.code().learn_variance
    for learn in (False, True):
        game = build(learn_variance=learn)
        fit(game, kl_autoencoder_game(), lambda i: pictures(), steps=3, lr=0.1, progress=False)
        assert (float(game.variance.s) != 0) == learn and int(game.step) == 3


def test_before_the_game_begins_the_autoencoder_moves_alone():
    game = build()
    game.loss = replace(game.loss, start=9)
    assert [player for player, *_ in kl_autoencoder_game()(game, pictures())] == ["autoencoder"]


def test_a_handful_of_pictures_is_learnt_by_heart():
    torch.manual_seed(0)
    game = KLAutoencoderGame(TINY, PATCH, KLLossConfig(start=1000))
    x = torch.stack([torch.full((3, 16, 16), v) for v in (-0.8, -0.3, 0.3, 0.8)])
    x[:, :, 4:10, 3:8] *= -1
    fit(game, kl_autoencoder_game(), lambda i: x, steps=100, lr=5e-3, progress=False)
    model = game.autoencoder.eval()
    assert float((model.decode(model.encode(x, mode=True)) - x).abs().mean()) < 0.06


def test_impossible_settings_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="mean and variance are two, set double=True"):
        KLAutoencoderConfig(AutoencoderConfig())
    with pytest.raises(ValueError, match="factor is 3; the miniature reduces 4 or 8 times"):
        KLAutoencoderConfig.mini(3)
    with pytest.raises(ValueError, match="scale of KLAutoencoderConfig is 0"):
        KLAutoencoderConfig(scale=0.0)
