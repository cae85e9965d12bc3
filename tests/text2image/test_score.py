"""The continuous view, and the exact denoiser of mixtures, against integrals and numeric slopes."""

import math

import pytest
import torch
from networks import numbers

from mmlearn.text2image.diffusion import NoiseSchedule, forward_step, noised, simple_loss
from mmlearn.text2image.samplers import DDIM, sample
from mmlearn.text2image.score import (
    VPSDE,
    diffuse,
    flow_drift,
    forward_drift,
    noise_from_score,
    probability_flow,
    rectified_flow,
    reverse_drift,
    reverse_sde,
    score_from_noise,
    score_matching_loss,
    straight_level,
    straight_path,
    straight_velocity,
    straight_velocity_from_noise,
    tweedie,
)
from mmlearn.text2image.toy_diffusion import (
    UNLABELLED,
    Mixture,
    MixtureDenoiser,
    component_variance,
)

LINE = Mixture(torch.tensor([0.3, 0.7]).double(), torch.tensor([[-0.6], [0.5]]).double(),
               torch.tensor([0.1, 0.3]).double(), torch.tensor([0, 1]))


def posterior_by_integral(x, bar, mixture=LINE):
    """E[x_0|x_t] and E[eps|x_t] on the line: sums over a fine grid of x_0."""
    grid = torch.linspace(-3, 3, 20_001, dtype=torch.float64)
    prior = sum(w * torch.distributions.Normal(m, s).log_prob(grid).exp()
                for w, m, s in zip(mixture.weights, mixture.means[:, 0], mixture.stds))
    likelihood = torch.distributions.Normal(bar**0.5 * grid, (1 - bar)**0.5).log_prob(torch.tensor(x)).exp()
    weight = prior * likelihood / (prior * likelihood).sum()
    x0 = (weight * grid).sum().item()
    return x0, (x - bar**0.5 * x0) / (1 - bar)**0.5


# --------------------------------------------------------------------------------------- score and denoiser

@pytest.mark.equation("eq:score-mixture")
@pytest.mark.equation("eq:score-mixture-variance")
@pytest.mark.parametrize("bar", [0.95, 0.4, 0.01])
def test_the_denoiser_of_a_mixture_gives_the_expected_noise(bar):
    x = torch.tensor([[-1.0], [0.1], [0.8]], dtype=torch.float64)
    want = [[posterior_by_integral(value, bar)[1]] for value in x[:, 0].tolist()]
    torch.testing.assert_close(LINE.expected_noise(x, bar), torch.tensor(want, dtype=torch.float64),
                               rtol=1e-6, atol=1e-6)
    got = component_variance(LINE.stds, torch.tensor(bar, dtype=torch.float64)).tolist()
    assert got == pytest.approx([bar * 0.01 + 1 - bar, bar * 0.09 + 1 - bar])


@pytest.mark.equation("eq:score-noise")
@pytest.mark.equation("eq:score-to-noise")
@pytest.mark.equation("eq:score-tweedie")
@pytest.mark.parametrize("bar", [0.95, 0.4, 0.01])
def test_the_expected_noise_is_the_negative_slope_of_the_log_density(bar):
    x, mixture = numbers(5, 2), Mixture.ring(5, std=0.2)
    slope = torch.zeros_like(x)
    for j in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[j] = 1e-5
        slope[:, j] = (mixture.log_density(x + step, bar) - mixture.log_density(x - step, bar)) / 2e-5
    noise = mixture.expected_noise(x, bar)
    torch.testing.assert_close(score_from_noise(noise, bar), slope, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(noise_from_score(slope, bar), noise, rtol=1e-6, atol=1e-6)
    for value in (-0.5, 0.3):
        one = torch.tensor([[value]], dtype=torch.float64)
        score = score_from_noise(LINE.expected_noise(one, bar), bar)
        want = posterior_by_integral(value, bar)[0]
        assert tweedie(one, score, bar).item() == pytest.approx(want, abs=1e-6)


def test_p9_the_score_is_a_negative_multiple_of_the_noise():
    """Standard normal data: E[eps|x_t] = sqrt(1 - alpha_bar) x_t, score -x_t."""
    unit = Mixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1), torch.zeros(1, dtype=torch.long))
    x = numbers(6, 1)
    for bar in (0.9, 0.3):
        noise = unit.expected_noise(x, bar)
        torch.testing.assert_close(noise, math.sqrt(1 - bar) * x)
        torch.testing.assert_close(score_from_noise(noise, bar), -x)


