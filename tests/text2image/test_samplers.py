"""Samplers and what steers them: against formulas, exact denoisers and the schedulers of diffusers."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from networks import numbers

from mmlearn.text2image.diffusion import NoiseSchedule, Prediction, diffusion_loss, noised
from mmlearn.text2image.samplers import (
    DDIM,
    METHODS,
    Ancestral,
    Chain,
    DPMSolver,
    Estimate,
    Heun,
    ancestral_step,
    classifier_free,
    classifier_free_by_weight,
    classifier_guide,
    clip_guide,
    ddim_sigma,
    ddim_step,
    dpm_data,
    dpm_step,
    dynamic_threshold,
    encode,
    estimate_at,
    even_in_lambda,
    flow_step,
    gradient_guide,
    guided,
    half_log_snr,
    keep_known,
    noise_to_signal,
    sample,
    sample_steps,
    shifted_mean,
    shifted_noise,
    static_clip,
)
from mmlearn.text2image.toy_diffusion import UNLABELLED, Mixture, MixtureDenoiser, tilted_gaussian


def wavy(x, t):
    """A denoiser that is none: a smooth function of x and t."""
    return torch.sin(2 * x + t.reshape(-1, *[1] * (x.dim() - 1)) / 100)


def wavy_with_variance(x, t):
    return torch.cat([wavy(x, t), torch.cos(x)], dim=1)


def gaussian(mean=0.4, std=0.3, labels=(0,)):
    """One Gaussian on the line, or one for each label."""
    k = len(labels)
    return Mixture(torch.full((k,), 1 / k), torch.as_tensor(mean).reshape(k, 1), torch.full((k,), std),
                   torch.tensor(labels))


# --------------------------------------------------------------------------------------- formulas, by hand

@pytest.mark.equation("eq:ancestral-step")
def test_an_ancestral_step_adds_noise_of_the_standard_deviation():
    mean, log_variance, z = numbers(2, 3), numbers(2, 1, seed=1), numbers(2, 3, seed=2)
    want = [[mean[i, j].item() + math.sqrt(math.exp(log_variance[i, 0].item())) * z[i, j].item()
             for j in range(3)] for i in range(2)]
    torch.testing.assert_close(ancestral_step(mean, log_variance, z), torch.tensor(want, dtype=torch.float64))


@pytest.mark.equation("eq:ddim-step")
@pytest.mark.equation("eq:ddim-sigma")
def test_a_step_of_ddim_keeps_the_marginal_whatever_its_noise():
    """With the true data and noise, x is distributed as q(x_{t-1}|x_0): same mean, same variance."""
    bar, before, x0 = 0.3, 0.6, numbers(4)
    for eta in (0.0, 0.5, 1.0):
        sigma = ddim_sigma(bar, before, eta)
        want = eta * math.sqrt((1 - before) / (1 - bar)) * math.sqrt(1 - bar / before)
        assert sigma == pytest.approx(want)
        zero = torch.zeros(4, dtype=torch.float64)
        torch.testing.assert_close(ddim_step(x0, zero, before, sigma, zero), before**0.5 * x0)
        one = torch.ones(4, dtype=torch.float64)
        of_noise, of_z = ddim_step(zero, one, before, sigma, zero), ddim_step(zero, zero, before, sigma, one)
        torch.testing.assert_close(of_noise**2 + of_z**2, one * (1 - before))


def test_ddim_with_eta_1_is_ddpm_with_the_small_variance():
    schedule, x, z = NoiseSchedule.linear().respaced(50), numbers(3, 2), numbers(3, 2, seed=1)
    for i in (1, 20, 49):
        now = estimate_at(wavy, schedule, x, i, static_clip)
        chain = Chain(schedule, None, lambda: z, None)
        torch.testing.assert_close(DDIM(eta=1.0)(now, chain), Ancestral("small")(now, chain))


@pytest.mark.equation("eq:ddim-ode")
@pytest.mark.equation("eq:ddim-time")
def test_ddim_without_noise_is_eulers_step_of_an_equation_in_the_noise_for_a_signal():
    x, noise, bar, nearer = numbers(3), numbers(3, seed=1), 0.3, 0.6
    x0 = (x - math.sqrt(1 - bar) * noise) / math.sqrt(bar)
    torch.testing.assert_close(flow_step(x, noise, bar, nearer), ddim_step(x0, noise, nearer))
    s = [math.sqrt((1 - a) / a) for a in (bar, nearer)]
    assert [noise_to_signal(bar), noise_to_signal(nearer)] == pytest.approx(s)
    scaled = x / math.sqrt(bar) + (s[1] - s[0]) * noise
    torch.testing.assert_close(flow_step(x, noise, bar, nearer), math.sqrt(nearer) * scaled)


@pytest.mark.equation("eq:dpm-step")
@pytest.mark.equation("eq:dpm-lambda")
@pytest.mark.equation("eq:dpm-data")
def test_a_step_of_the_solver_is_its_formula_and_of_first_order_that_of_ddim():
    x, x0, before, bar, nearer, noisier = numbers(3), numbers(3, seed=1), numbers(3, seed=2), 0.3, 0.6, 0.2
    a, s, lam = {}, {}, {}
    for name, level in (("noisier", noisier), ("now", bar), ("next", nearer)):
        a[name], s[name] = math.sqrt(level), math.sqrt(1 - level)
        lam[name] = math.log(a[name] / s[name])
        assert half_log_snr(level) == pytest.approx(lam[name])
    h = lam["next"] - lam["now"]
    r = (lam["now"] - lam["noisier"]) / h
    data = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
    torch.testing.assert_close(dpm_data(x0, before, r), data)
    want = s["next"] / s["now"] * x - a["next"] * (math.exp(-h) - 1) * data
    torch.testing.assert_close(dpm_step(x, data, bar, nearer), want)
    noise = (x - a["now"] * x0) / s["now"]
    torch.testing.assert_close(dpm_step(x, x0, bar, nearer), ddim_step(x0, noise, nearer))


# ----------------------------------------------------------------------------- parity with the schedulers

def theirs(kind, schedule, **options):
    """A scheduler of diffusers in double precision, after its tables were compared with ours."""
    diffusers = pytest.importorskip("diffusers")
    name = "squaredcos_cap_v2" if schedule.betas[-1] > 0.5 else "linear"
    scheduler = getattr(diffusers, kind)(num_train_timesteps=1000, beta_schedule=name, **options)
    torch.testing.assert_close(scheduler.betas.double(), schedule.betas, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), schedule.alpha_bars, rtol=1e-4, atol=1e-6)
    scheduler.betas, scheduler.alphas = schedule.betas, 1 - schedule.betas
    scheduler.alphas_cumprod = schedule.alpha_bars
    return scheduler


SCHEDULES = {"linear": NoiseSchedule.linear(), "cosine": NoiseSchedule.cosine()}
DDPM_WAYS = [
    ("fixed_small", {"clip_sample": True}, Ancestral("small"), static_clip, wavy),
    ("fixed_large", {"clip_sample": True}, Ancestral("large"), static_clip, wavy),
    ("fixed_small", {"clip_sample": False}, Ancestral("small"), None, wavy),
    ("learned_range", {"clip_sample": True}, Ancestral(), static_clip, wavy_with_variance),
    ("fixed_small", {"clip_sample": False, "thresholding": True, "sample_max_value": 1e6},
     Ancestral("small"), dynamic_threshold, wavy)]


@pytest.mark.parity
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("variance, options, rule, denoised_fn, model", DDPM_WAYS)
def test_ancestral_steps_are_those_of_diffusers(name, variance, options, rule, denoised_fn, model):
    whole = SCHEDULES[name]
    scheduler = theirs("DDPMScheduler", whole, variance_type=variance, **options)
    scheduler.set_timesteps(10)
    schedule = whole.respaced("ddim10")
    assert scheduler.timesteps.tolist() == schedule.timesteps.flip(0).tolist()
    x = numbers(2, 2, 4, 4)
    for i in reversed(range(10)):
        t = int(schedule.timesteps[i])
        output = model(x, torch.full((2,), t))
        want = scheduler.step(output, t, x, generator=torch.Generator().manual_seed(i)).prev_sample
        now = estimate_at(model, schedule, x, i, denoised_fn)
        chain = Chain(schedule, None, lambda i=i: numbers(2, 2, 4, 4, seed=i), None)
        torch.testing.assert_close(rule(now, chain) if i else now.x0, want, rtol=1e-9, atol=1e-9)
        x = want


@pytest.mark.parity
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("clip", [False, True])
def test_steps_of_ddim_are_those_of_diffusers(eta, clip):
    whole = SCHEDULES["linear"]
    scheduler = theirs("DDIMScheduler", whole, clip_sample=clip, set_alpha_to_one=True)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(10)
    schedule, x = whole.respaced("ddim10"), numbers(2, 2, 4, 4)
    assert scheduler.timesteps.tolist() == schedule.timesteps.flip(0).tolist()
    for i in reversed(range(10)):
        t, z = int(schedule.timesteps[i]), numbers(2, 2, 4, 4, seed=i)
        want = scheduler.step(wavy(x, torch.full((2,), t)), t, x, eta=eta, use_clipped_model_output=clip,
                              variance_noise=z if eta else None).prev_sample
        now = estimate_at(wavy, schedule, x, i, static_clip if clip else None)
        ours = DDIM(eta)(now, Chain(schedule, None, lambda z=z: z, None)) if i else now.x0
        torch.testing.assert_close(ours, want, rtol=1e-9, atol=1e-9)
        x = want


def test_the_noise_of_clipped_data_is_another_and_gives_other_pictures():
    """diffusers derives it anew only when asked to; the released code, and we, always do."""
    schedule, x = SCHEDULES["linear"].respaced("ddim10"), numbers(2, 2, 4, 4)
    clipped = estimate_at(wavy, schedule, x, 9, static_clip)
    far = ddim_step(clipped.x0, clipped.noise, 0.5) - ddim_step(clipped.x0, clipped.prediction.noise, 0.5)
    assert far.abs().max() > 0.1


@pytest.mark.parity
@pytest.mark.parametrize("spacing", ["linspace", "leading"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_of_the_second_order_solver_are_those_of_diffusers(spacing, name):
    whole = SCHEDULES[name]
    scheduler = theirs("DPMSolverMultistepScheduler", whole, timestep_spacing=spacing)
    scheduler.set_timesteps(12)
    schedule = whole.respaced(scheduler.timesteps.tolist())
    x = numbers(2, 2, 4, 4).float()
    ours, rule, previous = x, DPMSolver(short=0), None
    for i in reversed(range(12)):
        t = int(schedule.timesteps[i])
        x = scheduler.step(wavy(x, torch.full((2,), t)), t, x).prev_sample
        now = estimate_at(wavy, schedule, ours, i)
        chain = Chain(schedule, None, None, previous)
        ours, previous = rule(now, chain) if i else now.x0, now
        torch.testing.assert_close(ours, x, rtol=2e-4, atol=2e-4)
        ours = x                                                    # step by step


def test_steps_that_are_even_in_lambda_keep_both_ends_and_are_as_even_as_the_chain_allows():
    schedule = NoiseSchedule.linear()
    kept = even_in_lambda(schedule, 20)
    assert len(kept) == 20 and kept[0] == 0 and kept[-1] == 999 and kept == sorted(kept)
    bars = schedule.alpha_bars[kept]
    lengths = (0.5 * (bars / (1 - bars)).log()).diff()
    assert (lengths / lengths.mean() - 1).abs().max() < 0.25        # a step near the data is long
    gaps = torch.tensor(kept).diff()
    assert gaps[0] < 10 and gaps[-1] > 40
    assert len(even_in_lambda(schedule, 400)) < 400                     # several fall on one place


@pytest.mark.parity
def test_a_chain_by_heuns_method_is_that_of_diffusers():
    whole, x = SCHEDULES["linear"], numbers(2, 2, 4, 4)
    scheduler = theirs("HeunDiscreteScheduler", whole, beta_start=1e-4, beta_end=0.02)
    scheduler.set_timesteps(10)
    schedule = whole.respaced(range(0, 1000, 111))
    assert sorted({*scheduler.timesteps.tolist()}) == schedule.timesteps.tolist()
    scaled = x / whole.alpha_bars[-1].sqrt()            # theirs is x over the root of the signal
    for t in scheduler.timesteps:
        noise = wavy(scheduler.scale_model_input(scaled, t), t.expand(2))
        scaled = scheduler.step(noise, t, scaled).prev_sample
    ours = sample(wavy, schedule, (2, 2, 4, 4), "heun", denoised_fn=None, start=x)
    torch.testing.assert_close(ours, scaled.double(), rtol=1e-3, atol=1e-3)


# --------------------------------------------------------------------------- exact denoisers, exact answers

def exact(schedule, mean=0.4, std=0.3):
    """The perfect denoiser of one Gaussian on the line, without a mixture's machinery."""
    def denoise(x, t):
        bar = schedule.alpha_bars[t[0]]
        return (1 - bar).sqrt() * (x - bar.sqrt() * mean) / (bar * std**2 + 1 - bar)
    return denoise


