r"""The continuous view of diffusion: what is learned is the slope of a log-density, and sampling solves an
equation that runs back in time.

Papers: Y. Song and S. Ermon (2019), *Generative Modeling by Estimating Gradients of the Data Distribution*,
arXiv:1907.05600; Y. Song et al. (2021), *Score-Based Generative Modeling through Stochastic Differential
Equations*, arXiv:2011.13456, sec. 3 and app. B (VP-SDE); X. Liu, C. Gong and Q. Liu (2022), *Flow Straight
and Fast*, arXiv:2209.03003 (rectified flow).  Survey: 2.3.
Differs from the papers: nothing; of their equations the variance-preserving one is here, with integrators of
a fixed step.

Time s runs from 0 (data) to 1 (noise); $w$ is a Brownian motion, $\nabla\log q$ the score of noised data.
Everything works on points (b, d) as on pictures (b, c, y, x).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmlearn.nn.configuration import check
from mmlearn.text2image.diffusion import Level, draw

Field = Callable[[Tensor, float], Tensor]           # x (b, …) and time s -> a score or a velocity (b, …)

# ----------------------------------------------------------------------------------------------- the score


def score_from_noise(
    noise: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:score-noise: $\nabla_{x_t}\log q(x_t) =
    -\text{E}[\epsilon|x_t] / \sqrt{1-\bar\alpha_t}$."""
    return -noise / (1 - alpha_bar)**0.5