@pytest.mark.equation("eq:score-matching")
def test_denoising_score_matching_is_the_simple_loss_up_to_a_weight_of_the_step():
    noise, predicted, bar = numbers(3, 2, 4), numbers(3, 2, 4, seed=1), torch.tensor([0.9, 0.5, 0.1]).double()
    score = score_from_noise(predicted, bar[:, None, None])
    x0 = numbers(3, 2, 4, seed=2)
    x = noised(x0, noise, bar[:, None, None])
    slope = -(x - bar[:, None, None].sqrt() * x0) / (1 - bar)[:, None, None]        # of log q(x_t|x_0)
    want = torch.stack([(score[i] - slope[i]).square().mean() for i in range(3)])
    torch.testing.assert_close(score_matching_loss(score, noise, bar), want)
    torch.testing.assert_close((1 - bar) * want, simple_loss(noise, predicted))


def test_the_score_of_the_mixture_minimises_the_loss_of_score_matching():
    """The slope of log q(x_t|x_0) has the slope of log q(x_t) as its mean: no other field does better."""
    x0, _ = LINE.sample(20_000, torch.Generator().manual_seed(0))
    noise, bar = numbers(20_000, 1, seed=1), 0.4
    x = noised(x0.double(), noise, bar)
    best = LINE.expected_noise(x, bar)
    changes = (0 * x, 0.1 * x, -0.1 * x, 0.1 * x**2)
    losses = [simple_loss(noise, best + change).mean().item() for change in changes]
    assert losses[0] == min(losses)


def test_labels_choose_components_and_a_classifier_knows_their_share():
    whole = NoiseSchedule.linear()
    model, x, t = MixtureDenoiser(LINE, whole), numbers(3, 1), torch.tensor([10, 300, 900])
    alone = Mixture(torch.ones(1), LINE.means[1:], LINE.stds[1:], LINE.labels[:1])
    bars = whole.alpha_bars[t][:, None]
    of_one = model(x, t, labels=torch.ones(3, dtype=torch.long))
    torch.testing.assert_close(of_one, alone.expected_noise(x, bars))
    none = torch.full((3,), UNLABELLED)
    torch.testing.assert_close(model(x, t, labels=none), model(x, t))
    together = model(x, t, labels=torch.tensor([1, UNLABELLED, 0]))
    torch.testing.assert_close(together[1:2], model(x[1:2], t[1:2]))
    share = model.classifier(x, t).exp()
    for i in range(3):
        bar = bars[i].item()
        both = [w * torch.distributions.Normal(bar**0.5 * m, (bar * s**2 + 1 - bar)**0.5).log_prob(x[i]).exp()
                for w, m, s in zip(LINE.weights, LINE.means[:, 0], LINE.stds)]
        torch.testing.assert_close(share[i], torch.cat(both) / sum(both))
    with pytest.raises(ValueError, match=r"labels are \[5\]; use those of the mixture"):
        model(x, t, labels=torch.tensor([5, 5, 5]))


def test_points_of_a_mixture_have_its_shares_means_and_deviations():
    x, labels = LINE.sample(20_000, torch.Generator().manual_seed(0))
    for y in (0, 1):
        own = x[labels == y]
        assert len(own) / 20_000 == pytest.approx(LINE.weights[y].item(), abs=0.02)
        assert own.mean().item() == pytest.approx(LINE.means[y, 0].item(), abs=0.02)
        assert own.std().item() == pytest.approx(LINE.stds[y].item(), abs=0.02)
    two = Mixture.overlapping(gap=0.5)
    assert two.means.tolist() == [[-0.25, 0], [0.25, 0]]