def moments(method, schedule, denoise, last=0):
    """Mean and variance of the samples on the line, when each step is linear: no drawing at all.

    A batch of three rows gives a step's constant, its slope in x and its slope in the noise. Stops before
    the step from place ``last - 1``.
    """
    mean, variance = 0.0, 1.0
    z = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    x = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)

    def estimate(x, i):
        return estimate_at(denoise, schedule, x, i)

    for i in reversed(range(last, len(schedule))):
        now = estimate(x, i)
        out = (method(now, Chain(schedule, estimate, lambda: z, None)) if i else now.x0)[:, 0].tolist()
        constant, slope, spread = out[0], out[1] - out[0], out[2] - out[0]
        mean, variance = constant + slope * mean, slope**2 * variance + spread**2
    return mean, variance


@pytest.mark.parametrize("method, steps, tolerance", [
    (Ancestral("large"), 250, 0.1), (Ancestral("small"), 250, 0.1), (DDIM(1.0), 250, 0.1),
    (DDIM(), 250, 0.04), (Heun(), 50, 0.02)])
def test_with_an_exact_denoiser_of_a_gaussian_samples_have_its_mean_and_variance(method, steps, tolerance):
    whole = NoiseSchedule.linear()
    mean, variance = moments(method, whole.respaced(steps), exact(whole))
    assert mean == pytest.approx(0.4, abs=0.01) and variance == pytest.approx(0.09, rel=tolerance)


