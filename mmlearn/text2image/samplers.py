r"""Samplers: ways from noise to a picture with one and the same trained denoiser, and what steers them.

Papers: J. Ho et al. (2020), arXiv:2006.11239, algorithm 2 (ancestral); J. Song, C. Meng and S. Ermon (2021),
*Denoising Diffusion Implicit Models*, arXiv:2010.02502, sec. 4; C. Lu et al. (2022), *DPM-Solver++*,
arXiv:2211.01095, algorithm 2 (2M, data prediction); P. Dhariwal and A. Nichol (2021), arXiv:2105.05233,
sec. 4 (classifier guidance); J. Ho and T. Salimans (2022), *Classifier-Free Diffusion Guidance*,
arXiv:2207.12598; A. Nichol et al. (2022), GLIDE, arXiv:2112.10741, sec. 2.3 (both, and CLIP guidance);
C. Saharia et al. (2022), Imagen, arXiv:2205.11487, sec. 2.3 (dynamic thresholding).  Survey: 2.3, 2.3.1.
Differs from the papers: the last step gives the estimate of the data itself, in every method, so that known
pixels stay what they are; a guide's gradient is taken at $x_t$, as in the released code, not at the mean, and
moves $\epsilon$ before the estimate of the data is clipped.

A denoiser is as ``mmlearn.text2image.diffusion`` says; here it is called as ``denoise(x, t)``. A **guide** is
a callable ``guide(x, t)`` that returns a gradient (b, c, …), a **denoised_fn** one that corrects an estimate
of the data (b, c, …).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmlearn.text2image.diffusion import (
    VARIANCES,
    Denoiser,
    Level,
    NoiseSchedule,
    Prediction,
    draw,
    noise_from_x0,
    posterior_mean,
    reverse_log_variance,
    split,
    x0_from_noise,
)

Guide = Callable[[Tensor, Tensor], Tensor]
DenoisedFn = Callable[[Tensor], Tensor]

# --------------------------------------------------------------------------- estimates of the data, corrected


def static_clip(x0: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
    """An estimate cut to [-1, 1], where pictures lie."""
    return x0.clamp(-1, 1)


def dynamic_threshold(
    x0: Float[Tensor, "b *s"], share: float = 0.995
) -> Float[Tensor, "b *s"]:
    r"""eq:guidance-dynamic-threshold: $\hat x_0 \leftarrow
    \text{clip}(\hat x_0, -s, s)/s$, $s$ the larger of 1 and a quantile of
    $|\hat x_0|$."""
    size = x0.abs().flatten(1)
    size = size if size.dtype == torch.float64 else size.float()
    s = torch.quantile(size, share, dim=1).clamp_min(1).to(x0)
    s = s.reshape(-1, *[1] * (x0.dim() - 1))
    return x0.clamp(-s, s) / s


def keep_known(
    known: Float[Tensor, "b *s"], mask: Bool[Tensor, "#b #*s"],
    denoised_fn: DenoisedFn = static_clip,
) -> DenoisedFn:
    """For inpainting: estimates are corrected, then get the known pixels where the
    mask is true."""
    return lambda x0: torch.where(mask, known, denoised_fn(x0))


# --------------------------------------------------------------------------------------------------- guidance

def classifier_free(
    conditional: Float[Tensor, "*s"], unconditional: Float[Tensor, "*s"],
    scale: float | int,
) -> Float[Tensor, "*s"]:
    r"""eq:guidance-free: $\hat\epsilon = \epsilon_u + s(\epsilon_c -
    \epsilon_u)$, exactly $\epsilon_u$ at s = 0 and $\epsilon_c$ at s = 1."""
    return torch.lerp(unconditional, conditional, scale)


def classifier_free_by_weight(
    conditional: Float[Tensor, "*s"], unconditional: Float[Tensor, "*s"],
    weight: float | int,
) -> Float[Tensor, "*s"]:
    r"""eq:guidance-weight: $\hat\epsilon = (1+w)\epsilon_c - w\epsilon_u$, the
    other convention: $s = 1 + w$."""
    return (1 + weight) * conditional - weight * unconditional


def guided(
    model: Denoiser, conditions: Mapping[str, Any], empty: Mapping[str, Any],
    scale: float | int,
) -> Denoiser:
    """A denoiser ``denoise(x, t)`` with classifier-free guidance
    (eq:guidance-free), from a model with conditions.

    ``conditions`` are tensors (b, …) that the model is called with, ``empty``
    those of its unconditional branch; what is not in ``empty`` is the same in
    both. One batch holds both branches. Only the noise is guided: a learned
    variance is that of the conditional branch. At a scale of 1 there is one
    branch.
    """
    unknown = sorted(set(empty) - set(conditions))
    if unknown:
        raise ValueError(f"empty conditions {unknown} have no conditions "
                         f"beside them; give both, or neither")
    if scale == 1:
        return lambda x, t: model(x, t, **conditions)
    both = {name: _joined(one, empty.get(name, one))
            for name, one in conditions.items()}

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        output = model(torch.cat([x, x]), torch.cat([t, t]), **both)
        with_condition, without = output.chunk(2)       # 2b c … -> b c …
        c = x.shape[1]
        noise = classifier_free(with_condition[:, :c], without[:, :c], scale)
        return torch.cat([noise, with_condition[:, c:]], dim=1)

    return denoise


def _joined(one: Any, other: Any) -> Any:
    """Conditions of both branches as one batch; what is no tensor serves both."""
    return torch.cat([one, other]) if isinstance(one, Tensor) else one


def gradient_guide(
    log_probability: Callable[[Tensor, Tensor], Tensor],
    scale: float | int = 1.0,
) -> Guide:
    r"""eq:guidance-gradient: $g = s\,\nabla_{x_t} \log p(y|x_t)$, from a function of x (b, c, …) and t (b)
    that gives log-probabilities (b)."""
    def guide(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            total = log_probability(x, t).sum()
            return scale * torch.autograd.grad(total, x)[0]
    return guide


def classifier_guide(
    classifier: Denoiser, labels: Int[Tensor, " b"], scale: float | int = 1.0
) -> Guide:
    """Towards classes ``labels`` (b), by a classifier of noised data, ``classifier(x, t)``: logits (b, c)."""
    def log_probability(x: Tensor, t: Tensor) -> Tensor:
        return -F.cross_entropy(classifier(x, t), labels, reduction="none")
    return gradient_guide(log_probability, scale)


def clip_guide(
    image_encoder: Denoiser, text: Float[Tensor, "b e"],
    scale: float | int = 1.0, logit_scale: float | int = 100.0,
) -> Guide:
    r"""eq:guidance-clip: $g = s\,\nabla_{x_t}\big(e^\tau\cos(f(x_t,t), g(y))\big)$, with an encoder of noised
    pictures, ``image_encoder(x, t)`` -> (b, e), and embeddings of the texts."""
    def likeness(x: Tensor, t: Tensor) -> Tensor:
        cosine = F.cosine_similarity(image_encoder(x, t), text, dim=-1)
        return logit_scale * cosine
    return gradient_guide(likeness, scale)


def shifted_mean(
    mean: Float[Tensor, "*s"], variance: Level, gradient: Float[Tensor, "*s"]
) -> Float[Tensor, "*s"]:
    r"""eq:guidance-mean: $\hat\mu = \mu + \Sigma g$, in ancestral sampling."""
    return mean + variance * gradient


def shifted_noise(
    noise: Float[Tensor, "*s"], alpha_bar: Level, gradient: Float[Tensor, "*s"]
) -> Float[Tensor, "*s"]:
    r"""eq:guidance-noise: $\hat\epsilon = \epsilon - \sqrt{1-\bar\alpha_t}\,g$,
    in all other samplers."""
    return noise - (1 - alpha_bar)**0.5 * gradient


# ---------------------------------------------------------------------------------------------- one step back

class Estimate(NamedTuple):
    """What is known at a place of the chain: how noisy x is, and what the denoiser makes of it."""

    i: int                              # place in the schedule, from 0
    x: Tensor                           # b c …, the noised data
    x0: Tensor                          # b c …, the estimate of the data, corrected
    noise: Tensor                       # b c …, the noise that belongs to it
    prediction: Prediction              # what the denoiser gave
    gradient: Tensor | None             # b c …, of the guide


class Chain(NamedTuple):
    """The chain that a step belongs to."""

    schedule: NoiseSchedule
    estimate: Callable[[Tensor, int], Estimate]     # asks the denoiser at a place
    draw: Callable[[], Tensor]                          # noise as x
    previous: Estimate | None                             # one step ago


def levels(schedule: NoiseSchedule, i: int) -> tuple[float, float]:
    r"""$\bar\alpha_t$ at place i and $\bar\alpha$ one place nearer to the data."""
    return schedule.alpha_bars[i].item(), schedule.alpha_bars_before[i].item()


@dataclass(frozen=True)
class Ancestral:
    """DDPM's sampler: the next x is drawn from the reverse step's normal
    distribution (eq:ancestral-step).

    "large" is DDPM's choice for many steps; with few, "small" adds less noise
    than can still be taken away.
    """

    variance: str | None = None     # None: learned where there is one, else large
    guides_noise = False

    def __post_init__(self) -> None:
        if self.variance not in (None, *VARIANCES):
            raise ValueError(f"the variance is {self.variance!r}; use one of "
                             f"{', '.join(VARIANCES)}, or none")

    def __call__(self, now: Estimate, chain: Chain) -> Tensor:
        place = torch.full((len(now.x),), now.i)
        log_variance = reverse_log_variance(
            now.prediction, chain.schedule, place, self.variance)
        beta = chain.schedule.betas[now.i].item()
        at = levels(chain.schedule, now.i)
        mean = posterior_mean(now.x, now.x0, beta, *at)
        if now.gradient is not None:
            mean = shifted_mean(mean, log_variance.exp(), now.gradient)
        return ancestral_step(mean, log_variance, chain.draw())


def ancestral_step(
    mean: Float[Tensor, "*s"], log_variance: Float[Tensor, "*#s"],
    z: Float[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    r"""eq:ancestral-step: $x_{t-1} = \mu_\theta(x_t, t) + \sigma_t z$."""
    return mean + (0.5 * log_variance).exp() * z


def ddim_sigma(
    alpha_bar: float, alpha_bar_before: float, eta: float | int
) -> float:
    r"""eq:ddim-sigma: $\sigma = \eta\sqrt{\frac{1-\bar\alpha_{\tau_{i-1}}}
    {1-\bar\alpha_{\tau_i}}}
    \sqrt{1-\frac{\bar\alpha_{\tau_i}}{\bar\alpha_{\tau_{i-1}}}}$."""
    kept = alpha_bar / alpha_bar_before
    return eta * ((1 - alpha_bar_before) / (1 - alpha_bar) * (1 - kept))**0.5


def ddim_step(
    x0: Float[Tensor, "*s"], noise: Float[Tensor, "*s"],
    alpha_bar_next: float, sigma: float = 0.0, z: Tensor | None = None,
) -> Float[Tensor, "*s"]:
    r"""eq:ddim-step: $x_{\tau_{i-1}} = \sqrt{\bar\alpha_{\tau_{i-1}}}\hat x_0 +
    \sqrt{1-\bar\alpha_{\tau_{i-1}}-\sigma^2}\,\epsilon_\theta + \sigma z$."""
    x = alpha_bar_next**0.5 * x0 + (1 - alpha_bar_next - sigma**2)**0.5 * noise
    return x if z is None else x + sigma * z


@dataclass(frozen=True)
class DDIM:
    """DDIM's sampler: deterministic at eta = 0, DDPM's with the small variance at eta = 1 (eq:ddim-step)."""

    eta: float | int = 0.0
    guides_noise = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; use a number from 0, no noise, "
                             f"to 1, that of DDPM")

    def __call__(self, now: Estimate, chain: Chain) -> Tensor:
        bar, before = levels(chain.schedule, now.i)
        sigma = ddim_sigma(bar, before, self.eta)
        return ddim_step(now.x0, now.noise, before, sigma,
                         chain.draw() if self.eta else None)


def dpm_step(
    x: Float[Tensor, "*s"], data: Float[Tensor, "*s"],
    alpha_bar: float, alpha_bar_next: float,
) -> Float[Tensor, "*s"]:
    r"""eq:dpm-step: $x_{i-1} = \frac{\sigma_{i-1}}{\sigma_i}x_i
    - \alpha_{i-1}(e^{-h}-1)D$, $h = \lambda_{i-1}-\lambda_i$; here
    $\alpha_i=\sqrt{\bar\alpha_i}$, $\sigma_i=\sqrt{1-\bar\alpha_i}$,
    $\lambda_i=\log(\alpha_i/\sigma_i)$."""
    shrink = ((1 - alpha_bar_next) / (1 - alpha_bar))**0.5
    h = half_log_snr(alpha_bar_next) - half_log_snr(alpha_bar)
    return shrink * x - alpha_bar_next**0.5 * math.expm1(-h) * data


def half_log_snr(alpha_bar: float) -> float:
    r"""eq:dpm-lambda: $\lambda = \frac12\log\frac{\bar\alpha}{1-\bar\alpha}$."""
    return 0.5 * (math.log(alpha_bar) - math.log1p(-alpha_bar))


def even_in_lambda(schedule: NoiseSchedule, count: int) -> list[int]:
    r"""Places of a chain whose $\lambda$ (eq:dpm-lambda) are as evenly spaced
    as the chain allows, both ends included; for ``respaced``.

    Fewer than ``count`` where several would fall on one place.
    """
    values = [half_log_snr(bar) for bar in schedule.alpha_bars.tolist()]
    wanted = torch.linspace(values[0], values[-1], count).double()
    away = (torch.tensor(values).double() - wanted[:, None]).abs()
    return sorted({*away.argmin(dim=1).tolist()})


def dpm_data(
    x0: Float[Tensor, "*s"], before: Float[Tensor, "*s"], ratio: float
) -> Float[Tensor, "*s"]:
    r"""eq:dpm-data: $D = \hat x_0^{(i)} +
    \frac{1}{2r}\big(\hat x_0^{(i)} - \hat x_0^{(i+1)}\big)$,
    $r = (\lambda_i-\lambda_{i+1})/h$."""
    return x0 + (x0 - before) / (2 * ratio)


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++(2M): of second order with one call of the denoiser a step, from the estimates of two steps
    (eq:dpm-step, eq:dpm-data). The first step is of first order, and in chains of fewer than ``short`` steps
    the one to the cleanest level is, too: it is long, and a line through two estimates leads too far (the
    authors' code, github.com/LuChengTHU/dpm-solver: 15)."""

    short: int = 15

    guides_noise = True

    def __call__(self, now: Estimate, chain: Chain) -> Tensor:
        bar, nearer = levels(chain.schedule, now.i)
        data = now.x0
        last = now.i == 1 and len(chain.schedule) < self.short
        if chain.previous is not None and not last:
            noisier = chain.schedule.alpha_bars[chain.previous.i].item()
            a, b, c = map(half_log_snr, (noisier, bar, nearer))
            data = dpm_data(now.x0, chain.previous.x0, (b - a) / (c - b))
        return dpm_step(now.x, data, bar, nearer)