@pytest.mark.parametrize("values, words", [
    ((torch.ones(2) / 2, torch.zeros(1, 1), torch.ones(1), torch.zeros(1).long()), r"give \(k, d\) means"),
    ((torch.ones(1) / 2, torch.zeros(1, 1), torch.ones(1), torch.zeros(1).long()), "sum to 1"),
    ((torch.ones(1), torch.zeros(1, 1), -torch.ones(1), torch.zeros(1).long()), "not negative")])
def test_a_mixture_that_is_none_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Mixture(*values)


# ------------------------------------------------------------------------------------- differential equations

@pytest.mark.equation("eq:score-beta")
@pytest.mark.equation("eq:score-alpha-bar")
def test_what_is_left_of_the_signal_is_the_exponential_of_an_integral_and_the_limit_of_ddpms_chain():
    sde = VPSDE()
    for s in (0.1, 0.5, 1.0):
        u = torch.linspace(0, s, 10_001, dtype=torch.float64)
        integral = torch.trapezoid(0.1 + u * 19.9, u).item()
        assert sde.alpha_bar(s) == pytest.approx(math.exp(-integral), rel=1e-9)
        assert sde.beta(s) == pytest.approx(0.1 + s * 19.9)
    assert sde.alpha_bar(0.5) == pytest.approx(NoiseSchedule.linear().alpha_bars[499].item(), rel=0.01)


@pytest.mark.equation("eq:score-sde")
def test_a_step_of_ddpm_is_a_step_of_the_equation_up_to_the_square_of_its_size():
    x, z = numbers(5), numbers(5, seed=1)
    errors = []
    for steps in (100, 1000):
        beta = 10.0 / steps
        euler = x + forward_drift(x, 10.0) / steps + math.sqrt(beta) * z
        errors.append((forward_step(x, z, beta) - euler).abs().max().item())
    assert errors[1] < 0.015 * errors[0]


@pytest.mark.equation("eq:score-sde")
@pytest.mark.equation("eq:score-reverse")
@pytest.mark.equation("eq:score-flow")
def test_forth_and_back_equations_have_the_drifts_of_their_formulas():
    x, score, beta = numbers(4), numbers(4, seed=1), 3.0
    for i in range(4):
        a, b = x[i].item(), score[i].item()
        assert forward_drift(x, beta)[i].item() == pytest.approx(-0.5 * beta * a)
        assert reverse_drift(x, score, beta)[i].item() == pytest.approx(-0.5 * beta * a - beta * b)
        assert flow_drift(x, score, beta)[i].item() == pytest.approx(-0.5 * beta * a - 0.5 * beta * b)


@pytest.mark.equation("eq:score-flow")
@pytest.mark.equation("eq:score-reverse")
def test_flow_and_reverse_equation_carry_the_same_densities():
    """d q/ds of the forward equation is that of the flow, and minus that of the reversed one: on a grid."""
    sde, s, x = VPSDE(), 0.3, torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None]
    h, dx = 1e-4, 8 / 4000
    q, later, earlier = (LINE.log_density(x, sde.alpha_bar(u)).exp() for u in (s, s + h, s - h))
    change = (later - earlier) / (2 * h)
    bar, beta = sde.alpha_bar(s), sde.beta(s)
    score = score_from_noise(LINE.expected_noise(x, bar), bar)

    def slope(f):
        return (f[2:] - f[:-2]) / (2 * dx)

    by_flow = -slope(flow_drift(x, score, beta)[:, 0] * q)
    torch.testing.assert_close(by_flow, change[1:-1], rtol=1e-3, atol=1e-3)
    second = (q[2:] - 2 * q[1:-1] + q[:-2]) / dx**2
    backwards = slope(reverse_drift(x, score, beta)[:, 0] * q) + 0.5 * beta * second    # in time -s
    torch.testing.assert_close(backwards, -change[1:-1], rtol=1e-3, atol=2e-3)


def score_of(mixture, sde):
    def field(x, s):
        bar = sde.alpha_bar(s)
        return score_from_noise(mixture.expected_noise(x, bar), bar)
    return field