def test_the_large_variance_is_right_for_standard_normal_data_and_the_small_one_for_a_point():
    """At any number of steps: they are the upper and the lower bound of the reverse step's variance."""
    whole = NoiseSchedule.linear()
    schedule = whole.respaced(10)
    left = 1 - schedule.alpha_bars[0].item()

    def variance(kind, std):
        return moments(Ancestral(kind), schedule, exact(whole, 0.0, std), last=1)[1]

    assert variance("large", 1.0) == pytest.approx(1, rel=1e-9) and variance("small", 1.0) < 0.9
    assert variance("small", 0.0) == pytest.approx(left, rel=1e-9) and variance("large", 0.0) > 2 * left
    assert variance("small", 0.3) < (1 - left) * 0.09 + left < variance("large", 0.3)


def test_solvers_of_second_order_are_nearer_to_the_exact_end_of_the_path_and_gain_more_by_more_steps():
    """The probability flow of Gaussian data is known: it keeps the distance from the mean in deviations."""
    mean, std = 0.4, 0.3
    whole = NoiseSchedule.cosine()
    model, x = MixtureDenoiser(gaussian(mean, std), whole), torch.tensor([[1.5]], dtype=torch.float64)

    def error(method, steps):
        schedule = whole.respaced(range(999 // steps, 1000, 999 // steps)[:steps])
        bars = schedule.alpha_bars[[0, -1]].tolist()
        (low, high) = ((b**0.5 * mean, math.sqrt(b * std**2 + 1 - b)) for b in bars)
        flow = low[0] + low[1] * (x - high[0]) / high[1]            # where the path is at the last timestep
        states = list(sample_steps(model, schedule, (1, 1), method, denoised_fn=None, start=x))
        return (states[-2].x - flow).abs().item()

    first = [error("ddim", n) for n in (40, 80)]
    for method in ("dpm", "heun"):
        second = [error(method, n) for n in (40, 80)]
        assert second[0] < 0.3 * first[0]
        assert second[0] / second[1] > 1.2 * first[0] / first[1]


def test_a_mixture_is_drawn_with_all_its_modes_by_every_method():
    whole = NoiseSchedule.cosine()
    ring = Mixture.ring(modes=4, std=0.04)
    for method in (Ancestral("small"), "ddim", "dpm", "heun"):
        x = sample(MixtureDenoiser(ring, whole), whole.respaced(25), (100, 2), method, denoised_fn=None,
                   generator=torch.Generator().manual_seed(0))
        near = torch.cdist(x, ring.means)
        assert (near.min(1).values < 0.2).float().mean() > 0.9
        assert (near.argmin(1).bincount(minlength=4) > 10).all()


# ------------------------------------------------------------------------------------------------ guidance

@pytest.mark.equation("eq:guidance-free")
@pytest.mark.equation("eq:guidance-weight")
def test_both_conventions_of_classifier_free_guidance_are_one_formula():
    conditional, unconditional = numbers(2, 3), numbers(2, 3, seed=1)
    for s in (0.0, 0.5, 1.0, 3.0):
        want = [[u + s * (c - u) for c, u in zip(*rows)]
                for rows in zip(conditional.tolist(), unconditional.tolist())]
        want = torch.tensor(want, dtype=torch.float64)
        torch.testing.assert_close(classifier_free(conditional, unconditional, s), want)
        torch.testing.assert_close(classifier_free_by_weight(conditional, unconditional, s - 1), want)


def test_e29_guidance_acts_in_sampling_only_a_scale_of_1_is_the_conditional_model_itself():
    conditional, unconditional = numbers(50).float(), 1000 * numbers(50, seed=1).float()
    assert torch.equal(classifier_free(conditional, unconditional, 1.0), conditional)
    assert torch.equal(classifier_free(conditional, unconditional, 0.0), unconditional)
    assert "scale" not in inspect.signature(diffusion_loss).parameters


def recorded(calls):
    """A conditional model that also gives a variance, and says what it was called with."""
    def model(x, t, shift, low=None):
        calls.append((x, t, shift, low))
        shift = shift[:, None, None, None]
        return torch.cat([0.1 * x + shift, x - shift], dim=1)
    return model


def test_booklet_b3_guidance_extrapolates_two_predictions_of_noise_from_one_picture_in_one_batch():
    calls, x, t = [], numbers(2, 3, 4, 4), torch.tensor([7, 8])
    shift, low = torch.tensor([1.0, 2.0], dtype=torch.float64), numbers(2, 3, 4, 4, seed=1)
    denoise = guided(recorded(calls), {"shift": shift, "low": low}, {"shift": torch.zeros(2).double()}, 3.0)
    out = denoise(x, t)
    (both, steps, shifts, lows), = calls
    assert torch.equal(both[:2], both[2:]) and steps.tolist() == [7, 8, 7, 8]
    assert shifts.tolist() == [1, 2, 0, 0] and torch.equal(lows, torch.cat([low, low]))
    difference = shift[:, None, None, None]                         # conditional minus unconditional, signed
    torch.testing.assert_close(out[:, :3], 0.1 * x + 3 * difference)
    torch.testing.assert_close(out[:, 3:], x - difference)          # the variance of the conditional branch


def test_a_scale_of_1_calls_the_conditional_branch_alone_and_a_scale_of_0_gives_the_unconditional_noise():
    calls, x, t = [], numbers(2, 3, 4, 4), torch.tensor([7, 8])
    some, none = {"shift": torch.ones(2).double()}, {"shift": torch.zeros(2).double()}
    model = recorded(calls)
    assert torch.equal(guided(model, some, none, 1.0)(x, t), model(x, t, **some)) and len(calls[0][0]) == 2
    assert torch.equal(guided(model, some, none, 0.0)(x, t)[:, :3], model(x, t, **none)[:, :3])
    with pytest.raises(ValueError, match="give both, or neither"):
        guided(model, some, {"text": x}, 2.0)


@pytest.mark.equation("eq:guidance-tilt")
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 4.0])
def test_guidance_with_two_exact_gaussians_of_one_variance_tilts_the_mean_as_derived(scale):
    """A label with mean 0.4 beside a second label at 0: conditional 0.4, "unconditional" 0."""
    whole = NoiseSchedule.linear()
    model = MixtureDenoiser(gaussian((0.0, 0.4), 0.3, (0, 1)), whole)
    conditions = {"labels": torch.ones(3, dtype=torch.long)}
    denoise = guided(model, conditions, {"labels": torch.zeros(3, dtype=torch.long)}, scale)
    mean, variance = moments(Heun(), whole.respaced(30), denoise)
    want_mean, want_variance = tilted_gaussian(0.4, 0.09, 0.0, 0.09, scale)
    assert want_mean == pytest.approx(0.4 * scale) and want_variance == pytest.approx(0.09)
    assert mean == pytest.approx(want_mean, abs=0.01) and variance == pytest.approx(want_variance, rel=0.05)


