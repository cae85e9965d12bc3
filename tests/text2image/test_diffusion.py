"""The forward process, its posterior, the bound and the losses, against brute force."""

import math

import pytest
import torch
from networks import numbers

from mmlearn.text2image.diffusion import (
    NoiseSchedule,
    Prediction,
    bits_per_dimension,
    bound_term,
    bound_weight,
    cosine_betas,
    diffusion_loss,
    discretised_gaussian_nll,
    forward_chain,
    forward_step,
    gaussian_kl,
    hybrid_loss,
    learned_log_variance,
    linear_betas,
    noise_from_velocity,
    noise_from_x0,
    noised,
    posterior_mean,
    posterior_mean_from_noise,
    posterior_variance,
    prior_kl,
    respaced_betas,
    scaled_linear_betas,
    space_timesteps,
    split,
    velocity,
    velocity_weight,
    x0_from_noise,
    x0_from_velocity,
)

TINY = NoiseSchedule.of(torch.tensor([0.1, 0.3, 0.2, 0.5, 0.4], dtype=torch.float64))


# ---------------------------------------------------------------------------------------------- schedules

@pytest.mark.equation("eq:diffusion-linear")
def test_the_linear_schedule_grows_evenly_and_is_scaled_for_other_lengths():
    betas = linear_betas(1000)
    for t in (1, 2, 500, 1000):
        assert betas[t - 1].item() == pytest.approx(1e-4 + (t - 1) / 999 * (0.02 - 1e-4), rel=1e-12)
    assert linear_betas(500)[[0, -1]].tolist() == pytest.approx([2e-4, 0.04])


@pytest.mark.equation("eq:diffusion-cosine")
def test_the_cosine_schedule_is_the_quotient_of_two_squared_cosines():
    T = 1000
    for t in (1, 2, 500, 999, 1000):
        f = [math.cos((u / T + 0.008) / 1.008 * math.pi / 2)**2 for u in (t, t - 1)]
        assert cosine_betas(T)[t - 1].item() == pytest.approx(min(1 - f[0] / f[1], 0.999), rel=1e-9)


@pytest.mark.equation("eq:diffusion-scaled-linear")
def test_the_scaled_linear_schedule_grows_evenly_in_its_root():
    betas = scaled_linear_betas()
    for i in (0, 400, 999):
        assert betas[i].item() == pytest.approx((0.00085**0.5 + i / 999 * (0.012**0.5 - 0.00085**0.5))**2)


@pytest.mark.parametrize("schedule, last, half", [
    (NoiseSchedule.linear(), 4.04e-5, 259), (NoiseSchedule.cosine(), 2.4e-9, 496),
    (NoiseSchedule.scaled_linear(), 0.00466, None)])
def test_what_is_left_of_the_signal_at_the_end_and_where_half_is_left(schedule, last, half):
    bars = schedule.alpha_bars
    assert bars[-1].item() == pytest.approx(last, rel=0.02)
    if half is not None:                                        # the last step at which half or more is left
        assert int((bars >= 0.5).sum()) in (half - 1, half)


def released(T, sections):
    """The rule of the released code, written out for sections of a range."""
    kept, start = [], 0
    for j, count in enumerate(sections):
        size = T // len(sections) + (1 if j < T % len(sections) else 0)
        at = 0.0
        for _ in range(count):
            kept.append(start + round(at))
            at += (size - 1) / (count - 1) if count > 1 else 1
        start += size
    return kept


def test_timesteps_that_are_kept_are_those_of_the_released_code():
    hundred = space_timesteps(1000, "100")
    assert hundred[:3] == [0, 10, 20] and hundred[-2:] == [989, 999] and len(hundred) == 100
    assert space_timesteps(1000, "ddim25") == list(range(0, 1000, 40))
    assert space_timesteps(1000, 250) == space_timesteps(1000, "250")
    parts = space_timesteps(1000, "10,10,3,2,2")
    assert parts == released(1000, [10, 10, 3, 2, 2]) and len(parts) == 27
    assert parts[:2] == [0, 22] and parts[20:] == [400, 500, 599, 600, 799, 800, 999]
    for count in (1, 2, 7, 15, 55, 333, 999, 1000):
        assert space_timesteps(1000, str(count)) == released(1000, [count])
    assert space_timesteps(10, "4,1,2") == released(10, [4, 1, 2])


