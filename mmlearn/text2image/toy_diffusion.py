r"""A denoiser that needs no training: mixtures of Gaussians, whose noised density is known in closed form.

Paper: none of its own; the denoiser is that of ``mmlearn.text2image.diffusion`` and shows, without a network,
what J. Ho et al. (2020), arXiv:2006.11239, and its successors do with a perfect one.  Survey: 2.3.

A Gaussian $N(m_k, s_k^2 I)$ of the data is $N(\sqrt{\bar\alpha_t}m_k, v_k I)$ at step t, with
$v_k = \bar\alpha_t s_k^2 + 1 - \bar\alpha_t$; $r_k(x)$ is the probability that x comes from component k.
Points are (b, d), in the plane d is 2. Labels are whole numbers; ``UNLABELLED`` stands for "any", the empty
condition.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmlearn.text2image.diffusion import NoiseSchedule

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Mixture:
    """k Gaussians in d dimensions, each with a label.

    ``weights`` (k) that sum to 1, ``means`` (k, d), standard deviations ``stds`` (k, 0 for a point),
    ``labels`` (k). Raises ``ValueError`` for shapes that do not fit and for weights that are no distribution.
    """

    weights: Tensor                     # k
    means: Tensor                       # k d
    stds: Tensor                        # k
    labels: Tensor                      # k, long, from 0

    def __post_init__(self) -> None:
        k = len(self.means)
        if self.means.dim() != 2 or not self.weights.shape == self.stds.shape == self.labels.shape == (k,):
            raise ValueError(f"means are {tuple(self.means.shape)}, weights {tuple(self.weights.shape)}, "
                             f"stds {tuple(self.stds.shape)}, labels {tuple(self.labels.shape)}; give (k, d) "
                             f"means and k of the others")
        if self.weights.min() <= 0 or abs(self.weights.sum().item() - 1) > 1e-6 or self.stds.min() < 0:
            raise ValueError(f"weights are {self.weights.tolist()}, stds {self.stds.tolist()}; weights lie "
                             f"above 0 and sum to 1, stds are not negative")

    @classmethod
    def ring(cls, modes: int = 8, radius: float = 0.7, std: float = 0.05) -> "Mixture":
        """Equal modes on a circle in the plane, each with its own label."""
        angle = torch.arange(modes) * (2 * math.pi / modes)
        means = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
        return cls(torch.full((modes,), 1 / modes), means, torch.full((modes,), std), torch.arange(modes))

    @classmethod
    def overlapping(cls, gap: float = 0.5, std: float = 0.3) -> "Mixture":
        """Two classes in the plane that overlap: where guidance is seen to push them apart."""
        means = torch.tensor([[-gap / 2, 0.0], [gap / 2, 0.0]])
        return cls(torch.full((2,), 0.5), means, torch.full((2,), std), torch.arange(2))

    def to(self, x: Tensor) -> "Mixture":
        """The mixture in the type and on the device of x."""
        return Mixture(self.weights.to(x), self.means.to(x), self.stds.to(x), self.labels.to(x.device))

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
        """n points and their labels."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator)
        return self.means[k] + self.stds[k, None] * noise, self.labels[k]

    def log_joint(self, x: Float[Tensor, "b d"], alpha_bar: Tensor | float = 1.0) -> Float[Tensor, "b k"]:
        r"""$\log w_k N(x; \sqrt{\bar\alpha}m_k, v_k I)$ for every point and component; ``alpha_bar`` is a
        number, or (b, 1)."""
        own, alpha_bar = self.to(x), torch.as_tensor(alpha_bar, dtype=x.dtype, device=x.device)
        v = component_variance(own.stds, alpha_bar)                                     # b k, or k
        away = (x[:, None] - alpha_bar.sqrt()[..., None] * own.means).square().sum(-1)  # b k
        d = x.shape[1]
        return own.weights.log() - 0.5 * (away / v + d * (2 * math.pi * v).log())

    def log_density(self, x: Float[Tensor, "b d"], alpha_bar: Tensor | float = 1.0) -> Float[Tensor, " b"]:
        r"""$\log q(x_t)$ of the noised mixture."""
        return self.log_joint(x, alpha_bar).logsumexp(1)

    def log_classes(self, x: Float[Tensor, "b d"], alpha_bar: Tensor | float = 1.0) -> Float[Tensor, "b c"]:
        r"""$\log p(y|x_t)$: the perfect classifier of noised points, for classifier guidance."""
        joint, labels = self.log_joint(x, alpha_bar), self.labels.to(x.device)
        of = [joint[:, labels == y].logsumexp(1) for y in range(int(labels.max()) + 1)]
        return torch.stack(of, dim=1).log_softmax(1)

    def expected_noise(
        self, x: Float[Tensor, "b d"], alpha_bar: Tensor | float,
        labels: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b d"]:
        r"""eq:score-mixture: $\text{E}[\epsilon|x_t] = \sqrt{1-\bar\alpha_t}
        \sum_k r_k(x_t)\,(x_t - \sqrt{\bar\alpha_t}m_k)/v_k$."""
        own = self.to(x)
        bar = torch.as_tensor(alpha_bar, dtype=x.dtype, device=x.device)
        joint = self.log_joint(x, alpha_bar)
        if labels is not None:
            other = labels[:, None] != own.labels
            other = other & (labels != UNLABELLED)[:, None]
            joint = joint.masked_fill(other, -math.inf)
        r = joint.softmax(dim=1) / component_variance(own.stds, bar)    # b k
        pull = r.sum(1, keepdim=True) * x - bar.sqrt() * (r @ own.means)
        return (1 - bar).sqrt() * pull


def component_variance(std: Float[Tensor, " k"], alpha_bar: Tensor) -> Tensor:
    r"""eq:score-mixture-variance: $v_k = \bar\alpha_t s_k^2 + 1 - \bar\alpha_t$."""
    return alpha_bar * std**2 + 1 - alpha_bar


class MixtureDenoiser:
    """The perfect denoiser of a mixture, ``denoiser(x, t, labels=None)`` (eq:score-mixture).

    x (b, d), original timesteps t (b), labels (b) or none. Raises ``ValueError`` for a label of no component.
    """

    def __init__(self, mixture: Mixture, schedule: NoiseSchedule) -> None:
        self.mixture, self.schedule = mixture, schedule
        self._known = {*mixture.labels.tolist(), UNLABELLED}

    def level(self, t: Int[Tensor, " b"]) -> Float[Tensor, "b 1"]:
        r"""$\bar\alpha_t$ of each point."""
        return self.schedule.alpha_bars[t.cpu()].to(t.device)[:, None]

    def __call__(
        self, x: Float[Tensor, "b d"], t: Int[Tensor, " b"],
        labels: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b d"]:
        if labels is not None and not {*labels.tolist()} <= self._known:
            raise ValueError(f"labels are {sorted({*labels.tolist()})}; use "
                             f"those of the mixture, {sorted(self._known)}")
        return self.mixture.expected_noise(x, self.level(t), labels)

    def classifier(
        self, x: Float[Tensor, "b d"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c"]:
        """Log-probabilities of the classes of noised points."""
        return self.mixture.log_classes(x, self.level(t))


def tilted_gaussian(
    mean: float | int, variance: float | int, other: float | int,
    other_variance: float | int, scale: float | int,
) -> tuple[float, float]:
    r"""eq:guidance-tilt: $p(x|y)^s p(x)^{1-s}$ of two Gaussians is one with
    $\frac1{v} = \frac{s}{v_c} + \frac{1-s}{v_u}$,
    $m = v\big(\frac{s\,m_c}{v_c} + \frac{(1-s)m_u}{v_u}\big)$."""
    precision = scale / variance + (1 - scale) / other_variance
    if precision <= 0:
        raise ValueError(f"at a scale of {scale:g} the precision is "
                         f"{precision:g}, no density; take a smaller scale")
    sum_ = scale * mean / variance + (1 - scale) * other / other_variance
    return sum_ / precision, 1 / precision