@pytest.mark.equation("eq:guidance-tilt")
def test_the_tilted_density_of_two_gaussians_is_the_product_of_their_powers():
    x, s = torch.linspace(-6, 6, 4001, dtype=torch.float64), 2.0
    (m, v), (n, u) = (0.5, 0.3), (-0.2, 1.0)
    log = s * -(x - m)**2 / (2 * v) + (1 - s) * -(x - n)**2 / (2 * u)
    density = log.exp() / torch.trapezoid(log.exp(), x)
    mean = torch.trapezoid(x * density, x).item()
    variance = torch.trapezoid((x - mean)**2 * density, x).item()
    assert tilted_gaussian(m, v, n, u, s) == pytest.approx((mean, variance), rel=1e-6)
    with pytest.raises(ValueError, match="smaller scale"):
        tilted_gaussian(m, 1.0, n, 0.3, 4.0)


def test_guided_noise_is_in_general_the_score_of_no_noised_density():
    """With unequal variances the guided slope at a noisy step is not that of the noised tilted density."""
    bar, s, x = 0.5, 2.0, 1.0
    (m, v), (n, u) = (0.5, 0.3), (-0.2, 1.0)

    def slope(mean, variance):
        return -(x - bar**0.5 * mean) / (bar * variance + 1 - bar)

    guided_slope = s * slope(m, v) + (1 - s) * slope(n, u)
    assert abs(guided_slope - slope(*tilted_gaussian(m, v, n, u, s))) > 0.05
    assert s * slope(m, v) + (1 - s) * slope(n, v) == pytest.approx(slope(*tilted_gaussian(m, v, n, v, s)))