def test_p11_the_fast_schedule_of_27_steps_ends_at_997_and_not_at_999():
    fast, written = space_timesteps(1000, "fast27"), space_timesteps(1000, "10,10,3,2,2")
    assert sorted(fast)[-1] == 997 and written[-1] == 999 and fast[:-1] == written[:-1]


@pytest.mark.equation("eq:diffusion-respaced")
@pytest.mark.parametrize("sections", ["100", "10,10,3,2,2", "fast27", "ddim25", 50, [3, 500, 999]])
def test_a_shorter_chain_has_the_marginals_of_the_long_one_and_tells_the_original_timesteps(sections):
    whole = NoiseSchedule.cosine()
    short = whole.respaced(sections)
    places = short.timesteps.tolist()
    torch.testing.assert_close(short.alpha_bars, whole.alpha_bars[places])
    for i in (0, 1, len(short) - 1):
        before = whole.alpha_bars[places[i - 1]] if i else torch.tensor(1.0, dtype=torch.float64)
        assert short.betas[i].item() == pytest.approx(1 - (whole.alpha_bars[places[i]] / before).item())
    torch.testing.assert_close(respaced_betas(whole.alpha_bars, short.timesteps), short.betas)


def test_a_shorter_chain_of_a_shorter_chain_still_tells_the_original_timesteps():
    schedule = NoiseSchedule.linear().respaced("ddim100").respaced([0, 50, 99])
    assert schedule.timesteps.tolist() == [0, 500, 990]


@pytest.mark.parametrize("sections, words", [
    ("ddim300", "no whole stride"), ("600,600", "keep at most"), ("some", "use a number"),
    ("0", "use a number"), ("ddim", "use a number"), ([], "choose from"),
    ([5, 1000], "choose from"), ([-1], "choose from")])
def test_a_chain_that_cannot_be_kept_is_refused(sections, words):
    with pytest.raises(ValueError, match=words):
        NoiseSchedule.linear().respaced(sections)


@pytest.mark.parametrize("betas, timesteps, words", [
    (torch.tensor([0.1, 0.2]), torch.arange(2), "float64"),
    (torch.tensor([0.1, 1.0], dtype=torch.float64), torch.arange(2), "between 0 and 1"),
    (torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([1, 1]), "ascending")])
def test_a_schedule_that_is_none_is_refused(betas, timesteps, words):
    with pytest.raises(ValueError, match=words):
        NoiseSchedule(betas, timesteps)


# --------------------------------------------------------------------------------- forward and posterior

@pytest.mark.equation("eq:diffusion-step")
@pytest.mark.equation("eq:diffusion-marginal")
def test_noising_step_by_step_has_the_mean_and_variance_of_noising_at_once():
    mean, variance = 1.0, 0.0                                   # of x_t given x_0 = 1
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for beta, bar in zip(TINY.betas.tolist(), TINY.alpha_bars.tolist()):
        shrink, spread = forward_step(one, zero, beta).item(), forward_step(zero, one, beta).item()
        mean, variance = shrink * mean, shrink**2 * variance + spread**2
        assert noised(one, zero, bar).item() == pytest.approx(mean)
        assert noised(zero, one, bar).item()**2 == pytest.approx(variance)


def test_e31_a_chain_that_only_adds_noise_has_variance_11_and_one_that_shrinks_too_has_1():
    betas, forgot, right = linear_betas(), 1.0, 1.0
    for beta in betas.tolist():
        forgot, right = forgot + beta, (1 - beta) * right + beta
    assert forgot == pytest.approx(11.05, abs=1e-9) and right == pytest.approx(1, abs=1e-12)
    assert NoiseSchedule.linear().alpha_bars[-1].item() == pytest.approx(4.04e-5, rel=2e-3)
    schedule, x0 = NoiseSchedule.linear(), numbers(20_000)[:, None]
    *_, (t, x) = forward_chain(x0, schedule, torch.Generator().manual_seed(1))
    assert t == 999 and x.var().item() == pytest.approx(1, abs=0.04)


