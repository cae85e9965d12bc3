"""The game of two networks on points whose densities are known in closed form."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from mmlearn.text2image.adversarial import (
    density_ratio,
    jensen_shannon,
    jensen_shannon_bound,
    masses,
    optimal_discriminator,
    optimal_logit,
    saturating_loss,
)
from mmlearn.text2image.gan import (
    GAN,
    GANConfig,
    GaussianMixture,
    ModeCoverage,
    PointDiscriminator,
    game_of_points,
    grid,
    mode_coverage,
    mode_shares,
    train_discriminator,
    train_gan,
)

RING = GaussianMixture.ring(std=0.1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------------------------------------------- mixtures


@pytest.mark.equation("eq:gaussian-mixture")
def test_the_density_of_a_mixture_is_a_mean_of_gaussians():
    x = torch.randn(6, 2, generator=seeded())
    for i in range(6):
        density = sum(math.exp(-float((x[i] - c).square().sum()) / (2 * 0.1**2)) / (2 * math.pi * 0.1**2)
                      for c in RING.centres) / 8
        assert RING.log_density(x)[i].item() == pytest.approx(math.log(density + 1e-300), rel=1e-4)
    theirs = MixtureSameFamily(Categorical(torch.ones(8)),
                               MultivariateNormal(RING.centres, 0.01 * torch.eye(2)))
    torch.testing.assert_close(RING.log_density(x), theirs.log_prob(x), rtol=1e-4, atol=1e-3)


def test_the_density_of_a_mixture_integrates_to_one():
    points = grid(-3, 3, 241)
    assert (RING.log_density(points).exp().sum() * (6 / 240) ** 2).item() == pytest.approx(1, abs=1e-4)


def test_eight_gaussians_stand_on_a_circle_and_are_drawn_equally_often():
    ring = GaussianMixture.ring()
    assert ring.centres.norm(dim=1).allclose(torch.tensor(2.0)) and len(ring.centres) == 8
    samples = ring.sample(4000, seeded())
    shares, good = mode_shares(samples, ring, within=5)
    assert good > 0.999 and (shares - 1 / 8).abs().max() < 0.02
    assert torch.equal(ring.sample(5, seeded(3)), ring.sample(5, seeded(3)))
    with pytest.raises(ValueError, match="std is 0"):
        GaussianMixture.ring(std=0)


def test_a_grid_has_all_pairs_of_places_the_last_coordinate_fastest():
    assert grid(0, 1, 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert grid(0, 1, 3, d=1).tolist() == [[0], [0.5], [1]]


# ---------------------------------------------------------------------------------------------- mode collapse


@pytest.mark.equation("eq:mode-shares")
@pytest.mark.equation("eq:mode-divergence")
def test_modes_are_counted_by_going_through_the_samples():
    samples = torch.cat([RING.sample(30, seeded()), 3 * torch.rand(20, 2, generator=seeded(1)) - 1.5])
    counts, good = [0] * 8, 0
    for x in samples:
        distances = [math.dist(x.tolist(), c.tolist()) for c in RING.centres]
        nearest = distances.index(min(distances))
        if distances[nearest] <= 3 * 0.1:
            counts[nearest] += 1
            good += 1
    shares, part = mode_shares(samples, RING)
    assert shares.tolist() == pytest.approx([n / good for n in counts]) and part == pytest.approx(good / 50)
    coverage = mode_coverage(samples, RING)
    assert coverage.modes == sum(n > 0 for n in counts) and coverage.good == pytest.approx(good / 50)
    assert coverage.divergence == pytest.approx(sum(
        n / good * math.log(8 * n / good) for n in counts if n))


@pytest.mark.equation("eq:mode-divergence")
def test_a_generator_that_draws_one_mode_is_found_out():
    one = RING.centres[3].expand(50, 2)
    collapsed = mode_coverage(one, RING)
    assert (collapsed.modes, collapsed.good) == (1, 1.0)
    assert collapsed.divergence == pytest.approx(math.log(8))
    assert mode_coverage(RING.centres, RING) == ModeCoverage(8, 1.0, 0.0)
    assert mode_coverage(torch.zeros(5, 2), RING) == ModeCoverage(0, 0.0, math.inf)
    with pytest.raises(ValueError, match="no sample"):
        mode_coverage(torch.zeros(0, 2), RING)


# ------------------------------------------------------------------------------------------------- the game


@pytest.mark.parametrize("d_steps", [1, 3])
def test_a_round_is_moves_of_the_discriminator_and_then_one_of_the_generator(d_steps):
    torch.manual_seed(0)
    gan, real = GAN(GANConfig.mini()), RING.sample(6 * d_steps, seeded())
    seen = []
    gan.discriminator.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    moves = list(game_of_points(saturating_loss, d_steps=d_steps)(gan, real))
    assert [player for player, _ in moves] == ["discriminator"] * d_steps + ["generator"]
    assert len(seen) == 2 * d_steps + 1 and torch.equal(torch.cat(seen[:-1:2]), real)
    for _, loss in moves[:-1]:
        wanted = torch.autograd.grad(loss, list(gan.parameters()), allow_unused=True)
        reached = [g is not None for g in wanted]
        assert reached == [name.startswith("discriminator") for name, _ in gan.named_parameters()]
    torch.testing.assert_close(moves[-1][1], saturating_loss(gan.discriminator(seen[-1])))


def test_a_step_against_a_slow_discriminator_moves_it_less():
    moved = {}
    for d_lr in (None, 1e-4):
        torch.manual_seed(0)
        gan = GAN(GANConfig.mini())
        before = [p.clone() for p in gan.parameters()]
        train_gan(gan, RING.sample, 1, batch=64, d_lr=d_lr)
        moved[d_lr] = [(a - b).abs().max().item() for a, b in zip(before, gan.parameters())]
    n = len(list(gan.generator.parameters()))
    assert min(moved[None]) == pytest.approx(1e-3, rel=1e-2)                 # Adam's first step has length lr
    assert max(moved[1e-4][n:]) == pytest.approx(1e-4, rel=1e-2)
    assert moved[1e-4][:n] == pytest.approx(moved[None][:n], rel=1e-2)


def test_a_discriminator_that_learns_alone_raises_the_value():
    torch.manual_seed(0)
    fake = GaussianMixture(torch.zeros(1, 2), 0.5)
    losses = train_discriminator(PointDiscriminator(GANConfig.mini()), RING.sample, fake.sample, 40).loss
    assert losses[0] == pytest.approx(math.log(4), abs=0.1) and losses[-1] < 0.5 * losses[0]


@pytest.mark.equation("eq:gan-optimal-d")
@pytest.mark.equation("eq:gan-density-ratio")
def test_against_a_generator_that_stands_still_the_discriminator_becomes_p_over_p_plus_q():
    """Eight wide Gaussians against one: 800 steps, D a few hundredths off on average."""
    torch.manual_seed(0)
    p, q = GaussianMixture.ring(std=0.4), GaussianMixture(torch.zeros(1, 2), 1.5)
    net, draws = PointDiscriminator(GANConfig.mini()), seeded()
    points = grid(-4, 4, 81)
    log_p, log_q = p.log_density(points), q.log_density(points)
    best, weight = optimal_discriminator(log_p.exp(), log_q.exp()), (masses(log_p) + masses(log_q)) / 2

    def error():
        with torch.no_grad():
            return ((net(points).sigmoid() - best).abs() * weight).sum().item()

    first = error()
    history = train_discriminator(net, lambda n: p.sample(n, draws), lambda n: q.sample(n, draws), 800)
    assert first > 0.2 and error() < 0.04
    with torch.no_grad():
        heavy = weight > weight.max() / 20
        ratio = density_ratio(net(points))[heavy].log() - optimal_logit(log_p, log_q)[heavy]
    assert ratio.abs().mean() < 0.35
    divergence = jensen_shannon(masses(log_p), masses(log_q)).item()
    assert jensen_shannon_bound(-sum(history.loss[-100:]) / 100) == pytest.approx(divergence, abs=0.02)


@pytest.mark.equation("eq:gan-criterion")
def test_while_the_generator_learns_the_value_comes_back_to_minus_log_four():
    torch.manual_seed(0)
    gan, draws = GAN(GANConfig.mini()), seeded(1)
    target, middles = GaussianMixture(torch.tensor([[1.5, -1.0]]), 0.5), []

    @torch.no_grad()
    def watch(step, _):
        middles.append(gan.sample(200, seeded(step)).mean(0))

    values = [-loss for loss in train_gan(gan, lambda n: target.sample(n, draws), 400, batch=128,
                                          on_step=watch).scalars["discriminator"]]
    assert max(values[:60]) + math.log(4) > 0.15                            # told apart at first
    assert abs(sum(values[-50:]) / 50 + math.log(4)) < 0.1
    around = torch.stack(middles[-200:]).mean(0)                            # the players go round it
    assert (around - target.centres[0]).norm() < 0.2


def test_steps_are_counted_from_one():
    with pytest.raises(ValueError, match="d_steps 0"):
        train_gan(GAN(GANConfig.mini()), RING.sample, 3, d_steps=0)
    with pytest.raises(ValueError, match="width of GANConfig is 0, expected from 1"):
        GANConfig(width=0)