@pytest.mark.equation("eq:guidance-noise")
@pytest.mark.equation("eq:guidance-gradient")
@pytest.mark.parametrize("method", ["ddim", "dpm", "heun"])
def test_a_perfect_classifier_at_scale_1_turns_the_unconditional_model_into_the_conditional_one(method):
    whole = NoiseSchedule.cosine()
    model = MixtureDenoiser(Mixture.overlapping(), whole)
    labels, schedule = torch.tensor([0, 1, 1]), whole.respaced(8)
    start = numbers(3, 2)
    guide = classifier_guide(model.classifier, labels)
    with_guide = sample(model, schedule, (3, 2), method, denoised_fn=None, guide=guide, start=start)
    conditional = sample(lambda x, t: model(x, t, labels=labels), schedule, (3, 2), method, denoised_fn=None,
                         start=start)
    torch.testing.assert_close(with_guide, conditional)
    twice = sample(model, schedule, (3, 2), method, denoised_fn=None, start=start,
                   guide=classifier_guide(model.classifier, labels, 4.0))
    assert twice[0, 0] < conditional[0, 0] and (twice[1:, 0] > conditional[1:, 0]).all()    # further apart


@pytest.mark.equation("eq:guidance-mean")
def test_ancestral_sampling_moves_its_mean_by_the_gradient_times_the_variance():
    schedule, x, z = NoiseSchedule.cosine().respaced(50), numbers(2, 2), numbers(2, 2, seed=1)
    gradient = numbers(2, 2, seed=2)
    chain = Chain(schedule, None, lambda: z, None)
    for rule, model in ((Ancestral("large"), wavy), (Ancestral(), wavy_with_variance)):
        plain = estimate_at(model, schedule, x, 20, static_clip, None, rule.guides_noise)
        pushed = estimate_at(model, schedule, x, 20, static_clip, lambda x, t: gradient, rule.guides_noise)
        assert torch.equal(plain.x0, pushed.x0)
        if model is wavy:
            variance = schedule.betas[20]
        else:
            u = (torch.cos(x) + 1) / 2
            variance = (u * schedule.betas[20].log() + (1 - u) * schedule.posterior_variances[20].log()).exp()
        torch.testing.assert_close(rule(pushed, chain), rule(plain, chain) + variance * gradient)
    torch.testing.assert_close(shifted_mean(x, 0.5, gradient), x + 0.5 * gradient)
    torch.testing.assert_close(shifted_noise(x, 0.75, gradient), x - 0.5 * gradient)