def test_the_forward_chain_begins_with_the_data_and_names_its_timesteps():
    chain = list(forward_chain(torch.ones(2, 3), NoiseSchedule.linear().respaced([1, 5])))
    assert [t for t, _ in chain] == [-1, 1, 5] and torch.equal(chain[0][1], torch.ones(2, 3))


def test_booklet_b7_one_steps_alpha_is_098_where_ddims_alpha_is_nothing():
    schedule = NoiseSchedule.linear()
    assert 1 - schedule.betas[-1].item() == pytest.approx(0.98)
    assert schedule.alpha_bars[-1].item() == pytest.approx(4.0e-5, rel=0.02)


@pytest.mark.equation("eq:diffusion-posterior-mean")
@pytest.mark.equation("eq:diffusion-posterior-variance")
@pytest.mark.parametrize("t", [2, 3, 5])
def test_the_posterior_is_what_conditioning_a_gaussian_by_brute_force_gives(t):
    """(x_{t-1}, x_t) given x_0 is a Gaussian in two dimensions: condition it on x_t."""
    x0, x = 0.7, -0.4
    alpha_bar, before, beta = (table[t - 1].item() for table in
                               (TINY.alpha_bars, TINY.alpha_bars_before, TINY.betas))
    m = (before**0.5 * x0, alpha_bar**0.5 * x0)
    cov = (1 - before, (1 - beta)**0.5 * (1 - before), 1 - alpha_bar)       # var, covariance, var
    want_mean, want_variance = m[0] + cov[1] / cov[2] * (x - m[1]), cov[0] - cov[1]**2 / cov[2]
    tensors = (torch.tensor([x], dtype=torch.float64), torch.tensor([x0], dtype=torch.float64))
    assert posterior_mean(*tensors, beta, alpha_bar, before).item() == pytest.approx(want_mean)
    assert TINY.posterior_variances[t - 1].item() == pytest.approx(want_variance)
    assert 1 / want_variance == pytest.approx((1 - beta) / beta + 1 / (1 - before))
    one = [torch.tensor([value], dtype=torch.float64) for value in (beta, alpha_bar, before)]
    assert posterior_variance(*one).item() == pytest.approx(want_variance)


def test_the_posterior_of_the_first_step_is_the_data_itself():
    x, x0 = numbers(2, 3), numbers(2, 3, seed=1)
    mean = posterior_mean(x, x0, TINY.betas[0].item(), TINY.alpha_bars[0].item(), 1.0)
    torch.testing.assert_close(mean, x0)
    assert TINY.posterior_variances[0] == 0


@pytest.mark.equation("eq:diffusion-posterior-mean-noise")
def test_the_posterior_mean_by_the_noise_is_that_by_the_data():
    x0, noise = numbers(4, 3), numbers(4, 3, seed=1)
    tables = (TINY.betas, TINY.alpha_bars, TINY.alpha_bars_before)
    for beta, bar, before in torch.stack(tables, dim=1).tolist():
        x = noised(x0, noise, bar)
        torch.testing.assert_close(posterior_mean_from_noise(x, noise, beta, bar),
                                   posterior_mean(x, x0, beta, bar, before))


@pytest.mark.equation("eq:diffusion-x0")
@pytest.mark.equation("eq:diffusion-noise")
@pytest.mark.equation("eq:diffusion-velocity")
@pytest.mark.equation("eq:diffusion-x0-velocity")
@pytest.mark.equation("eq:diffusion-noise-velocity")
def test_noise_data_and_velocity_are_three_names_of_one_thing():
    x0, noise, bar = numbers(2, 3, 4), numbers(2, 3, 4, seed=1), torch.tensor([0.9, 0.2], dtype=torch.float64)
    bar = bar[:, None, None]
    x = bar.sqrt() * x0 + (1 - bar).sqrt() * noise
    v = bar.sqrt() * noise - (1 - bar).sqrt() * x0
    torch.testing.assert_close(x0_from_noise(x, noise, bar), x0)
    torch.testing.assert_close(noise_from_x0(x, x0, bar), noise)
    torch.testing.assert_close(velocity(x0, noise, bar), v)
    torch.testing.assert_close(x0_from_velocity(x, v, bar), x0)
    torch.testing.assert_close(noise_from_velocity(x, v, bar), noise)