def flow_step(
    x: Float[Tensor, "*s"], noise: Float[Tensor, "*s"],
    alpha_bar: float, alpha_bar_next: float,
) -> Float[Tensor, "*s"]:
    r"""eq:ddim-ode: Euler's step of $d\bar x = \epsilon_\theta\,ds$,
    $\bar x = x/\sqrt{\bar\alpha}$, $s = \sqrt{(1-\bar\alpha)/\bar\alpha}$."""
    ds = noise_to_signal(alpha_bar_next) - noise_to_signal(alpha_bar)
    return alpha_bar_next**0.5 * (x / alpha_bar**0.5 + ds * noise)


def noise_to_signal(alpha_bar: float) -> float:
    r"""eq:ddim-time: $s = \sqrt{(1-\bar\alpha)/\bar\alpha}$."""
    return ((1 - alpha_bar) / alpha_bar)**0.5


@dataclass(frozen=True)
class Heun:
    """Heun's method on the probability-flow ODE: a step of Euler, then one with the mean of both slopes; two
    calls of the denoiser a step (eq:ddim-ode)."""

    guides_noise = True

    def __call__(self, now: Estimate, chain: Chain) -> Tensor:
        bar, before = levels(chain.schedule, now.i)
        guess = flow_step(now.x, now.noise, bar, before)
        there = chain.estimate(guess, now.i - 1)
        return flow_step(now.x, (now.noise + there.noise) / 2, bar, before)


