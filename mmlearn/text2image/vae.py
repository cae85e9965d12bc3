r"""The variational autoencoder: pictures from noise by likelihood, through a bound that can be trained.

Papers: D. Kingma and M. Welling (2014), *Auto-Encoding Variational Bayes*, ICLR, arXiv:1312.6114, sec. 2
(bound and reparameterisation), sec. 5 and app. B, C (Gaussians, networks); D. Rezende, S. Mohamed and D.
Wierstra (2014), arXiv:1401.4082; I. Higgins et al. (2017), *beta-VAE*, ICLR (the weight of the KL); Y. Burda,
R. Grosse and R. Salakhutdinov (2016), arXiv:1509.00519, sec. 3 (importance weights).  Survey: 2.2.
Differs from the paper: the encoder gives $\log\sigma^2$ within [-30, 20], as later codes do. The sizes of the
paper's networks (500 and 200 hidden units, tanh) are those that later accounts of it report; we could not
check them in the paper itself. The miniatures are convolutional, for pictures of the scene world.

Pictures are (b, c, y, x): in [0, 1] for the Bernoulli likelihood, in [-1, 1] for the Gaussian; letters of
shapes: z numbers of a latent vector, k samples. All likelihoods and divergences are nats per picture, that is
sums over pixels and over latent numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text_for_vision.blockwise import single

LIKELIHOODS = ("bernoulli", "gaussian", "learned")
NETWORKS = ("mlp", "convolutional")
LEAST, MOST = -30.0, 20.0               # bounds of log sigma^2


@dataclass(frozen=True)
class VAEConfig:
    size: tuple[int, int] = (28, 28)    # pixels: rows, columns
    channels: int = 1                   # numbers of a pixel
    latent: int = 20                    # n_z, numbers of a latent vector
    hidden: tuple[int, ...] = (500,)    # units of the hidden layers, or channels of the convolutions
    network: str = "mlp"                # "mlp", or "convolutional": each layer halves the side
    likelihood: str = "bernoulli"       # "bernoulli", "gaussian" of deviation s, "learned": s for each pixel
    s: float = 1.0                      # standard deviation of a pixel, for "gaussian"

    def __post_init__(self) -> None:
        check(self, s=(1e-3, 1e3))
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}; use one of {', '.join(NETWORKS)}")
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood is {self.likelihood!r}; use one of {', '.join(LIKELIHOODS)}")
        if not self.hidden:
            raise ValueError("hidden is empty; give the width of at least one layer, such as (500,)")
        if self.network == "convolutional" and any(side % 2 ** len(self.hidden) for side in self.size):
            raise ValueError(f"pictures of {self.size[0]} x {self.size[1]} pixels cannot be halved "
                             f"{len(self.hidden)} times; use sides that {2 ** len(self.hidden)} divides")

    @classmethod
    def mnist(cls) -> "VAEConfig":
        """Digits: one hidden layer of 500 (sizes as later accounts have them): 815,824 parameters."""
        return cls()

    @classmethod
    def frey(cls) -> "VAEConfig":
        """Frey's faces, 28 x 20 grey pixels: a hidden layer of 200, and a deviation for each pixel."""
        return cls((28, 20), 1, 10, (200,), "mlp", "learned")

    @classmethod
    def mini(cls) -> "VAEConfig":
        """A convolutional miniature for scenes of 32 pixels with 32 latent numbers."""
        return cls((32, 32), 3, 32, (32, 64, 128), "convolutional", "gaussian", 0.2)

    @classmethod
    def plane(cls) -> "VAEConfig":
        """The miniature with two latent numbers, which can be shown as a plane."""
        return cls((32, 32), 3, 2, (32, 64, 128), "convolutional", "gaussian", 0.2)

    @property
    def numbers(self) -> int:
        """D, numbers of a picture."""
        return self.channels * math.prod(self.size)


class Posterior(NamedTuple):
    """q(z | x): its ``mu`` and ``log_var``, both (b, z)."""

    mu: Tensor
    log_var: Tensor


