r"""The first stage of latent diffusion: a variational autoencoder that is hardly variational, with a
perceptual distance and a discriminator.

Paper: R. Rombach, A. Blattmann, D. Lorenz, P. Esser and B. Ommer (2022), *High-Resolution Image Synthesis
with Latent Diffusion Models*, CVPR, arXiv:2112.10752, sec. 3.1, app. E.1 and G.  Survey: 2.3.1.
Differs from the paper: nothing by default. The authors' code has a log variance of the pixels in its loss,
but hands it to no optimiser, so that it stays 0; ``learn_variance`` learns it. As in ``vqgan``, the
discriminator judges the reconstruction from before the autoencoder's step.

Pictures are in [-1, 1]. What a diffusion model sees are latents times ``scale``, which makes their standard
deviation about 1: ``encode`` and ``decode`` do that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmlearn.nn.configuration import check
from mmlearn.text2image.autoencoder import AutoencoderConfig, Decoder, Encoder
from mmlearn.text2image.vae import LEAST, MOST, kl_to_prior, reparameterise
from mmlearn.text2image.vqgan import (
    Distance,
    PatchConfig,
    PatchDiscriminator,
    VQGANLossConfig,
    patch_generator_loss,
    patch_hinge_loss,
    weigh,
)
from mmlearn.text_for_vision.blockwise import single


@dataclass(frozen=True)
class KLAutoencoderConfig:
    autoencoder: AutoencoderConfig = field(default_factory=lambda: AutoencoderConfig(
        multipliers=(1, 2, 4, 4), attention=(), latent=4, double=True))
    embed: int = 4                      # channels of the latents
    scale: float = 0.18215              # latents times this have a standard deviation of about 1

    def __post_init__(self) -> None:
        check(self, scale=(1e-6, 1e6))
        if not self.autoencoder.double:
            raise ValueError("the encoder gives one number a channel; mean and variance are two, set "
                             "double=True")

    @classmethod
    def stable_diffusion(cls) -> "KLAutoencoderConfig":
        """8 times smaller, 4 channels: 83,653,863 parameters."""
        return cls()

    @classmethod
    def f4(cls) -> "KLAutoencoderConfig":
        """4 times smaller, 3 channels."""
        return cls(AutoencoderConfig(multipliers=(1, 2, 4), attention=(), latent=3, double=True), 3, 1.0)

    @classmethod
    def f16(cls) -> "KLAutoencoderConfig":
        """16 times smaller, 16 channels."""
        return cls(AutoencoderConfig(latent=16, double=True), 16, 1.0)

    @classmethod
    def f32(cls) -> "KLAutoencoderConfig":
        """32 times smaller, 64 channels."""
        return cls(AutoencoderConfig(multipliers=(1, 1, 2, 2, 4, 4), attention=(16, 32), latent=64,
                                     double=True), 64, 1.0)

    @classmethod
    def mini(cls, factor: int = 4) -> "KLAutoencoderConfig":
        """A miniature for scenes of 64 pixels: latents 4 x 16 x 16, or 4 x 8 x 8 with ``factor`` 8."""
        if factor not in (4, 8):
            raise ValueError(f"factor is {factor}; the miniature reduces 4 or 8 times")
        multipliers = (1, 2, 4) if factor == 4 else (1, 2, 4, 4)
        return cls(AutoencoderConfig(16, multipliers, 1, (), 4, True, groups=8), 4, 1.0)


@dataclass(frozen=True)
class KLLossConfig:
    perceptual: float = 1.0             # w_p
    adversarial: float = 0.5            # w_d, by which the adaptive weight is multiplied
    kl: float = 1e-6                    # weight of the divergence from N(0, 1)
    start: int = 50_001                 # step with which the game begins, counted from 0
    learn_variance: bool = False        # the log variance of the pixels is learned, or stays 0

    def __post_init__(self) -> None:
        check(self, start=(0, 10**9))

    @classmethod
    def code(cls) -> "KLLossConfig":
        """The authors' code."""
        return cls()

    @classmethod
    def mini(cls) -> "KLLossConfig":
        """For the miniature, which plays after its first thousand steps."""
        return cls(perceptual=0.3, start=1000, learn_variance=True)