METHODS: dict[str, Callable[[Estimate, Chain], Tensor]] = {
    "ddpm": Ancestral(), "ddim": DDIM(), "dpm": DPMSolver(), "heun": Heun()}
Method = str | Ancestral | DDIM | DPMSolver | Heun


# --------------------------------------------------------------------------------------------------- the loop

class Step(NamedTuple):
    """A moment of the reverse chain: timestep (-1: done), x_t (b, c, …), the estimate of the data there."""

    t: int
    x: Tensor
    x0: Tensor


def estimate_at(
    denoise: Denoiser, schedule: NoiseSchedule, x: Tensor, i: int,
    denoised_fn: DenoisedFn | None = None, guide: Guide | None = None,
    guides_noise: bool = True,
) -> Estimate:
    """Ask the denoiser at place i; the noise is that which belongs to the
    corrected estimate."""
    t = torch.full((len(x),), schedule.timesteps[i].item(), device=x.device)
    bar = schedule.alpha_bars[i].item()
    predicted = split(denoise(x, t), x.shape[1])
    noise = predicted.noise
    gradient = guide(x, t) if guide is not None else None
    if gradient is not None and guides_noise:
        noise = shifted_noise(noise, bar, gradient)
    x0 = x0_from_noise(x, noise, bar)
    if denoised_fn is not None:
        x0 = denoised_fn(x0)
        noise = noise_from_x0(x, x0, bar)
    return Estimate(i, x, x0, noise, predicted, gradient)