@pytest.mark.equation("eq:guidance-gradient")
@pytest.mark.equation("eq:guidance-clip")
def test_guides_are_slopes_of_log_probabilities_and_of_scaled_cosines():
    x, t = numbers(2, 3), torch.tensor([3, 4])
    W, text = numbers(3, 5, seed=1), numbers(2, 5, seed=2)

    def numeric(f):
        out = torch.zeros_like(x)
        for i in range(2):
            for j in range(3):
                step = torch.zeros_like(x)
                step[i, j] = 1e-6
                out[i, j] = (f(x + step) - f(x - step))[i] / 2e-6
        return out

    clip = clip_guide(lambda x, t: (x * t[:, None]).sin() @ W, text, scale=2.0, logit_scale=100.0)
    want = numeric(lambda x: 200 * F.cosine_similarity((x * t[:, None]).sin() @ W, text, dim=1))
    torch.testing.assert_close(clip(x, t), want, rtol=1e-5, atol=1e-5)
    classifier = classifier_guide(lambda x, t: x @ W, torch.tensor([4, 0]), scale=3.0)
    want = numeric(lambda x: 3 * torch.stack([(x @ W)[i].log_softmax(0)[y] for i, y in enumerate((4, 0))]))
    torch.testing.assert_close(classifier(x, t), want, rtol=1e-5, atol=1e-5)
    with torch.no_grad():                                           # as within the sampler
        assert torch.equal(gradient_guide(lambda x, t: (x**2).sum(1))(x, t), 2 * x)


