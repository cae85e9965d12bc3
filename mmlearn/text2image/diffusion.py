r"""Diffusion: noise that is added step by step, and what a network has to learn to take it away.

Papers: J. Ho, A. Jain and P. Abbeel (2020), *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239,
sec. 2 and 3; A. Nichol and P. Dhariwal (2021), *Improved Denoising Diffusion Probabilistic Models*,
arXiv:2102.09672, sec. 3 (learned variance, cosine schedule, fewer steps).  Survey: 2.3.
Differs from the papers: nothing. The bound in the hybrid loss is scaled as in the released code.

Letters: $\beta_t$ is the variance of the noise of step t, $\alpha_t = 1 - \beta_t$, $\bar\alpha_t$ the
product of the first t of them, with $\bar\alpha_0 = 1$ (DDIM's paper writes $\alpha_t$ for
$\bar\alpha_t$). Steps count from 1 to T in formulas and from 0 in code. A **denoiser** is a callable
``model(x, t, **conditions)`` with noised data (b, c, …) and timesteps (b) from 0 to T-1, that returns the
noise (b, c, …), or (b, 2c, …) if it learns its variance, too. Data lie in [-1, 1]; losses are in nats, or in
bits where that is said.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.text2image.vae import gaussian_kl

VARIANCES = ("large", "small", "learned")
Denoiser = Callable[..., Tensor]
Level = float | Float[Tensor, "*#s"]            # one number, or one for each example, as (b, 1, …)
Either = TypeVar("Either", float, Tensor)

# ----------------------------------------------------------------------------------------------- schedules


def linear_betas(T: int = 1000) -> Float[Tensor, " T"]:
    r"""eq:diffusion-linear: $\beta_t = \frac{1000}{T}\big(10^{-4}
    + \frac{t-1}{T-1}(0.02 - 10^{-4})\big)$."""
    scale = 1000 / T
    return torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64)


def cosine_betas(T: int = 1000) -> Float[Tensor, " T"]:
    r"""eq:diffusion-cosine: $\beta_t = \min\big(1 - f(t)/f(t-1), 0.999\big)$ with
    $f(t) = \cos^2\frac{\pi}{2}\frac{t/T + 0.008}{1.008}$."""
    t = torch.arange(T + 1, dtype=torch.float64)
    f = ((t / T + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def scaled_linear_betas(
    T: int = 1000, first: float = 0.00085, last: float = 0.012
) -> Float[Tensor, " T"]:
    r"""eq:diffusion-scaled-linear: $\sqrt{\beta_t}$ grows linearly from
    $\sqrt{\beta_1}$ to $\sqrt{\beta_T}$."""
    return torch.linspace(first**0.5, last**0.5, T, dtype=torch.float64)**2


def respaced_betas(
    alpha_bars: Float[Tensor, " T"], kept: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    r"""eq:diffusion-respaced: $\beta'_i = 1 -
    \bar\alpha_{\tau_i} / \bar\alpha_{\tau_{i-1}}$."""
    now = alpha_bars[kept]
    before = torch.cat([now.new_ones(1), now[:-1]])
    return 1 - now / before


def space_timesteps(T: int, sections: str | int) -> list[int]:
    """Which of T timesteps a shorter chain keeps, ascending, by the rule of the released code of iDDPM and
    GLIDE.

    "100" (or 100): evenly, both ends included. "10,10,3,2,2": the range is cut into five equal parts, of
    which 10, 10, 3, 2 and 2 are kept. "ddim25": every T/25-th from 0 on. "fast27": as "10,10,3,2,2", with
    the noisiest replaced by T-3. Raises ``ValueError`` for what has no such timesteps.
    """
    text = str(sections)
    if text == "fast27":
        return [*space_timesteps(T, "10,10,3,2,2")[:-1], T - 3]
    if text.startswith("ddim"):
        count = _counts(text[4:], text)[0]
        for every in range(1, T + 1):
            if len(range(0, T, every)) == count:
                return [*range(0, T, every)]
        raise ValueError(f"no whole stride keeps {count} of {T} timesteps; use "
                         f'"{count}" without "ddim"')
    counts, kept, start = _counts(text, text), [], 0
    for j, count in enumerate(counts):
        size = T // len(counts) + (j < T % len(counts))
        if count > size:
            raise ValueError(f"{count} timesteps are to be kept of a part that "
                             f"has {size}; keep at most {size}")
        stride, at = (size - 1) / max(count - 1, 1), 0.0
        for _ in range(count):
            kept.append(start + round(at))
            at += stride                # a sum, so that halves round as released
        start += size
    return kept


def _counts(text: str, whole: str) -> list[int]:
    """Whole numbers above 0, separated by commas."""
    try:
        counts = [int(one) for one in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise ValueError(f'timesteps are "{whole}"; use a number as "100", sections as "10,10,3,2,2", '
                         f'"ddim25" or "fast27"')
    return counts


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much noise each step adds, and which timestep a network is told at each.

    ``betas`` (n) in float64, ``timesteps`` (n), ascending: the timesteps of the chain that the network was
    trained for. All tables are on the CPU. Raises ``ValueError`` for variances outside ]0, 1[ and for
    timesteps that do not ascend.
    """

    betas: Tensor                       # n variances of the noise, float64
    timesteps: Tensor                   # n timesteps that the network is fed, long

    def __post_init__(self) -> None:
        if self.betas.dim() != 1 or self.betas.dtype != torch.float64 or not len(self.betas):
            raise ValueError(f"betas are {self.betas.dtype} of shape {tuple(self.betas.shape)}; give one row "
                             f"of float64")
        if not ((self.betas > 0) & (self.betas < 1)).all():
            raise ValueError(f"betas lie between {self.betas.min():g} and {self.betas.max():g}; each is the "
                             f"variance of a step and lies between 0 and 1")
        if self.timesteps.shape != self.betas.shape or (self.timesteps.diff() <= 0).any():
            raise ValueError(f"{len(self.betas)} variances have timesteps {self.timesteps.tolist()[:5]}…; "
                             f"give each one timestep, ascending")

    @classmethod
    def of(cls, betas: Tensor) -> "NoiseSchedule":
        """The whole chain of these variances, with timesteps 0 to T-1."""
        return cls(betas, torch.arange(len(betas)))

    @classmethod
    def linear(cls, T: int = 1000) -> "NoiseSchedule":
        """DDPM's (eq:diffusion-linear)."""
        return cls.of(linear_betas(T))

    @classmethod
    def cosine(cls, T: int = 1000) -> "NoiseSchedule":
        """iDDPM's and GLIDE's (eq:diffusion-cosine)."""
        return cls.of(cosine_betas(T))

    @classmethod
    def scaled_linear(cls, T: int = 1000, first: float = 0.00085, last: float = 0.012) -> "NoiseSchedule":
        """Latent diffusion's (eq:diffusion-scaled-linear)."""
        return cls.of(scaled_linear_betas(T, first, last))

    def respaced(self, sections: str | int | Sequence[int]) -> "NoiseSchedule":
        """A shorter chain with the same marginals: "100", 100, "10,10,3,2,2", "ddim25", "fast27" (see
        ``space_timesteps``), or the timesteps themselves as a list."""
        places = space_timesteps(len(self), sections) if isinstance(sections, str | int) else sorted(sections)
        if not places or places[0] < 0 or places[-1] >= len(self):
            raise ValueError(f"timesteps {places[:3]}… are to be kept; choose from 0 to {len(self) - 1}")
        kept = torch.tensor(places)
        return NoiseSchedule(respaced_betas(self.alpha_bars, kept), self.timesteps[kept])

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def alpha_bars(self) -> Tensor:
        r"""$\bar\alpha_t$ for t = 1 to n."""
        return (1 - self.betas).cumprod(0)

    @cached_property
    def alpha_bars_before(self) -> Tensor:
        r"""$\bar\alpha_{t-1}$ for t = 1 to n; the first is 1."""
        return torch.cat([self.betas.new_ones(1), self.alpha_bars[:-1]])

    @cached_property
    def posterior_variances(self) -> Tensor:
        r"""$\tilde\beta_t$ for t = 1 to n; the first is 0 (eq:diffusion-posterior-variance)."""
        return posterior_variance(self.betas, self.alpha_bars, self.alpha_bars_before)

    def log_variances(self, kind: str) -> Tensor:
        r"""Log-variances of the reverse steps: of $\beta_t$ ("large") or $\tilde\beta_t$ ("small").

        The first step has that of $\tilde\beta_2$ in both, as in the released code: $\tilde\beta_1$ is 0.
        """
        if kind not in VARIANCES[:2]:
            raise ValueError(f'the variance is {kind!r}; use "large" or "small", or a network that learns it')
        table = (self.betas if kind == "large" else self.posterior_variances).clone()
        if len(table) > 1:
            table[0] = self.posterior_variances[1]
        else:
            table[0] = self.betas[0]
        return table.log()