@torch.no_grad()
def sample_steps(
    denoise: Denoiser, schedule: NoiseSchedule, shape: Sequence[int],
    method: Method = "ddpm", denoised_fn: DenoisedFn | None = static_clip,
    guide: Guide | None = None, generator: torch.Generator | None = None,
    start: Tensor | None = None, device: torch.device | str | None = None,
) -> Iterator[Step]:
    """The reverse chain, from noise to data: yields each state, and the
    estimate of the data there.

    ``start`` (b, c, …) takes the place of the first noise. The network is in
    the mode that the caller chose.
    """
    if start is not None and start.shape != tuple(shape):
        raise ValueError(f"the chain starts from {tuple(start.shape)}, but "
                         f"data of {tuple(shape)} are wanted; give both the "
                         f"same shape")
    rule = method_of(method)
    first = draw(shape, generator) if start is None else start
    x = first = first.to(device) if device is not None else first

    def estimate(x: Tensor, i: int) -> Estimate:
        return estimate_at(denoise, schedule, x, i, denoised_fn, guide,
                           rule.guides_noise)

    def noise() -> Tensor:
        return draw(shape, generator).to(first)

    previous = None
    for i in reversed(range(len(schedule))):
        now = estimate(x, i)
        yield Step(int(schedule.timesteps[i]), x, now.x0)
        chain = Chain(schedule, estimate, noise, previous)
        x, previous = rule(now, chain) if i else now.x0, now
    yield Step(-1, x, x)