# ------------------------------------------------------------------------------ corrections of the estimate

@pytest.mark.equation("eq:guidance-dynamic-threshold")
def test_dynamic_thresholding_clips_at_a_quantile_of_each_picture_and_never_stretches():
    x0 = torch.stack([0.1 * numbers(3, 4, 4), 2 * numbers(3, 4, 4, seed=1)])
    out = dynamic_threshold(x0, 0.9)
    for one, got in zip(x0, out):
        values = sorted(one.abs().flatten().tolist())
        at = 0.9 * (len(values) - 1)                                # between two values, as a quantile is
        s = values[int(at)] + (at - int(at)) * (values[int(at) + 1] - values[int(at)])
        s = max(s, 1.0)
        want = [max(-s, min(s, value)) / s for value in one.flatten().tolist()]
        assert got.flatten().tolist() == pytest.approx(want, rel=1e-6)
    assert torch.equal(out[0], x0[0]) and out[1].abs().max() == 1


@pytest.mark.parametrize("method", METHODS)
def test_known_pixels_are_exactly_what_they_were_after_sampling(method):
    known = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    x = sample(wavy, NoiseSchedule.cosine().respaced(5), (2, 3, 4, 4), method,
               denoised_fn=keep_known(known, mask), generator=torch.Generator().manual_seed(1))
    inside = mask.expand_as(x)
    assert torch.equal(x[inside], known[inside]) and not torch.equal(x[~inside], known[~inside])
    assert x.abs().max() <= 1
    free = keep_known(known, mask, dynamic_threshold)(3 * x)
    assert torch.equal(free[inside], known[inside])


# -------------------------------------------------------------------------------------------------- the loop