def noise_from_score(
    score: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:score-to-noise: $\text{E}[\epsilon|x_t] =
    -\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log q(x_t)$."""
    return -(1 - alpha_bar)**0.5 * score


def tweedie(
    x: Float[Tensor, "*s"], score: Float[Tensor, "*s"], alpha_bar: Level
) -> Float[Tensor, "*s"]:
    r"""eq:score-tweedie: $\text{E}[x_0|x_t] = \big(x_t +
    (1-\bar\alpha_t)\nabla_{x_t}\log q(x_t)\big) / \sqrt{\bar\alpha_t}$."""
    return (x + (1 - alpha_bar) * score) / alpha_bar**0.5


def score_matching_loss(
    score: Float[Tensor, "b *s"], noise: Float[Tensor, "b *s"],
    alpha_bar: Float[Tensor, " b"],
) -> Float[Tensor, " b"]:
    r"""eq:score-matching: $\|s_\theta(x_t) -
    \nabla_{x_t}\log q(x_t|x_0)\|^2$, where the slope is
    $-\epsilon/\sqrt{1-\bar\alpha_t}$; a mean over dimensions."""
    bar = alpha_bar.reshape(-1, *[1] * (noise.dim() - 1))
    return (score - score_from_noise(noise, bar)).square().flatten(1).mean(1)


# -------------------------------------------------------------------------------- the equation of the noise

@dataclass(frozen=True)
class VPSDE:
    r"""The variance-preserving equation with a linear $\beta(s)$: the limit of DDPM's chain for many steps.

    ``low`` and ``high`` are $\beta(0)$ and $\beta(1)$: T times DDPM's $\beta_1$ and $\beta_T$.
    """

    low: float = 0.1                    # beta at the data
    high: float = 20.0                  # beta at the noise

    def __post_init__(self) -> None:
        check(self)

    def beta(self, s: float) -> float:
        r"""eq:score-beta: $\beta(s) = \beta(0) + s\,(\beta(1)-\beta(0))$."""
        return self.low + s * (self.high - self.low)

    def alpha_bar(self, s: float) -> float:
        r"""eq:score-alpha-bar: $\bar\alpha(s) = e^{-\int_0^s\beta(u)du}$."""
        return math.exp(-(self.low * s + (self.high - self.low) * s**2 / 2))


def forward_drift(x: Float[Tensor, "*s"], beta: float) -> Float[Tensor, "*s"]:
    r"""eq:score-sde: $dx = -\frac12\beta(s)\,x\,ds + \sqrt{\beta(s)}\,dw$;
    the part before ds."""
    return -0.5 * beta * x


def reverse_drift(
    x: Float[Tensor, "*s"], score: Float[Tensor, "*s"], beta: float
) -> Float[Tensor, "*s"]:
    r"""eq:score-reverse: $dx = \big(-\frac12\beta x -
    \beta\nabla_x\log q_s(x)\big)ds + \sqrt\beta\,d\bar w$, for ds < 0."""
    return forward_drift(x, beta) - beta * score


def flow_drift(
    x: Float[Tensor, "*s"], score: Float[Tensor, "*s"], beta: float
) -> Float[Tensor, "*s"]:
    r"""eq:score-flow: $\frac{dx}{ds} = -\frac12\beta x -
    \frac12\beta\nabla_x\log q_s(x)$: half the score, no noise, the same
    densities."""
    return forward_drift(x, beta) - 0.5 * beta * score


def diffuse(
    x: Float[Tensor, "b *s"], sde: VPSDE = VPSDE(), steps: int = 1000,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[float, Tensor]]:
    """Data to noise (eq:score-sde), by Euler and Maruyama: yields (s, x), the data first."""
    h = 1 / steps
    yield 0.0, x
    for n in range(steps):
        beta = sde.beta(n * h)
        noise = draw(x.shape, generator).to(x)
        x = x + h * forward_drift(x, beta) + (h * beta)**0.5 * noise
        yield (n + 1) * h, x


def reverse_sde(
    score: Field, x: Float[Tensor, "b *s"], sde: VPSDE = VPSDE(),
    steps: int = 1000, generator: torch.Generator | None = None,
) -> Iterator[tuple[float, Tensor]]:
    """Noise x to data (eq:score-reverse), by Euler and Maruyama: yields
    (s, x), the noise first."""
    h = 1 / steps
    yield 1.0, x
    for n in range(steps, 0, -1):
        beta = sde.beta(n * h)
        x = x - h * reverse_drift(x, score(x, n * h), beta)
        if n > 1:                               # the last step adds no noise
            x = x + (h * beta)**0.5 * draw(x.shape, generator).to(x)
        yield (n - 1) * h, x


def probability_flow(
    score: Field, x: Float[Tensor, "b *s"], sde: VPSDE = VPSDE(),
    steps: int = 100, start: float = 1.0, end: float = 1e-3,
) -> Iterator[tuple[float, Tensor]]:
    """Along eq:score-flow from ``start`` to ``end``, by Heun's method: yields
    (s, x). With the two exchanged it runs from data to noise."""
    h = (end - start) / steps
    yield start, x
    for n in range(steps):
        s, s_next = start + n * h, start + (n + 1) * h
        slope = flow_drift(x, score(x, s), sde.beta(s))
        guess = x + h * slope
        there = flow_drift(guess, score(guess, s_next), sde.beta(s_next))
        x = x + h * (slope + there) / 2
        yield s_next, x


# ------------------------------------------------------------------------------------------ straight paths

def straight_path(
    x0: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], s: Level
) -> Float[Tensor, "*s"]:
    r"""eq:score-straight: $x_s = (1-s)\,x_0 + s\,\epsilon$, rectified flow."""
    return (1 - s) * x0 + s * noise


def straight_velocity(
    x: Float[Tensor, "*s"], score: Float[Tensor, "*s"], s: Level
) -> Float[Tensor, "*s"]:
    r"""eq:score-straight-velocity: $v = \text{E}[\epsilon - x_0|x_s] =
    -\big(x_s + s\nabla\log q_s(x_s)\big)/(1-s)$, for s < 1."""
    return -(x + s * score) / (1 - s)


def straight_level(s: Level) -> Level:
    r"""eq:score-straight-level: $\bar\alpha = \frac{(1-s)^2}{(1-s)^2+s^2}$:
    where diffusion has as much noise for the signal as a straight path."""
    return (1 - s)**2 / ((1 - s)**2 + s**2)


def straight_velocity_from_noise(
    x: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], s: Level
) -> Float[Tensor, "*s"]:
    r"""eq:score-straight-noise: $v = (\epsilon - x_s)/(1-s)$, from a network that
    predicts the noise, asked at
    $\bar\alpha$ of eq:score-straight-level and $x_s/\sqrt{(1-s)^2+s^2}$."""
    return (noise - x) / (1 - s)


def rectified_flow(
    velocity: Field, x: Float[Tensor, "b *s"], steps: int = 25,
    start: float = 1.0,
) -> Iterator[tuple[float, Tensor]]:
    """Noise x to data by Euler's method on $dx/ds = v(x, s)$: yields (s, x)."""
    yield start, x
    for n in range(steps):
        s = start * (1 - n / steps)
        x = x - start / steps * velocity(x, s)
        yield start * (1 - (n + 1) / steps), x