# -------------------------------------------------------------------------------------------------- equations


def summed_nll(
    x: Float[Tensor, "b c y x"], x_hat: Float[Tensor, "b c y x"],
    distance: Float[Tensor, " b"] | float, s: Float[Tensor, ""],
    w: float | int = 1.0,
) -> Float[Tensor, ""]:
    r"""eq:kl-autoencoder-nll: $L_{nll}=\sum_{i=1}^n\Big(\frac{|x_i-\hat x_i|
    +w_p\,d(x,\hat x)}{e^s}+s\Big)$ over the n numbers of a picture, the mean
    over pictures: a Laplace density of scale $e^s$, but for constants."""
    n = x[0].numel()
    errors = (single(x) - single(x_hat)).abs().flatten(1).sum(dim=1)
    return ((errors + n * w * distance) / s.exp() + n * s).mean()


def best_log_variance(error: Float[Tensor, ""]) -> Float[Tensor, ""]:
    r"""eq:kl-autoencoder-variance: $e^{s^*}=\frac1n\sum_i\big(|x_i-\hat x_i|
    +w_pd\big)$, where $\partial L_{nll}/\partial s=0$; ``error`` is that
    mean."""
    return error.log()


def kl_autoencoder_loss(
    nll: Float[Tensor, ""], kl: Float[Tensor, ""],
    w_kl: float | int = 1e-6,
) -> Float[Tensor, ""]:
    r"""eq:kl-autoencoder-loss: $L=L_{nll}+\lambda w_dL_G+w_{KL}\,
    \mathrm{KL}\big(q(z|x)\,\|\,N(0,1)\big)$; the first argument is the sum
    of the first two terms (eq:vqgan-adaptive gives $\lambda$)."""
    return nll + w_kl * kl


def latent_scale(z: Float[Tensor, "b c y x"]) -> Float[Tensor, ""]:
    r"""eq:kl-autoencoder-scale: $1/\hat\sigma$, with $\hat\sigma^2=\frac1n
    \sum_i(z_i-\hat\mu)^2$ over all numbers of a batch of latents: by this
    they are multiplied before noise is added."""
    return 1 / single(z).std(correction=0)


# ------------------------------------------------------------------------------------------------------ model


class LatentPosterior(NamedTuple):
    """The distribution of latents given pictures: mean and log variance (b, c, h, w), before scaling."""

    mu: Tensor
    log_var: Tensor

    def sample(
        self, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Latents, with a gradient for both."""
        epsilon = torch.empty_like(self.mu).normal_(generator=generator)
        return reparameterise(self.mu, self.log_var, epsilon)

    def kl(self) -> Float[Tensor, " b"]:
        """The divergence from N(0, 1) of each picture, in nats."""
        return kl_to_prior(single(self.mu), single(self.log_var))


class KLAutoencoder(nn.Module):
    """Pictures (b, 3, y, x) in [-1, 1] -> latents (b, c, y/f, x/f) and back.

    ``encode`` gives scaled latents, drawn or with ``mode`` the means, ``decode`` takes them;
    ``posterior`` and ``draw`` are the same without the scale. ``forward`` draws pictures again from latents
    that were drawn (``generator``) and gives the posterior.
    """

    def __init__(self, config: KLAutoencoderConfig) -> None:
        super().__init__()
        self.config, latent = config, config.autoencoder.latent
        self.encoder = Encoder(config.autoencoder)
        self.to_moments = nn.Conv2d(2 * latent, 2 * config.embed, 1)
        self.from_latents = nn.Conv2d(config.embed, latent, 1)
        self.decoder = Decoder(config.autoencoder)

    def posterior(
        self, images: Float[Tensor, "b c y x"]
    ) -> LatentPosterior:
        mu, log_var = self.to_moments(self.encoder(images)).chunk(2, dim=1)
        return LatentPosterior(mu, log_var.clamp(LEAST, MOST))

    def draw(
        self, latents: Float[Tensor, "b z h w"]
    ) -> Float[Tensor, "b c y x"]:
        return self.decoder(self.from_latents(latents))

    @torch.no_grad()
    def encode(
        self, images: Float[Tensor, "b c y x"], mode: bool = False,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b z h w"]:
        posterior = self.posterior(images)
        latents = posterior.mu if mode else posterior.sample(generator)
        return self.config.scale * latents

    def decode(
        self, latents: Float[Tensor, "b z h w"]
    ) -> Float[Tensor, "b c y x"]:
        return self.draw(latents / self.config.scale)

    def forward(
        self, images: Float[Tensor, "b c y x"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b c y x"], LatentPosterior]:
        posterior = self.posterior(images)
        return self.draw(posterior.sample(generator)), posterior


# --------------------------------------------------------------------------------------------------- the game


class LogVariance(nn.Module):
    """The scale of the errors of pixels, one number for all: s of eq:kl-autoencoder-nll, 0 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(()))