def sample(
    denoise: Denoiser, schedule: NoiseSchedule, shape: Sequence[int],
    method: Method = "ddpm", **options: Any,
) -> Tensor:
    """Data (b, c, …) of a shape, from noise. ``options`` are those of
    ``sample_steps``."""
    for step in sample_steps(denoise, schedule, shape, method, **options):
        x = step.x
    return x


def method_of(method: Method) -> Any:
    """The step of a method by its name. Raises ``ValueError`` for another name."""
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; use one of {', '.join(METHODS)}, or an object as "
                             f"DDIM(eta=1.0)")
        return METHODS[method]
    return method


@torch.no_grad()
def encode(
    denoise: Denoiser, schedule: NoiseSchedule, x: Float[Tensor, "b c *s"]
) -> Float[Tensor, "b c *s"]:
    """DDIM run backwards: the noise that ``sample(…, "ddim", start=noise)`` makes the data x from.

    Each step asks the denoiser where it stands, at the timestep it goes to; there and back is exact in the
    limit of many steps. Nothing is clipped.
    """
    for i in range(len(schedule)):
        to, at = levels(schedule, i)
        t = schedule.timesteps[i].to(x.device).expand(len(x))
        x = flow_step(x, split(denoise(x, t), x.shape[1]).noise, at, to)
    return x