@pytest.mark.parametrize("method", METHODS)
def test_the_loop_tells_every_state_and_the_original_timesteps(method):
    schedule, told = NoiseSchedule.linear().respaced("ddim10"), []

    def model(x, t):
        told.append(t[0].item())
        return wavy(x, t)

    def generator():
        return torch.Generator().manual_seed(0)

    steps = list(sample_steps(model, schedule, (2, 3, 4, 4), method, generator=generator()))
    assert [step.t for step in steps] == [*range(900, -1, -100), -1]
    assert told[:: 2 if method == "heun" else 1][:9] == [*range(900, 0, -100)]
    assert len(told) == (19 if method == "heun" else 10)
    for step in steps:
        assert step.x.shape == step.x0.shape == (2, 3, 4, 4) and step.x0.abs().max() <= 1
    torch.testing.assert_close(steps[0].x, torch.randn(2, 3, 4, 4, generator=generator()))
    last = sample(model, schedule, (2, 3, 4, 4), method, generator=generator())
    assert torch.equal(last, steps[-1].x) and torch.equal(last, steps[-2].x0) and not last.requires_grad


@pytest.mark.parametrize("steps, same", [(8, True), (20, False)])
def test_short_chains_of_the_solver_end_with_a_step_of_first_order(steps, same):
    schedule, seen = NoiseSchedule.linear().respaced(steps), []
    rule = DPMSolver()
    for step in sample_steps(wavy, schedule, (2, 3, 4, 4), rule, start=numbers(2, 3, 4, 4), denoised_fn=None):
        seen.append(step)
    before, bars = seen[-3], schedule.alpha_bars[:2].tolist()       # what is drawn stands last, then i = 0, 1
    noise = (before.x - bars[1] ** 0.5 * before.x0) / (1 - bars[1]) ** 0.5
    first = ddim_step(before.x0, noise, bars[0])
    assert torch.allclose(seen[-2].x, first, rtol=1e-6, atol=1e-8) is same


def test_a_batch_of_one_is_a_row_of_a_batch_and_the_start_decides():
    schedule, start = NoiseSchedule.linear().respaced(10), numbers(3, 2, 4, 4)
    for method in ("ddim", "dpm", "heun"):
        together = sample(wavy, schedule, (3, 2, 4, 4), method, start=start)
        alone = sample(wavy, schedule, (1, 2, 4, 4), method, start=start[1:2])
        torch.testing.assert_close(together[1:2], alone)


def test_what_cannot_be_sampled_is_refused():
    schedule = NoiseSchedule.linear().respaced(5)
    with pytest.raises(ValueError, match="method is 'euler'; use one of ddpm, ddim, dpm, heun"):
        sample(wavy, schedule, (1, 2), "euler")
    with pytest.raises(ValueError, match="give both the same shape"):
        sample(wavy, schedule, (1, 2), start=torch.zeros(1, 3))
    with pytest.raises(ValueError, match="gives noise only"):
        sample(wavy, schedule, (1, 2), Ancestral("learned"))
    with pytest.raises(ValueError, match="use one of large, small, learned"):
        Ancestral("medium")
    with pytest.raises(ValueError, match="from 0, no noise, to 1"):
        DDIM(1.5)


@pytest.mark.equation("eq:ddim-ode")
def test_ddim_run_backwards_finds_the_noise_of_a_picture_better_with_more_steps():
    whole, errors = NoiseSchedule.cosine(), []
    model, x = MixtureDenoiser(Mixture.ring(std=0.2), whole), 0.5 * numbers(20, 2)
    for steps in (10, 40):
        schedule = whole.respaced(range(1000 // steps - 1, 960, 1000 // steps))
        noise = encode(model, schedule, x)
        again = sample(model, schedule, (20, 2), "ddim", denoised_fn=None, start=noise)
        errors.append((again - x).abs().mean().item())
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.05


def test_an_estimate_holds_the_noise_that_belongs_to_its_data():
    schedule, x = NoiseSchedule.linear().respaced(10), numbers(2, 3)
    now = estimate_at(wavy, schedule, x, 5, static_clip)
    assert isinstance(now, Estimate) and isinstance(now.prediction, Prediction)
    torch.testing.assert_close(noised(now.x0, now.noise, schedule.alpha_bars[5].item()), x)
    assert UNLABELLED == -1