class Reconstructed(NamedTuple):
    """A picture, encoded and decoded: the decoder's ``output`` (b, c, y, x), or (b, 2c, y, x) where it
    learns the deviation of each pixel, too; the ``posterior``; the ``z`` (b, z) that was decoded."""

    output: Tensor
    posterior: Posterior
    z: Tensor


# -------------------------------------------------------------------------------------------------- equations

def reparameterise(
    mu: Float[Tensor, "*n"], log_var: Float[Tensor, "*n"],
    epsilon: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    r"""eq:vae-reparameterise: $z=\mu+\sigma\odot\epsilon$, $\epsilon\sim\mathcal N(0,I)$: the draw does not
    depend on the parameters, so a gradient passes to $\mu$ and $\sigma$."""
    return mu + (log_var / 2).exp() * epsilon


def kl_to_prior(
    mu: Float[Tensor, "b *z"], log_var: Float[Tensor, "b *z"]
) -> Float[Tensor, " b"]:
    r"""eq:vae-kl: $\mathrm{KL}(q\,\|\,\mathcal N(0,I))=-\tfrac12\sum_j\big(1+\log\sigma_j^2-\mu_j^2
    -\sigma_j^2\big)$, nats per picture; 0 only where $\mu=0$ and $\sigma=1$."""
    mu, log_var = single(mu).flatten(1), single(log_var).flatten(1)
    terms = 1 + log_var - mu.square() - log_var.exp()
    return -terms.sum(dim=1) / 2


def gaussian_kl(
    mean: Float[Tensor, "*s"], log_variance: Float[Tensor, "*#s"],
    other: Float[Tensor, "*s"], other_log_variance: Float[Tensor, "*#s"],
) -> Float[Tensor, "*s"]:
    r"""eq:diffusion-gaussian-kl: $\text{KL} = \frac12\big(\log\frac{s_2^2}{s_1^2}
    + \frac{s_1^2 + (m_1-m_2)^2}{s_2^2} - 1\big)$."""
    difference = log_variance - other_log_variance
    square = (mean - other)**2 * (-other_log_variance).exp()
    return 0.5 * (square + difference.exp() - difference - 1)


def kl_between(
    mu: Float[Tensor, "b *z"], log_var: Float[Tensor, "b *z"],
    mu2: Float[Tensor, "b *z"], log_var2: Float[Tensor, "b *z"]
) -> Float[Tensor, " b"]:
    r"""eq:vae-kl-two: $\sum_j\Big(\log\frac{\sigma_{2j}}{\sigma_{1j}}
    +\frac{\sigma_{1j}^2+(\mu_{1j}-\mu_{2j})^2}{2\sigma_{2j}^2}-\frac12\Big)$, for a prior that
    is learned; not the same both ways."""
    return gaussian_kl(mu, log_var, mu2, log_var2).flatten(1).sum(dim=1)


def log_normal(
    z: Float[Tensor, "*#b z"], mu: Float[Tensor, "*#b z"],
    log_var: Float[Tensor, "*#b z"]
) -> Float[Tensor, "*#b"]:
    r"""eq:vae-normal: $\log\mathcal N(z;\mu,\mathrm{diag}\,\sigma^2)=-\tfrac12\sum_j\big(\log2\pi
    +\log\sigma_j^2+(z_j-\mu_j)^2/\sigma_j^2\big)$."""
    squares = (z - mu).square() / log_var.exp()
    return -(math.log(2 * math.pi) + log_var + squares).sum(dim=-1) / 2


def bernoulli_log_likelihood(
    logits: Float[Tensor, "b *d"], x: Float[Tensor, "b *d"]
) -> Float[Tensor, " b"]:
    r"""eq:vae-bernoulli: $\sum_i\big(x_i\log\hat x_i+(1-x_i)\log(1-\hat x_i)\big)$, $\hat x=\sigma(a)$: minus
    the cross-entropy, **summed** over the pixels; x in [0, 1]."""
    entropy = F.binary_cross_entropy_with_logits(
        single(logits), single(x), reduction="none")
    return -entropy.flatten(1).sum(dim=1)


def gaussian_log_likelihood(
    x_hat: Float[Tensor, "b *d"], x: Float[Tensor, "b *d"],
    s: float | int = 1.0
) -> Float[Tensor, " b"]:
    r"""eq:vae-gaussian: $-\frac{\lVert x-\hat x\rVert^2}{2s^2}-\frac D2\log(2\pi s^2)$, with one deviation s
    for all pixels."""
    squares = (single(x) - single(x_hat)).square().flatten(1)
    constant = squares.shape[1] / 2 * math.log(2 * math.pi * s**2)
    return -squares.sum(dim=1) / (2 * s**2) - constant


def elbo(
    log_likelihood: Float[Tensor, " b"], kl: Float[Tensor, " b"]
) -> Float[Tensor, " b"]:
    r"""eq:vae-elbo: $\mathbb E_q[\log p_\theta(x\mid z)]-\mathrm{KL}(q(z\mid x)\,\|\,p(z))\le\log
    p_\theta(x)$, with one sample for the expectation."""
    return log_likelihood - kl


def beta_elbo(
    log_likelihood: Float[Tensor, " b"], kl: Float[Tensor, " b"],
    beta: float | int
) -> Float[Tensor, " b"]:
    r"""eq:vae-beta: $\mathbb E_q[\log p_\theta(x\mid z)]-\beta\,\mathrm{KL}(q(z\mid x)\,\|\,p(z))$: still a
    bound, but looser, for $\beta>1$; none for $\beta<1$."""
    return log_likelihood - beta * kl


def implied_variance(weight: float | int, numbers: int) -> float:
    r"""eq:vae-mean-for-sum: $s^2=\lambda D/2$: $\frac1D\lVert x-\hat x\rVert^2+\lambda\,\mathrm{KL}$ is, but
    for a factor and a constant, the bound of a Gaussian decoder with this variance: a mean where a sum
    belongs."""
    return weight * numbers / 2


def importance_weighted(
    log_weights: Float[Tensor, "b k"]
) -> Float[Tensor, " b"]:
    r"""eq:vae-importance: $\log\frac1K\sum_kw_k$, $w_k=\frac{p_\theta(x\mid z_k)\,p(z_k)}{q(z_k\mid x)}$: a
    bound that, in expectation, rises to $\log p_\theta(x)$ with K; for K = 1 it is the ELBO."""
    samples = log_weights.shape[1]
    return log_weights.logsumexp(dim=1) - math.log(samples)


def pathwise_gradients(
    f: Callable[[Tensor], Tensor], mu: Float[Tensor, " z"],
    sigma: Float[Tensor, " z"], epsilon: Float[Tensor, "k z"]
) -> Float[Tensor, "k z"]:
    r"""eq:vae-pathwise: $\nabla_\mu\mathbb E_q[f(z)]=\mathbb E_\epsilon[\nabla f(\mu+\sigma\epsilon)]$: its
    summand for each sample. ``f`` maps (k, z) to (k)."""
    z = (mu + sigma * epsilon).detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(f(z).sum(), z)[0]


def score_gradients(
    f: Callable[[Tensor], Tensor], mu: Float[Tensor, " z"],
    sigma: Float[Tensor, " z"], epsilon: Float[Tensor, "k z"]
) -> Float[Tensor, "k z"]:
    r"""eq:vae-score: $\nabla_\mu\mathbb E_q[f(z)]=\mathbb E_q\big[f(z)\,\nabla_\mu\log q(z)\big]$, and
    $\nabla_\mu\log q=(z-\mu)/\sigma^2$: its summand for each sample. It needs no gradient of f and scatters
    more."""
    z = mu + sigma * epsilon
    return f(z)[:, None] * (z - mu) / sigma.square()


# --------------------------------------------------------------------------------------------------- networks

def encoder_network(config: VAEConfig, outputs: int) -> nn.Sequential:
    """Pictures (b, c, y, x) -> (b, outputs)."""
    if config.network == "mlp":
        widths = [config.numbers, *config.hidden]
        layers = [part for into, out in zip(widths, widths[1:]) for part in (nn.Linear(into, out), nn.Tanh())]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], outputs))
    widths = [config.channels, *config.hidden]
    halvings = [part for into, out in zip(widths, widths[1:])
                for part in (nn.Conv2d(into, out, 4, stride=2, padding=1), nn.ReLU())]
    last = widths[-1] * math.prod(side >> len(config.hidden) for side in config.size)
    return nn.Sequential(*halvings, nn.Flatten(), nn.Linear(last, outputs))