@pytest.mark.equation("eq:diffusion-velocity-weight")
def test_the_error_of_the_noise_with_its_weight_is_the_error_of_the_velocity():
    x0, noise, other = numbers(3, 2, 4, 4).unbind()
    for bar in (0.999, 0.5, 1e-4):
        x = noised(x0, noise, bar)
        v, said = velocity(x0, noise, bar), noise_from_velocity(x, other, bar)
        torch.testing.assert_close(velocity_weight(bar) * (noise - said).square(), (v - other).square())


def test_the_velocity_is_the_derivative_of_the_path_along_its_angle():
    x0, noise, angle = numbers(3), numbers(3, seed=1), torch.tensor(0.4, dtype=torch.float64)
    there, back = ((angle + h).cos() * x0 + (angle + h).sin() * noise for h in (1e-6, -1e-6))
    torch.testing.assert_close(velocity(x0, noise, angle.cos()**2), (there - back) / 2e-6)


# ------------------------------------------------------------------------------------------------ the bound

@pytest.mark.equation("eq:diffusion-gaussian-kl")
def test_the_divergence_of_two_gaussians_is_the_integral():
    m, s, n, r = 0.3, 0.5, -0.2, 0.8
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    p, q = torch.distributions.Normal(m, s), torch.distributions.Normal(n, r)
    want = torch.trapezoid(p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x)), x)
    args = [torch.tensor([value], dtype=torch.float64) for value in (m, 2 * math.log(s), n, 2 * math.log(r))]
    assert gaussian_kl(*args).item() == pytest.approx(want.item(), rel=1e-6)


@pytest.mark.equation("eq:diffusion-prior")
def test_the_prior_term_is_a_divergence_from_the_standard_normal_and_nearly_nothing():
    x0, bar = numbers(5), 0.3
    zero = torch.zeros(5, dtype=torch.float64)
    want = gaussian_kl(bar**0.5 * x0, zero + math.log(1 - bar), zero, zero)
    torch.testing.assert_close(prior_kl(x0, bar), want)
    unit = torch.ones(1, dtype=torch.float64)                    # a second moment of 1
    bits = prior_kl(unit, NoiseSchedule.linear().alpha_bars[-1].item()).item() / math.log(2)
    assert bits == pytest.approx(2.9e-5, rel=0.02)
    assert prior_kl(torch.ones(1), 2.4e-9).item() >= 0           # in float32, too


@pytest.mark.equation("eq:diffusion-discretised")
def test_the_probabilities_of_256_values_are_integrals_of_the_density_and_sum_to_one():
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, std in ((0.1, 0.05), (-0.99, 0.3), (0.0, 2.0)):
        normal = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), std)
        edges = torch.cat([values[:1] - math.inf, (values[1:] + values[:-1]) / 2, values[-1:] + math.inf])
        cdf = normal.cdf(edges)
        want = cdf[1:] - cdf[:-1]
        nll = discretised_gaussian_nll(values, torch.full_like(values, mean), math.log(std))
        torch.testing.assert_close((-nll).exp(), want, atol=2e-12, rtol=1e-6)
        assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_a_value_far_from_the_mean_has_a_finite_price_and_gradient():
    mean = torch.zeros(3, requires_grad=True)
    nll = discretised_gaussian_nll(torch.tensor([-1.0, 0.5, 1.0]), mean, -8.0)
    nll.sum().backward()
    assert nll.isfinite().all() and mean.grad.isfinite().all()