def per_example(
    table: Tensor, i: Int[Tensor, " b"], x: Float[Tensor, "b *s"]
) -> Tensor:
    """Entries i of a table as (b, 1, …), in the type and on the device of x."""
    return table[i.cpu()].to(x).reshape(-1, *[1] * (x.dim() - 1))


# ------------------------------------------------------------------------------------- forward and posterior

def forward_step(
    x: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], beta: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-step: $x_t = \sqrt{1-\beta_t}\,x_{t-1}
    + \sqrt{\beta_t}\,\epsilon$."""
    return (1 - beta)**0.5 * x + beta**0.5 * noise


def noised(
    x0: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-marginal: $x_t = \sqrt{\bar\alpha_t}\,x_0
    + \sqrt{1-\bar\alpha_t}\,\epsilon$."""
    return alpha_bar**0.5 * x0 + (1 - alpha_bar)**0.5 * noise


def posterior_variance(
    beta: Float[Tensor, " T"], alpha_bar: Float[Tensor, " T"],
    alpha_bar_before: Float[Tensor, " T"],
) -> Float[Tensor, " T"]:
    r"""eq:diffusion-posterior-variance: $\tilde\beta_t =
    \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t$."""
    return (1 - alpha_bar_before) / (1 - alpha_bar) * beta