def decoder_network(config: VAEConfig) -> nn.Sequential:
    """Latent vectors (b, z) -> (b, c, y, x), or (b, 2c, y, x) where deviations are learned."""
    channels = config.channels * (2 if config.likelihood == "learned" else 1)
    if config.network == "mlp":
        widths = [config.latent, *reversed(config.hidden)]
        layers = [part for into, out in zip(widths, widths[1:]) for part in (nn.Linear(into, out), nn.Tanh())]
        return nn.Sequential(*layers, nn.Linear(widths[-1], channels * math.prod(config.size)),
                             nn.Unflatten(1, (channels, *config.size)))
    widths = [*reversed(config.hidden), channels]
    small = tuple(side >> len(config.hidden) for side in config.size)
    doublings = [part for into, out in zip(widths, widths[1:])
                 for part in (nn.ReLU(), nn.ConvTranspose2d(into, out, 4, stride=2, padding=1))]
    return nn.Sequential(nn.Linear(config.latent, widths[0] * math.prod(small)),
                         nn.Unflatten(1, (widths[0], *small)), *doublings)


class LatentModel(nn.Module):
    """What the autoencoders share: a decoder (b, z) -> (b, e, y, x), and what its output says of pictures."""

    def __init__(self, config: VAEConfig, codes: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder_network(config, codes)
        self.decoder = decoder_network(config)

    def log_likelihood(
        self, output: Float[Tensor, "b e y x"], images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, " b"]:
        """Nats per picture, of the kind that the configuration names."""
        if self.config.likelihood == "bernoulli":
            if images.numel() and not 0 <= float(images.min()) <= float(images.max()) <= 1:
                raise ValueError(f"pixels are from {float(images.min()):.3g} to {float(images.max()):.3g}, a "
                                 "Bernoulli likelihood wants 0 to 1; rescale them, or use 'gaussian'")
            return bernoulli_log_likelihood(output, images)
        if self.config.likelihood == "gaussian":
            return gaussian_log_likelihood(output, images, self.config.s)
        mu, log_var = output.flatten(1).chunk(2, dim=1)
        return log_normal(images.flatten(1), mu.sigmoid() * 2 - 1, log_var.clamp(LEAST, MOST))

    def pictures(self, output: Float[Tensor, "b e y x"]) -> Float[Tensor, "b c y x"]:
        """What the decoder's output shows: expected pixels, in the range of the data."""
        if self.config.likelihood == "bernoulli":
            return output.sigmoid()
        if self.config.likelihood == "gaussian":
            return output.clamp(-1, 1)
        return output[:, : self.config.channels].sigmoid() * 2 - 1

    def decode(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b c y x"]:
        """Latent vectors -> pictures."""
        if z.shape[1] != self.config.latent:
            raise ValueError(f"latent vectors have {z.shape[1]} numbers, the model wants "
                             f"{self.config.latent}; draw them with sample(n), or encode pictures")
        return self.pictures(self.decoder(z))

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n c y x"]:
        """n pictures decoded from the prior N(0, I)."""
        weight = next(self.parameters())
        z = standard_normal(weight.new_empty(n, self.config.latent), generator)
        return self.decode(z)


class VAE(LatentModel):
    """Encoder, decoder and the bound between them (eq:vae-elbo, eq:vae-reparameterise, eq:vae-kl).

    ``forward``: pictures (b, c, y, x) -> ``Reconstructed``; while training z is drawn, in evaluation mode it
    is the mean. ``sample`` decodes noise. Raises ``ValueError`` for pictures of another size.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, 2 * config.latent)

    def encode(self, images: Float[Tensor, "b c y x"]) -> Posterior:
        """Mean and logarithm of the variance of q(z | x)."""
        check_images(images, self.config)
        mu, log_var = self.encoder(images).chunk(2, dim=1)
        return Posterior(mu, log_var.clamp(LEAST, MOST))

    def forward(
        self, images: Float[Tensor, "b c y x"],
        generator: torch.Generator | None = None
    ) -> Reconstructed:
        posterior = self.encode(images)
        z = posterior.mu
        if self.training:
            epsilon = standard_normal(z, generator)
            z = reparameterise(*posterior, epsilon)
        return Reconstructed(self.decoder(z), posterior, z)


class Autoencoder(LatentModel):
    """The contrast: the same networks, a code instead of a distribution, no prior and nothing to sample from.

    ``forward``: pictures (b, c, y, x) -> ``Reconstructed`` whose posterior is a point (log_var at its least).
    """

    def __init__(self, config: VAEConfig) -> None:
        if config.likelihood == "learned":
            raise ValueError("likelihood is 'learned', and a plain autoencoder has no deviations; use "
                             "'gaussian' or 'bernoulli'")
        super().__init__(config, config.latent)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Reconstructed:
        check_images(images, self.config)
        z = self.encoder(images)
        point = Posterior(z, torch.full_like(z, LEAST))
        return Reconstructed(self.decoder(z), point, z)


def check_images(images: Tensor, config: VAEConfig) -> None:
    """Refuse pictures of another size."""
    if images.shape[1:] != (config.channels, *config.size):
        raise ValueError(f"pictures are {' x '.join(map(str, images.shape[1:]))}, the model wants "
                         f"{config.channels} x {config.size[0]} x {config.size[1]} (channels, rows, "
                         "columns); resize them")


def standard_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers in the shape of ``like``, drawn on the CPU: the same on all devices."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


# ----------------------------------------------------------------------------------------------------- losses

class VAELoss(NamedTuple):
    """Minus the bound, and its two parts; nats per picture, means over the batch."""

    loss: Tensor
    log_likelihood: Tensor
    kl: Tensor


def vae_loss(
    model: VAE, images: Float[Tensor, "b c y x"], beta: float | int = 1.0,
    generator: torch.Generator | None = None
) -> VAELoss:
    """Minus eq:vae-elbo (or eq:vae-beta), averaged over the batch, with one z drawn for each picture, in
    evaluation mode, too: with the mean for z it would be no bound."""
    posterior = model.encode(images)
    epsilon = standard_normal(posterior.mu, generator)
    output = model.decoder(reparameterise(*posterior, epsilon))
    log_likelihood = model.log_likelihood(output, images)
    kl = kl_to_prior(*posterior)
    bound = (elbo(log_likelihood, kl) if beta == 1
             else beta_elbo(log_likelihood, kl, beta))
    return VAELoss(-bound.mean(), log_likelihood.mean(), kl.mean())


def autoencoder_loss(
    model: Autoencoder, images: Float[Tensor, "b c y x"]
) -> Float[Tensor, ""]:
    """Minus the log-likelihood of the reconstruction, averaged over the batch; there is nothing else."""
    return -model.log_likelihood(model(images).output, images).mean()


@torch.no_grad()
def log_weights(
    model: VAE, images: Float[Tensor, "b c y x"], samples: int,
    generator: torch.Generator | None = None
) -> Float[Tensor, "b k"]:
    r"""$\log w_k$ of eq:vae-importance for ``samples`` draws of z for each picture; their mean over k is an
    estimate of the ELBO. One draw at a time: memory does not grow with ``samples``."""
    if samples < 1:
        raise ValueError(f"samples is {samples}; draw at least one z for each picture")
    mu, log_var = model.encode(images)
    prior = torch.zeros_like(mu)
    columns = []
    for _ in range(samples):
        z = reparameterise(mu, log_var, standard_normal(mu, generator))
        likelihood = model.log_likelihood(model.decoder(z), images)
        columns.append(likelihood + log_normal(z, prior, prior)
                       - log_normal(z, mu, log_var))
    return torch.stack(columns, dim=1)


def bits_per_dimension(nats: Float[Tensor, "*b"], numbers: int) -> Float[Tensor, "*b"]:
    r"""eq:vae-bits: $-\log p(x)\,/\,(D\log2)$: nats per picture as bits per number of it."""
    return -nats / (numbers * math.log(2))