def moments_of_direct_bound(a, c, s2, x0):
    """E_q[log q(x_{1:T}|x_0) - log p(x_T) - sum log p(x_{t-1}|x_t)] by the joint Gaussian of x_1 to x_T.

    p(x_{t-1}|x_t) = N(a_t x_t + c_t, s2_t): every term is a constant and a square of a linear form of x.
    """
    T, bars = len(TINY), TINY.alpha_bars
    mean = torch.cat([torch.tensor([x0], dtype=torch.float64), bars.sqrt() * x0])       # x_0, x_1, …, x_T
    cov = torch.zeros(T + 1, T + 1, dtype=torch.float64)
    for i in range(1, T + 1):
        for j in range(1, T + 1):
            low, high = min(i, j), max(i, j)
            cov[i, j] = (bars[high - 1] / bars[low - 1]).sqrt() * (1 - bars[low - 1])

    def nll(form, shift, variance):
        """-E log N(form x + shift; 0, variance)."""
        square = (form @ mean + shift)**2 + form @ cov @ form
        return 0.5 * (math.log(2 * math.pi * variance) + square / variance)

    def unit(**at):
        form = torch.zeros(T + 1, dtype=torch.float64)
        for place, value in at.items():
            form[int(place[1:])] = value
        return form

    total = nll(unit(**{f"x{T}": 1.0}), 0.0, 1.0)
    for t in range(1, T + 1):
        beta = TINY.betas[t - 1].item()
        total = total + nll(unit(**{f"x{t - 1}": 1.0, f"x{t}": -a[t - 1]}), -c[t - 1], s2[t - 1])
        total = total - nll(unit(**{f"x{t}": 1.0, f"x{t - 1}": -(1 - beta)**0.5}), 0.0, beta)
    return total.item()


@pytest.mark.equation("eq:diffusion-bound")
def test_the_telescoped_bound_is_the_direct_bound_for_a_chain_of_five_steps():
    """Expectations over x_t by quadrature; the reverse steps are linear, with an unrelated variance."""
    T, x0 = len(TINY), 0.6
    a, c, s2 = numbers(T).tolist(), numbers(T, seed=1).tolist(), (0.2 + numbers(T, seed=2)**2).tolist()
    # three points of Gauss and Hermite are exact for squares: 0 and the roots of 3, weights 2/3 and 1/6
    points = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=torch.float64)
    weights = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    data = torch.full((3,), x0, dtype=torch.float64)
    total = prior_kl(data[:1], TINY.alpha_bars[-1].item()).item()
    for t in range(1, T + 1):
        beta, bar, before = (table[t - 1].item() for table in
                             (TINY.betas, TINY.alpha_bars, TINY.alpha_bars_before))
        x = noised(data, points, bar)
        mean, log_variance = a[t - 1] * x + c[t - 1], torch.full_like(x, math.log(s2[t - 1]))
        if t == 1:
            term = 0.5 * (math.log(2 * math.pi) + log_variance + (data - mean)**2 / s2[0])
        else:
            truth = posterior_mean(x, data, beta, bar, before)
            small = torch.full_like(x, TINY.posterior_variances[t - 1].log().item())
            term = gaussian_kl(truth, small, mean, log_variance)
        total += (weights @ term).item()
    assert total == pytest.approx(moments_of_direct_bound(a, c, s2, x0), rel=1e-10)


@pytest.mark.equation("eq:diffusion-bound-weight")
def test_p14_the_simple_loss_drops_a_weight_that_falls_by_fifty_along_the_chain():
    betas, bars = NoiseSchedule.linear().betas, NoiseSchedule.linear().alpha_bars
    for t, want in ((1, 0.500), (10, 0.0737), (100, 0.0101), (1000, 0.0102)):
        weight = bound_weight(betas[t - 1].item(), bars[t - 1].item(), betas[t - 1].item())
        assert weight == pytest.approx(want, rel=6e-3)


@pytest.mark.equation("eq:diffusion-bound-term")
@pytest.mark.equation("eq:diffusion-bound-weight")
def test_the_term_of_a_step_is_the_weighted_error_of_the_noise_and_a_constant():
    """With a fixed variance: KL = weight |eps - eps_theta|^2 + what does not depend on eps_theta."""
    schedule, x0 = NoiseSchedule.linear(), numbers(4, 2)
    for place in (1, 40, 999):
        i = torch.full((4,), place)
        noise, other = numbers(4, 2, seed=1), numbers(4, 2, seed=2)
        x = noised(x0, noise, schedule.alpha_bars[place].item())
        term = bound_term(Prediction(other, None), x0, x, schedule, i, "large", clip=False)
        best = bound_term(Prediction(noise, None), x0, x, schedule, i, "large", clip=False)
        beta = schedule.betas[place].item()
        weight = bound_weight(beta, schedule.alpha_bars[place].item(), beta)
        error = (noise - other).square().mean(1)
        torch.testing.assert_close(term - best, weight * error, rtol=1e-6, atol=1e-9)


