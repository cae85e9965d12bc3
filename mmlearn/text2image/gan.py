r"""The first GAN, on points: two small networks, distributions whose densities are known, and a count of
modes.

Papers: I. Goodfellow et al. (2014), *Generative Adversarial Nets*, arXiv:1406.2661, algorithm 1; A.
Srivastava et al. (2017), *VEEGAN*, arXiv:1705.07761, sec. 4.1, and Z. Lin et al. (2018), *PacGAN*,
arXiv:1712.04086, sec. 4.1 (rings of Gaussians, covered modes, good samples).  Survey: 2.1.1.
Differs from the papers: ReLU networks of equal width instead of maxout and dropout, and Adam instead of
momentum (the 2014 recipe is for digits); the generator's loss is an argument.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.adversarial import discriminator_loss, non_saturating_loss
from mmlearn.train import History, fit, warmup_cosine

Draw = Callable[[int], Tensor]                      # n -> n points (n, d)
Loss = Callable[[Tensor], Tensor]                   # logits of generated points (b) -> their loss
PairLoss = Callable[[Tensor, Tensor], Tensor]       # logits of real and of generated points -> their loss


# ------------------------------------------------------------------------------- distributions that are known


@dataclass(frozen=True)
class GaussianMixture:
    """Equally likely Gaussians of one width: draws points, and knows its density everywhere."""

    centres: Float[Tensor, "m d"]
    std: float | int                            # of each coordinate, the same in all directions

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std is {self.std}; a Gaussian has a positive width, such as 0.02")

    @classmethod
    def ring(cls, modes: int = 8, radius: float | int = 2, std: float | int = 0.02) -> "GaussianMixture":
        """The eight Gaussians of many GAN papers: centres on a circle, far apart for their width."""
        angle = 2 * math.pi * torch.arange(modes) / modes
        return cls(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        """n points."""
        mode = torch.randint(len(self.centres), (n,), generator=generator)
        drawn = torch.randn(n, self.centres.shape[1], generator=generator, dtype=self.centres.dtype)
        return self.centres[mode] + self.std * drawn

    def log_density(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        r"""eq:gaussian-mixture: $\log p(x)=\log\frac1m\sum_k\mathcal N(x;\mu_k,\sigma^2I)$."""
        d = self.centres.shape[1]
        squares = (x[:, None] - self.centres).square().sum(dim=-1)                          # n m
        each = -squares / (2 * self.std**2) - d / 2 * math.log(2 * math.pi * self.std**2)
        return each.logsumexp(dim=1) - math.log(len(self.centres))


def grid(least: float | int, most: float | int, steps: int, d: int = 2) -> Float[Tensor, "n d"]:
    """The ``steps`` to the power d points of a regular grid, the last coordinate running fastest."""
    line = torch.linspace(least, most, steps)
    return torch.cartesian_prod(*[line] * d).reshape(-1, d)


# ---------------------------------------------------------------------------------------------- mode collapse


@dataclass(frozen=True)
class ModeCoverage:
    """What of a mixture a sample reaches."""

    modes: int                          # centres with at least one good sample
    good: float                         # share of samples near a centre
    divergence: float                   # KL of the good samples' modes from equal shares, in nats


def mode_shares(
    samples: Float[Tensor, "n d"], mixture: GaussianMixture, within: float | int = 3
) -> tuple[Float[Tensor, " m"], float]:
    r"""eq:mode-shares: $s_k=\frac{\#\{i:k=\mathrm{argmin}_j\lVert x_i-\mu_j\rVert,\,\lVert x_i-\mu_k\rVert\le
    3\sigma\}}{\#\{\text{good}\}}$: of the good samples, those no further than ``within`` widths from a
    centre, the part that each centre has; and the part of all samples that is good."""
    distance, nearest = torch.cdist(samples.to(mixture.centres), mixture.centres).min(dim=1)
    good = distance <= within * mixture.std
    counts = torch.bincount(nearest[good], minlength=len(mixture.centres)).double()
    return counts / counts.sum().clamp(min=1), float(good.double().mean())


def mode_coverage(
    samples: Float[Tensor, "n d"], mixture: GaussianMixture, within: float | int = 3
) -> ModeCoverage:
    r"""eq:mode-divergence: $\sum_ks_k\log(m\,s_k)$ of eq:mode-shares, from 0 (every mode as often) to $\log
    m$ (all samples at one), with the number of modes reached and the share of good samples. With no good
    sample the divergence is infinite. Raises ``ValueError`` without samples."""
    if len(samples) == 0:
        raise ValueError("there is no sample to count modes of; draw at least one")
    shares, good = mode_shares(samples, mixture, within)
    divergence = float(torch.xlogy(shares, len(shares) * shares).sum()) if good else math.inf
    return ModeCoverage(int((shares > 0).sum()), good, divergence)


# --------------------------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class GANConfig:
    noise: int = 2              # z, numbers of noise a point
    points: int = 2             # d, coordinates of a point
    width: int = 64             # of the hidden layers of both networks
    layers: int = 2             # hidden layers

    def __post_init__(self) -> None:
        check(self, layers=(1.0, 1000.0))

    @classmethod
    def mini(cls) -> "GANConfig":
        """Two hidden layers of 64, for points in the plane."""
        return cls()


def mlp(into: int, width: int, layers: int, out: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    sizes = [into, *[width] * layers]
    hidden = [m for a, b in zip(sizes, sizes[1:]) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, out))


class PointDiscriminator(nn.Module):
    """Points (b, d) -> logits (b)."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.net = mlp(config.points, config.width, config.layers, 1)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        return self.net(x)[:, 0]


class GAN(nn.Module):
    """``generator``: noise (b, z) -> points (b, d); ``discriminator``: points (b, d) -> logits (b)."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = mlp(config.noise, config.width, config.layers, config.points)
        self.discriminator = PointDiscriminator(config)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n d"]:
        """n generated points, on the model's device; the noise is drawn on the CPU, the same on all
        devices."""
        z = torch.randn(n, self.config.noise, generator=generator)
        return self.generator(z.to(next(self.parameters()).device))

    def forward(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b d"]:
        return self.generator(z)


# ------------------------------------------------------------------------------------------------ algorithm 1


def game_of_points(
    loss: Loss = non_saturating_loss,
    d_loss: PairLoss = discriminator_loss,
    d_steps: int = 1,
) -> Callable[[GAN, Tensor], Iterator[tuple[str, Tensor]]]:
    """One round of algorithm 1 for ``mmlearn.train.fit``: who moves, down which loss. The discriminator moves
    ``d_steps`` times (the paper's k), each time with its part of the batch, then the generator once."""
    def play(gan: GAN, real: Tensor) -> Iterator[tuple[str, Tensor]]:
        D = gan.discriminator
        for part in real.chunk(d_steps):
            fake = gan.sample(len(part)).detach()
            yield "discriminator", d_loss(D(part), D(fake))
        yield "generator", loss(D(gan.sample(len(part))))
    return play


def train_gan(
    gan: GAN, data: Draw, steps: int, *, loss: Loss = non_saturating_loss,
    d_loss: PairLoss = discriminator_loss, d_steps: int = 1, batch: int = 256, lr: float | int = 1e-3,
    d_lr: float | int | None = None, seed: int = 0, on_step: Callable[[int, Any], Any] | None = None,
    progress: bool = False, title: str = "GAN",
) -> History:
    r"""``steps`` rounds of ``game_of_points`` with Adam ($\beta_1=0.5$); ``data(n)`` draws n points.

    ``d_lr`` is the discriminator's learning rate (default: ``lr``). The history's scalars "discriminator" and
    "generator" are the losses of their last moves. Raises ``ValueError`` for less than one step of either.
    """
    if min(steps, d_steps) < 1:
        raise ValueError(f"steps is {steps}, d_steps {d_steps}; both are at least 1")
    groups: list[dict[str, Any]] = [
        {"params": gan.generator.parameters()},
        {"params": gan.discriminator.parameters(), "lr": lr if d_lr is None else d_lr}]
    optimizer = torch.optim.Adam(groups, lr=lr, betas=(0.5, 0.999))
    return fit(gan, game_of_points(loss, d_loss, d_steps), lambda step: data(d_steps * batch), steps=steps,
               optimizer=optimizer, seed=seed, on_step=on_step, progress=progress, title=title)


def train_discriminator(
    discriminator: nn.Module, data: Draw, fake: Draw, steps: int, *, batch: int = 512, lr: float | int = 3e-3,
    seed: int = 0, progress: bool = False,
) -> History:
    """A discriminator against a generator that does not move: its logits approach eq:gan-optimal-logit, and
    minus its loss approaches eq:gan-criterion. The learning rate falls to 0 along a cosine."""
    def loss(net: nn.Module, points: Tensor) -> Tensor:
        real, drawn = points
        return discriminator_loss(net(real), net(drawn))

    return fit(discriminator, loss, lambda step: torch.stack([data(batch), fake(batch)]), steps=steps,
               optimizer=torch.optim.Adam(discriminator.parameters()), schedule=warmup_cosine(lr, 0, steps),
               seed=seed, progress=progress, title="discriminator")