@pytest.mark.parametrize("way", ["reverse", "flow"])
def test_noise_carried_back_becomes_the_mixture(way):
    sde, z = VPSDE(), numbers(4000, 1)
    if way == "flow":
        *_, (s, x) = probability_flow(score_of(LINE, sde), z, sde, steps=60)
        assert s == pytest.approx(1e-3)
    else:
        *_, (s, x) = reverse_sde(score_of(LINE, sde), z, sde, 200, torch.Generator().manual_seed(1))
        assert s == 0
    left = x[:, 0] < -0.15
    assert left.double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert x[left].mean().item() == pytest.approx(-0.6, abs=0.06)
    assert x[~left].mean().item() == pytest.approx(0.5, abs=0.06)


def test_the_flow_there_and_back_is_the_identity_and_data_diffuse_to_unit_variance():
    sde, x = VPSDE(), torch.tensor([[-0.6], [0.2]], dtype=torch.float64)
    field = score_of(LINE, sde)
    *_, (_, noise) = probability_flow(field, x, sde, 60, start=1e-3, end=1.0)
    *_, (_, again) = probability_flow(field, noise, sde, 60)
    torch.testing.assert_close(again, x, rtol=2e-2, atol=2e-2)
    *_, (s, x) = diffuse(numbers(10_000, 1), sde, 200, torch.Generator().manual_seed(0))
    assert s == pytest.approx(1) and x.var().item() == pytest.approx(1, abs=0.1)


def test_ddim_follows_the_flow():
    whole, sde = NoiseSchedule.linear(), VPSDE()
    start = torch.tensor([[-1.0], [0.7]], dtype=torch.float64)
    unclipped = sample(MixtureDenoiser(LINE, whole), whole.respaced(80), (2, 1), DDIM(), denoised_fn=None,
                       start=start)
    *_, (_, flow) = probability_flow(score_of(LINE, sde), start, sde, 60)
    torch.testing.assert_close(unclipped, flow, rtol=0.05, atol=0.05)


# --------------------------------------------------------------------------------------------- straight paths

@pytest.mark.equation("eq:score-straight")
@pytest.mark.equation("eq:score-straight-velocity")
@pytest.mark.equation("eq:score-straight-level")
@pytest.mark.equation("eq:score-straight-noise")
@pytest.mark.parametrize("s", [0.2, 0.5, 0.9])
def test_rectified_flow_is_diffusion_on_another_clock(s):
    """x_s over its length is x_t at the level with as much noise for the signal: one denoiser serves both."""
    x0, noise = numbers(4, 1), numbers(4, 1, seed=1)
    x = straight_path(x0, noise, s)
    torch.testing.assert_close(x, (1 - s) * x0 + s * noise)
    length, bar = math.hypot(1 - s, s), straight_level(s)
    assert bar == pytest.approx((1 - s)**2 / length**2)
    torch.testing.assert_close(x / length, noised(x0, noise, bar))
    expected = LINE.expected_noise(x / length, bar)                     # of diffusion's denoiser
    data = torch.tensor([[posterior_by_integral(value, bar)[0]] for value in (x / length)[:, 0].tolist()],
                        dtype=torch.float64)
    velocity = straight_velocity_from_noise(x, expected, s)
    torch.testing.assert_close(velocity, expected - data, rtol=1e-5, atol=1e-5)
    score = -expected / s                                               # of the straight path's density
    torch.testing.assert_close(straight_velocity(x, score, s), expected - data, rtol=1e-5, atol=1e-5)


def test_euler_on_the_straight_paths_draws_the_mixture():
    def velocity(x, s):
        s = min(s, 0.999)
        noise = LINE.expected_noise(x / math.hypot(1 - s, s), straight_level(s))
        return straight_velocity_from_noise(x, noise, s)

    steps = list(rectified_flow(velocity, numbers(4000, 1), 50))
    assert [s for s, _ in steps][:2] == [1.0, pytest.approx(0.98)] and steps[-1][0] == 0
    x = steps[-1][1]
    left = x[:, 0] < -0.15
    assert left.double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert x[~left].mean().item() == pytest.approx(0.5, abs=0.06)