def posterior_mean(
    x: Float[Tensor, "*s"], x0: Float[Tensor, "*s"], beta: Level,
    alpha_bar: Level, alpha_bar_before: Level,
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-posterior-mean: $\tilde\mu_t =
    \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}x_0 +
    \frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t$."""
    of_x0 = alpha_bar_before**0.5 * beta / (1 - alpha_bar)
    of_x = (1 - beta)**0.5 * (1 - alpha_bar_before) / (1 - alpha_bar)
    return of_x0 * x0 + of_x * x


def posterior_mean_from_noise(
    x: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], beta: Level,
    alpha_bar: Level,
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-posterior-mean-noise: $\tilde\mu_t = \frac1{\sqrt{\alpha_t}}
    \big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon\big)$."""
    return (x - beta / (1 - alpha_bar)**0.5 * noise) / (1 - beta)**0.5


# ------------------------------------------------------------------------------ what a network may predict

def x0_from_noise(
    x: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-x0: $\hat x_0 =
    (x_t - \sqrt{1-\bar\alpha_t}\,\epsilon) / \sqrt{\bar\alpha_t}$."""
    return (x - (1 - alpha_bar)**0.5 * noise) / alpha_bar**0.5


def noise_from_x0(
    x: Float[Tensor, "*s"], x0: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-noise: $\epsilon =
    (x_t - \sqrt{\bar\alpha_t}\,x_0) / \sqrt{1-\bar\alpha_t}$."""
    return (x - alpha_bar**0.5 * x0) / (1 - alpha_bar)**0.5


def velocity(
    x0: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-velocity: $v = \sqrt{\bar\alpha_t}\,\epsilon
    - \sqrt{1-\bar\alpha_t}\,x_0$."""
    return alpha_bar**0.5 * noise - (1 - alpha_bar)**0.5 * x0


def x0_from_velocity(
    x: Float[Tensor, "*s"], v: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-x0-velocity: $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t
    - \sqrt{1-\bar\alpha_t}\,v$."""
    return alpha_bar**0.5 * x - (1 - alpha_bar)**0.5 * v


def noise_from_velocity(
    x: Float[Tensor, "*s"], v: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-noise-velocity: $\epsilon = \sqrt{1-\bar\alpha_t}\,x_t
    + \sqrt{\bar\alpha_t}\,v$."""
    return (1 - alpha_bar)**0.5 * x + alpha_bar**0.5 * v


def velocity_weight(alpha_bar: Either) -> Either:
    r"""eq:diffusion-velocity-weight: $1/\bar\alpha_t$, with which the error of the noise is that of the
    velocity: $\|v - \hat v\|^2 = \|\epsilon - \hat\epsilon\|^2 / \bar\alpha_t$."""
    return 1 / alpha_bar


# ------------------------------------------------------------------------------------------ the reverse step

def learned_log_variance(
    output: Float[Tensor, "*s"], log_small: Level, log_large: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-learned-variance: $\log\sigma_t^2 = u\log\beta_t
    + (1-u)\log\tilde\beta_t$, $u = (\text{output}+1)/2$."""
    u = (output + 1) / 2                                # not clamped
    return u * log_large + (1 - u) * log_small


class Prediction(NamedTuple):
    """What a denoiser says of (b, c, …): the noise, and a map for the variance if it learns that."""

    noise: Tensor                       # b c …
    variance: Tensor | None             # b c …, or None


def split(output: Float[Tensor, "b n *s"], channels: int) -> Prediction:
    """A denoiser's output for data of c channels, as noise and variance. Raises ``ValueError`` if it has
    neither c nor 2c channels."""
    if output.shape[1] == channels:
        return Prediction(output, None)
    if output.shape[1] != 2 * channels:
        raise ValueError(f"the denoiser gave {output.shape[1]} channels for "
                         f"data of {channels}; it should give {channels} of "
                         f"noise, or {2 * channels} with those of the variance")
    return Prediction(*output.chunk(2, dim=1))


def reverse_log_variance(
    predicted: Prediction, schedule: NoiseSchedule, i: Int[Tensor, " b"],
    kind: str | None = None,
) -> Tensor:
    """Log-variance of the reverse step from x at places i of the schedule: learned if the network learns it
    and ``kind`` names none, else "large" or "small" ("large" is the default)."""
    if kind == "learned" or (kind is None and predicted.variance is not None):
        if predicted.variance is None:
            raise ValueError('the variance is "learned", but the denoiser '
                             'gives noise only; use "large" or "small"')
        tables = schedule.log_variances("small"), schedule.betas.log()
        small, large = (per_example(one, i, predicted.noise) for one in tables)
        return learned_log_variance(predicted.variance, small, large)
    table = schedule.log_variances(kind or "large")
    return per_example(table, i, predicted.noise)


# ------------------------------------------------------------------------------------------------- the bound

def prior_kl(
    x0: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-prior: $\text{KL}(q(x_T|x_0)\|N(0,I)) =
    \frac12\big(\bar\alpha_T x_0^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\big)$."""
    a = torch.as_tensor(alpha_bar, dtype=x0.dtype, device=x0.device)
    return 0.5 * (a * x0**2 - a - torch.log1p(-a))


def discretised_gaussian_nll(
    x0: Float[Tensor, "*s"], mean: Float[Tensor, "*s"], log_std: Level
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-discretised: $-\log\int_{x-1/255}^{x+1/255} N(u;\mu,\sigma^2)du$
    in [-1, 1]; the outer bins reach to infinity."""
    sharp = torch.as_tensor(-log_std, dtype=x0.dtype, device=x0.device)
    sharp = sharp.exp()
    high = (x0 - mean + 1 / 255) * sharp
    low = (x0 - mean - 1 / 255) * sharp
    # A bin right of the mean is mirrored: small tails keep their digits.
    flip = x0 > mean
    upper = torch.special.ndtr(torch.where(flip, -low, high))
    lower = torch.special.ndtr(torch.where(flip, -high, low))
    inside = (upper - lower).clamp_min(1e-12).log()
    first = torch.special.log_ndtr(high)                # from -infinity
    last = torch.special.log_ndtr(-low)                 # to infinity
    inner = torch.where(x0 > 0.999, last, inside)
    return -torch.where(x0 < -0.999, first, inner)


def bound_weight(beta: Level, alpha_bar: Level, variance: Level) -> Level:
    r"""eq:diffusion-bound-weight: $\frac{\beta_t^2}
    {2\sigma_t^2\alpha_t(1-\bar\alpha_t)}$, what the simple loss drops."""
    return beta**2 / (2 * variance * (1 - beta) * (1 - alpha_bar))


def bound_term(
    predicted: Prediction, x0: Float[Tensor, "b *s"], x: Float[Tensor, "b *s"],
    schedule: NoiseSchedule, i: Int[Tensor, " b"],
    kind: str | None = None, clip: bool = True,
) -> Float[Tensor, " b"]:
    r"""eq:diffusion-bound-term: $L_{t-1} =
    \text{KL}(q(x_{t-1}|x_t,x_0)\|p_\theta(x_{t-1}|x_t))$, for $t = 1$
    $-\log p_\theta(x_0|x_1)$; nats a dimension."""
    beta, bar, before = (per_example(table, i, x) for table in
                         (schedule.betas, schedule.alpha_bars,
                          schedule.alpha_bars_before))
    hat = x0_from_noise(x, predicted.noise, bar)
    hat = hat.clamp(-1, 1) if clip else hat
    mean = posterior_mean(x, hat, beta, bar, before)
    log_variance = reverse_log_variance(predicted, schedule, i, kind)
    truth = posterior_mean(x, x0, beta, bar, before)
    small = per_example(schedule.log_variances("small"), i, x)
    kl = gaussian_kl(truth, small, mean, log_variance)
    nll = discretised_gaussian_nll(x0, mean, 0.5 * log_variance)
    first = (i == 0).to(x.device).reshape(beta.shape)
    return torch.where(first, nll, kl).flatten(1).mean(1)


class Bound(NamedTuple):
    """The bound on the negative log-likelihood of pictures, in bits a dimension."""

    total: Tensor                       # b: the prior's term and all others
    prior: Tensor                       # b: L_T
    terms: Tensor                       # b n: L_0 to L_{n-1}
    errors: Tensor                      # b n: mean squared error of the noise


@torch.no_grad()
def bits_per_dimension(
    model: Denoiser, x: Float[Tensor, "b c *s"], schedule: NoiseSchedule,
    kind: str | None = None, clip: bool = True,
    generator: torch.Generator | None = None, **conditions: Any,
) -> Bound:
    r"""eq:diffusion-bound: $L = L_T + \sum_{t>1} L_{t-1} + L_0$, with one draw of noise for each step.

    ``x`` in [-1, 1] on the grid of 256 values; ``kind`` is the variance ("large", "small", "learned"). It
    calls the model once for each step of the schedule.
    """
    terms, errors = [], []
    for place in range(len(schedule)):
        i = torch.full((len(x),), place)
        noise = draw(x.shape, generator).to(x)
        x_t = noised(x, noise, schedule.alpha_bars[place].item())
        t = schedule.timesteps[i].to(x.device)
        predicted = split(model(x_t, t, **conditions), x.shape[1])
        terms.append(bound_term(predicted, x, x_t, schedule, i, kind, clip))
        errors.append((predicted.noise - noise).square().flatten(1).mean(1))
    prior = prior_kl(x, schedule.alpha_bars[-1].item()).flatten(1).mean(1)
    prior, each = prior / math.log(2), torch.stack(terms, dim=1) / math.log(2)
    return Bound(prior + each.sum(1), prior, each, torch.stack(errors, dim=1))


def draw(
    shape: Sequence[int], generator: torch.Generator | None = None
) -> Tensor:
    """Standard normal numbers, drawn on the CPU: the same on all devices."""
    return torch.randn(*shape, generator=generator)


# ---------------------------------------------------------------------------------------------------- losses

def simple_loss(
    noise: Float[Tensor, "b *s"], other: Float[Tensor, "b *s"]
) -> Float[Tensor, " b"]:
    r"""eq:diffusion-simple: $L_{simple} = \text{E}\|\epsilon -
    \epsilon_\theta(x_t,t)\|^2$, a mean over dimensions."""
    return (noise - other).square().flatten(1).mean(1)


def hybrid_loss(
    predicted: Prediction, noise: Float[Tensor, "b *s"],
    x0: Float[Tensor, "b *s"], x: Float[Tensor, "b *s"],
    schedule: NoiseSchedule, i: Int[Tensor, " b"],
) -> Float[Tensor, " b"]:
    r"""eq:diffusion-hybrid: $L_{hybrid} = L_{simple}
    + 0.001\,T\,L_{t-1}$, in bits, its gradient stopped at the mean."""
    stopped = Prediction(predicted.noise.detach(), predicted.variance)
    bits = bound_term(stopped, x0, x, schedule, i, "learned", clip=False)
    bits = bits / math.log(2)
    return simple_loss(noise, predicted.noise) + len(schedule) / 1000 * bits


def diffusion_loss(
    model: Denoiser, x0: Float[Tensor, "b c *s"], schedule: NoiseSchedule,
    generator: torch.Generator | None = None, weights: Tensor | None = None,
    **conditions: Any,
) -> Float[Tensor, ""]:
    """The loss of a batch: noise it to random steps and ask for the noise.

    The simple loss, or the hybrid if the model learns its variance. ``weights``
    (n) multiplies the squared error of each step, as ``bound_weight`` and
    ``velocity_weight`` would.
    """
    i = torch.randint(len(schedule), (len(x0),), generator=generator)
    noise = draw(x0.shape, generator).to(x0)
    x = noised(x0, noise, per_example(schedule.alpha_bars, i, x0))
    output = model(x, schedule.timesteps[i].to(x0.device), **conditions)
    predicted = split(output, x0.shape[1])
    loss = error = simple_loss(noise, predicted.noise)
    if predicted.variance is not None:
        loss = hybrid_loss(predicted, noise, x0, x, schedule, i)
    if weights is not None:
        loss = loss + (weights[i].to(loss) - 1) * error
    return loss.mean()


def forward_chain(
    x0: Float[Tensor, "b *s"], schedule: NoiseSchedule,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """The forward chain, one step after the other (eq:diffusion-step): yields the timestep and x_t, after
    (-1, x0)."""
    x = x0
    yield -1, x
    for t, beta in zip(schedule.timesteps.tolist(), schedule.betas.tolist()):
        x = forward_step(x, draw(x.shape, generator).to(x), beta)
        yield t, x