class KLAutoencoderGame(nn.Module):
    """The players ``autoencoder``, ``discriminator`` and ``variance``, and ``step``, how many were played."""

    step: Tensor

    def __init__(self, config: KLAutoencoderConfig, patch: PatchConfig | None = None,
                 loss: KLLossConfig | None = None) -> None:
        super().__init__()
        self.loss = loss or KLLossConfig.code()
        self.autoencoder = KLAutoencoder(config)
        self.discriminator = PatchDiscriminator(patch or PatchConfig.paper())
        self.variance = LogVariance().requires_grad_(self.loss.learn_variance)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @property
    def plays(self) -> bool:
        """Has the game begun?"""
        return int(self.step) >= self.loss.start


def kl_autoencoder_game(distance: Distance | None = None) -> Callable[[Any, Any], Iterator[Any]]:
    """The game of the first stage for ``fit``, on batches with ``images`` (or tensors) and a
    ``KLAutoencoderGame``: the autoencoder moves down eq:kl-autoencoder-loss, from ``start`` on the
    discriminator down eq:vqgan-discriminator, and the variance, if it learns, down eq:kl-autoencoder-nll.

    ``distance`` is perceptual, (pictures, pictures) -> (b); without one that part is zero.
    """
    def play(model: KLAutoencoderGame, batch: Any) -> Iterator[Any]:
        x, config = getattr(batch, "images", batch), model.loss
        x_hat, posterior = model.autoencoder(x)
        s = model.variance.s
        seen: list[Tensor | float] = [0.0]

        def nll(drawn: Tensor) -> Tensor:
            seen[0] = distance(drawn, x) if distance is not None else 0.0
            return summed_nll(x, drawn, seen[0], s.detach(), config.perceptual)

        def game(drawn: Tensor) -> Tensor:
            return patch_generator_loss(model.discriminator(drawn))

        found = weigh(x_hat, model.autoencoder.decoder.leave.weight, nll, game if model.plays else None,
                      VQGANLossConfig(adversarial=config.adversarial))
        kl = posterior.kl().mean()
        yield ("autoencoder", kl_autoencoder_loss(found.loss, kl, config.kl),
               {"nll": found.nll, "kl": kl, "game": found.game, "weight of the game": found.weight})
        if model.plays:
            scores = model.discriminator(x), model.discriminator(x_hat.detach())
            yield "discriminator", patch_hinge_loss(*scores), {}
        if config.learn_variance:
            known = seen[0].detach() if isinstance(seen[0], Tensor) else seen[0]
            yield "variance", summed_nll(x, x_hat.detach(), known, s, config.perceptual), {"s": s.clone()}
        model.step += 1

    return play