@pytest.mark.equation("eq:diffusion-learned-variance")
def test_the_learned_variance_lies_between_the_two_fixed_ones_in_logarithms():
    schedule = NoiseSchedule.cosine()
    small, large = (schedule.log_variances(kind)[300].item() for kind in ("small", "large"))
    output = torch.tensor([-1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    want = [small, (small + large) / 2, large, 2 * large - small]                       # not clamped
    assert learned_log_variance(output, small, large).tolist() == pytest.approx(want)
    assert small < large and schedule.log_variances("small")[0] == schedule.posterior_variances[1].log()


def naive_vlb_bits(output, x0, x, place, schedule):
    """A term of the bound of a learned variance, one number after the other, in bits."""
    beta, bar = schedule.betas[place].item(), schedule.alpha_bars[place].item()
    before = schedule.alpha_bars[place - 1].item()
    tilde = (1 - before) / (1 - bar) * beta
    c, total = x0.shape[0], 0.0
    for j in range(c):
        u = (output[c + j].item() + 1) / 2
        variance = math.exp(u * math.log(beta) + (1 - u) * math.log(tilde))
        mean = (x[j].item() - beta / math.sqrt(1 - bar) * output[j].item()) / math.sqrt(1 - beta)
        truth = (math.sqrt(before) * beta * x0[j].item()
                 + math.sqrt(1 - beta) * (1 - before) * x[j].item()) / (1 - bar)
        total += 0.5 * (math.log(variance / tilde) + (tilde + (truth - mean)**2) / variance - 1)
    return total / c / math.log(2)


@pytest.mark.equation("eq:diffusion-hybrid")
@pytest.mark.equation("eq:diffusion-simple")
def test_the_hybrid_loss_is_the_simple_one_and_a_thousandth_of_t_times_the_term_in_bits():
    schedule = NoiseSchedule.cosine(T=500)
    x0, noise, output = numbers(3, 2), numbers(3, 2, seed=1), numbers(3, 4, seed=2)
    i = torch.tensor([5, 100, 499])
    x = torch.stack([noised(x0[n], noise[n], schedule.alpha_bars[i[n]].item()) for n in range(3)])
    want = []
    for n in range(3):
        simple = sum((noise[n, j].item() - output[n, j].item())**2 for j in range(2)) / 2
        want.append(simple + 0.001 * 500 * naive_vlb_bits(output[n], x0[n], x[n], int(i[n]), schedule))
    loss = hybrid_loss(split(output, 2), noise, x0, x, schedule, i)
    torch.testing.assert_close(loss, torch.tensor(want, dtype=torch.float64))


def test_the_bound_teaches_the_variance_and_leaves_the_noise_to_the_simple_loss():
    schedule, i = NoiseSchedule.cosine(), torch.tensor([0, 300])
    x0, noise = numbers(2, 3).clamp(-1, 1), numbers(2, 3, seed=1)
    x = torch.stack([noised(x0[n], noise[n], schedule.alpha_bars[i[n]].item()) for n in range(2)])
    output = numbers(2, 6, seed=2).requires_grad_()
    predicted = split(output, 3)
    hybrid_loss(predicted, noise, x0, x, schedule, i).sum().backward()
    torch.testing.assert_close(output.grad[:, :3], 2 / 3 * (output.detach()[:, :3] - noise))
    assert (output.grad[:, 3:] != 0).all()


# ----------------------------------------------------------------------------------------- losses of a model

def test_the_loss_of_a_model_is_the_error_at_timesteps_and_noise_of_the_seed():
    schedule, x0 = NoiseSchedule.linear().respaced("ddim25"), numbers(6, 3, 4, 4)
    calls = []

    def model(x, t, factor):
        calls.append(t)
        return factor * x

    loss = diffusion_loss(model, x0, schedule, torch.Generator().manual_seed(3), factor=0.5)
    draw = torch.Generator().manual_seed(3)
    i = torch.randint(25, (6,), generator=draw)
    noise = torch.randn(6, 3, 4, 4, generator=draw).double()
    want = 0.0
    for n in range(6):
        bar = schedule.alpha_bars[i[n]].item()
        x = bar**0.5 * x0[n] + (1 - bar)**0.5 * noise[n]
        want += (noise[n] - 0.5 * x).square().mean().item() / 6
    assert loss.item() == pytest.approx(want)
    assert calls[0].tolist() == (40 * i).tolist()               # the original timesteps


def test_weights_of_the_steps_turn_the_simple_loss_into_the_bound():
    schedule, x0 = NoiseSchedule.linear(), numbers(6, 3)
    weights = torch.tensor([bound_weight(b, a, b) for b, a in
                            zip(schedule.betas.tolist(), schedule.alpha_bars.tolist())])

    def loss(**options):
        return diffusion_loss(lambda x, t: x, x0[:1], schedule, torch.Generator().manual_seed(0), **options)

    i = torch.randint(1000, (1,), generator=torch.Generator().manual_seed(0))
    assert loss(weights=weights).item() == pytest.approx(loss().item() * weights[i].item(), rel=1e-6)


def test_a_model_that_gives_a_variance_is_trained_by_the_hybrid_loss():
    schedule, x0 = NoiseSchedule.cosine(), numbers(4, 3, 2, 2).clamp(-1, 1)
    bare = diffusion_loss(lambda x, t: x, x0, schedule, torch.Generator().manual_seed(0))
    both = diffusion_loss(lambda x, t: torch.cat([x, x], 1), x0, schedule, torch.Generator().manual_seed(0))
    assert both > bare


def test_a_network_that_gives_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="should give 3 of noise, or 6"):
        diffusion_loss(lambda x, t: x[:, :2], torch.zeros(1, 3, 2, 2), NoiseSchedule.linear())
    with pytest.raises(ValueError, match="gives noise only"):
        bits_per_dimension(lambda x, t: x, torch.zeros(1, 3), TINY, "learned")
    with pytest.raises(ValueError, match='use "large" or "small"'):
        TINY.log_variances("medium")


@pytest.mark.equation("eq:diffusion-bound")
def test_the_bits_of_a_picture_are_its_prior_and_the_terms_of_every_step():
    schedule = NoiseSchedule.linear().respaced(20)
    x = (torch.randint(256, (3, 2, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).double()
    told = []

    def model(x_t, t):
        told.append(t.tolist())
        return 0.9 * x_t

    bound = bits_per_dimension(model, x, schedule, "small", generator=torch.Generator().manual_seed(1))
    assert told == [[t] * 3 for t in schedule.timesteps.tolist()]
    draw, total = torch.Generator().manual_seed(1), 0.5 * x**2 * schedule.alpha_bars[-1]
    bar = schedule.alpha_bars[-1].item()
    total = 0.5 * (bar * x**2 - bar - math.log(1 - bar)).flatten(1).mean(1)
    for place in range(20):
        noise = torch.randn(3, 2, 4, 4, generator=draw).double()
        x_t = noised(x, noise, schedule.alpha_bars[place].item())
        i = torch.full((3,), place)
        total = total + bound_term(Prediction(0.9 * x_t, None), x, x_t, schedule, i, "small")
    torch.testing.assert_close(bound.total, total / math.log(2))
    torch.testing.assert_close(bound.total, bound.prior + bound.terms.sum(1))
    assert bound.terms.shape == bound.errors.shape == (3, 20)


def test_the_terms_of_the_bound_are_those_of_a_row_alone():
    schedule = NoiseSchedule.cosine().respaced(10)
    x0, noise, output = numbers(3, 2).clamp(-1, 1), numbers(3, 2, seed=1), numbers(3, 4, seed=2)
    i = torch.tensor([0, 4, 9])
    x = torch.stack([noised(x0[n], noise[n], schedule.alpha_bars[i[n]].item()) for n in range(3)])
    together = bound_term(split(output, 2), x0, x, schedule, i)
    for n in range(3):
        row = slice(n, n + 1)
        alone = bound_term(split(output[row], 2), x0[row], x[row], schedule, i[row])
        torch.testing.assert_close(together[row], alone)


def test_a_small_network_learns_the_noise_of_four_points():
    torch.manual_seed(0)
    schedule = NoiseSchedule.cosine()
    x0 = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]).repeat(16, 1)
    net = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 4))
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        loss = diffusion_loss(lambda x, t: net(torch.cat([x, t[:, None] / 500 - 1], 1)), x0, schedule)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    assert sum(losses[-20:]) / 20 < 0.75 * sum(losses[:5]) / 5
